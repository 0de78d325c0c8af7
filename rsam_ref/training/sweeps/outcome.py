"""What came of a sweep: every setting over its seeds, which one is chosen, and how that tests.

Of the settings of one method on one problem, the one with the best mean accuracy on the samples
held out is chosen; where two are alike, the one with the lower loss. A setting with a run that
diverged is never chosen. Only the chosen ones are tested.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rsam_ref.files import write_table, write_whole
from rsam_ref.training.statistics import Interval, interval_of, mean, paired_interval
from rsam_ref.training.sweeps.names import told
from rsam_ref.training.sweeps.plan import Plan, Planned, Setting

Records = Mapping[Planned, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A setting and its runs, one a seed: those that are done, and their records."""

    setting: Setting
    runs: list[Planned]
    records: list[dict[str, Any]]
    complete: bool
    """Whether every seed is done."""

    @property
    def diverged(self) -> int:
        """How many of its runs diverged."""
        return sum(bool(record["diverged"]) for record in self.records)

    @property
    def sound(self) -> bool:
        """Whether it can be chosen: every seed is done, and none diverged."""
        return self.complete and not self.diverged

    def interval(self, name: str) -> tuple[float, float | None] | None:
        """The mean of accuracy or loss over the runs that did not diverge, and half its interval.

        None where there is no such run.
        """
        sound = [record for record in self.records if not record["diverged"]]
        return interval_of([_number(record[name]) for record in sound]) if sound else None

    @property
    def seconds(self) -> float:
        """Of a run, in the mean."""
        return mean([record["seconds"] for record in self.records])


@dataclass(frozen=True)
class Chosen:
    """The setting that is chosen of one method on one problem."""

    row: Row
    among: int
    """So many settings were tried."""
    at_the_edge: dict[str, str]
    """Settings of which it has the lowest or the highest value that was tried, and which."""
    tests: list[dict[str, Any]]
    """Accuracy and loss on the test samples, by seed; [] before they are tested."""

    def interval(self, name: str) -> tuple[float, float | None]:
        """The mean of the tests' accuracy or loss, and half of its interval."""
        return interval_of([_number(test[name]) for test in self.tests])


@dataclass(frozen=True)
class Difference:
    """Of two methods on one problem, each at what was chosen: test accuracies seed by seed."""

    posed: dict[str, Any]
    method: str
    less: str
    interval: Interval


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def rows_of(plan: Plan, finished: Records) -> list[Row]:
    """A row for every setting that has a finished run, in the plan's order."""
    rows = []
    for setting in plan.settings:
        planned = plan.runs_of(setting)
        runs = [run for run in planned if run in finished]
        if runs:
            whole = len(runs) == len(planned)
            rows.append(Row(setting, runs, [finished[run] for run in runs], whole))
    return rows


def choose(plan: Plan, rows: list[Row]) -> list[Row]:
    """The row chosen for every method on every problem; none where no setting is sound."""
    by_setting = {id(row.setting): row for row in rows}
    chosen = []
    for group in plan.groups:
        own = [by_setting[id(s)] for s in group if id(s) in by_setting]
        sound = [row for row in own if row.sound]
        if sound and all(row.complete for row in own) and len(own) == len(group):
            chosen.append(max(sound, key=_merit))
    return chosen


def not_chosen(plan: Plan, rows: list[Row], failed: Mapping[Planned, str]) -> dict[str, str]:
    """Why nothing is chosen of a method on a problem, by their names in words.

    ``failed`` tells why runs did.
    """
    chosen = choose(plan, rows)
    done = {run for row in rows for run in row.runs}
    why = {}
    for group in plan.groups:
        if any(row.setting in group for row in chosen):
            continue
        name = told({"optimizer": group[0].method, **group[0].posed})
        runs = [run for setting in group for run in plan.runs_of(setting)]
        missing = [run for run in runs if run not in done]
        first = next((failed[run] for run in missing if run in failed), "")
        if missing:
            told_first = f" ({first})" if first else ""
            why[name] = f"{len(missing)} of its {len(runs)} runs failed{told_first}; all are needed"
        elif len(group) == 1:
            why[name] = "it diverged"
        else:
            why[name] = f"each of its {len(group)} settings diverged, with one seed at least"
    return why


def _merit(row: Row) -> tuple[float, float]:
    accuracy, loss = row.interval("accuracy"), row.interval("loss")
    assert accuracy is not None
    assert loss is not None
    return accuracy[0], -loss[0]


