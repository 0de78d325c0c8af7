"""One step of SAM or R-SAM on the contours of the two-weight problem, whole or stage by stage.

The pictures are slides of 16:9. All stages of a step have the same places for the same things, so
that nothing jumps from one slide to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath

from rsam_backends import quiet, to_host, use_backend, xp
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.figures import DESCENT, DRAW, EPS, GRADIENT, STYLE
from rsam_ref.teaching.stages import Stage, stages_of, typeset
from rsam_ref.teaching.step import ALGORITHMS, WorkedStep, quantities, settings_text, valley

LOOK: dict[Any, Any] = {
    **STYLE,
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so it is there on every machine
    "mathtext.fontset": "dejavusans",
    "axes.grid": False,
}
WIDTH, HEIGHT = 40 / 3, 7.5
"""Inches: a slide of 16:9."""


@dataclass(frozen=True)
class Arrow:
    """A vector of the step in the picture."""

    stage: str
    number: str
    label: str
    start: Any
    along: Any
    colour: str
    style: Any


@dataclass(frozen=True)
class Dot:
    """A place where the step has been."""

    stage: str
    label: str
    place: Any


def step_figure(step: WorkedStep) -> Figure:
    """The whole step."""
    return _slides(step, [stages_of(step)])[0]


def stage_figures(step: WorkedStep) -> list[Figure]:
    """The step built up: a figure for each of its stages, each with all before it."""
    told = stages_of(step)
    return _slides(step, [told[: i + 1] for i in range(len(told))])


def _slides(step: WorkedStep, shown: Sequence[Sequence[Stage]]) -> list[Figure]:
    with matplotlib.rc_context(LOOK), use_backend("numpy"):
        return [_slide(step, told) for told in shown]


def _slide(step: WorkedStep, told: Sequence[Stage]) -> Figure:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((1.05 / WIDTH, 0.95 / HEIGHT, 6.2 / WIDTH, 6.2 / HEIGHT))
    bar = figure.add_axes((7.4 / WIDTH, 0.95 / HEIGHT, 0.2 / WIDTH, 6.2 / HEIGHT))
    picture_step(axes, step, {stage.name for stage in told}, size=20, bar=bar)

    left, now = 8.85, told[-1]

    def write(x: float, y: float, text: str, size: float, **options: Any) -> None:
        options = {"va": "top", **options}
        figure.text(x / WIDTH, y / HEIGHT, text, size=size, **options)

    write(left - 0.15, 7.15, "\n".join(wrapped(now.title, 4.4 * 72, 25)), 25, weight="bold")
    y, styles = 6.3, _key(step)
    for stage in told:
        for number, equation in zip(_numbers(step, stage), stage.equations):
            colour, style = styles[number]
            here = stage is now
            line = [(left - 0.15) / WIDTH, (left + 0.4) / WIDTH], [y / HEIGHT, y / HEIGHT]
            figure.add_artist(Line2D(*line, color=colour, ls=style, lw=4))
            shade = "black" if here else "#666666"
            write(left + 0.5, y, number, 18, va="center", color=shade)
            write(left + 0.8, y, f"${equation.tex}$", 26, va="center", color=shade)
            y -= 0.62
    found = {symbol: vector for symbol, _, vector in quantities(step)}
    lines = wrapped(typeset(now.text), 4.4 * 72, 19)
    for symbol in now.symbols:
        values = ", ".join(f"{v:.3f}" for v in to_host(found[symbol]).tolist())
        lines += [f"{typeset(symbol)} = ({values})".replace("-", "−")]
    write(left - 0.15, 2.75, "\n".join(lines), 19, linespacing=1.25)
    write(
        left - 0.15,
        0.08,
        f"{ALGORITHMS[step.algorithm]}: {typeset(settings_text(step))}",
        14,
        color="#555555",
        va="bottom",
    )
    return figure


def picture_step(
    axes: Axes, step: WorkedStep, shown: set[str], *, size: float, bar: Axes | None
) -> None:
    """The contours, and what the stages of these names have found; letters of ``size`` points."""
    arrows, dots = _arrows(step), _dots(step)
    ends = [dot.place for dot in dots] + [arrow.start + arrow.along for arrow in arrows]
    ring = [to_host(step.w) + step.rho * xp.array(to) for to in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    points = xp.array(ends + ring)
    if not xp.isfinite(points).all():
        raise ValueError("the step has left the range of numbers; there is nothing to draw")
    centre = (points.min(0) + points.max(0)) / 2
    half = xp.ptp(points, axis=0).max() / 2 * 1.25 + 0.1
    x, y = (xp.linspace(c - half, c + half, 161) for c in centre)
    with no_grad(), quiet():
        heights = valley(Tensor(xp.stack(xp.meshgrid(x, y), axis=-1))).data
    filled = axes.contourf(x, y, heights, levels=20, cmap="Greys", alpha=0.5)
    axes.contour(x, y, heights, levels=20, colors="white", linewidths=size / 25)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_aspect("equal")
    axes.set_xlabel("first weight", size=size)
    axes.set_ylabel("second weight", size=size)
    axes.tick_params(labelsize=0.75 * size)
    axes.locator_params(nbins=5)
    axes.ticklabel_format(scilimits=(-3, 4))
    if bar is not None:
        axes.figure.colorbar(filled, cax=bar)
        bar.tick_params(labelsize=0.75 * size)
        bar.locator_params(axis="y", nbins=5)
        bar.set_ylabel("loss", size=size)

    if "radius" in shown:
        circle = xp.linspace(0, 2 * xp.pi, 200)
        w = to_host(step.w)
        round_w = w[0] + step.rho * xp.cos(circle), w[1] + step.rho * xp.sin(circle)
        axes.plot(*round_w, color=EPS, lw=size / 14, ls=":")
    for arrow in sorted(arrows, key=lambda arrow: -(arrow.along @ arrow.along)):
        if arrow.stage in shown and _long(arrow, half):  # a shorter one lies on a longer one
            head = {
                "arrowstyle": "-|>",
                "color": arrow.colour,
                "lw": size / 6,
                "ls": arrow.style,
                "shrinkA": 0,
                "shrinkB": 0,
                "mutation_scale": 1.3 * size,
            }
            axes.annotate("", arrow.start + arrow.along, arrow.start, arrowprops=head)
    for dot in dots:
        if dot.stage in shown:
            axes.plot(*dot.place, "o", color="black", ms=size / 2.4)
    # The places are those of the whole picture, so that a label never moves between stages.
    points_wide = axes.get_window_extent().width * 72 / axes.figure.dpi
    scale = 2 * half / points_wide  # of a point, in the units of the axes
    for item, place in _places(arrows, dots, centre, half, scale * size):
        if item.stage not in shown:
            continue
        text = item.label
        if isinstance(item, Dot):
            text = _joined(item, [dot for dot in dots if dot.stage in shown], half)
        box = {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75}
        if not text:
            continue
        weight = "bold" if isinstance(item, Dot) else "normal"
        x, y = place
        axes.text(x, y, text, size=size, ha="center", va="center", bbox=box, weight=weight)


def _arrows(step: WorkedStep) -> list[Arrow]:
    w, g0, ascent, eps, g = (
        to_host(v) for v in (step.w, step.g0, step.ascent, step.eps, step.trace.gradient)
    )
    down = -step.lr * g
    dots, dashes = (0, (1, 1.2)), (0, (3.5, 1.5))
    if step.algorithm == "sam":
        return [
            Arrow("gradient", "1", "1  g₀", w, g0, GRADIENT, dashes),
            Arrow("radius", "2", "2  ε", w, eps, EPS, "-"),
            Arrow("descent", "3", "3  −lr g", w + eps, down, DESCENT, dots),
            Arrow("descent", "4", "4", w, down, DESCENT, "-"),
        ]
    noise = to_host(step.noise)
    weighed = "g₀" if step.lam == 1 else "λ g₀"
    return [
        Arrow("draw", "1", "1  D", w, noise, DRAW, "-"),
        Arrow("gradient", "2", f"2  {weighed}", w + noise, step.lam * g0, GRADIENT, "-"),
        Arrow("ascent", "3", "3  a", w, ascent, EPS, dashes),
        Arrow("radius", "4", "4  ε", w, eps, EPS, "-"),
        Arrow("descent", "5", "5  −lr g", w + eps, down, DESCENT, dots),
        Arrow("descent", "6", "6", w, down, DESCENT, "-"),
    ]


def _dots(step: WorkedStep) -> list[Dot]:
    w, after, eps = (to_host(v) for v in (step.w, step.after, step.eps))
    dots = [Dot("weights", "w", w), Dot("radius", "w + ε", w + eps), Dot("descent", "w′", after)]
    if step.algorithm == "rsam":
        dots.insert(1, Dot("draw", "w + D", w + to_host(step.noise)))
    return dots


def _key(step: WorkedStep) -> dict[str, tuple[str, Any]]:
    return {arrow.number: (arrow.colour, arrow.style) for arrow in _arrows(step)}


def _numbers(step: WorkedStep, stage: Stage) -> list[str]:
    """Of a stage's equations, as at the arrows that they stand for."""
    return [arrow.number for arrow in _arrows(step) if arrow.stage == stage.name]


