"""All measures of trained models, as rows of one table: what ``rsam-ref sharpness`` takes.

A row has the columns `COLUMNS`; ``model`` is for the caller to fill in, and those that mean nothing
to a measure are None:

    measure    value                              by
    line       loss                               draw (of the direction), x in filter norms
    plane      loss                               x and y in filter norms
    worst      largest rise of the loss           rho
    average    mean rise of the loss              sigma
    stability  cosine of the gradients            sigma
    hessian    eigenvalue                         x = 1, 2, ... from the largest
    inner      share of the inner maximum         draw (the mini-batch), rho, method, sigma

``low`` and ``high`` are the 95 % interval of a mean over draws of the noise, for an eigenvalue its
bounds. ``gradients`` is what a value cost, for ``inner`` the ascent gradients of the method, whose
rise of the loss is ``rise``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rsam_backends import Stream, to_host, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import check_sigma
from rsam_ref.algorithms.settings import check_step
from rsam_ref.data import Samples
from rsam_ref.data.feed import batches
from rsam_ref.sharpness.ascent import rho_sharpness
from rsam_ref.sharpness.directions import filter_normalised_direction, loss_along
from rsam_ref.sharpness.eigenvalues import hessian_eigenvalues
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.inner import inner_maximum
from rsam_ref.sharpness.landscape import Landscape
from rsam_ref.sharpness.smoothing import average_sharpness, gradient_stability
from rsam_ref.training.trained import Trained

COLUMNS = (
    *("model", "measure", "method", "draw", "rho", "sigma", "gradients"),
    *("x", "y", "value", "low", "high", "rise"),
)
Row = dict[str, Any]


@dataclass(frozen=True)
class SurveySettings:
    """How finely to measure. The defaults are those of ``rsam-ref sharpness``."""

    rhos: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """Radii, in units of the weights."""
    sigmas: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
    """Noise scales, in norms of the filters."""
    samples: int = 500
    """Training samples that the evaluation loss is the mean over (all measures but inner)."""
    batches: int = 4
    """Mini-batches, of the recipe's size, that the inner maximum is looked for on."""
    draws: int = 10
    """Draws of the noise for every mean."""
    directions: int = 3
    extent: float = 1.0
    """How far along a direction, on either side, in norms of the filters."""
    points: int = 21
    """Points along a direction, and on each side of the plane."""
    steps: int = 30
    """Steps of projected ascent from every start."""
    restarts: int = 2
    eigenvalues: int = 5
    iterations: int = 60
    """Lanczos' iterations, at most."""
    lam: float = 2.0
    ascent_steps: tuple[int, ...] = (1, 2, 5, 10)
    seed: int = 0

    def __post_init__(self) -> None:
        for rho in self.rhos:
            check_step(rho=rho, lam=self.lam)
        for sigma in self.sigmas:
            check_sigma(sigma)
        if not self.rhos or not self.sigmas:
            raise ValueError("give at least one rho and one sigma")
        for name in ("samples", "batches", "draws", "directions", "eigenvalues", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.points < 2:
            raise ValueError(f"a line needs at least 2 points, not {self.points}")
        if not 0 < self.extent < math.inf:
            raise ValueError(f"extent must be a finite number > 0, not {self.extent}")
        if self.restarts < 0:
            raise ValueError(f"restarts must be at least 0, not {self.restarts}")
        Stream("samples", self.seed)  # a seed that cannot be one is refused here


@dataclass(frozen=True)
class Subject:
    """A trained model with the samples it is measured on, the same for models of the same data."""

    trained: Trained
    settings: SurveySettings
    on_evaluation: Callable[[], None] = field(default=lambda: None)

    @property
    def w(self) -> Array:
        """The trained weights (P,)."""
        return self.trained.model.weights.flat

    def stream(self, name: str, *key: int) -> Stream:
        """The draws of this name, as the seed of the settings has them."""
        return Stream(name, self.settings.seed, *key)

    def evaluation(self) -> Landscape:
        """The evaluation loss over training samples chosen by the seed."""
        train = self.trained.data.train
        index = self.stream("samples").permutation(len(train))[: self.settings.samples]
        return self._landscape(train, index, batch_statistics=False)

    def mini_batches(self) -> Iterator[Landscape]:
        """The training loss of each of some mini-batches, as a step of training sees it."""
        train, size = self.trained.data.train, self.trained.recipe.batch_size
        order = batches(len(train), size, self.settings.seed, 0)
        for _, index in zip(range(self.settings.batches), order):
            yield self._landscape(train, index, batch_statistics=True)

    def _landscape(self, train: Samples, index: Any, *, batch_statistics: bool) -> Landscape:
        return _Told(
            self.trained.model,
            train.take(index),
            train.labels[index],
            self.trained.loss,
            batch_statistics=batch_statistics,
            on_evaluation=self.on_evaluation,
        )


class _Told(Landscape):
    """A landscape that tells of every evaluation, for a progress bar."""

    def __init__(self, *args: Any, on_evaluation: Callable[[], None], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.on_evaluation = on_evaluation

    def __call__(self, w: Array) -> tuple[Array, Array]:
        self.on_evaluation()
        return super().__call__(w)

    def loss(self, w: Array) -> Array:
        self.on_evaluation()
        return super().loss(w)


def line(subject: Subject) -> Iterator[Row]:
    """The loss along random directions. Models of one shape share the draws behind them."""
    landscape, settings = subject.evaluation(), subject.settings
    steps = _grid(settings)
    for draw in range(settings.directions):
        stream = subject.stream("direction", draw)
        d = filter_normalised_direction(subject.w, landscape.shapes, stream)
        for x in steps:
            yield {"draw": draw, "x": x, "value": _loss(landscape, subject.w + x * d)}


def plane(subject: Subject) -> Iterator[Row]:
    """The loss over the plane of the first two directions."""
    landscape = subject.evaluation()
    across, up = (
        filter_normalised_direction(subject.w, landscape.shapes, subject.stream("direction", draw))
        for draw in range(2)
    )
    steps = _grid(subject.settings)
    for y in steps:
        losses = to_host(loss_along(landscape.loss, subject.w + y * up, across, steps)).tolist()
        for x, loss in zip(steps, losses):
            yield {"x": x, "y": y, "value": loss}


def worst(subject: Subject) -> Iterator[Row]:
    """SAM's sharpness at every radius."""
    landscape, settings = subject.evaluation(), subject.settings
    for i, rho in enumerate(settings.rhos):
        found = rho_sharpness(
            landscape,
            subject.w,
            rho=rho,
            steps=settings.steps,
            restarts=settings.restarts,
            stream=subject.stream("worst", i),
        )
        yield {"rho": rho, "gradients": found.gradients, "value": found.rise}


def average(subject: Subject) -> Iterator[Row]:
    """The mean rise under noise at every scale."""
    landscape = subject.evaluation()
    return _under_noise(subject, "average", partial(average_sharpness, landscape.loss))


def stability(subject: Subject) -> Iterator[Row]:
    """How far noise turns the gradient, at every scale."""
    return _under_noise(subject, "stability", partial(gradient_stability, subject.evaluation()))


def hessian(subject: Subject) -> Iterator[Row]:
    """The largest eigenvalues of the Hessian."""
    settings = subject.settings
    found = hessian_eigenvalues(
        subject.evaluation(),
        subject.w,
        settings.eigenvalues,
        iterations=max(settings.iterations, settings.eigenvalues),
        tolerance=1e-3,
        stream=subject.stream("lanczos"),
    )
    for i, (value, bound) in enumerate(zip(found.values, found.bounds)):
        yield {
            "x": i + 1,
            "gradients": found.gradients,
            "value": value,
            "low": value - bound,
            "high": value + bound,
        }


def inner(subject: Subject) -> Iterator[Row]:
    """The share of the inner maximum that each method reaches, mini-batch by mini-batch."""
    settings = subject.settings
    for draw, landscape in enumerate(subject.mini_batches()):
        for i, rho in enumerate(settings.rhos):
            found = inner_maximum(
                landscape,
                subject.w,
                landscape.shapes,
                rho=rho,
                sigmas=settings.sigmas,
                lam=settings.lam,
                ascent_steps=settings.ascent_steps,
                draws=settings.draws,
                steps=settings.steps,
                restarts=settings.restarts,
                stream=subject.stream("inner", draw, i),
            )
            common = {"draw": draw, "rho": rho}
            cost = found.ascent.gradients
            yield common | {
                "method": "maximum",
                "gradients": cost,
                "value": 1.0,
                "rise": found.rise,
            }
            for reached in found.reached:
                yield common | {
                    "method": reached.method,
                    "sigma": reached.sigma,
                    "gradients": reached.gradients,
                    "value": found.share(reached),
                    "rise": reached.rise,
                }


MEASURES: dict[str, Callable[[Subject], Iterator[Row]]] = {
    "line": line,
    "plane": plane,
    "worst": worst,
    "average": average,
    "stability": stability,
    "hessian": hessian,
    "inner": inner,
}

USES = {
    "line": ("samples", "directions", "extent", "points"),
    "plane": ("samples", "extent", "points"),
    "worst": ("samples", "rhos", "steps", "restarts"),
    "average": ("samples", "sigmas", "draws"),
    "stability": ("samples", "sigmas", "draws"),
    "hessian": ("samples", "eigenvalues", "iterations"),
    "inner": ("batches", "rhos", "sigmas", "lam", "draws", "ascent_steps", "steps", "restarts"),
}
"""The settings that decide a measure's numbers, besides the seed: with others it stays as it is."""


def survey(measure: str, subject: Subject) -> Iterator[Row]:
    """The rows of one measure of one model, each as soon as it is known."""
    for row in MEASURES[measure](subject):
        yield dict.fromkeys(COLUMNS) | {"measure": measure} | row


def _grid(settings: SurveySettings) -> list[float]:
    points = xp.linspace(-settings.extent, settings.extent, settings.points)
    return to_host(points).tolist()


def _loss(landscape: Landscape, w: Array) -> float:
    return float(landscape.loss(w))


def _under_noise(subject: Subject, stream: str, measured: Callable[..., Estimate]) -> Iterator[Row]:
    """A row for every noise scale: the mean over draws, and its 95 % interval."""
    shapes = subject.trained.model.weights.shapes
    for sigma in subject.settings.sigmas:
        found = measured(
            subject.w,
            shapes,
            sigma=sigma,
            draws=subject.settings.draws,
            stream=subject.stream(stream),
        )
        low, high = found.interval
        yield {"sigma": sigma, "value": found.mean, "low": low, "high": high}
