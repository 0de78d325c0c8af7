"""A sweep in one picture: accuracy against each number that was varied, and the chosen runs."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

from rsam_backends import use_backend
from rsam_ref.figures import COLOURS, OTHERS, STYLE, Figure, colour_of
from rsam_ref.training.figures import BAND
from rsam_ref.training.summary import Group, read_run
from rsam_ref.training.sweeps.names import told
from rsam_ref.training.sweeps.outcome import Chosen, Row
from rsam_ref.training.sweeps.plan import Plan, Setting

PANELS = 3
"""Settings that have a panel, those with the most values first."""

TICKS = 7
"""Values that are told on an axis, at most."""

LINES = 8
"""Of more lines the colours alone are told."""

Point = tuple[float, float, float, Row]
"""Value, accuracy in per cent, half of its interval, and whose they are."""


def sweep_figure(plan: Plan, rows: list[Row], chosen: list[Chosen], folder: Path) -> Figure:
    """Accuracy (mean and 95 % interval over seeds) against what was varied.

    What was chosen is ringed; to the right its course, the mean and the range over seeds, which is
    read from the runs in ``folder``.
    Without numbers that were varied the settings lie side by side.
    """
    names = _numeric(plan.settings)[:PANELS]
    named = len({setting.label for setting in plan.settings}) <= LINES
    with matplotlib.rc_context(STYLE), use_backend("numpy"):
        n = max(1, len(names)) + 1
        figure = Figure(figsize=(1.5 + 4.2 * n, 4.8), layout="constrained")
        *panels, last = figure.subplots(1, n)
        for axes, name in zip(panels, names):
            _against(axes, name, rows, chosen)
        if not names:
            _side_by_side(panels[0], rows, chosen)
        part = "validation" if plan.validation else "test"
        panels[0].set_ylabel(f"{part} accuracy (%)")
        _courses(last, chosen, folder)
        last.set(xlabel="epoch", ylabel=f"{part} accuracy (%)")
        course = "the course of what was chosen" if plan.validation else "the course"
        seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
        if len(plan.seeds) > 1:
            course += f": mean, and\nband {BAND}"
            panels[0].set_title("mean and 95 % interval over seeds")
        last.set_title(course)
        figure.suptitle(f"{_title(plan)}, {seeds}{' each' if len(plan.settings) > 1 else ''}")
        handles, labels = (panels[0] if names and named else last).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels) or 1))
        figure.title = f"A sweep of {len(plan.settings)} settings, {seeds} each"
        figure.description = "; ".join(_in_words(c) for c in chosen) or "nothing was chosen"
        return figure


def _title(plan: Plan) -> str:
    recipe = plan.settings[0].recipe
    data = Path(recipe.data).stem
    several = len({(s.recipe.data, s.recipe.model) for s in plan.settings}) > 1
    what = "several problems" if several else f"{recipe.model.rpartition(':')[2]} on {data}"
    return f"{what}, {len(plan.settings)} setting{'s' if len(plan.settings) > 1 else ''}"


def _in_words(chosen: Chosen) -> str:
    accuracy = chosen.row.interval("accuracy")
    assert accuracy is not None
    return f"chosen: {chosen.row.setting.label}, accuracy {100 * accuracy[0]:.1f} %"


def _numeric(settings: tuple[Setting, ...]) -> list[str]:
    """The numbers that were varied, those with the most values first."""
    values: dict[str, set[float]] = defaultdict(set)
    for setting in settings:
        for name, value in setting.values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values[name].add(value)
    several = [name for name, found in values.items() if len(found) > 1]
    return sorted(several, key=lambda name: -len(values[name]))


def _key(setting: Setting, without: str) -> str:
    rest = {name: value for name, value in setting.values.items() if name != without}
    return json.dumps([setting.method, rest], default=str)


def _against(axes: Axes, name: str, rows: list[Row], chosen: list[Chosen]) -> None:
    """One panel: lines through settings that differ in this number alone."""
    lines: dict[str, list[Point]] = defaultdict(list)
    level: list[Row] = []
    for row in rows:
        value, accuracy = row.setting.values.get(name), row.interval("accuracy")
        if accuracy is None:
            continue
        if value is None:
            level.append(row)
            continue
        point = value, 100 * accuracy[0], 100 * (accuracy[1] or 0.0), row
        lines[_key(row.setting, name)].append(point)
    palette = _Palette(rows)
    for points in lines.values():
        points.sort(key=lambda point: point[0])
        setting = points[0][3].setting
        rest = told({k: v for k, v in setting.values.items() if k != name}) or setting.method
        axes.errorbar(
            [point[0] for point in points],
            [point[1] for point in points],
            [point[2] for point in points],
            fmt="o-" if len(points) > 1 else "o",
            color=palette.of(setting, rest),
            label=rest,
            ms=4,
            lw=1.3,
            elinewidth=0.9,
            capsize=2,
        )
        for at, percent, _, row in points:
            if any(c.row is row for c in chosen):
                axes.plot(at, percent, "o", ms=10, mfc="none", color="black", mew=1.2)
    for row in level:
        _level(axes, row, chosen, palette)
    tried = [point[0] for points in lines.values() for point in points]
    if tried and min(tried) > 0 and max(tried) >= 8 * min(tried):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    if len(values := sorted(set(tried))) <= TICKS:
        axes.set_xticks(values)
    axes.set_xlabel(name)
    _within_percent(axes)


def _within_percent(axes: Axes) -> None:
    """Intervals may reach beyond 0 and 100 %, the axis does not."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -1), min(high, 101))


