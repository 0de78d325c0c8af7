"""`rsam-ref sweep`: runs of one recipe over values of its settings, methods and seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rsam_ref.commands.sweep_report import announce, line_of, show
from rsam_ref.commands.terminal import (
    Backend,
    Cluster,
    Kernels,
    choose,
    fail,
    interrupted,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option
FAILURES = 5
"""Failed runs that are told."""


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
    cluster: Cluster = None,
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
) -> None:
    """Try values of a recipe's settings, with several seeds each; choose by samples held out.

    Every combination is trained with every seed, or --random N of them. For every optimizer that
    is named, the setting with the best mean accuracy on the samples held out is chosen, and it
    alone meets the test samples. All runs are ordinary ones, each in a folder. Ctrl-C keeps them,
    those under way as well, and so does SIGTERM; the same command goes on.
    """
    from rsam_ref.training import recipe
    from rsam_ref.training.engines import check_address, engine
    from rsam_ref.training.sweeps import beforehand, varied
    from rsam_ref.training.sweeps.plan import make
    from rsam_ref.training.sweeps.runs import Place

    with usage_errors():
        choose(backend, kernels)
        check_address(cluster)
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
        plan, notes = beforehand.located(plan, folder, seen)
    announce(plan, list(seen.values()), notes)
    if dry_run:
        _tell_runs(plan, folder)
        return
    most = 1 if backend != "numpy" else max(1, (os.cpu_count() or 1) // threads)
    with engine(cluster, jobs or most, threads, say) as carry_out, _alone_in(folder):
        place = Place.make(folder, backend, kernels, threads)
        _Sweep(plan, folder, place, carry_out, on_cluster=cluster is not None).go()


def _tell_runs(plan: Any, folder: Path) -> None:
    """The folder of every run, and how far it is."""
    from rsam_ref.training.sweeps.runs import Folders, Place, begun

    done = Folders(Place(str(folder)), plan.runs).finished
    for run in plan.runs:
        state = ""
        if run in done:
            state = "  diverged" if done[run]["diverged"] else "  finished"
        elif step := begun(folder / run.name):
            state = f"  goes on from step {step:,}"
        say(f"{folder / run.name}{state}")
    if done:
        say(f"{len(done):,} of {len(plan.runs):,} runs are finished and would be kept.")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other sweeps out of the folder, which is made."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError(
            f"another process is at work in {folder}; wait for it, or give another --out"
        ) from None
    with lock:
        yield


class _Sweep:
    """A sweep under way: its runs, then the tests of what was chosen, then what came of it."""

    def __init__(
        self,
        plan: Any,
        folder: Path,
        place: Any,
        carry_out: Callable[..., None],
        on_cluster: bool,
    ) -> None:
        from rsam_ref.training.sweeps.runs import Folders, tested

        self.plan, self.folder, self.place = plan, folder, place
        self.carry_out, self.on_cluster = carry_out, on_cluster
        self.done = Folders(place, plan.runs)
        self.tests = Folders(place, plan.runs, tested)

    def go(self) -> None:
        """All of it. Raises typer.Exit after Ctrl-C, and where runs failed."""
        self._train()
        rows, chosen = self._judge()
        show(self.plan, rows, chosen, self.done.failed)
        if rows:
            self._write(rows, chosen)
        failed = [*self.done.failed.values(), *self.tests.failed.values()]
        for why in failed[:FAILURES]:
            fail(why)
        if failed:
            n = len(self.plan.runs)
            fail(f"{len(failed)} of {n} runs failed; the same command tries them again")
            raise typer.Exit(1)

    def _train(self) -> None:
        from rsam_ref.training.sweeps.runs import begun, execute

        runs = self.plan.runs
        if before := len(self.done.finished):
            say(f"{before:,} of {len(runs):,} runs were finished before and are kept.")
        left = [run for run in runs if run not in self.done.finished]
        if under_way := sum(begun(self.folder / run.name) is not None for run in left):
            which = (
                "run was begun before and goes"
                if under_way == 1
                else "runs were begun before and go"
            )
            say(f"{under_way:,} {which} on from the last checkpoint.")
        self._carry_out(execute, runs, self.done, "training", line_of)

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
        done = sum(run in store.finished for run in runs)
        if done == len(runs):
            return
        with progress_bar() as progress:
            task = progress.add_task(what, total=len(runs), completed=done)

            def ended(run: Any, record: dict[str, Any]) -> None:
                progress.update(task, advance=1)
                if told is not None:
                    progress.console.print(told(run, record), highlight=False, markup=False)

            try:
                self.carry_out(work, self.place, runs, store, on_trial=ended)
            except KeyboardInterrupt:
                progress.stop()
                under_way = (
                    "and those under way up to their last checkpoint, or go on on the cluster"
                    if self.on_cluster
                    else "and those under way as far as they are"
                )
                raise interrupted(
                    f"interrupted; {len(self.done.finished)} of {len(self.plan.runs)} runs are "
                    f"finished; they are kept in {self.folder}, {under_way}: run the same command "
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
