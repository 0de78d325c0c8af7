"""Pictures of the loss between models, and along the path of one: what ``rsam-ref between`` takes.

Two models have the straight line between them, three the plane through them, a path of checkpoints
the plane of its two principal axes. The loss and the accuracy are asked on training and on test
data at every place of a picture, and at the models themselves. A row has the columns `COLUMNS`:

    picture   line, plane or path
    units     as they are, or matched: hidden units in the order nearest to the first model's
    data      train or test
    model     which one it is that stands there, or the mean of all three; None for other places
    x, y      of a line x goes from 0 to 1; of a plane both are lengths in weights
    apart     how far a model lies from the plane, in weights
    loss, accuracy
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes
from rsam_ref.algorithms.sam import norm
from rsam_ref.sharpness.barrier import Barrier, matched, place_between, steps_between
from rsam_ref.sharpness.planes import Plane, plane_of_trajectory, plane_through
from rsam_ref.sharpness.scored import Scored

COLUMNS = ("picture", "units", "data", "model", "x", "y", "apart", "loss", "accuracy")
AS_THEY_ARE, MATCHED = "as they are", "matched"
MEAN = "mean of all"
"""What stands at the mean of three models' weights."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Models:
    """Weights of one architecture, by the models' names."""

    names: list[str]
    weights: list[Array]
    """Of each (P,)."""
    shapes: Shapes
    """The parameters' shapes in their order."""

    def __post_init__(self) -> None:
        for i, name in enumerate(self.names):
            for j in range(i):
                if bool((self.weights[i] == self.weights[j]).all()):
                    raise ValueError(
                        f"{self.names[j]} and {name} have the same weights, so nothing lies "
                        "between them: give two models that were trained apart"
                    )

    def distances(self) -> list[float]:
        """How far each lies from the first, in weights."""
        return [float(norm(w - self.weights[0])) for w in self.weights]


@dataclass(frozen=True)
class Picture:
    """Places of weights to ask at: a line or a plane, and the models on it or beside it."""

    kind: str
    units: str
    models: Models
    xs: list[float]
    ys: list[float]
    """Of a line [0]."""
    places: list[tuple[float, float]]
    """The models' coordinates."""
    apart: list[float]
    """How far each model lies from the plane."""
    plane: Plane | None = None
    shares: list[float] = field(default_factory=list)
    """Of a path, the shares of the variance along its principal axes, descending."""

    def at(self, x: float, y: float) -> Array:
        """The weights (P,) at a place."""
        if self.plane is None:
            a, b = self.models.weights
            return place_between(a, b, x)
        return self.plane.origin + x * self.plane.across + y * self.plane.up

    def strips(self) -> Iterator[tuple[str, list[Row]]]:
        """The places in parts, each with a name: the models, then a line of places for every y."""
        common = {"picture": self.kind, "units": self.units}
        if self.plane is not None:
            named = list(zip(self.models.names, self.places, self.apart))
            if self.kind == "plane":
                mean = [sum(along) / len(along) for along in zip(*self.places)]
                named.append((MEAN, (mean[0], mean[1]), 0.0))
            places = [
                common | {"model": name, "x": x, "y": y, "apart": apart}
                for name, (x, y), apart in named
            ]
            yield "models", places
        ends = dict(zip((0.0, 1.0), self.models.names)) if self.plane is None else {}
        for i, y in enumerate(self.ys):
            yield (
                f"strip {i}",
                [
                    common | {"model": ends.get(x), "x": x, "y": y, "apart": 0.0 if ends else None}
                    for x in self.xs
                ],
            )

    def scored(self, places: Sequence[Row], data: str, scored: Scored) -> Iterator[Row]:
        """The rows of some places, with the loss and the accuracy on data of this name."""
        for place in places:
            name = place["model"]
            if name in self.models.names:
                w = self.models.weights[self.models.names.index(name)]
            else:
                w = self.at(place["x"], place["y"])
            loss, accuracy = scored(w)
            yield (
                dict.fromkeys(COLUMNS)
                | place
                | {
                    "data": data,
                    "loss": loss,
                    "accuracy": accuracy,
                }
            )


