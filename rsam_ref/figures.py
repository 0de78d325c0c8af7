"""The figures. Each function takes results and returns a Matplotlib figure; `save` writes it.

Matplotlib wants host arrays, so figures are made under the numpy backend, whichever computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from rsam_ref.files import whole

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = {
    "sgd": "#000000",
    "sam": "#0072B2",
    "sam2": "#56B4E9",
    "noise": "#CC79A7",
    "rsam": "#D55E00",
}


OTHERS = ("#009E73", "#E69F00", "#7F3C8D", "#8C564B", "#7F7F7F", "#3969AC", "#A5AA99", "#F0E442")


def colour_of(name: str, among: Iterable[str]) -> str:
    """A method's colour in a figure of several: its own, or the next of the others'."""
    if name in COLOURS:
        return COLOURS[name]
    others = [other for other in among if other not in COLOURS]
    return OTHERS[others.index(name) % len(OTHERS)]


DRAW, GRADIENT, EPS, DESCENT = "#CC79A7", "#0072B2", "#D55E00", "#009E73"


STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.dpi": 150,
}


# A file is the same bytes for the same figure, and looks the same on a machine without its fonts.
WRITING: dict[Any, Any] = {
    "svg.fonttype": "path",
    "pdf.fonttype": 3,
    "svg.hashsalt": "rsam-ref",
    "savefig.facecolor": "auto",
    "savefig.transparent": False,
}


UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save(figure: Figure, path: str | Path, *, trim: bool = True, transparent: bool = False) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's ending; never half of a file.

    ``trim`` False keeps the figure's own size, as a slide or a page has to.
    """
    path = Path(path)
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lower().lstrip(".")
    if kind not in kinds:
        raise ValueError(
            f"{path}: cannot write a picture of kind {path.suffix!r}; use .png, .svg or .pdf"
        )
    with matplotlib.rc_context(WRITING), whole(path) as partial:
        figure.savefig(
            partial,
            format=kind,
            bbox_inches="tight" if trim else None,
            transparent=transparent,
            metadata=UNDATED.get(kind),
        )
