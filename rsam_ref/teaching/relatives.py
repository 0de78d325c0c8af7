"""One step of any of SAM's relatives: in numbers, and on the contours of the two-weight problem."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Any

import matplotlib

from rsam_backends import to_host, use_backend
from rsam_backends.base import Array
from rsam_ref import models
from rsam_ref.algorithms.base import SGD
from rsam_ref.algorithms.relatives import RELATIVES, ApartTrace, Relative, make
from rsam_ref.algorithms.sam import Trace
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.data import digits_split
from rsam_ref.data.feed import batches
from rsam_ref.figures import DESCENT, DRAW, EPS, GRADIENT, Figure
from rsam_ref.nn.batch_parts import Accumulated
from rsam_ref.nn.objective import objective
from rsam_ref.teaching.landscape import draw_ground, frame_around
from rsam_ref.teaching.picture import HEIGHT, LOOK, WIDTH
from rsam_ref.teaching.stages import typeset
from rsam_ref.teaching.step import place_text, start_of, surface_of
from rsam_ref.teaching.surfaces import START, Surface
from rsam_ref.training.loop import train

EARLIER = 2
"""Steps before the one that is shown, so that what a rule keeps is there."""
SEED = 12
"""Of the draws: with it every rule that draws has something to show."""
MOMENTUM = 0.6
"""The base's, for rules that go by its velocity; all others are shown around plain SGD."""


@dataclass(frozen=True)
class RelativeStep:
    """One step of a relative in numbers: the weights before and after, and its trace."""

    relative: Relative
    settings: dict[str, float]
    w: Array
    trace: Trace
    after: Array
    lr: float
    surface: Surface | None = None
    """The loss of the two-weight problem; None on a network."""

    @property
    def settings_text(self) -> str:
        """The settings, as they stand below a picture."""
        return ", ".join(f"{name} {value:g}" for name, value in self.settings.items())


class TwoWeights:
    """A surface as a function that is told of steps, of one tensor, in two parts."""

    shapes = ((2,),)

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def __call__(self, w: Array) -> tuple[Array, Array]:
        """The loss at w (2,), and its gradient (2,)."""
        leaf = Tensor(w, requires_grad=True)
        loss = self.loss(leaf)
        loss.backward()
        assert leaf.grad is not None
        return loss.data, leaf.grad

    def begin_step(self) -> None:
        """Nothing depends on it."""

    def abandon_step(self) -> None:
        """Nothing has changed."""

    @property
    def parts(self) -> list[TwoWeights]:
        """Those of the surface, whose sum the loss is: the smooth part and the ripples."""
        return [TwoWeights(part) for part in self.loss.parts]

    def samples(self, count: int) -> list[TwoWeights]:
        """The same two."""
        return self.parts[:count]


def on_two_weights(
    name: str,
    *,
    rho: float = 0.5,
    lr: float = 0.4,
    surface: str = "ripples",
    at: tuple[float, float] = START,
) -> RelativeStep:
    """A step on the two-weight problem, after some earlier ones.

    What draws by the size of filters does so with sigma = 0.25, R-SAM's there.
    """
    relative = RELATIVES[name]
    settings = {key: setting.default for key, setting in relative.settings.items()}
    settings |= {"rho": rho} if "rho" in settings else {}
    settings |= {"sigma": 0.25} if "noise" in relative.needs else {}
    settings |= {"n": 20.0} if "n" in settings else {}
    momentum = MOMENTUM if "velocity" in relative.needs else 0.0
    optimizer = make(name, SGD(lr / 4, momentum), seed=SEED, **settings)
    ground = surface_of(surface)
    w, loss = start_of(at, lr), TwoWeights(ground)
    for _ in range(EARLIER):
        optimizer.step(loss, w)
    before = w.copy()
    optimizer.base.lr = lr  # type: ignore[attr-defined]
    trace = optimizer.step(loss, w)
    return RelativeStep(relative, settings, before, trace, w.copy(), lr, ground)


def on_digits(name: str, *, lr: float = 0.1, epochs: int = 5) -> RelativeStep:
    """A step with the default settings on the digits MLP 64-256-256-10, after epochs of SGD."""
    split = digits_split(0, label_noise=0.4)
    model = models.mlp([64, 256, 256, 10], seed=0)
    train(model, SGD(0.1, momentum=0.9), split.x_train, split.y_train, epochs=epochs, seed=0)
    relative = RELATIVES[name]
    momentum = 0.9 if "velocity" in relative.needs else 0.0
    optimizer = make(name, SGD(lr, momentum))
    w = model.weights.flat
    order = list(batches(len(split.x_train), 64, 0, epochs))
    for index in order[: EARLIER + 1]:
        x, y = split.x_train[index], split.y_train[index]
        parted = "parts" in relative.needs
        batch = Accumulated(model, x, y, objective(model, x, y).loss, [0, 1]) if parted else None
        before = w.copy()
        trace = optimizer.step(batch or objective(model, x, y), w)
    settings = {key: setting.default for key, setting in relative.settings.items()}
    return RelativeStep(relative, settings, before, trace, w.copy(), lr)


