"""One step of SAM or R-SAM on the contours of the two-weight problem, whole or stage by stage.

The pictures are slides of 16:9. All stages of a step have the same places for the same things, so
that nothing jumps from one slide to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rsam_backends import to_host, use_backend, xp
from rsam_ref.figures import DESCENT, DRAW, EPS, GRADIENT, STYLE, Figure
from rsam_ref.teaching.labels import Arrow, Dot, is_long, joined, places_of, wrapped
from rsam_ref.teaching.landscape import Frame, draw_ground, frame_around
from rsam_ref.teaching.stages import Stage, stages_of, typeset
from rsam_ref.teaching.step import (
    WorkedStep,
    name_of,
    place_text,
    quantities,
    settings_text,
)

LOOK: dict[Any, Any] = {
    **STYLE,
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so it is there on every machine
    "mathtext.fontset": "dejavusans",
    "axes.grid": False,
}
WIDTH, HEIGHT = 40 / 3, 7.5
"""Inches: a slide of 16:9."""


def step_figure(step: WorkedStep, frame: Frame | None = None) -> Figure:
    """The whole step on two weights; in a ``frame`` that it shares with others, if one is given.

    The figure is a slide of 16:9, which a notebook displays.
    """
    return _slides(step, [stages_of(step)], frame)[0]


def stage_figures(step: WorkedStep, frame: Frame | None = None) -> list[Figure]:
    """The step built up: a figure for each of its stages, each with all before it.

    With the same ``frame``, see `frame_of`, the slides of several steps can be flipped between.
    """
    told = stages_of(step)
    return _slides(step, [told[: i + 1] for i in range(len(told))], frame)


def frame_of(steps: Sequence[WorkedStep]) -> Frame:
    """The frame in which all of the steps can be seen."""
    with use_backend("numpy"):
        return frame_around([point for step in steps for point in _reach(step)])


def _slides(
    step: WorkedStep, shown: Sequence[Sequence[Stage]], frame: Frame | None
) -> list[Figure]:
    with matplotlib.rc_context(LOOK), use_backend("numpy"):
        return [_slide(step, told, frame) for told in shown]


def _slide(step: WorkedStep, told: Sequence[Stage], frame: Frame | None) -> Figure:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    figure.title = f"{name_of(step)}: {told[-1].title}"
    figure.description = in_words(step, told)
    axes = figure.add_axes((1.05 / WIDTH, 0.95 / HEIGHT, 6.2 / WIDTH, 6.2 / HEIGHT))
    bar = figure.add_axes((7.4 / WIDTH, 0.95 / HEIGHT, 0.2 / WIDTH, 6.2 / HEIGHT))
    shown = {stage.name for stage in told}
    picture_step(axes, step, shown, size=20, bar=bar, frame=frame)

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
    settings = f"{name_of(step)}: {typeset(settings_text(step))}"
    for x, y, text in (
        (left - 0.15, 0.36, settings),
        (left - 0.15, 0.08, place_text(step.surface, step.w)),
    ):
        write(x, y, text, 14, color="#555555", va="bottom")
    return figure


def in_words(step: WorkedStep, told: Sequence[Stage]) -> str:
    """What a picture of these stages shows, for those who do not see it."""
    ground = f"Contours of a loss of two weights ({place_text(step.surface, step.w)}). "
    return ground + " ".join(f"{stage.title}: {stage.text}" for stage in told)


def picture_step(
    axes: Axes,
    step: WorkedStep,
    shown: set[str],
    *,
    size: float,
    bar: Axes | None,
    frame: Frame | None = None,
) -> None:
    """The contours, and what the stages of these names have found; letters of ``size`` points."""
    arrows, dots = _arrows(step), _dots(step)
    frame = frame or frame_around(_reach(step))
    centre, half = frame.centre, frame.half
    assert step.surface is not None, "a network's step cannot be drawn"
    draw_ground(axes, step.surface, frame, size=size, bar=bar)

    if "radius" in shown:
        axes.plot(*_ring(step), color=EPS, lw=size / 14, ls=":")
    for arrow in sorted(arrows, key=lambda arrow: -(arrow.along @ arrow.along)):
        if arrow.stage in shown and is_long(arrow, half):  # a shorter one lies on a longer one
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
    for item, text, place in places_of(arrows, dots, centre, half, scale * size):
        if item.stage not in shown:
            continue
        if isinstance(item, Dot):
            text = joined(item, [dot for dot in dots if dot.stage in shown], half)
        box = {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75}
        if not text:
            continue
        weight = "bold" if isinstance(item, Dot) else "normal"
        x, y = place
        axes.text(x, y, text, size=size, ha="center", va="center", bbox=box, weight=weight)


def _reach(step: WorkedStep) -> list[Any]:
    """All that has to be in the picture."""
    ends = [dot.place for dot in _dots(step)]
    ends += [arrow.start + arrow.along for arrow in _arrows(step)]
    x, y = _ring(step)
    return [*ends, xp.array([x.min(), y.min()]), xp.array([x.max(), y.max()])]


def _ring(step: WorkedStep) -> tuple[Any, Any]:
    """Where w + eps can be: the circle of the radius, ASAM's ellipse."""
    turn = xp.linspace(0, 2 * xp.pi, 201)
    wide, high = to_host(step.scale) if step.algorithm == "asam" else (1.0, 1.0)
    x, y = to_host(step.w)
    return x + step.rho * wide * xp.cos(turn), y + step.rho * high * xp.sin(turn)


