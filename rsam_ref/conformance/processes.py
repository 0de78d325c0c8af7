"""A training step in several processes: whose gradients are averaged, and do replicas stay equal?

This process is the first worker; the others are started from here, do the same, and hand over what
was seen of them. The first worker's steps are judged as those of one process are, but with
gradients averaged over the workers where they may be: for the first pass, both published ways.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsam_ref.conformance.diagnosis import Diagnosis, diagnose
from rsam_ref.conformance.driving import Driven, Driving
from rsam_ref.conformance.observe.forms import Maker
from rsam_ref.conformance.observe.observer import BrokenError, Step
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.report.report import Finding

Vector = np.ndarray
Places = list[list[tuple[Vector, frozenset[int] | None]]]
"""Of each step, where gradients were taken and on which rows."""

EQUAL = 1e-12


@dataclass
class Worker:
    """What was seen of one process."""

    places: Places
    after: list[Vector]


class Averaged(Problem):
    """The problem, with other gradients at some places: those averaged over the workers."""

    def __init__(self, seed: int, means: dict[tuple[bytes, int], Vector]) -> None:
        super().__init__(seed)
        self.means = means

    def loss_and_grad(
        self,
        w: Vector,
        step: int,
        rows: frozenset[int] | None = None,
        taken_in: int | None = None,
    ) -> tuple[float, Vector]:
        loss, own = super().loss_and_grad(w, step, rows, taken_in)
        return loss, self.means.get((w.tobytes(), step), own)


def name_of(subject: Any) -> str:
    """How another process finds what is checked: "module:name"."""
    if isinstance(subject, str):
        return subject
    module, name = getattr(subject, "__module__", ""), getattr(subject, "__qualname__", "")
    if not module or not name or "<" in name or module == "__main__":
        raise BrokenError(
            "another process cannot find what is to be checked; give FILE.py:NAME, or a function "
            "that stands in a module by its name"
        )
    return f"{module}:{name}"


@contextlib.contextmanager
def others_started(target: str, algorithm: str, seed: int, count: int) -> Iterator[Path]:
    """Inside, the other workers run and are ready. Gives the file at which all of them meet."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        place = Path(folder) / "meeting"
        settings = {"algorithm": algorithm, "seed": seed, "count": count, "place": str(place)}
        started = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "rsam_ref.conformance.other_process"),
                    *(target, json.dumps({**settings, "rank": rank})),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            for rank in range(1, count)
        ]
        try:
            for rank, other in enumerate(started, start=1):
                while not ready(place, rank).exists():
                    if other.poll() is not None:
                        said.seek(0)
                        last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                        raise BrokenError(f"another process ended: {''.join(last)}")
                    time.sleep(0.02)
            yield place
            for other in started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    other.wait(5)
        finally:
            for other in started:
                other.kill()
                other.wait()


def ready(place: Path, rank: int) -> Path:
    """The file that a worker makes when it has loaded what is checked."""
    return place.with_name(f"ready-{rank}")


def take_part(
    driving: Driving, maker: Maker, rank: int, count: int, place: Path
) -> tuple[Driven, list[Worker]]:
    """Drive what is checked as one of the workers; what was seen of all of them."""
    from rsam_ref.conformance.observe.workers import Workers, averages_itself, group

    with group(rank, count, place):
        maker.workers = Workers(rank, count, wraps=not averages_itself(maker.subject))
        driven = driving.carry_out()
        own = Worker(
            [[(e.at, e.rows) for e in step.evaluations] for step in driven.steps],
            [step.after for step in driven.steps],
        )
        return driven, maker.workers.gathered(own)


def judge(driven: Driven, workers: list[Worker], algorithm: str, seed: int) -> Diagnosis:
    """The reading of both passes that departs least, and whether the replicas stay equal."""
    counts = {tuple(len(places) for places in worker.places) for worker in workers}
    if len(counts) > 1:
        raise BrokenError(
            "the processes take different numbers of gradients in a step, so it cannot be told "
            "which of them belong together"
        )
    found: list[tuple[int, Diagnosis]] = []
    for averaged in readings(workers):
        problem = Averaged(seed, means_of(workers, averaged, Problem(seed)))
        main = diagnose(problem, driven.steps, algorithm)
        wrong = sum(f.diverges for f in main.findings)
        main.findings.append(Finding(READINGS[averaged], {"processes": len(workers)}))
        found.append((wrong, main))
        if not wrong:
            break
    main = min(found, key=lambda reading: reading[0])[1]
    main.findings += [*_drift(workers, main), *_draws(driven.steps, workers, algorithm)]
    return main


READINGS = {
    (True, True): "processes.synchronised",
    (False, True): "processes.per-worker",
    (False, False): "processes.not-averaged",
    (True, False): "processes.not-averaged",
}
"""Whether the gradients of the first and of the last pass are averaged, and what that is called."""


def readings(workers: list[Worker]) -> list[tuple[bool, bool]]:
    """The likely ones, by what is equal in all workers in the first step.

    Averaged gradients move all replicas alike; and from one place they lead to one place.
    """

    def equal(vectors: list[Vector]) -> bool:
        limit = EQUAL * float(np.linalg.norm(vectors[0]))
        return all(float(np.linalg.norm(v - vectors[0])) <= limit for v in vectors)

    drawn_alike = equal([worker.places[0][0][0] for worker in workers])
    climbed_alike = equal([worker.places[0][-1][0] for worker in workers])
    first = [climbed_alike] if drawn_alike else [True, False]
    last = [True] if equal([worker.after[0] for worker in workers]) else [False, True]
    return [(f, g) for g in last for f in first]


def means_of(
    workers: list[Worker], averaged: tuple[bool, bool], problem: Problem
) -> dict[tuple[bytes, int], Vector]:
    """The averaged gradients, by where the first worker took its own, and in which step."""
    means: dict[tuple[bytes, int], Vector] = {}
    for number, of_first in enumerate(workers[0].places):
        last = len(of_first) - 1
        for i, (at, _) in enumerate(of_first):
            if not averaged[i == last]:
                continue
            places = [worker.places[number][i] for worker in workers]
            all_ = [problem.loss_and_grad(p, number, rows)[1] for p, rows in places]
            means[at.tobytes(), number] = np.mean(all_, axis=0)
    return means


def _drift(workers: list[Worker], main: Diagnosis) -> list[Finding]:
    """Replicas that are not equal after a step, though the gradients are averaged."""
    if any(f.code == "processes.not-averaged" for f in main.findings):
        return []
    for number, after in enumerate(workers[0].after):
        apart = max(float(np.linalg.norm(w.after[number] - after)) for w in workers[1:])
        if apart > EQUAL * float(np.linalg.norm(after)):
            return [Finding("processes.replicas-drift", {"apart by": apart, "step": number + 1})]
    return []


def _draws(steps: list[Step], workers: list[Worker], algorithm: str) -> list[Finding]:
    """Whether R-SAM's draw is each worker's own: they were seeded differently."""
    first = [worker.places[0][0][0] for worker in workers]
    if algorithm != "rsam" or not (first[0] - steps[0].before).any():
        return []
    own = any(not np.array_equal(at, first[0]) for at in first[1:])
    return [Finding("processes.own-draws" if own else "processes.same-draw")]


def refuse_other_forms(form: str) -> None:
    if form != "loop":
        raise BrokenError(
            "several processes are for train_step(model, optimizer, loss_fn, batch, hyper), whose "
            f"loop is its own; this is of the form {form!r}"
        )