def line(models: Models, units: str, points: int) -> Picture:
    """The straight line between two models, at ``points`` places."""
    steps = steps_between(points)
    return Picture("line", units, models, steps, [0.0], [(0.0, 0.0), (1.0, 0.0)], [0.0, 0.0])


def plane(models: Models, units: str, points: int, margin: float) -> Picture:
    """The plane through three models, ``margin`` of their extent beyond them on every side."""
    through = plane_through(*models.weights)
    return _planar("plane", models, units, points, margin, through, [])


def path(models: Models, points: int, margin: float) -> Picture:
    """The plane of the two principal axes of a path through models, in their order."""
    of, shares = plane_of_trajectory(models.weights)
    return _planar("path", models, AS_THEY_ARE, points, margin, of, shares)


def _planar(
    kind: str,
    models: Models,
    units: str,
    points: int,
    margin: float,
    of: Plane,
    shares: list[float],
) -> Picture:
    spans = [(min(along), max(along)) for along in zip(*of.places)]
    length = (1 + 2 * margin) * max(high - low for low, high in spans)
    starts = [(low + high - length) / 2 for low, high in spans]
    axes = [[start + length * i / (points - 1) for i in range(points)] for start in starts]
    return Picture(kind, units, models, axes[0], axes[1], of.places, of.apart, of, shares)


def with_matched_units(models: Models, scored: Scored, *, seed: int) -> Models:
    """The models with their hidden units in the order that is nearest to the first one's.

    Raises ValueError where units cannot be matched: for other networks than MLPs, and for those in
    which another order computes something else (``scored`` is asked at every model).
    """
    first, *others = models.weights
    found = [first]
    for i, (name, w) in enumerate(zip(models.names[1:], others)):
        reordered = matched(first, w, models.shapes, stream=Stream("matching", seed, i))
        if not agree(scored(w)[0], scored(reordered)[0]):
            raise ValueError(
                f"{name} computes something else with its units in another order: its layers do "
                "more than follow one another"
            )
        found.append(reordered)
    return Models(models.names, found, models.shapes)


def agree(expected: float, found: float) -> bool:
    """Whether two losses are one function's at the same weights, to rounding, float32's too."""
    if not math.isfinite(expected):
        return not math.isfinite(found)
    return abs(found - expected) <= 1e-4 * (1e-6 + abs(expected))


def are_alike(a: Models, b: Models) -> bool:
    """Whether the weights are the same."""
    return all(bool((v == w).all()) for v, w in zip(a.weights, b.weights))


def summary(rows: Sequence[Row]) -> list[Row]:
    """What the rows of a line say in short, for each of units and data.

    ``barrier`` is the largest rise above the straight line between both losses, ``where`` its x;
    ``lowest`` the least accuracy on the way, ``lowest_where`` its x.
    """
    found = []
    for (units, data), own in by(rows, "units", "data").items():
        if any(row["loss"] is None for row in own):
            told: Row = {"barrier": None, "where": None}
        else:
            of = Barrier([row["x"] for row in own], [row["loss"] for row in own])
            told = {"barrier": of.height, "where": of.where}
        least = min(own, key=lambda row: row["accuracy"] or 0.0)
        told |= {"losses": [own[0]["loss"], own[-1]["loss"]]}
        if least["accuracy"] is not None:
            told |= {
                "accuracies": [own[0]["accuracy"], own[-1]["accuracy"]],
                "lowest": least["accuracy"],
                "lowest_where": least["x"],
            }
        found.append({"units": units, "data": data} | told)
    return found


def by(rows: Sequence[Row], *names: str) -> Mapping[tuple[Any, ...], list[Row]]:
    """The rows by their values in these columns, in their order."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found