DOTS, DASHES = (0, (1, 1.2)), (0, (3.5, 1.5))


def _arrows(step: WorkedStep) -> list[Arrow]:
    """All vectors of the step, numbered as the equations that they stand for."""
    w, g0, ascent, eps, g = (
        to_host(v) for v in (step.w, step.g0, step.ascent, step.eps, step.trace.gradient)
    )
    if step.algorithm == "rsam":
        noise = to_host(step.noise)
        weighed = "g₀" if step.lam == 1 else "λ g₀"
        found = [
            Arrow("draw", "1", "1  D", w, noise, DRAW, "-"),
            Arrow("gradient", "2", f"2  {weighed}", w + noise, step.lam * g0, GRADIENT, "-"),
            Arrow("ascent", "3", "3  a", w, ascent, EPS, DASHES),
            Arrow("radius", "4", "4  ε", w, eps, EPS, "-"),
        ]
    elif step.algorithm == "asam":
        found = [
            Arrow("gradient", "1", "1  g₀", w, g0, GRADIENT, DASHES),
            Arrow("ascent", "2", "2  a", w, ascent, EPS, DASHES),
            Arrow("radius", "3", "3  ε", w, eps, EPS, "-"),
        ]
    else:
        first = to_host(step.asked[1][0]) - w
        label = "2  ε" if step.ascent_steps == 1 else "2"
        found = [
            Arrow("gradient", "1", "1  g₀", w, g0, GRADIENT, DASHES),
            Arrow("radius", "2", label, w, first, EPS, "-"),
            *_climb(step),
        ]
    down, number = -step.lr * g, int(found[-1].number)
    back, moved = str(number + 1), str(number + 2)
    return [
        *found,
        Arrow("descent", back, f"{back}  −lr g", w + eps, down, DESCENT, DOTS),
        Arrow("descent", moved, moved, w, down, DESCENT, "-"),
    ]


def _climb(step: WorkedStep) -> list[Arrow]:
    """The ascent of k-step SAM after its first step: the gradients on the way, and the ways."""
    places = [to_host(place) for place, _ in step.asked[1:]]
    gradients = [to_host(gradient) for _, gradient in step.asked[1:-1]]
    looks = [
        Arrow("climb", "3", f"3  g{'₁₂₃₄₅₆₇₈₉'[i : i + 1]}", place, g, GRADIENT, DASHES)
        for i, (place, g) in enumerate(zip(places, gradients))
    ]
    ways = [
        Arrow("climb", "4", "4", start, end - start, EPS, "-") for start, end in pairwise(places)
    ]
    return [*looks, *ways]


def _dots(step: WorkedStep) -> list[Dot]:
    w, after, eps = (to_host(v) for v in (step.w, step.after, step.eps))
    reached = "climb" if step.ascent_steps > 1 else "radius"
    dots = [Dot("weights", "w", w), Dot(reached, "w + ε", w + eps), Dot("descent", "w′", after)]
    if step.algorithm == "rsam":
        dots.insert(1, Dot("draw", "w + D", w + to_host(step.noise)))
    return dots


def _key(step: WorkedStep) -> dict[str, tuple[str, Any]]:
    return {arrow.number: (arrow.colour, arrow.style) for arrow in _arrows(step)}


def _numbers(step: WorkedStep, stage: Stage) -> list[str]:
    """Of a stage's equations, as at the arrows that they stand for."""
    return list(dict.fromkeys(a.number for a in _arrows(step) if a.stage == stage.name))