def tested(plan: Plan, rows: list[Row], tests: Records) -> list[Chosen]:
    """What was chosen, with its tests: of runs that held nothing out, their own last ones."""
    found = []
    for row in choose(plan, rows):
        group = next(g for g in plan.groups if row.setting in g)
        if plan.validation == 0:
            own = [{name: r[name] for name in ("accuracy", "loss")} for r in row.records]
        else:
            own = [tests[run] for run in row.runs if run in tests]
        whole = own if len(own) == len(row.runs) else []
        found.append(Chosen(row, len(group), _edges(row.setting, group), whole))
    return found


def _edges(setting: Setting, group: list[Setting]) -> dict[str, str]:
    edges = {}
    for name, value in setting.tuned.items():
        tried = {s.tuned[name] for s in group if _is_number(s.tuned.get(name))}
        if _is_number(value) and len(tried) > 1 and value in (min(tried), max(tried)):
            edges[name] = "lowest" if value == min(tried) else "highest"
    return edges


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def differences(chosen: list[Chosen]) -> list[Difference]:
    """Every two methods on the same problem, the later one less the earlier, paired by seed."""
    found = []
    for first, second in combinations([c for c in chosen if c.tests], 2):
        a, b = first.row.setting, second.row.setting
        if a.posed == b.posed:
            accuracies = [[t["accuracy"] for t in c.tests] for c in (second, first)]
            found.append(Difference(a.posed, b.method, a.method, paired_interval(*accuracies)))
    return found


def write(folder: Path, plan: Plan, rows: list[Row], chosen: list[Chosen]) -> None:
    """Write results.json, a setting an entry, and results.csv, a run a row."""
    part = "validation" if plan.validation else "test"
    varied = dict.fromkeys(name for setting in plan.settings for name in setting.values)
    names = [name for name in varied if name != "optimizer"]  # which is the method
    columns = ["run", "method", *names, "seed", f"{part}_accuracy", f"{part}_loss"]
    columns += ["seconds", "diverged"]
    tests: dict[Planned, dict[str, Any]] = {}
    if plan.validation:
        columns += ["test_accuracy", "test_loss"]
        tests = {run: test for c in chosen for run, test in zip(c.row.runs, c.tests)}
    lines = []
    for row in rows:
        values = [_cell(row.setting.values.get(name)) for name in names]
        for run, record in zip(row.runs, row.records):
            line = [run.name, row.setting.method, *values, run.recipe.seed]
            line += [record["accuracy"], record["loss"], record["seconds"], record["diverged"]]
            if plan.validation:
                test = tests.get(run, {})
                line += [test.get("accuracy"), test.get("loss")]
            lines.append(line)
    write_table(folder / "results.csv", columns, lines)
    text = json.dumps(_plain(plan, rows, chosen, part), indent=1, default=str)
    write_whole(folder / "results.json", (text + "\n").encode())


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _plain(plan: Plan, rows: list[Row], chosen: list[Chosen], of: str) -> dict[str, Any]:
    return {
        "seeds": list(plan.seeds),
        "validation": plan.validation,
        "settings": [
            {
                "method": row.setting.method,
                "values": row.setting.values,
                "runs": [run.name for run in row.runs],
                "diverged": row.diverged,
                **{f"{of}_{name}": _told(row.interval(name)) for name in ("accuracy", "loss")},
            }
            for row in rows
        ],
        "chosen": [
            {
                "method": c.row.setting.method,
                "posed": c.row.setting.posed,
                "tuned": c.row.setting.tuned,
                "among": c.among,
                "at_the_edge": c.at_the_edge,
                **{
                    f"test_{name}": _told(c.interval(name)) if c.tests else None
                    for name in ("accuracy", "loss")
                },
            }
            for c in chosen
        ],
        "differences": [
            {
                "posed": d.posed,
                "method": d.method,
                "less": d.less,
                "mean": d.interval.mean,
                **{
                    end: value if math.isfinite(value) else None
                    for end, value in (("low", d.interval.low), ("high", d.interval.high))
                },
                "within_noise": d.interval.within_noise,
            }
            for d in differences(chosen)
        ],
    }


def _told(interval: tuple[float, float | None] | None) -> dict[str, float | None] | None:
    """For JSON, which has no infinite numbers."""
    if interval is None:
        return None
    centre, half = interval
    return {"mean": centre if math.isfinite(centre) else None, "half": half}
