"""How the tutorials' figures look, how they are shown, and how an exercise is checked."""

import atexit
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rsam_ref.figures import DESCENT, DRAW, EPS, GRADIENT, STYLE, save

# Okabe and Ito's colours, as in the rest of the project: any colour vision tells them apart.
BLUE, ORANGE, GREEN, PINK, GREY = GRADIENT, EPS, DESCENT, DRAW, "#777777"

matplotlib.rcParams.update(STYLE)


def figure(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of this size in inches, and its axes in one row; options as for `subplots`."""
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(1, columns, **options)


def arrow(axes: Any, start: Any, end: Any, colour: str, text: str = "", *, gap: int = 0) -> None:
    """An arrow that ends ``gap`` points off both places, and a text at its middle."""
    line = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 15}
    axes.annotate("", end, start, arrowprops={**line, "shrinkA": gap, "shrinkB": gap})
    middle = [(s + e) / 2 for s, e in zip(start, end)]
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"}
    axes.text(
        *middle, text, color=colour, size=9, ha="center", va="center", bbox=box if text else None
    )


def circle(axes: Any, place: Any, inside: str, note: str) -> None:
    """A node of a graph: a circle with a text in it, and a note above it."""
    axes.plot(*place, "o", ms=30, mfc="white", mec="black")
    axes.annotate(inside, place, ha="center", va="center")
    axes.annotate(note, place, (0, 20), textcoords="offset points", ha="center")


def outline(axes: Any, row: int, column: int, height: int, width: int, colour: str) -> None:
    """A frame around pixels of an image shown by `imshow`, the upper left one at (row, column)."""
    corner = column - 0.5, row - 0.5
    axes.add_patch(Rectangle(corner, width, height, fill=False, ec=colour, lw=2.5))


made_so_far: list[str] = []
"""The names of the figures of this tutorial."""


def remember(name: str) -> None:
    """Let a script's last line tell of its figures."""
    if not made_so_far and Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parent:
        atexit.register(tell)
    made_so_far.append(name)


def tell() -> None:
    """Where the figures are; or that there are some, and how to get them."""
    figures = "1 figure" if len(made_so_far) == 1 else f"{len(made_so_far)} figures"
    if folder := os.environ.get("RSAM_TUTORIAL_FIGURES"):
        print(f"The tutorial's {figures}: in {Path(folder).resolve()}")
    else:
        print(
            f"The tutorial has {figures}. To save them: "
            f"RSAM_TUTORIAL_FIGURES=figures python {sys.argv[0]}"
        )


def show(made: Figure, name: str) -> None:
    """Display a figure in a notebook; save it where RSAM_TUTORIAL_FIGURES names a folder."""
    remember(name)
    if folder := os.environ.get("RSAM_TUTORIAL_FIGURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        save(made, Path(folder) / f"{name}.png")
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        png = io.BytesIO()
        made.savefig(png, format="png", bbox_inches="tight")
        display(Image(data=png.getvalue(), width=round(made.get_figwidth() * 90)))


def movie(made: Figure, draw: Callable[[int], Any], frames: int, name: str, rate: int = 8) -> None:
    """Like `show`, a GIF: ``draw(k)`` makes frame k of ``frames``; ``rate`` frames a second.

    It is played over and over, so let it end in some frames that do not move.
    """
    remember(name)
    folder = os.environ.get("RSAM_TUTORIAL_FIGURES")
    if not folder and "ipykernel" not in sys.modules:
        return
    with tempfile.TemporaryDirectory() as spare:
        path = Path(folder or spare) / f"{name}.gif"
        path.parent.mkdir(parents=True, exist_ok=True)
        FuncAnimation(made, draw, frames, init_func=list, cache_frame_data=False).save(
            path, PillowWriter(fps=rate), dpi=90
        )
        if "ipykernel" in sys.modules:
            from IPython.display import Image, display

            display(Image(data=path.read_bytes(), format="gif"))


def check(exercise: Callable[[Any], None], answer: Any) -> bool:
    """Hold an answer against the asserts of its exercise; an answer of None is not there yet."""
    name = exercise.__name__.replace("_", " ").capitalize()
    if answer is None or answer is ...:
        print(f"{name}: not yet")
        return False
    exercise(answer)
    print(f"{name}: right")
    return True


def contours(axes: Any, loss: Callable[[Any], Any], x: Any, y: Any, levels: Any) -> None:
    """``loss(w)`` of two weights w (2, ...) as grey contours; x and y are (from, to)."""
    x, y = (np.linspace(*ends, 121) for ends in (x, y))
    heights = loss(np.array(np.meshgrid(x, y)))
    greys = matplotlib.colormaps["Greys"](np.linspace(0.02, 0.5, len(levels) + 1))
    axes.contourf(x, y, heights, levels, colors=greys, extend="both")
    axes.contour(x, y, heights, levels, colors="white", linewidths=0.6)
    axes.grid(False)
    axes.set(xlim=x[[0, -1]], ylim=y[[0, -1]], aspect="equal")
    axes.set(xlabel="first weight", ylabel="second weight")


def note(axes: Any, place: Any, text: str, colour: str = "black", side: str = "left") -> None:
    """A text to the left or right of a place; a black one names the place and gets a dot."""
    if colour == "black":
        axes.plot(*place, "o", color=colour, ms=5)
    shift, align = ((-8, -4), "right") if side == "left" else ((8, -4), "left")
    axes.annotate(text, place, shift, textcoords="offset points", color=colour, ha=align)
