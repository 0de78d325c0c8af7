"""`rsam-ref sweep`: runs of one recipe over values of its settings, methods and seeds."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rsam_ref.commands.terminal import (
    Backend,
    Kernels,
    choose,
    console,
    fail,
    interrupted,
    note_line,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option
SHOWN = 30
"""Settings in the table; results.csv has all."""


def sweep(
    file: Annotated[
        Path | None, typer.Argument(metavar="RECIPE.toml", help="Settings to start from.")
    ] = None,
    preset: Annotated[str | None, Option(help="Settings to start from, by name.")] = None,
    vary: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUES",
            help="Any setting: rho=0.05,0.1,0.2, or rho=0.01:1:log with --random; of one method "
            "alone: sgd:lr=0.01,0.1. Repeatable.",
        ),
    ] = None,
    seeds: Annotated[int, Option(help="Runs of every setting, from the recipe's seed on.")] = 5,
    random: Annotated[
        int | None, Option(metavar="N", help="Draw N settings for every method; no grid.")
    ] = None,
    validation: Annotated[
        float | None,
        Option(
            help="Share of the training samples held out to choose by."
            "  [default: the recipe's, or 0.2 where there is something to choose]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="The sweep's folder.  [default: runs/sweep-RECIPE]"),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Tell the runs, and train none of them.")
    ] = False,
    jobs: Annotated[
        int | None, Option(help="Runs at a time.  [default: one a core; on a GPU one]")
    ] = None,
    threads: Annotated[int, Option(help="Of every run.")] = 1,
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
) -> None:
    """Try values of a recipe's settings, with several seeds each; choose by samples held out.

    Every combination is trained with every seed, or --random N of them. For every optimizer that
    is named, the setting with the best mean accuracy on the samples held out is chosen, and it
    alone meets the test samples. All runs are ordinary ones, each in a folder. Ctrl-C keeps them,
    those under way as well; the same command goes on.
    """
    from rsam_ref.training import recipe
    from rsam_ref.training.sweeps import beforehand, varied
    from rsam_ref.training.sweeps.plan import make
    from rsam_ref.training.sweeps.runs import Place

    with usage_errors():
        choose(backend, kernels)
        for name, value in (("jobs", jobs), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, not {value}")
        if file is not None and preset is not None:
            raise ValueError(f"give {file} or --preset {preset}, not both")
        settings = recipe.read(file) if file else recipe.preset(preset)[0] if preset else {}
        plan = make(
            settings,
            varied.read(vary or []),
            seeds=seeds,
            random=random,
            validation=validation,
            source=str(file or preset or "sweep"),
        )
        folder = out or Path("runs") / f"sweep-{file.stem if file else preset or 'default'}"
        seen = beforehand.look(plan)
        beforehand.check_folder(folder, plan.runs)
    _announce(plan, seen)
    if dry_run:
        for run in plan.runs:
            say(str(folder / run.name))
        return
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(str(folder.resolve()), backend, kernels, threads)
    most = 1 if backend != "numpy" else max(1, (os.cpu_count() or 1) // threads)
    _Sweep(plan, folder, place, jobs or most).go()


def _announce(plan: Any, seen: list[Any]) -> None:
    """What will be done, in a few lines."""
    from rsam_ref.loading import name_in

    models = " and ".join(dict.fromkeys(name_in(s.recipe.model) for s in plan.settings))
    several = len(plan.settings) > 1
    say(
        f"{len(plan.runs):,} runs of {models}: {len(plan.settings):,} "
        f"setting{'s' if several else ''} x {len(plan.seeds)} "
        f"seed{'s' if len(plan.seeds) > 1 else ''}"
    )
    for data in seen:
        held = f"{data.watched:,} held out to choose by, " if plan.validation else ""
        say(f"{data.name}: {data.train:,} samples to train on, {held}{data.test:,} to test")
        for note in data.notes:
            say(note_line(note))
    if not plan.validation and not several:
        say("Nothing is to be chosen, so no samples are held out.")
    sizes = {group[0].method: len(group) for group in plan.groups}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{method} {n}" for method, n in sizes.items())
        say(
            f"The methods are not tuned alike: settings tried are {told}. The more of them, the "
            "better the best is by chance; --set METHOD:NAME=... gives a method values of its own."
        )


class _Sweep:
    """A sweep under way: its runs, then the tests of what was chosen, then what came of it."""

    def __init__(self, plan: Any, folder: Path, place: Any, jobs: int) -> None:
        from rsam_ref.training.sweeps.runs import Folders, tested

        self.plan, self.folder, self.place, self.jobs = plan, folder, place, jobs
        self.done = Folders(place, plan.runs)
        self.tests = Folders(place, plan.runs, tested)

    def go(self) -> None:
        """All of it. Raises typer.Exit after Ctrl-C, and where runs failed."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RuntimeError(
                f"another process is at work in {self.folder}; wait for it, or give another --out"
            ) from None
        with lock:
            self._train()
            rows, chosen = self._judge()
        _show(self.plan, rows, chosen)
        if rows:
            self._write(rows, chosen)
        for why in list(dict.fromkeys([*self.done.failed.values(), *self.tests.failed.values()])):
            fail(why)
        if self.done.failed or self.tests.failed:
            n = len(self.done.failed) or len(self.tests.failed)
            fail(f"{n} of {len(self.plan.runs)} runs failed; the same command tries them again")
            raise typer.Exit(1)

    def _train(self) -> None:
        from rsam_ref.training.sweeps.runs import execute

        runs = self.plan.runs
        if before := len(self.done.finished):
            say(f"{before:,} of {len(runs):,} runs were finished before and are kept.")
        self._carry_out(execute, runs, self.done, "training", _told)

    def _judge(self) -> tuple[list[Any], list[Any]]:
        from rsam_ref.training.sweeps.outcome import choose, rows_of, tested
        from rsam_ref.training.sweeps.runs import test

        rows = rows_of(self.plan, self.done.finished)
        if self.plan.validation:
            runs = [run for row in choose(self.plan, rows) for run in row.runs]
            self._carry_out(test, runs, self.tests, "testing what was chosen", None)
        return rows, tested(self.plan, rows, self.tests.finished)

    def _carry_out(
        self,
        work: Callable[[Any, Any], dict[str, Any]],
        runs: list[Any],
        store: Any,
        what: str,
        told: Callable[[Any, dict[str, Any]], str] | None,
    ) -> None:
        from rsam_ref.training.processes import carry_out

        done = sum(run in store.finished for run in runs)
        if done == len(runs):
            return
        with progress_bar() as progress:
            task = progress.add_task(what, total=len(runs), completed=done)

            def show(run: Any, record: dict[str, Any]) -> None:
                progress.update(task, advance=1)
                if told is not None:
                    progress.console.print(told(run, record), highlight=False, markup=False)

            try:
                carry_out(
                    work,
                    self.place,
                    runs,
                    store,
                    jobs=self.jobs,
                    threads=self.place.threads,
                    on_trial=show,
                )
            except KeyboardInterrupt:
                progress.stop()
                raise interrupted(
                    f"interrupted; {len(self.done.finished)} of {len(self.plan.runs)} runs are "
                    f"finished and those under way are kept in {self.folder}: run the same command "
                    "to go on"
                ) from None

    def _write(self, rows: list[Any], chosen: list[Any]) -> None:
        from rsam_ref.figures import save
        from rsam_ref.training.sweeps.outcome import write
        from rsam_ref.training.sweeps.picture import sweep_figure

        write(self.folder, self.plan, rows, chosen)
        picture = sweep_figure(self.plan, rows, chosen, self.folder)
        save(picture, self.folder / "sweep.png")
        say(f"Wrote results.json, results.csv and sweep.png to {self.folder}/")