class _Palette:
    """Colours: each method's own, where there are several, or one for each line."""

    def __init__(self, rows: list[Row]) -> None:
        self.methods = list(dict.fromkeys(row.setting.method for row in rows))
        self.lines: list[str] = []
        self.all = (*COLOURS.values(), *OTHERS)

    def of(self, setting: Setting, line: str) -> str:
        if len(self.methods) > 1:
            return colour_of(setting.method, self.methods)
        if line not in self.lines:
            self.lines.append(line)
        return self.all[self.lines.index(line) % len(self.all)]


def _level(axes: Axes, row: Row, chosen: list[Chosen], palette: _Palette) -> None:
    """A setting that has no such number, as a horizontal line; where many, the chosen one alone."""
    if not any(c.row is row for c in chosen):
        return
    accuracy = row.interval("accuracy")
    assert accuracy is not None
    colour, y, half = palette.of(row.setting, row.setting.label), *accuracy
    label = f"{row.setting.label} (best)" if row.setting.tuned else row.setting.label
    axes.axhline(100 * y, color=colour, ls="--", lw=1.2, label=label)
    if half:
        axes.axhspan(100 * (y - half), 100 * (y + half), color=colour, alpha=0.08, lw=0)


def _side_by_side(axes: Axes, rows: list[Row], chosen: list[Chosen]) -> None:
    """Settings without a number that was varied, one below the other."""
    palette = _Palette(rows)
    shown = [row for row in rows if row.interval("accuracy") is not None]
    for i, row in enumerate(shown):
        accuracy = row.interval("accuracy")
        assert accuracy is not None
        y, half = 100 * accuracy[0], 100 * (accuracy[1] or 0.0)
        colour = palette.of(row.setting, row.setting.label)
        axes.errorbar(i, y, half, fmt="o", color=colour, capsize=3)
        if any(c.row is row for c in chosen) and len(shown) > len(chosen):
            axes.plot(i, y, "o", ms=10, mfc="none", color="black", mew=1.2)
    labels = [row.setting.label for row in shown]
    turned = 30 if max(map(len, labels), default=0) > 6 else 0
    axes.set_xticks(range(len(shown)), labels, rotation=turned, ha="right" if turned else "center")
    axes.margins(x=0.15)
    _within_percent(axes)


def _courses(axes: Axes, chosen: list[Chosen], folder: Path) -> None:
    palette = _Palette([c.row for c in chosen])
    for c in chosen:
        setting = c.row.setting
        group = Group({}, [read_run(folder / run.name) for run in c.row.runs])
        curve = group.curve("test_accuracy")
        epochs = [point[0] for point in curve]
        middle, low, high = ([100 * point[k] for point in curve] for k in (1, 2, 3))
        colour = palette.of(setting, setting.label)
        marker = "o" if len(curve) == 1 else ""  # a line of one point is not seen
        axes.plot(epochs, middle, marker=marker, color=colour, label=setting.label, lw=1.4)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
