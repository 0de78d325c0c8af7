"""Where the labels of a step's arrows and places stand, so that none hides anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from rsam_backends import xp


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


def is_long(arrow: Arrow, half: float) -> bool:
    """Whether there is anything to see of it."""
    return bool((arrow.along @ arrow.along) ** 0.5 > 0.01 * half)


def _near(a: Any, b: Any, half: float) -> bool:
    return bool(((a - b) @ (a - b)) ** 0.5 < 0.005 * half)


def joined(dot: Dot, dots: Sequence[Dot], half: float) -> str:
    """The label of a place, with those of the others there; none where another one tells it."""
    same = [other for other in dots if _near(other.place, dot.place, half)]
    return " = ".join(other.label for other in same) if same[0] is dot else ""


def places_of(
    arrows: Sequence[Arrow], dots: Sequence[Dot], centre: Any, half: float, em: float
) -> list[tuple[Arrow | Dot, str, Any]]:
    """Labels and where they stand: each where there is most room for it, one after the other.

    An arrow whose label would hide something has its number alone, or nothing: the key at the side
    tells what it is. ``em`` is the size of the letters in the units of the axes.
    """
    seen = [arrow for arrow in arrows if is_long(arrow, half)]
    share = xp.linspace(0, 1, 25)[:, None]
    taken = [arrow.start + share * arrow.along for arrow in seen]
    taken += [dot.place[None] for dot in dots]
    placed: list[tuple[Arrow | Dot, str, Any]] = []
    items: list[Arrow | Dot] = [*dots, *seen]
    for item in items:
        dot = isinstance(item, Dot)
        labels = [joined(item, dots, half)] if isinstance(item, Dot) else [item.label, item.number]
        everything = xp.concatenate(taken)
        for label in labels:
            size = xp.array([(_ems(label) / 2 + 0.15) * em, 0.7 * em])  # half of its box

            def room(place: Any) -> float:
                """How far its box is from whatever is there; below 0 where it hides something."""
                away = xp.maximum(abs(everything - place) - size, 0)  # noqa: B023
                inside = half - 0.3 * em - abs(place - centre) - size  # noqa: B023
                gaps = xp.sqrt((away**2).sum(1))
                free = min(float(gaps.min()), 0.3 * em) - em * float((gaps == 0).sum())
                return free + 10 * min(0, float(inside.min()))

            best = max(_beside(item, size, em), key=room)
            if dot or room(best) >= -0.5 * em:
                placed.append((item, label, best))
                box = [(i, j) for i in xp.linspace(-1, 1, 9) for j in xp.linspace(-1, 1, 5)]
                taken.append(best + xp.array(box) * size)
                break
    return placed


def _beside(item: Arrow | Dot, size: Any, em: float) -> list[Any]:
    """Where a label with a box of twice this size could stand: around a dot, along an arrow."""
    if isinstance(item, Dot):
        turns = xp.linspace(0, 2 * xp.pi, 16, endpoint=False)
        off = size + em * xp.array([0.35, 0.3])
        return [item.place + off * xp.array([xp.cos(turn), xp.sin(turn)]) for turn in turns]
    normal = xp.array([-item.along[1], item.along[0]])
    normal = normal / (normal @ normal) ** 0.5
    off = abs(normal) @ size + 0.15 * em
    return [
        item.start + t * item.along + side * off * normal
        for t in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9)
        for side in (1, -1)
    ]


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
