"""The figures of the loss between models: from the rows of `sharpness.between`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from rsam_backends import use_backend
from rsam_ref.figures import STYLE, Figure
from rsam_ref.sharpness.between import AS_THEY_ARE, MATCHED, MEAN, Row, by

LINES = {
    (AS_THEY_ARE, "train"): ("#000000", "-", "as they are, training data"),
    (AS_THEY_ARE, "test"): ("#000000", ":", "as they are, test data"),
    (MATCHED, "train"): ("#D55E00", "-", "units matched, training data"),
    (MATCHED, "test"): ("#D55E00", ":", "units matched, test data"),
}
CALLED = {"train": "training data", "test": "test data"}
MARK = "#D55E00"


def line_figure(rows: Sequence[Row], names: Sequence[str]) -> Figure:
    """Loss, and accuracy where there is one, on the straight line between two models."""
    accuracy = any(row["accuracy"] is not None for row in rows)
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(4.4 * (1 + accuracy), 3.7), layout="constrained")
        axes = figure.subplots(1, 1 + accuracy, squeeze=False)[0]
        for ax, name, scale in zip(axes, ("loss", "accuracy"), (1, 100)):
            for key, own in by(rows, "units", "data").items():
                colour, style, label = LINES[key]
                values = [math.nan if r[name] is None else scale * r[name] for r in own]
                ax.plot([r["x"] for r in own], values, style, color=colour, lw=1.7, label=label)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], [names[0], "", "half", "", names[1]])
            ax.set_ylabel("loss (nats)" if name == "loss" else "accuracy (%)")
            ax.set_title(f"{name.capitalize()} on the way")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.title = f"Between {names[0]} and {names[1]}"
        figure.description = (
            "The loss on the straight line between two models' weights, and the accuracy beside it."
        )
        return figure


def plane_figure(rows: Sequence[Row], title: str) -> Figure:
    """Loss, and accuracy where there is one, over a plane, with the models on it.

    A row of panels for the units as they are and for matched ones, a column for loss and accuracy
    on training and on test data. A path's models are joined in their order.
    """
    panels = [
        (name, data)
        for name in ("loss", "accuracy")
        for data in CALLED
        if any(r["data"] == data and (name == "loss" or r[name] is not None) for r in rows)
    ]
    planes = by(rows, "units")
    with matplotlib.rc_context({**STYLE, "axes.grid": False}), use_backend("numpy"):
        size = 3.5 * len(panels) + 0.4, 3.3 * len(planes) + 0.4
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(planes), len(panels), squeeze=False)
        for line, ((units,), of_plane) in zip(grid, planes.items()):
            for ax, (name, data) in zip(line, panels):
                own = [row for row in of_plane if row["data"] == data]
                drawn = _contours(ax, own, name)
                if drawn is not None:
                    figure.colorbar(drawn, ax=ax, shrink=0.85, format=_tick(name))
                _models(ax, own)
                told = "" if len(planes) == 1 else f"\nunits {units}"
                ax.set(title=f"{name.capitalize()}, {CALLED[data]}{told}", aspect="equal")
                ax.set_xlabel("weights")
            line[0].set_ylabel("weights")
        figure.suptitle(title)
        figure.title = title
        figure.description = "The loss over a plane of weights, with the models' places on it."
        return figure


def _contours(axes: Axes, rows: Sequence[Row], name: str) -> Any:
    """The values over the plane, losses that differ by far in logarithms; None where none are."""
    at = {(row["x"], row["y"]): row[name] for row in rows if row["model"] is None}
    xs, ys = (sorted({place[i] for place in at}) for i in range(2))
    ys = [y for y in ys if all((x, y) in at for x in xs)]  # interrupted: what there is
    if len(ys) < 2:
        return None
    scale = 100 if name == "accuracy" else 1
    grid = [[math.nan if at[x, y] is None else scale * float(at[x, y]) for x in xs] for y in ys]
    values = [value for line in grid for value in line if math.isfinite(value)]
    if not values or max(values) == min(values):
        return None
    low, high = min(values), max(values)
    norm: Normalize = Normalize(low, high)
    levels = [low + (high - low) * i / 14 for i in range(15)]
    if name == "loss" and 0 < 20 * low < high:  # else its walls leave nothing of a valley to see
        norm = LogNorm(low, high)
        levels = [low * (high / low) ** (i / 14) for i in range(15)]
    drawn = axes.contourf(xs, ys, grid, levels=levels, norm=norm, cmap="cividis")
    axes.contour(xs, ys, grid, levels=levels, norm=norm, colors="white", linewidths=0.4)
    return drawn


def _models(axes: Axes, rows: Sequence[Row]) -> None:
    """The models' places with their names; of a path the first and the last alone."""
    own = [row for row in rows if row["model"] not in (None, MEAN)]
    if own and own[0]["picture"] == "path":
        points = [(row["x"], row["y"]) for row in own]
        axes.plot(*zip(*points), "-o", color="white", lw=3, ms=5)
        axes.plot(*zip(*points), "-o", color=MARK, lw=1.4, ms=3.5)
        own = [own[0], own[-1]]
    for row in own:
        place = row["x"], row["y"]
        axes.plot(*place, "o", color=MARK, mec="white", ms=7)
        axes.annotate(
            row["model"],
            place,
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color="black",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )


def _tick(name: str) -> Callable[[float, int], str]:
    return (lambda value, _: f"{value:.3g} %") if name == "accuracy" else lambda v, _: f"{v:.3g}"