def _long(arrow: Arrow, half: float) -> bool:
    """Whether there is anything to see of it."""
    return bool((arrow.along @ arrow.along) ** 0.5 > 0.01 * half)


def _near(a: Any, b: Any, half: float) -> bool:
    return bool(((a - b) @ (a - b)) ** 0.5 < 0.005 * half)


def _joined(dot: Dot, dots: Sequence[Dot], half: float) -> str:
    """The label of a place, with those of the others there; none where another one tells it."""
    same = [other for other in dots if _near(other.place, dot.place, half)]
    return " = ".join(other.label for other in same) if same[0] is dot else ""


def _places(
    arrows: Sequence[Arrow], dots: Sequence[Dot], centre: Any, half: float, em: float
) -> list[tuple[Arrow | Dot, Any]]:
    """Where the labels stand: each where there is most room for it, one after the other.

    An arrow whose label would hide something has none: the key at the side tells what it is.
    ``em`` is the size of the letters in the units of the axes.
    """
    seen = [arrow for arrow in arrows if _long(arrow, half)]
    share = xp.linspace(0, 1, 25)[:, None]
    taken = [arrow.start + share * arrow.along for arrow in seen]
    taken += [dot.place[None] for dot in dots]
    placed: list[tuple[Arrow | Dot, Any]] = []
    items: list[Arrow | Dot] = [*dots, *seen]
    for item in items:
        label = _joined(item, dots, half) if isinstance(item, Dot) else item.label
        wide, high = (_ems(label) / 2 + 0.15) * em, 0.7 * em  # half the size of its box
        options = []
        if isinstance(item, Dot):
            for turn in xp.linspace(0, 2 * xp.pi, 16, endpoint=False):
                to = xp.array([xp.cos(turn) * (wide + 0.35 * em), xp.sin(turn) * (high + 0.3 * em)])
                options.append(item.place + to)
        else:
            normal = xp.array([-item.along[1], item.along[0]])
            normal = normal / (normal @ normal) ** 0.5
            off = abs(normal[0]) * wide + abs(normal[1]) * high + 0.15 * em
            options += [
                item.start + t * item.along + side * off * normal
                for t in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9)
                for side in (1, -1)
            ]
        everything = xp.concatenate(taken)

        def room(place: Any) -> float:
            """How far its box is from whatever is there; below 0 where it hides something."""
            away = xp.maximum(abs(everything - place) - (wide, high), 0)  # noqa: B023
            inside = half - 0.3 * em - abs(place - centre) - (wide, high)  # noqa: B023
            gaps = xp.sqrt((away**2).sum(1))
            hidden = float((gaps == 0).sum())
            return min(float(gaps.min()), 0.3 * em) - em * hidden + 10 * min(0, float(inside.min()))

        best = max(options, key=room)
        if isinstance(item, Arrow) and room(best) < -0.5 * em:
            continue
        placed.append((item, best))
        box = [(i, j) for i in xp.linspace(-1, 1, 9) for j in xp.linspace(-1, 1, 5)]
        taken.append(best + xp.array(box) * (wide, high))
    return placed


def _ems(text: str) -> float:
    """How wide a text is, in units of its size."""
    prop = FontProperties(family="DejaVu Sans", size=100)
    return TextToPath().get_text_width_height_descent(text, prop, False)[0] / 100


def wrapped(text: str, width: float, size: float) -> list[str]:
    """A text in lines of at most ``width`` points, as its letters are wide."""
    prop, measure, lines = FontProperties(family="DejaVu Sans", size=size), TextToPath(), [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and measure.get_text_width_height_descent(longer, prop, False)[0] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