def _told(run: Any, record: dict[str, Any]) -> str:
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


def _show(plan: Any, rows: list[Any], chosen: list[Any]) -> None:
    from rsam_ref.training.sweeps.plan import in_words

    part = "validation" if plan.validation else "test"
    names = list(dict.fromkeys(name for s in plan.settings for name in s.values))
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", min_width=min(len(name), 12))
    for name in ("seeds", f"{part} accuracy (%)", f"{part} loss", "time", ""):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    best = [c.row for c in chosen]
    shown = rows if len(rows) <= SHOWN else _foremost(rows, best)
    for row in shown:
        marks = ["chosen"] if plan.validation and any(row is b for b in best) else []
        marks += [f"{row.diverged} diverged"] if row.diverged else []
        marks += [] if row.complete else ["not all seeds"]
        table.add_row(
            *(in_words(row.setting.values[n]) if n in row.setting.values else "-" for n in names),
            str(len(row.records)),
            _figure(row.interval("accuracy"), 100, ".2f"),
            _figure(row.interval("loss"), 1, ".4f"),
            f"{row.seconds:.0f} s",
            ", ".join(marks),
        )
    console.print(table, markup=False, highlight=False)
    if len(shown) < len(rows):
        say(f"... and {len(rows) - len(shown):,} settings that were worse; results.csv has all.")
    _show_chosen(plan, chosen)


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
    from rsam_ref.training.sweeps.plan import told

    where = f" ({told(d.posed)})" if d.posed else ""
    text = f"{d.method} less {d.less}{where}: {100 * d.interval.mean:+.2f} points"
    if math.isinf(d.interval.low):
        return f"{text} (one seed)"
    bounds = f"[{100 * d.interval.low:+.2f}, {100 * d.interval.high:+.2f}]"
    return f"{text} {bounds}, {'within noise' if d.interval.within_noise else 'clear'}"
