"""A sweep's runs, each in a folder of its own: carried out there, and read back.

The folders are the store. A run counts where its folder holds the trained model, or diverged.json,
which says where training broke down; whatever else is there is gone on with.
"""

from __future__ import annotations

import json
import signal
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rsam_backends import use_backend
from rsam_backends.threads import set_threads
from rsam_ref.data.errors import DataError
from rsam_ref.files import write_whole
from rsam_ref.training.checkpoint import newest_first, step_of
from rsam_ref.training.evaluation import evaluate_on, samples_for
from rsam_ref.training.loop import DivergedError
from rsam_ref.training.metrics import DIVERGED
from rsam_ref.training.predictor import load_predictor
from rsam_ref.training.run import Run
from rsam_ref.training.summary import read_run
from rsam_ref.training.sweeps.plan import Planned

TESTED, MARK = "tested.json", ".mark"


@dataclass(frozen=True)
class Place:
    """Where runs lie, and what computes them."""

    folder: str
    mark: str = ""
    """What the folder's own file holds, so that another one of its name is not taken for it."""
    backend: str = "numpy"
    kernels: str | None = None
    threads: int = 1

    @classmethod
    def make(cls, folder: Path, backend: str, kernels: str | None, threads: int) -> Place:
        """The place in a folder, which is made and marked."""
        folder.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex
        write_whole(folder / MARK, mark.encode())
        return cls(str(folder.resolve()), mark, backend, kernels, threads)

    def check(self) -> None:
        """Raise RuntimeError where this machine does not see the folder."""
        path = Path(self.folder) / MARK
        if not path.is_file() or path.read_text(encoding="utf-8") != self.mark:
            raise RuntimeError(
                f"{self.folder} is not there on {socket.gethostname()}, or is another folder: "
                "a sweep's folder (--out) must be the same for all workers, on a shared disk"
            )

    def of(self, run: Planned) -> Path:
        """A run's folder."""
        return Path(self.folder) / run.name

    def enter(self) -> None:
        """Compute so from now on, in this process."""
        use_backend(self.backend, kernels=self.kernels)
        set_threads(self.threads)


def execute(place: Place, run: Planned) -> dict[str, Any]:
    """Carry out a run, or go on with it; its record, as `finished` gives it.

    {"failed": why} where it cannot be carried out, so that the others go on. Two that are given the
    same run at a time do not disturb each other: the second waits, and finds it done. Raises
    RuntimeError where the sweep's folder is not seen.
    """
    place.check()
    folder = place.of(run)
    try:
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".sweep.lock"):
            record = finished(folder)
            if record is None:
                place.enter()
                _train(folder, run)
                record = finished(folder)
    except Exception as error:  # whatever it is: the other runs of the night go on
        return _failed(run, error)
    return record or {"failed": f"{run.name}: it left no trained model"}


def _failed(run: Planned, error: Exception) -> dict[str, Any]:
    """A record of what went wrong, in one line; errors of code that is not ours with their kind."""
    ours = isinstance(error, OSError | ValueError | RuntimeError) and str(error)
    what = str(error) if ours else f"{type(error).__name__}: {error}"
    return {"failed": f"{run.name}: {what}"}


def _train(folder: Path, planned: Planned) -> None:
    began = (folder / "recipe.toml").is_file()
    run = Run.resume(folder) if began else Run.start(folder, planned.recipe)
    try:
        done = run.go()
    except DivergedError:
        return  # diverged.json tells
    if not done:  # this process was asked to end; what it did is kept
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def finished(folder: Path) -> dict[str, Any] | None:
    """What came of the run in a folder; None where it is not done.

    ``accuracy`` and ``loss`` are those of its last test, on the samples held out where there are
    some; ``loss`` is None where it is not finite. Of one that diverged, ``diverged`` says where.
    """
    if (told := _read(folder / DIVERGED)) is not None:
        return {"accuracy": None, "loss": None, **told}
    if not (folder / "model.safetensors").is_file():
        return None
    tests = read_run(folder).tests
    if not tests:
        raise DataError(folder, "has a trained model and no metrics: remove it, to do it again")
    last = tests[-1]
    return {
        "accuracy": last["test_accuracy"],
        "loss": last["test_loss"],
        "seconds": last["seconds"],
        "diverged": "",
    }


def begun(folder: Path) -> int | None:
    """The step from which the run in a folder goes on; None where it has none, or is done."""
    if (folder / DIVERGED).is_file() or (folder / "model.safetensors").is_file():
        return None
    kept = newest_first(folder / "checkpoints")
    return step_of(kept[0]) if kept else None


def test(place: Place, run: Planned) -> dict[str, Any]:
    """A finished run's ``accuracy`` and ``loss`` on its test samples, kept in tested.json."""
    place.check()
    folder = place.of(run)
    try:
        if (record := tested(folder)) is None:
            place.enter()
            predictor = load_predictor(folder)
            result = evaluate_on(predictor, samples_for(predictor).samples).plain()
            record = {name: result[name] for name in ("accuracy", "loss")}
            write_whole(folder / TESTED, (json.dumps(record) + "\n").encode())
    except Exception as error:
        return _failed(run, error)
    return record


def tested(folder: Path) -> dict[str, Any] | None:
    """What `test` found before; None where it was not called."""
    return _read(folder / TESTED)


def _read(path: Path) -> dict[str, Any] | None:
    """What a file holds; None where there is none. Raises DataError for a damaged one."""
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(path, f"is damaged ({error}): remove it") from None


class Folders:
    """The runs of a sweep that are done, or tested, by what their folders hold."""

    def __init__(self, place: Place, runs: list[Planned], read: Any = finished) -> None:
        self.finished: dict[Planned, dict[str, Any]] = {}
        self.failed: dict[Planned, str] = {}
        for run in runs:
            try:
                record = read(place.of(run))
            except (OSError, ValueError):
                continue  # damaged: it is tried, and fails with that
            if record is not None:
                self.finished[run] = record

    def add(self, run: Planned, record: dict[str, Any]) -> None:
        """Take up a run's record. One that failed is not done, and is tried again next time."""
        if "failed" in record:
            self.failed[run] = record["failed"]
        else:
            self.finished[run] = record
