"""The figures of flatness: from the rows of `sharpness.survey` to Matplotlib figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.lines import Line2D

from rsam_backends import use_backend
from rsam_ref.figures import STYLE, Figure
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.view import LOOKS as PATHS
from rsam_ref.sharpness.view import NAMES as PATH_NAMES
from rsam_ref.sharpness.view import grid_of, path_of

Row = dict[str, Any]

# Okabe and Ito's colours, each with a marker of its own, for the models in the order given.
LOOKS = (
    ("#000000", "o"),
    ("#0072B2", "s"),
    ("#D55E00", "^"),
    ("#009E73", "D"),
    ("#CC79A7", "v"),
    ("#56B4E9", "P"),
    ("#E69F00", "X"),
)

LEVELS = (0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # of the rise, in the planes


def flatness_figure(rows: list[Row]) -> Figure:
    """A panel for each measure that was taken, a colour for each model.

    The planes, the layers and the inner maximum have figures of their own.
    """
    rows = [row for row in rows if row["value"] is not None]
    panels = [name for name in PANELS if any(row["measure"] == name for row in rows)]
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = max(1, min(3, len(panels)))
    height = max(1, math.ceil(len(panels) / columns))
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(3.7 * columns, 3.3 * height + 0.4), layout="constrained")
        axes = figure.subplots(height, columns, squeeze=False).ravel().tolist()
        for ax, name in zip(axes, panels):
            for model, look in zip(models, itertools.cycle(LOOKS)):
                own = [r for r in rows if (r["model"], r["measure"]) == (model, name)]
                if own:
                    PANELS[name](ax, own, *look)
        for ax in axes[len(panels) :]:
            ax.remove()
        marks = [
            Line2D([], [], color=colour, marker=marker, ms=5, label=model)
            for model, (colour, marker) in zip(models, itertools.cycle(LOOKS))
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=min(len(models), 4))
        return figure


def _line(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    draws = sorted({row["draw"] for row in rows})
    at: dict[float, list[float]] = {}
    for draw in draws:
        curve = [(row["x"], row["value"]) for row in rows if row["draw"] == draw]
        axes.plot(*zip(*curve), color=colour, lw=0.6, alpha=0.5)
        for x, value in curve:
            at.setdefault(x, []).append(value)
    means = [(x, math.fsum(at[x]) / len(draws)) for x in sorted(at) if len(at[x]) == len(draws)]
    if means:
        axes.plot(*zip(*means), color=colour, lw=2)
    low, high = axes.dataLim.intervaly
    if 0 < 20 * low < high:  # else the walls of a valley leave nothing of its floor to see
        axes.set_yscale("log")
    axes.set(
        xlabel="step along a direction (filter norms)",
        ylabel="loss (nats)",
        title="Along random directions\n(thin: each direction, thick: mean)",
    )


def _worst(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    _points(axes, rows, "rho", colour, marker)
    axes.set(
        xlabel="radius rho",
        ylabel="largest rise of the loss (nats)",
        title="SAM's sharpness\n(projected ascent)",
    )


def _average(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    _points(axes, rows, "sigma", colour, marker)
    axes.set(
        xlabel="noise scale sigma (filter norms)",
        ylabel="mean rise of the loss (nats)",
        title="Average sharpness under noise\n(bars: 95 % interval)",
    )


def _stability(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    _points(axes, rows, "sigma", colour, marker, rises=False)
    axes.axhline(1, color="grey", lw=0.8, ls=":")
    axes.set(
        xlabel="noise scale sigma (filter norms)",
        ylabel="cosine of gradients at w, w + D",
        title="Stability of the gradient\n(1: noise does not turn it)",
    )


def _hessian(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    _bars(axes, rows, "x", colour, marker, line="none")
    for row in rows:
        if row.get("sample_low") is not None:
            axes.vlines(row["x"], row["sample_low"], row["sample_high"], colour, lw=5, alpha=0.25)
    axes.set(
        xlabel="rank (negative: from the lowest)" if min(r["x"] for r in rows) < 0 else "rank",
        ylabel="eigenvalue (nats per weight²)",
        title="Eigenvalues of the Hessian\n(bars: bounds; broad: over samples)",
    )
    axes.set_xticks([row["x"] for row in rows])
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))


def _density(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    x = [row["x"] for row in rows]
    top = max(row["value"] for row in rows)
    axes.plot(x, [row["value"] for row in rows], color=colour, lw=1.4)
    if all(row["low"] is not None for row in rows):
        low, high = ([max(row[end], 0.0) for row in rows] for end in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    axes.set_yscale("log")
    axes.set_ylim(1e-6 * top, max(3 * top, axes.get_ylim()[1]))
    axes.set(
        xlabel="eigenvalue (nats per weight²)",
        ylabel="share of eigenvalues per unit",
        title="Density of all eigenvalues\n(band: 95 % interval over probes)",
    )


def _gauss_newton(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    own = [row for row in rows if row["x"] == 0]
    _bars(axes, own, "method", colour, marker, line="none")
    for row in own:
        if row["sample_low"] is not None:
            ends = row["sample_low"], row["sample_high"]
            axes.vlines(row["method"], *ends, colour, lw=5, alpha=0.25)
    axes.margins(x=0.3)
    axes.set(
        ylabel="trace (nats per weight²)",
        title="Traces: Hessian and stand-ins\n(bars: over probes; broad: samples)",
    )


def _kinks(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    forms = {row["sigma"]: row["value"] for row in rows if row["method"] == "quadratic"}
    ratios = [
        {"sigma": row["sigma"]}
        | {
            name: None if row[name] is None else 1 + row[name] / forms[row["sigma"]]
            for name in ("value", "low", "high")
        }
        for row in rows
        if row["method"] == "beyond" and forms.get(row["sigma"], 0) > 0
    ]
    if ratios:
        _points(axes, ratios, "sigma", colour, marker, rises=False)
    axes.axhline(1, color="grey", lw=0.8, ls=":")
    axes.set(
        xlabel="noise scale sigma (filter norms)",
        ylabel="mean rise / its quadratic form",
        title="What the Hessian leaves out: kinks\n(1: nothing; bars: 95 % interval)",
    )


def _m_sharpness(axes: Axes, rows: list[Row], colour: str, marker: str) -> None:
    spread = [row | {"low": row["sample_low"], "high": row["sample_high"]} for row in rows]
    _points(axes, spread, "rho", colour, marker)
    axes.set(
        xlabel="radius rho",
        ylabel="largest rise of a part's loss (nats)",
        title="m-sharpness, mean over parts\n(bars: 95 % interval)",
    )


PANELS: dict[str, Callable[[Axes, list[Row], str, str], None]] = {
    "line": _line,
    "worst": _worst,
    "average": _average,
    "hessian": _hessian,
    "stability": _stability,
    "density": _density,
    "gauss-newton": _gauss_newton,
    "kinks": _kinks,
    "m-sharpness": _m_sharpness,
}


def _points(
    axes: Axes, rows: list[Row], along: str, colour: str, marker: str, rises: bool = True
) -> None:
    """Values against a radius or a scale; both axes in logarithms, where they allow it."""
    _bars(axes, rows, along, colour, marker)
    ticks = [row[along] for row in rows]
    if 0 < min(ticks) < max(ticks):
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    if rises and all(row["value"] > 0 for row in rows):
        axes.set_yscale("log")


def _bars(
    axes: Axes, rows: list[Row], along: str, colour: str, marker: str, line: str = "-"
) -> None:
    x, y = [row[along] for row in rows], [row["value"] for row in rows]
    spread = None
    if all(row["low"] is not None for row in rows):
        spread = [[r["value"] - r["low"] for r in rows], [r["high"] - r["value"] for r in rows]]
    axes.errorbar(
        x, y, yerr=spread, color=colour, marker=marker, ms=5, lw=1.4, ls=line, capsize=2.5
    )


LAYERS = {
    "trace": "Trace of the Hessian: all, and layers' shares\n(bars: 95 % interval over probes)",
    "layers": "Layers' own largest and lowest eigenvalues\n(bars: bounds)",
}


def layers_figure(rows: list[Row]) -> Figure:
    """What is measured layer by layer: a panel a measure, a line a layer, from the inputs down."""
    rows = [row for row in rows if row["measure"] in LAYERS and row["low"] is not None]
    measures = [name for name in LAYERS if any(row["measure"] == name for row in rows)]
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = list(dict.fromkeys(row["part"] or "all" for row in rows))
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        size = 4.6 * len(measures) + 0.5, 0.26 * len(names) + 1.6
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0].tolist()
        for axes, measure in zip(panels, measures):
            for model, (colour, marker) in zip(models, itertools.cycle(LOOKS)):
                own = [r for r in rows if (r["model"], r["measure"]) == (model, measure)]
                axes.errorbar(
                    [row["value"] for row in own],
                    [names.index(row["part"] or "all") for row in own],
                    xerr=[
                        [row["value"] - row["low"] for row in own],
                        [row["high"] - row["value"] for row in own],
                    ],
                    color=colour,
                    marker=marker,
                    ms=5,
                    ls="none",
                    capsize=2.5,
                    label=model,
                )
            axes.axvline(0, color="grey", lw=0.8)
            axes.set(title=LAYERS[measure], xlabel="nats per weight²")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(models), 4))
        return figure


def plane_figure(rows: list[Row]) -> Figure:
    """The rise of the loss over a plane around the weights, a panel a model.

    The levels are the same in all panels, so the flatter model has the wider rings.
    """
    return _planes([row for row in rows if row["measure"] == "plane"], "direction", "filter norms")


def eigenplane_figure(rows: list[Row]) -> Figure:
    """The same over the plane of the two leading eigenvectors; each model has its own steps."""
    own = [row for row in rows if row["measure"] == "eigenplane"]
    return _planes(own, "eigenvector", "weights", shared=False)


def _planes(rows: list[Row], axis: str, unit: str, shared: bool = True) -> Figure:
    models = list(dict.fromkeys(row["model"] for row in rows))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}), use_backend("numpy"):
        figure = Figure(figsize=(3.3 * len(models) + 0.9, 3.6), layout="constrained")
        panels = figure.subplots(1, len(models), squeeze=False, sharey=shared)[0].tolist()
        drawn = None
        for axes, model in zip(panels, models):
            own = {(r["x"], r["y"]): r["value"] for r in rows if r["model"] == model}
            xs, ys = (sorted({key[i] for key in own}) for i in range(2))
            ys = [y for y in ys if all((x, y) in own for x in xs)]  # interrupted: what there is
            if len(ys) < 2:
                continue
            middle = own[min(own, key=lambda key: abs(key[0]) + abs(key[1]))] or 0.0
            grid = [[math.nan if own[x, y] is None else own[x, y] - middle for x in xs] for y in ys]
            drawn = axes.contourf(
                xs, ys, grid, levels=LEVELS, cmap="cividis", norm=SymLogNorm(0.1), extend="both"
            )
            axes.contour(xs, ys, grid, levels=LEVELS, colors="white", linewidths=0.5)
            axes.plot(0, 0, "+", color="white", ms=10, mew=2)
            axes.set(
                title=f"{model}\n(+: w, loss {middle:.3g})",
                xlabel=f"{axis} 1 ({unit})",
                aspect="equal",
            )
        panels[0].set_ylabel(f"{axis} 2 ({unit})")
        if drawn is not None:
            bar = figure.colorbar(drawn, ax=panels, label="rise of the loss (nats)", shrink=0.9)
            bar.set_ticks(LEVELS, labels=[f"{level:g}" for level in LEVELS])
        return figure


# The lines of the inner maximum: method, number of gradients, colour, marker, line, label.
INNER = (
    ("ascent", 5, "#009E73", "D", "--", "projected ascent, 5 gradients"),
    ("sam", 5, "#56B4E9", "s", "--", "5-step SAM, 5 gradients"),
    ("ascent", 2, "#009E73", "D", ":", "projected ascent, 2 gradients"),
    ("smoothed", 1, "#E69F00", "o", "-", "gradient at w + D alone, 1 gradient"),
    ("sam", 1, "#0072B2", "s", "-", "SAM, 1 gradient"),
    ("rsam", 1, "#D55E00", "^", "-", "R-SAM, 1 gradient"),
    ("random", 0, "#7F7F7F", "x", "-", "draw D alone, no gradient"),
)


def inner_figure(rows: list[Row]) -> Figure:
    """The share of the inner maximum by method and radius, a panel a model.

    Of the noise scales the middle one and the largest are shown.
    """
    rows = [row for row in rows if row["measure"] == "inner" and row["value"] is not None]
    models = list(dict.fromkeys(row["model"] for row in rows))
    sigmas = sorted({row["sigma"] for row in rows if row["sigma"] is not None})
    shown = sorted({*sigmas[(len(sigmas) - 1) // 2 :][:1], *sigmas[-1:]})
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(3.7 * len(models) + 0.3, 4.6), layout="constrained")
        panels = figure.subplots(1, len(models), squeeze=False, sharey=True)
        for axes, model in zip(panels[0], models):
            own = [row for row in rows if row["model"] == model]
            inner_panel(axes, own, "rho", shown)
            ticks = sorted({row["rho"] for row in own})
            axes.set(xlabel="radius rho", title=model)
            if ticks[0] > 0:
                axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        finish_inner(figure, panels, "mean and 95 % interval over mini-batches")
        return figure


def inner_panel(axes: Axes, rows: list[Row], along: str, sigmas: Sequence[float]) -> None:
    """Mean shares of the inner maximum against a column of the rows, with their 95 % interval.

    R-SAM is drawn for every one of ``sigmas``, what else has a noise scale for the last.
    """
    for method, gradients, colour, marker, line, label in INNER:
        scales: Sequence[float | None] = [None]
        if method in ("rsam", "smoothed", "random"):
            scales = sigmas if method == "rsam" else sigmas[-1:]
        for sigma in scales:
            key = (method, gradients, sigma)
            own = [r for r in rows if (r["method"], r["gradients"], r["sigma"]) == key]
            at = sorted({row[along] for row in own})
            found = [Estimate.of(100 * r["value"] for r in own if r[along] == x) for x in at]
            below = method == "smoothed"  # it often lies below SAM's line: a larger, open mark
            axes.errorbar(
                at,
                [estimate.mean for estimate in found],
                yerr=[e.interval[1] - e.mean if e.n > 1 else 0.0 for e in found],
                color=colour,
                marker=marker,
                ls="--" if method == "rsam" and sigma != sigmas[0] else line,
                label=label if sigma is None else f"{label}, sigma {sigma:g}",
                ms=8 if below else 4.5,
                mfc="none" if below else colour,
                lw=1.4,
                capsize=2.5,
            )


def finish_inner(figure: Figure, panels: Any, spread: str) -> None:
    """Title, axis and legend of a grid of inner panels."""
    for axes in panels[:, 0]:
        axes.set_ylabel("share of the inner maximum (%)")
    panels[0, 0].set_ylim(-4, 104)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.suptitle(
        "Share of the largest rise of a mini-batch's loss within the radius that an ascent reaches"
        f"\n({spread})",
        fontsize=10.5,
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5)


def ascents_figure(rows: list[Row]) -> Figure:
    """Where SAM, k-step SAM and R-SAM climb, on the contours of the loss, a panel a model.

    Open marks are places that lie further than a tenth of the radius from the plane.
    """
    rows = [row for row in rows if row["measure"] == "ascents"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}), use_backend("numpy"):
        figure = Figure(figsize=(3.6 * len(models) + 0.6, 4.1), layout="constrained")
        panels = figure.subplots(1, len(models), squeeze=False)[0].tolist()
        for axes, model in zip(panels, models):
            own = [row for row in rows if row["model"] == model]
            xs, ys, grid = grid_of(own)
            drawn = axes.contourf(xs, ys, grid, levels=14, cmap="cividis")
            for method, (colour, _, _) in PATHS.items():
                places = path_of(own, method)
                points = [(p["x"], p["y"]) for p in places]
                axes.plot(*zip(*points), color="white", lw=3.5, zorder=2)
                axes.plot(*zip(*points), color=colour, lw=1.8, label=PATH_NAMES[method], zorder=3)
                for place, point in zip(places[1:], points[1:]):
                    inside = place["rise"] <= 0.1
                    face = colour if inside else "white"
                    axes.plot(*point, "o", color=colour, mfc=face, ms=5, mec=colour, zorder=4)
            axes.plot(0, 0, "+", color="white", ms=10, mew=2, zorder=5)
            axes.set(title=model, xlabel="along SAM's eps (rho)", aspect="equal")
            axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]))  # a draw may lead far out
            figure.colorbar(drawn, ax=axes, label="loss (nats)", shrink=0.8)
        panels[0].set_ylabel("towards R-SAM's eps (rho)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure
