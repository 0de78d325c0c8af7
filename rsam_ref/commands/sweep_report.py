"""What `rsam-ref sweep` prints: what will be done, every run that ends, and what came of it."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from rsam_ref.commands.terminal import console, note_line, say

SHOWN = 30
"""Settings in the table; results.csv has all."""


def announce(plan: Any, seen: list[Any]) -> None:
    """What will be done, in a few lines."""
    from rsam_ref.loading import name_in

    models = " and ".join(dict.fromkeys(name_in(s.recipe.model) for s in plan.settings))
    say(
        f"{_count(len(plan.runs), 'run')} of {models}: {_count(len(plan.settings), 'setting')} "
        f"x {_count(len(plan.seeds), 'seed')}"
    )
    for data in seen:
        held = f"{data.watched:,} held out to choose by, " if plan.validation else ""
        say(f"{data.name}: {data.train:,} samples to train on, {held}{data.test:,} to test")
        for note in data.notes:
            say(note_line(note))
    if not plan.validation:
        say("There is nothing to choose, so no samples are held out and every run is tested.")
    sizes = {group[0].method: len(group) for group in plan.groups}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{method} {n}" for method, n in sizes.items())
        say(
            f"The methods are not tuned alike: settings tried are {told}. The more of them, the "
            "better the best is by chance; --set METHOD:NAME=... gives a method values of its own."
        )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def line_of(run: Any, record: dict[str, Any]) -> str:
    """A run that ended, in a line."""
    if "failed" in record:
        return f"failed: {record['failed']}"
    if record["diverged"]:
        return f"{run.name}  diverged: {record['diverged']}"
    return f"{run.name}  {100 * record['accuracy']:.1f} %  {record['seconds']:.0f} s"


def _figure(interval: tuple[float, float | None] | None, factor: float, form: str) -> str:
    if interval is None:
        return "-"
    centre, half = interval
    return f"{factor * centre:{form}}" + ("" if half is None else f" ± {factor * half:{form}}")


def show(plan: Any, rows: list[Any], chosen: list[Any]) -> None:
    """The settings in a table, then what was chosen, and the methods side by side."""
    from rsam_ref.training.sweeps.names import in_words

    part = "validation" if plan.validation else "test"
    names = list(dict.fromkeys(name for s in plan.settings for name in s.values))
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, overflow="fold", min_width=min(len(name), 12))
    for name in ("seeds", f"{part} accuracy (%)", f"{part} loss", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    best = [c.row for c in chosen]
    shown = rows if len(rows) <= SHOWN else _foremost(rows, best)
    for row in shown:
        values = row.setting.values
        table.add_row(
            "*" if plan.validation and any(row is b for b in best) else "",
            *(in_words(values[name]) if name in values else "-" for name in names),
            _seeds(plan, row),
            _figure(row.interval("accuracy"), 100, ".2f"),
            _figure(row.interval("loss"), 1, ".4f"),
            f"{row.seconds:.0f} s",
        )
    console.print(table, markup=False, highlight=False)
    if len(shown) < len(rows):
        say(f"... and {len(rows) - len(shown):,} settings that were worse; results.csv has all.")
    _show_chosen(plan, chosen)


def _seeds(plan: Any, row: Any) -> str:
    """How many seeds are done, of how many, and how many diverged."""
    done = str(len(row.records)) if row.complete else f"{len(row.records)} of {len(plan.seeds)}"
    return f"{done}, {row.diverged} diverged" if row.diverged else done


def _foremost(rows: list[Any], best: list[Any]) -> list[Any]:
    """The best rows, and those that are chosen."""
    by_merit = sorted(rows, key=lambda row: -(row.interval("accuracy") or (-1.0,))[0])
    return by_merit[:SHOWN] + [row for row in best if not any(row is r for r in by_merit[:SHOWN])]


def _show_chosen(plan: Any, chosen: list[Any]) -> None:
    from rsam_ref.training.sweeps.outcome import differences

    for c in chosen if plan.validation else []:
        if c.tests:
            accuracy, loss = (c.interval(name) for name in ("accuracy", "loss"))
            say(
                f"Chosen: {c.row.setting.label}: test accuracy {_figure(accuracy, 100, '.2f')} %, "
                f"loss {_figure(loss, 1, '.4f')}"
            )
        for name, end in c.at_the_edge.items():
            say(f"  Its {name} is the {end} that was tried: the best may lie beyond.")
    for difference in differences(chosen):
        say(_verdict(difference))


def _verdict(d: Any) -> str:
    """A difference of two methods, in a line."""
    from rsam_ref.training.sweeps.names import told

    where = f" ({told(d.posed)})" if d.posed else ""
    text = f"{d.method} less {d.less}{where}: {100 * d.interval.mean:+.2f} points"
    if math.isinf(d.interval.low):
        return f"{text} (one seed)"
    bounds = f"[{100 * d.interval.low:+.2f}, {100 * d.interval.high:+.2f}]"
    return f"{text} {bounds}, {'within noise' if d.interval.within_noise else 'clear'}"
