"""The figures. Each function takes results and returns a Matplotlib figure; `save` writes it.

Matplotlib wants host arrays, so figures are made under the numpy backend, whichever computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsam_backends import use_backend, xp
from rsam_ref.files import whole

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = {
    "sgd": "#000000",
    "sam": "#0072B2",
    "sam2": "#56B4E9",
    "noise": "#CC79A7",
    "rsam": "#D55E00",
}
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


def compare_figure(results: dict[str, Any]) -> Figure:
    """Test accuracy against the radius, a line a method, and the chosen runs' course."""
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        settings, methods = results["settings"], results["summary"]["methods"]
        for name, method in methods.items():
            if method["knob"] == "rho":
                _sweep(left, name, method)
        for name, method in methods.items():
            if method["knob"] != "rho":
                _level(left, name, method)
        seeds = max(len(m["best"]["seeds"]) for m in methods.values())
        left.set(
            xlabel="radius rho",
            ylabel="test accuracy (%)",
            ylim=(0, 101),
            title=f"{settings['label_noise']:.0%} label noise; mean and standard deviation, "
            f"{seeds} seed{'s' if seeds > 1 else ''}",
        )
        left.legend(loc="lower left", fontsize=8.5)
        for name, method in methods.items():
            _course(right, name, method, results["runs"])
        right.set(
            xlabel="epoch",
            ylabel="validation accuracy (%)",
            title="training, each at the setting that validation chose",
        )
        right.legend(loc="lower right", fontsize=8.5)
        return figure


def _sweep(axes: Axes, name: str, method: dict[str, Any]) -> None:
    points = method["sweep"]
    x = [p["value"] for p in points]
    y = xp.array([p["test_accuracy"] for p in points]) * 100
    spread = xp.array([p["test_deviation"] for p in points]) * 100
    axes.plot(x, y, "o-", color=COLOURS[name], label=method["label"], ms=4)
    axes.fill_between(x, y - spread, y + spread, color=COLOURS[name], alpha=0.15, lw=0)
    best = method["best"]
    axes.plot(
        best["value"], best["test_accuracy"] * 100, "o", ms=10, mfc="none", color=COLOURS[name]
    )


def _level(axes: Axes, name: str, method: dict[str, Any]) -> None:
    """A method without a radius, tuned, as a horizontal line."""
    best = method["best"]
    label = f"{method['label']} (best {method['knob']}, {best['value']:g})"
    y, spread = best["test_accuracy"] * 100, best["test_deviation"] * 100
    axes.axhline(y, color=COLOURS[name], ls="--", lw=1.2, label=label)
    axes.axhspan(y - spread, y + spread, color=COLOURS[name], alpha=0.08, lw=0)


def _course(axes: Axes, name: str, method: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    value = method["best"]["value"]
    curves = [r["val_curve"] for r in runs if r["method"] == name and r["value"] == value]
    length = min(map(len, curves))
    if length == 0:  # every run diverged in its first epoch
        return
    curve = xp.mean([c[:length] for c in curves], axis=0) * 100
    label = f"{method['label']}, {method['knob']} = {value:g}"
    marker = "o" if length == 1 else ""  # a line of one point is not seen
    axes.plot(xp.arange(1, length + 1), curve, marker, color=COLOURS[name], label=label, lw=1.4)


def curves_figure(rows: list[dict[str, Any]], title: str) -> Figure:
    """A training run: its losses and its test accuracy over the epochs, from its metrics."""
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        lines = (
            ("loss", "training (first pass)", GRADIENT, ""),
            ("adversarial_loss", "training, at the perturbed weights", EPS, ""),
            ("test_loss", "test", "black", "o"),
        )
        for name, label, colour, marker in lines:
            points = [(r["epoch"], r[name]) for r in rows if r[name] is not None]
            if points:
                marker = "o" if len(points) == 1 else marker  # a line of one point is not seen
                left.plot(*zip(*points), color=colour, label=label, marker=marker, ms=3, lw=1.3)
        left.set(xlabel="epoch", ylabel="loss", title=title)
        left.set_ylim(bottom=0)
        left.legend(fontsize=8.5)
        tests = [r for r in rows if r["test_accuracy"] is not None]
        epochs = [r["epoch"] for r in tests]
        right.plot(epochs, [100 * r["test_accuracy"] for r in tests], "o-", color="black", ms=3)
        last = f"; at the end {100 * tests[-1]['test_accuracy']:.1f} %" if tests else ""
        right.set(xlabel="epoch", ylabel="test accuracy (%)", title=f"test{last}")
        right.set_ylim(0, 101)
        return figure
