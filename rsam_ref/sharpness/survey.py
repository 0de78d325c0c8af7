"""All measures of trained models, as rows of one table: what ``rsam-ref sharpness`` takes.

A row has the columns `COLUMNS`; ``model`` is for the caller to fill in, and those that mean nothing
to a measure are None:

    measure       value                           by
    line          loss                            draw (of the direction), x in filter norms
    plane         loss                            x and y in filter norms
    worst         largest rise of the loss        rho
    average       mean rise of the loss           sigma
    stability     cosine of the gradients         sigma
    hessian       eigenvalue                      x = 1, 2, ... from the largest, -1, ... the lowest
    inner         share of the inner maximum      draw (the mini-batch), rho, method, sigma
    trace         trace of the Hessian            part (a layer; none: of all weights)
    layers        largest, lowest eigenvalue      part, x = 1, -1
    density       share of eigenvalues, per unit  x, an eigenvalue
    gauss-newton  trace, or eigenvalue            method (hessian, gauss-newton, fisher), x = 0, or
                                                  1, 2, ... from the largest
    eigenplane    loss                            x and y in weights
    kinks         mean rise of the loss           method (rise, quadratic, beyond), sigma
    m-sharpness   mean of the parts' largest rise rho
    ascents       loss                            rho, sigma, x and y in rho; of a place on a path
                                                  also method, draw (which place)

``low`` and ``high`` are the 95 % interval of a mean over draws of the noise or over probes, for an
eigenvalue its bounds; all of these speak of the loss on these samples. ``sample_low`` and
``sample_high`` say how far others could move the value: an interval over the samples or over parts
of them. ``gradients`` is what a value cost, for ``inner`` the ascent gradients of the method, whose
rise of the loss is ``rise``; for ``ascents`` that is how far a place lies from the plane, in rho.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from rsam_backends import Stream, library_of, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes, check_sigma
from rsam_ref.algorithms.settings import check_step
from rsam_ref.data import Samples
from rsam_ref.data.feed import batches
from rsam_ref.sharpness.ascent import m_sharpness as m_sharpness_of
from rsam_ref.sharpness.ascent import rho_sharpness
from rsam_ref.sharpness.density import spectral_density
from rsam_ref.sharpness.directions import filter_normalised_direction, loss_along
from rsam_ref.sharpness.eigenvalues import Eigenvalues, curvatures_over_parts, hessian_eigenvalues
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.gauss_newton import (
    GaussNewton,
    exact_traces,
    fisher_trace,
    gauss_newton_eigenvalues,
    gauss_newton_trace,
)
from rsam_ref.sharpness.hessian import TOGETHER, batched, embedded, product_at
from rsam_ref.sharpness.inner import inner_maximum
from rsam_ref.sharpness.landscape import Landscape
from rsam_ref.sharpness.outputs import ModelOutputs
from rsam_ref.sharpness.paths import ascent_paths
from rsam_ref.sharpness.smoothing import average_sharpness, gradient_stability
from rsam_ref.sharpness.smoothing import kinks as kinks_under_noise
from rsam_ref.sharpness.trace import hutch_plus_plus
from rsam_ref.training.trained import Trained

COLUMNS = (
    *("model", "measure", "method", "draw", "rho", "sigma", "gradients"),
    *("x", "y", "value", "low", "high", "rise"),
    *("part", "sample_low", "sample_high"),
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
    lowest: int = 0
    """How many of the lowest."""
    parts: int = 5
    """Parts of the samples: for the spread over samples, and for m-sharpness."""
    probes: int = 10
    """Random probes of the density; a trace has three times as many products."""
    iterations: int = 60
    """Lanczos' iterations, at most."""
    depth: int = 0
    """How many parts of their dotted names tell the layers of ``layers`` apart; 0: all."""
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
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type == "int" and not hasattr(value, "__index__"):
                raise ValueError(f"{one.name} must be a whole number, not {value!r}")
        for name in ("samples", "batches", "draws", "directions", "eigenvalues", "steps", "parts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.points < 2:
            raise ValueError(f"a line needs at least 2 points, not {self.points}")
        if not 0 < self.extent < math.inf:
            raise ValueError(f"extent must be a finite number > 0, not {self.extent}")
        if self.probes < 2:
            raise ValueError(f"an interval needs at least 2 probes, not {self.probes}")
        for name in ("lowest", "restarts", "depth"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        Stream("samples", self.seed)  # a seed that cannot be one is refused here


def chosen_samples(part: str, count: int, samples: int, seed: int) -> Any:
    """The numbers of those of ``count`` samples, train or test, that are measured on."""
    name = {"train": "samples", "test": "test samples"}[part]
    return Stream(name, seed).permutation(count)[:samples]


@dataclass(frozen=True)
class Subject:
    """A trained model with the samples it is measured on, the same for models of the same data."""

    trained: Trained
    settings: SurveySettings
    on_evaluation: Callable[[], None] = field(default=lambda: None)
    known: dict[Any, Any] = field(default_factory=dict, compare=False)
    """What one measure found and another takes over, by what it is and the settings behind it."""

    @property
    def w(self) -> Array:
        """The trained weights (P,)."""
        return self.trained.model.weights.flat

    def stream(self, name: str, *key: int) -> Stream:
        """The draws of this name, as the seed of the settings has them."""
        return Stream(name, self.settings.seed, *key)

    def evaluation(self) -> Landscape:
        """The evaluation loss over training samples chosen by the seed."""
        return self._landscape(self.trained.data.train, self._index, batch_statistics=False)

    def parts(self) -> list[Landscape]:
        """The same of disjoint parts of these samples, equally large but for one sample."""
        train, count = self.trained.data.train, self.settings.parts
        return [
            self._landscape(train, self._index[i::count], batch_statistics=False)
            for i in range(min(count, len(self._index)))
        ]

    def outputs(self) -> tuple[ModelOutputs, Array]:
        """The scores of these samples, and their targets (N, K) as softmax cross-entropy has them.

        Raises ValueError for a network trained by another loss.
        """
        recipe, train = self.trained.recipe, self.trained.data.train
        if recipe.loss != "cross-entropy":
            raise ValueError(
                "gauss-newton is for networks trained by cross-entropy; "
                f"{self.trained.folder} has loss = {recipe.loss}"
            )
        outputs = ModelOutputs(self.trained.model, train.take(self._index))
        classes = outputs.samples()[0](self.w).shape[1]
        one_hot = to_device(train.labels[self._index])[:, None] == xp.arange(classes)
        smooth = recipe.label_smoothing
        return outputs, (1 - smooth) * one_hot.astype(self.w.dtype) + smooth / classes

    def layers(self, depth: int = 0) -> dict[str, slice]:
        """The place of every layer in w: of parameters that differ in the last name alone.

        With ``depth`` of those whose names have so many dotted parts in common.
        """
        landscape, start = self.evaluation(), 0
        found: dict[str, slice] = {}
        for name, shape in zip(landscape.names, landscape.shapes):
            layer, stop = name.rpartition(".")[0] or name, start + math.prod(shape)
            layer = outer(layer, depth)
            found[layer] = slice(found[layer].start if layer in found else start, stop)
            start = stop
        return found

    @property
    def _index(self) -> Any:
        """The numbers of the training samples."""
        settings = self.settings
        return chosen_samples(
            "train", len(self.trained.data.train), settings.samples, settings.seed
        )

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


def outer(name: str, depth: int) -> str:
    """The first ``depth`` parts of a dotted name; 0: all."""
    return ".".join(name.split(".")[: depth or None])


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
    yield from _over_plane(landscape, subject.w, across, up, _grid(subject.settings))


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
    measured = partial(average_sharpness, landscape.loss)
    return _under_noise(subject, "average", measured, landscape.shapes)


def stability(subject: Subject) -> Iterator[Row]:
    """How far noise turns the gradient, at every scale."""
    landscape = subject.evaluation()
    measured = partial(gradient_stability, landscape)
    return _under_noise(subject, "stability", measured, landscape.shapes)


def hessian(subject: Subject) -> Iterator[Row]:
    """The largest eigenvalues of the Hessian, and its lowest, with their spread over samples."""
    settings, parts = subject.settings, subject.parts()
    found = _eigenvalues(subject, settings.eigenvalues, settings.lowest)
    subject.known[_leading(settings)] = found.values[0], found.vectors[:2]
    over_parts = curvatures_over_parts(parts, subject.w, found.vectors)
    for row, samples in zip(_ranked(found), over_parts):
        yield row | _over_samples(samples)


def _eigenvalues(
    subject: Subject, largest: int, lowest: int, part: slice | None = None
) -> Eigenvalues:
    return hessian_eigenvalues(
        subject.evaluation(),
        subject.w,
        largest,
        lowest=lowest,
        part=part,
        iterations=max(subject.settings.iterations, largest + lowest),
        tolerance=1e-3,
        stream=subject.stream("lanczos"),
    )


def _leading(settings: SurveySettings) -> tuple[Any, ...]:
    """What the leading eigenvectors are known by."""
    return "leading", settings.eigenvalues, settings.lowest, settings.iterations, settings.seed


def _ranked(found: Eigenvalues) -> Iterator[Row]:
    """A row an eigenvalue: x = 1, 2, ... from the largest, -1, -2, ... from the lowest."""
    for sign, values, bounds in (
        (1, found.values, found.bounds),
        (-1, found.lowest, found.lowest_bounds),
    ):
        for i, (value, bound) in enumerate(zip(values, bounds)):
            yield {
                "x": sign * (i + 1),
                "gradients": found.gradients,
                "value": value,
                "low": value - bound,
                "high": value + bound,
            }


def layers(subject: Subject) -> Iterator[Row]:
    """The largest and the lowest eigenvalue of every layer's block, with their spread as above."""
    parts, w = subject.parts(), subject.w
    for some in batched(subject.layers(subject.settings.depth).items(), TOGETHER):
        rows, vectors = [], []
        for name, part in some:
            found = _eigenvalues(subject, 1, int(part.stop - part.start > 1), part)
            rows += [row | {"part": name} for row in _ranked(found)]
            vectors += [embedded(q, w, part) for q in found.vectors]
        for row, samples in zip(rows, curvatures_over_parts(parts, w, vectors)):
            yield row | _over_samples(samples)


def trace(subject: Subject) -> Iterator[Row]:
    """The Hessian's trace, and every layer's share of it, by Hutch++.

    The spread over samples is that of the parts' own traces, by the same probes.
    """
    names, w, parts = subject.layers(), subject.w, subject.parts()
    count = sum(part.count for part in parts)
    found = hutch_plus_plus(
        [(part.count / count, product_at(part, w, keep=False)) for part in parts],
        w,
        products=3 * subject.settings.probes,
        parts=list(names.values()),
        stream=subject.stream("trace"),
    )
    cost = 1 + 2 * found.products
    of_parts = zip(*found.of_samples)
    rows: list[Row] = []
    for name, estimate, own in zip([None, *names], [found.total, *found.shares], of_parts):
        samples = Estimate.of(own)
        row: Row = {"part": name, "gradients": cost}
        rows.append(row | _interval(estimate) | _over_samples(samples))
    subject.known["trace", subject.settings.probes, subject.settings.seed] = rows[0]
    yield from rows


def density(subject: Subject) -> Iterator[Row]:
    """The density of the Hessian's eigenvalues, every node as wide as a hundredth of them all."""
    settings = subject.settings
    found = spectral_density(
        product_at(subject.evaluation(), subject.w),
        subject.w,
        probes=settings.probes,
        steps=settings.iterations,
        stream=subject.stream("density"),
    )
    low = min(nodes[0] for nodes in found.nodes)
    high = max(nodes[-1] for nodes in found.nodes)
    width = (high - low or 1.0) / 100
    places = [low + (i - 5) * width for i in range(111)]
    cost = 1 + 2 * sum(map(len, found.nodes))
    for x, estimate in zip(places, found.smoothed(places, width)):
        yield {"x": x, "gradients": cost} | _interval(estimate)


def gauss_newton(subject: Subject) -> Iterator[Row]:
    """The traces of the Hessian, of Gauss-Newton's matrix and of the empirical Fisher.

    The latter two are exact, from every sample alone, where that is no dearer than probes are, of
    at most `ALONE` weights; then they have an interval over samples. Then Gauss-Newton's largest
    eigenvalues.
    """
    outputs, targets = subject.outputs()
    settings, w = subject.settings, subject.w
    of_hessian = subject.known.get(("trace", settings.probes, settings.seed))
    if of_hessian is None:
        of_hessian = next(trace(subject))
    yield {"method": "hessian", "x": 0} | of_hessian
    products = 3 * settings.probes
    if targets.shape[1] < products and math.prod(w.shape) <= ALONE:
        for method, found in zip(
            ("gauss-newton", "fisher"), exact_traces(outputs.samples(), targets, w)
        ):
            exactly = dict.fromkeys(("value", "low", "high"), found.mean)
            yield {"method": method, "x": 0} | exactly | _over_samples(found)
    else:
        stream = subject.stream("gauss-newton")
        estimate = gauss_newton_trace(outputs, w, probes=products, stream=stream)
        yield {"method": "gauss-newton", "x": 0} | _interval(estimate)
        estimate = fisher_trace(outputs, targets, w, probes=products, stream=stream)
        yield {"method": "fisher", "x": 0} | _interval(estimate)
    largest = gauss_newton_eigenvalues(
        outputs,
        w,
        settings.eigenvalues,
        iterations=max(settings.iterations, settings.eigenvalues),
        tolerance=1e-3,
        stream=subject.stream("lanczos"),
    )
    product = GaussNewton(outputs, w)
    for row, q in zip(_ranked(largest), largest.vectors):
        samples = _over_samples(product.over_samples(q))
        yield {"method": "gauss-newton"} | row | samples | {"gradients": None}


def eigenplane(subject: Subject) -> Iterator[Row]:
    """The loss over the plane of the Hessian's two leading eigenvectors.

    It ends where the loss would have risen by ``extent`` along the first, were it quadratic.
    """
    landscape, settings = subject.evaluation(), subject.settings
    known = subject.known.get(_leading(settings))
    if known is None or len(known[1]) < 2:
        found = _eigenvalues(subject, max(2, settings.eigenvalues), settings.lowest)
        known = found.values[0], found.vectors[:2]
    largest, (across, up) = known
    length = math.sqrt(2 / abs(largest)) if largest else 1.0
    steps = [length * math.sqrt(settings.extent) * t / settings.extent for t in _grid(settings)]
    yield from _over_plane(landscape, subject.w, across, up, steps)


def kinks(subject: Subject) -> Iterator[Row]:
    """The mean rise under noise beside its quadratic form, of the draws that `average` has."""
    landscape = subject.evaluation()
    product = product_at(landscape, subject.w)
    for sigma in subject.settings.sigmas:
        found = kinks_under_noise(
            landscape.loss,
            product,
            subject.w,
            landscape.shapes,
            sigma=sigma,
            draws=subject.settings.draws,
            stream=subject.stream("average"),
        )
        for method in ("rise", "quadratic", "beyond"):
            yield {"method": method, "sigma": sigma} | _interval(getattr(found, method))


def m_sharpness(subject: Subject) -> Iterator[Row]:
    """The mean over parts of the samples of each part's own largest rise, at every radius."""
    settings, parts = subject.settings, subject.parts()
    if len(parts) < 2 <= settings.parts:
        raise ValueError(
            "m-sharpness needs parts of the samples, and these cannot be told apart: give them in "
            "several batches"
        )
    for i, rho in enumerate(settings.rhos):
        found = m_sharpness_of(
            parts,
            subject.w,
            rho=rho,
            steps=settings.steps,
            restarts=settings.restarts,
            stream=subject.stream("worst", i),
        )
        yield {"rho": rho, "value": found.mean} | _over_samples(found)


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


def ascents(subject: Subject) -> Iterator[Row]:
    """The loss over the plane of one step's ascents, on a mini-batch, and their paths on it."""
    settings, landscape = subject.settings, next(subject.mini_batches())
    rho, sigma = settings.rhos[0], settings.sigmas[0]
    found = ascent_paths(
        landscape,
        subject.w,
        landscape.shapes,
        rho=rho,
        sigma=sigma,
        lam=settings.lam,
        stream=subject.stream("ascents"),
    )
    common = {"rho": rho, "sigma": sigma}
    for method, places in found.paths.items():
        for i, place in enumerate(places):
            here = {"method": method, "draw": i, "x": place.x, "y": place.y}
            yield common | here | {"value": place.loss, "rise": place.outside}
    steps = [1.5 * step / settings.extent for step in _grid(settings)]
    for row in _over_plane(landscape, subject.w, rho * found.across, rho * found.up, steps):
        yield common | row


MEASURES: dict[str, Callable[[Subject], Iterator[Row]]] = {
    "line": line,
    "plane": plane,
    "worst": worst,
    "average": average,
    "stability": stability,
    "hessian": hessian,
    "inner": inner,
    "trace": trace,
    "layers": layers,
    "density": density,
    "gauss-newton": gauss_newton,
    "eigenplane": eigenplane,
    "kinks": kinks,
    "m-sharpness": m_sharpness,
    "ascents": ascents,
}

ALONE = 10**6
"""With more weights a gradient of one sample costs nearly as much as one of many."""

USUAL = ("line", "plane", "worst", "average", "stability", "hessian", "inner")
"""What is measured where nothing is named."""

PRECISE = {"hessian", "trace", "layers", "density", "gauss-newton", "eigenplane", "kinks"}
"""What is measured in float64 whatever the model's type: differences of gradients."""

USES = {
    "line": ("samples", "directions", "extent", "points"),
    "plane": ("samples", "extent", "points"),
    "worst": ("samples", "rhos", "steps", "restarts"),
    "average": ("samples", "sigmas", "draws"),
    "stability": ("samples", "sigmas", "draws"),
    "hessian": ("samples", "eigenvalues", "lowest", "parts", "iterations"),
    "inner": ("batches", "rhos", "sigmas", "lam", "draws", "ascent_steps", "steps", "restarts"),
    "trace": ("samples", "probes", "parts"),
    "layers": ("samples", "iterations", "depth", "parts"),
    "density": ("samples", "probes", "iterations"),
    "gauss-newton": ("samples", "probes", "parts", "eigenvalues", "iterations"),
    "eigenplane": ("samples", "extent", "points", "eigenvalues", "lowest", "iterations"),
    "kinks": ("samples", "sigmas", "draws"),
    "m-sharpness": ("samples", "parts", "rhos", "steps", "restarts"),
    "ascents": ("batches", "rhos", "sigmas", "lam", "extent", "points"),
}
"""The settings that decide a measure's numbers, besides the seed: with others it stays as it is."""


def survey(measure: str, subject: Subject) -> Iterator[Row]:
    """The rows of one measure of one model, each as soon as it is known."""
    for row in MEASURES[measure](subject):
        yield dict.fromkeys(COLUMNS) | {"measure": measure} | row


def _grid(settings: SurveySettings) -> list[float]:
    points = xp.linspace(-settings.extent, settings.extent, settings.points)
    return to_host(points).tolist()


def _over_plane(
    landscape: Landscape, w: Array, across: Array, up: Array, steps: list[float]
) -> Iterator[Row]:
    """The loss at w + x across + y up, line by line."""
    for y in steps:
        losses = loss_along(landscape.loss, w + y * up, across, steps)
        for x, loss in zip(steps, _listed(losses)):
            yield {"x": x, "y": y, "value": loss}


def _listed(values: Array) -> list[float]:
    return (to_host(values) if library_of(values) is xp else values).tolist()


def _loss(landscape: Landscape, w: Array) -> float:
    return float(landscape.loss(w))


def _interval(found: Estimate) -> Row:
    low, high = _ends(found)
    return {"value": found.mean, "low": low, "high": high}


def _over_samples(found: Estimate) -> Row:
    low, high = _ends(found)
    return {"sample_low": low, "sample_high": high}


def _ends(found: Estimate) -> tuple[float, float] | tuple[None, None]:
    """The interval's ends; one value alone has none."""
    return (None, None) if found.n == 1 else found.interval


def _under_noise(
    subject: Subject, stream: str, measured: Callable[..., Estimate], shapes: Shapes
) -> Iterator[Row]:
    """A row for every noise scale: the mean over draws, and its 95 % interval."""
    for sigma in subject.settings.sigmas:
        found = measured(
            subject.w,
            shapes,
            sigma=sigma,
            draws=subject.settings.draws,
            stream=subject.stream(stream),
        )
        yield {"sigma": sigma} | _interval(found)
