"""The figures. Each function takes results and returns a Matplotlib figure; `save` writes it.

Matplotlib wants host arrays, so figures are made under the numpy backend, whichever computed.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import figure as matplotlib_figure

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


class Figure(matplotlib_figure.Figure):
    """Matplotlib's figure, with what it shows in words; a notebook displays it.

    ``title`` and ``description`` go into its files (see `save`). Matplotlib's own figure is
    displayed only where pyplot made it, or was imported.
    """

    title: str = ""
    description: str = ""

    def _repr_png_(self) -> bytes:
        """The picture that a notebook displays."""
        drawn = io.BytesIO()
        with matplotlib.rc_context(WRITING):
            self.savefig(drawn, format="png", dpi=90, bbox_inches="tight")
        return drawn.getvalue()


def save(
    figure: matplotlib_figure.Figure,
    path: str | Path,
    *,
    trim: bool = True,
    transparent: bool = False,
) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's ending; never half of a file.

    ``trim`` False keeps the figure's own size, as a slide or a page has to. The title and the
    description of a `Figure` are told in the file: as ``<title>`` and ``<desc>`` in SVG, which
    screen readers read out, in the document's properties in PDF, as text chunks in PNG.

    Raises
    ------
    ValueError
        If the ending is of no kind that Matplotlib writes.
    """
    path = Path(path)
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lower().lstrip(".")
    if kind not in kinds:
        raise ValueError(
            f"{path}: cannot write a picture of kind {path.suffix!r}; use .png, .svg or .pdf"
        )
    box = "tight" if trim else None
    with matplotlib.rc_context(WRITING), whole(path) as partial:
        if kind == "svg":
            drawn = svg(figure, bbox_inches=box, transparent=transparent)
            partial.write_bytes(drawn.encode())
        else:
            told = _metadata(figure, kind)
            figure.savefig(
                partial, format=kind, bbox_inches=box, transparent=transparent, metadata=told
            )


def svg(figure: matplotlib_figure.Figure, **options: Any) -> str:
    """A figure as SVG, undated, with its title and its description; options as for `savefig`."""
    drawn = io.StringIO()
    with matplotlib.rc_context(WRITING):
        figure.savefig(drawn, format="svg", metadata=UNDATED["svg"], **options)
    text = drawn.getvalue()
    told = {"title": getattr(figure, "title", ""), "desc": getattr(figure, "description", "")}
    words = "".join(f" <{tag}>{html.escape(t)}</{tag}>\n" for tag, t in told.items() if t)
    if not words:
        return text
    start = text.index("<svg ")
    inside = text.index(">", start) + 1
    opening = text[start:inside].replace("<svg ", '<svg role="img" ', 1)
    return f"{text[:start]}{opening}\n{words.rstrip()}{text[inside:]}"


def _metadata(figure: matplotlib_figure.Figure, kind: str) -> dict[str, Any] | None:
    """What a PDF or a PNG says of itself."""
    title, description = getattr(figure, "title", ""), getattr(figure, "description", "")
    words = {"pdf": "Subject", "png": "Description"}
    told = dict(UNDATED.get(kind, {}))
    if title and kind in words:
        told |= {"Title": title, "Author": "rsam-ref", words[kind]: description}
    return told or None
