"""What `rsam-ref sweep` prints: what will be done, every run that ends, and what came of it."""

from __future__ import annotations

import math
from typing import Any

from rich.measure import Measurement
from rich.table import Table

from rsam_ref.commands.terminal import console, note_line, say

SHOWN = 30
"""Settings in the table; results.csv has all."""


def announce(plan: Any, seen: list[Any], notes: list[str]) -> None:
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
    for note in notes:
        say(note)
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


def show(plan: Any, rows: list[Any], chosen: list[Any], failed: dict[Any, str]) -> None:
    """The settings in a table, then what was chosen, and the methods side by side.

    ``failed`` tells why runs did.
    """
    from rsam_ref.training.sweeps.outcome import not_chosen

    best = [c.row for c in chosen] if plan.validation else []
    shown = rows if len(rows) <= SHOWN else _foremost(rows, [c.row for c in chosen])
    table = _wide(plan, shown, best)
    if (
        Measurement.get(console, console.options.update(width=10_000), table).maximum
        > console.width
    ):
        table = _narrow(plan, shown, best)
    console.print(table, markup=False, highlight=False)
    if len(shown) < len(rows):
        say(f"... and {len(rows) - len(shown):,} settings that were worse; results.csv has all.")
    _show_chosen(plan, chosen)
    if plan.validation or len(plan.groups) > 1:
        for name, why in not_chosen(plan, rows, failed).items():
            without = "Nothing is chosen of" if plan.validation else "There is no comparison with"
            say(f"{without} {name}: {why}.")


def _wide(plan: Any, rows: list[Any], best: list[Any]) -> Table:
    """A column for every setting."""
    from rsam_ref.training.sweeps.names import in_words

    names = list(dict.fromkeys(name for s in plan.settings for name in s.values))
    table = Table("", *names, box=None, pad_edge=False)
    part = _part(plan)
    for name in ("seeds", f"{part} accuracy (%)", f"{part} loss", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        values = row.setting.values
        told = (in_words(values[name]) if name in values else "-" for name in names)
        table.add_row(_star(row, best), *told, *_results(plan, row))
    return table


def _narrow(plan: Any, rows: list[Any], best: list[Any]) -> Table:
    """A setting's values in one column, broken into lines, and headings of two lines."""
    table = Table("", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("setting", overflow="fold")
    part = _part(plan)
    table.add_column("seeds", justify="right")
    for name in (f"{part}\naccuracy (%)", f"{part}\nloss", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(_star(row, best), row.setting.label, *_results(plan, row))
    return table


def _part(plan: Any) -> str:
    return "validation" if plan.validation else "test"


def _star(row: Any, best: list[Any]) -> str:
    return "*" if any(row is b for b in best) else ""


def _results(plan: Any, row: Any) -> list[str]:
    """Seeds, accuracy, loss and time."""
    return [
        _seeds(plan, row),
        _figure(row.interval("accuracy"), 100, ".2f"),
        _figure(row.interval("loss"), 1, ".4f"),
        f"{row.seconds:.0f} s",
    ]


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
        else:
            say(f"Chosen: {c.row.setting.label}; its test failed.")
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
