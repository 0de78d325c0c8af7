"""The pictures of training: a comparison, the course of a run, a profile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from rsam_backends import use_backend, xp
from rsam_ref.figures import COLOURS, EPS, GRADIENT, OTHERS, STYLE, Figure, colour_of
from rsam_ref.training.profiling import Profile
from rsam_ref.training.summary import Group

LINES = (*COLOURS.values(), *OTHERS)
BAND = "from the lowest to the highest seed"
"""What is drawn around a mean of `Group.curve`."""


def compare_figure(results: dict[str, Any]) -> Figure:
    """Test accuracy against the radius, a line a method, and the chosen runs' course."""
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        settings, methods = results["settings"], results["summary"]["methods"]
        colours = {name: colour_of(name, methods) for name in methods}
        for name, method in methods.items():
            if method["knob"] == "rho":
                _sweep(left, colours[name], method)
        for name, method in methods.items():
            if method["knob"] != "rho":
                _level(left, colours[name], method)
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
            _course(right, name, colours[name], method, results["runs"])
        right.set(
            xlabel="epoch",
            ylabel="validation accuracy (%)",
            title="training, each at the setting that validation chose",
        )
        right.legend(loc="lower right", fontsize=8.5)
        return figure


def _sweep(axes: Axes, colour: str, method: dict[str, Any]) -> None:
    points = method["sweep"]
    x = [p["value"] for p in points]
    y = xp.array([p["test_accuracy"] for p in points]) * 100
    spread = xp.array([p["test_deviation"] for p in points]) * 100
    axes.plot(x, y, "o-", color=colour, label=method["label"], ms=4)
    axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.15, lw=0)
    best = method["best"]
    axes.plot(best["value"], best["test_accuracy"] * 100, "o", ms=10, mfc="none", color=colour)


def _level(axes: Axes, colour: str, method: dict[str, Any]) -> None:
    """A method without a radius, tuned, as a horizontal line."""
    best = method["best"]
    label = f"{method['label']} (best {method['knob']}, {best['value']:g})"
    y, spread = best["test_accuracy"] * 100, best["test_deviation"] * 100
    axes.axhline(y, color=colour, ls="--", lw=1.2, label=label)
    axes.axhspan(y - spread, y + spread, color=colour, alpha=0.08, lw=0)


def _course(
    axes: Axes, name: str, colour: str, method: dict[str, Any], runs: list[dict[str, Any]]
) -> None:
    value = method["best"]["value"]
    curves = [r["val_curve"] for r in runs if r["method"] == name and r["value"] == value]
    length = min(map(len, curves))
    if length == 0:  # every run diverged in its first epoch
        return
    curve = xp.mean([c[:length] for c in curves], axis=0) * 100
    label = f"{method['label']}, {method['knob']} = {value:g}"
    marker = "o" if length == 1 else ""  # a line of one point is not seen
    axes.plot(xp.arange(1, length + 1), curve, marker, color=colour, label=label, lw=1.4)


def curves_figure(rows: list[dict[str, Any]], title: str, part: str = "test") -> Figure:
    """A training run: its losses and its test accuracy over the epochs, from its metrics.

    ``part`` says of which samples the tests are: test, or validation where some were held out.
    """
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        lines = (
            ("loss", "training (first pass)", GRADIENT, ""),
            ("adversarial_loss", "training, at the perturbed weights", EPS, ""),
            ("test_loss", part, "black", "o"),
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
        right.set(xlabel="epoch", ylabel=f"{part} accuracy (%)", title=f"{part}{last}")
        right.set_ylim(0, 101)
        return figure


def summary_figure(groups: list[Group]) -> Figure:
    """Groups of runs over one another: loss and accuracy, mean and range over seeds.

    They are of the test samples, or of those held out for validation, as the axes say.
    """
    parts = {group.part for group in groups}
    of = f"{parts.pop()} " if len(parts) == 1 else ""
    names = [group.name if of else f"{group.name} ({group.part})" for group in groups]
    columns = 3 if max(map(len, names)) < 30 else 1
    height = 3.8 + 0.25 * len(names) / columns
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        figure = Figure(figsize=(10, height), layout="constrained")
        for axes, (name, factor, label) in zip(
            figure.subplots(1, 2),
            (("test_loss", 1, f"{of}loss"), ("test_accuracy", 100, f"{of}accuracy (%)")),
        ):
            for i, group in enumerate(groups):
                curve = group.curve(name)
                epochs = [point[0] for point in curve]
                middle, low, high = ([factor * p[k] for p in curve] for k in (1, 2, 3))
                colour = LINES[i % len(LINES)]
                dashes = ("-", "--", ":")[i // len(LINES) % 3]
                axes.plot(epochs, middle, dashes, color=colour, label=names[i], lw=1.4)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
            axes.set(xlabel="epoch", ylabel=label)
        if any(len(group.done) > 1 for group in groups):
            figure.suptitle(f"mean over seeds; the band is {BAND}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
        return figure


MOST_NAMED = 30
"""Of more classes the names are too small to be read, and of a third as many the counts."""


def confusion_figure(classes: Sequence[str], confusion: list[list[int]], title: str) -> Figure:
    """What each true class (a row) was taken for (a column), as shares of the row."""
    n = len(classes)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}), use_backend("numpy"):
        side = min(12.0, 3.0 + 0.35 * n)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
        if n <= MOST_NAMED:
            turned = 45 if max(map(len, classes)) > 2 else 0
            axes.set_xticks(range(n), classes, rotation=turned, ha="right" if turned else "center")
            axes.set_yticks(range(n), classes)
        if n <= MOST_NAMED // 2:
            for i, row in enumerate(confusion):
                for j, count in enumerate(row):
                    if count:
                        colour = "white" if shares[i][j] > 0.6 else "black"
                        axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour)
        axes.set(xlabel="taken for", ylabel="true class", title=title)
        return figure


def profile_figure(result: Profile, title: str) -> Figure:
    """A bar for every op, forward and backward end to end, and for what is left."""
    total = result.measured
    by_name: dict[str, dict[str, float]] = defaultdict(dict)
    for row in result.rows:
        by_name[row.name][row.phase] = row.seconds * 1e3
    names = sorted(by_name, key=lambda name: sum(by_name[name].values()))
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x", "axes.axisbelow": True}):
        figure = Figure(figsize=(8, 1.2 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        kinds = (
            ("forward", "forward", GRADIENT),
            ("backward", "backward", EPS),
            ("", "neither", "#999999"),
        )
        position = {name: i for i, name in enumerate(names)}
        left = dict.fromkeys(names, 0.0)
        for phase, label, colour in kinds:
            for name in names:
                width = by_name[name].get(phase)
                if width is not None:
                    axes.barh(position[name], width, left=left[name], color=colour, height=0.7)
                    left[name] += width
            axes.barh(0, 0, color=colour, label=label)
        for name in names:
            share = 100 * left[name] / (total * 1e3)
            axes.text(left[name], position[name], f" {share:.1f} %", va="center", fontsize=8.5)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="milliseconds a step", title=title)
        axes.margins(x=0.12)
        axes.legend(loc="lower right")
        return figure