def vectors_of(step: RelativeStep) -> list[tuple[str, str, Array]]:
    """The vectors of a step in the order in which they arise: (symbol, what it is, vector)."""
    trace = step.trace
    found: list[tuple[str, str, Any]] = [
        ("w", "the weights", step.w),
        ("D", "the draw around them", trace.noise),
        ("g0", "the first gradient", trace.ascent_gradient),
        ("eps", "the perturbation", trace.perturbation),
        ("u", "the gradient that the base steps with", trace.gradient),
        ("apart", "what goes past the base", getattr(trace, "apart", None)),
        ("w'", "the new weights", step.after),
    ]
    return [(symbol, text, vector) for symbol, text, vector in found if vector is not None]


def step_figure(step: RelativeStep) -> Figure:
    """The step on the contours, with its rule beside it; in the colours of SAM's and R-SAM's."""
    with matplotlib.rc_context(LOOK), use_backend("numpy"):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        figure.title = f"One step of {step.relative.title}"
        figure.description = f"Arrows on the contours of a loss: {step.relative.update}"
        axes = figure.add_axes((1.05 / WIDTH, 0.95 / HEIGHT, 6.2 / WIDTH, 6.2 / HEIGHT))
        _contours(axes, step)
        labels = []
        for label, start, along, colour, style in _arrows(step):
            head = {"arrowstyle": "-|>", "color": colour, "lw": 3.2, "ls": style}
            head |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 26}
            axes.annotate("", start + along, start, arrowprops=head)
            labels.append((label, colour, style))
        axes.plot(*to_host(step.w), "o", color="black", ms=8)

        def write(x: float, y: float, text: str, size: float, **options: Any) -> None:
            figure.text(x / WIDTH, y / HEIGHT, text, size=size, va="top", **options)

        title = textwrap.wrap(step.relative.title, 22)
        write(8.0, 7.15, "\n".join(title), 25, weight="bold")
        lines = [
            line
            for part in step.relative.update.split("; ")
            for line in textwrap.wrap(_symbols(part), 40, subsequent_indent="    ")
        ]
        write(8.0, 6.95 - 0.5 * len(title), "\n".join(lines), 17, linespacing=1.35)
        for i, (label, colour, style) in enumerate(labels):
            y = 2.75 - 0.42 * i
            line = matplotlib.lines.Line2D(
                [8.0 / WIDTH, 8.6 / WIDTH], [y / HEIGHT, y / HEIGHT], color=colour, ls=style, lw=4
            )
            figure.add_artist(line)
            write(8.75, y + 0.13, label, 17)
        told = (
            f"{step.settings_text}, lr {step.lr:g}, seed {SEED}; {place_text(step.surface, step.w)}"
        )
        settings = "\n".join(textwrap.wrap(told, 52))
        write(8.0, 0.75, settings, 14, color="#555555")
        return figure


def _symbols(text: str) -> str:
    """A rule in the letters that the papers have."""
    text = re.sub(r"\b(alpha|beta|gamma|delta|theta|eta|sigma)([12]?)\b", _greek, text)
    text = typeset(text.replace("eps_i", "ε_i"))
    return text.replace("<-", "←").replace("^2", "²").replace("^-1", "⁻¹").replace("_i", "ᵢ")


def _greek(name: re.Match[str]) -> str:
    letter = unicodedata.lookup(f"GREEK SMALL LETTER {name[1].upper()}")
    return letter + {"": "", "1": "₁", "2": "₂"}[name[2]]


def _contours(axes: Any, step: RelativeStep) -> None:
    points = [to_host(step.w), to_host(step.after)]
    points += [start + along for _, start, along, _, _ in _arrows(step)]
    assert step.surface is not None, "a network's step cannot be drawn"
    draw_ground(axes, step.surface, frame_around(points), size=20)


def _arrows(step: RelativeStep) -> list[tuple[str, Any, Any, str, Any]]:
    """Label, start, way, colour and style of all that the step has."""
    trace, w = step.trace, to_host(step.w)
    dashes = (0, (3.5, 1.5))
    start = w if trace.noise is None else w + to_host(trace.noise)
    found = [
        ("D, the draw", w, trace.noise, DRAW, "-"),
        ("g₀, the first gradient", start, trace.ascent_gradient, GRADIENT, dashes),
        ("ε, the perturbation", w, trace.perturbation, EPS, "-"),
        ("−lr u, the base's step", w, -step.lr * trace.gradient, DESCENT, dashes),
        ("the move of w", w, step.after - step.w, DESCENT, "-"),
    ]
    if not isinstance(trace, ApartTrace) and "velocity" not in step.relative.needs:
        del found[3]  # it is the move
    shown = []
    for label, from_, along, colour, style in found:
        if along is not None:
            way = to_host(along)
            if (way @ way) ** 0.5 > 1e-3:
                shown.append((label, from_, way, colour, style))
    return shown
