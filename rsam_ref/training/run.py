"""A training run in a folder: killed at any moment and resumed, it ends with the same bits.

That is so because nothing is random but by the numbers of the seed, the epoch and the step, and
because a checkpoint holds all else that the next step depends on; but for what arithmetic.py tells:
the same libraries on the same kind of processor, and as many threads of BLAS, or ``deterministic``.
The folder holds:

    recipe.toml      the settings; with the data they decide every number of the run
    run.json         seed, data, and for every start and resume the versions, device, BLAS, threads
    damaged.json     with ``skip_damaged`` the pictures that are left out, and why
    metrics.jsonl    a row every ``log_every`` steps and at every test; metrics.csv is the same
    diverged.json    of one that diverged: where, and why
    checkpoints/     the newest two, or as many as the recipe says
    curves.png, model.safetensors      at the end: the picture and the trained model

Several ranks may take its steps together (ranks.py). Then the first one has the folder, and the
others need not see it.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import platform
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.numpy import save as to_bytes

import rsam_ref
from rsam_backends import current_backend, to_device, to_host
from rsam_ref.data import DamagedImage, find_damaged
from rsam_ref.data.feed import Feed, in_order
from rsam_ref.data.names import first_of
from rsam_ref.files import write_whole
from rsam_ref.loading import file_of, fingerprint, name_in
from rsam_ref.nn.batch_parts import Accumulated, Sharded
from rsam_ref.nn.objective import Objective, objective
from rsam_ref.nn.recompute import recompute_blocks
from rsam_ref.nn.shards import ONE_PROCESS, bounds
from rsam_ref.nn.workers import Workers
from rsam_ref.training import arithmetic, checkpoint, left_out, recipe
from rsam_ref.training.exchange import load_weights
from rsam_ref.training.interruption import Interruption
from rsam_ref.training.loop import DivergedError, Score, added_up, batch_scores, mix, run_steps
from rsam_ref.training.metrics import DIVERGED, Metrics, Row
from rsam_ref.training.ranks import ALONE, Ranks, RanksError
from rsam_ref.training.recipe import Recipe
from rsam_ref.training.trained import inputs_of_a_run

FREE = {
    "data",
    "log_every",
    "evaluate_every",
    "checkpoint_every",
    "keep_checkpoints",
    "tensorboard",
    "recompute",
}
"""Settings that may change while a run is stopped: the weights do not depend on them."""


class RunError(RuntimeError):
    """A run that cannot go on. The message says what is safe and what to do."""


class Run:
    """A run in a folder: `Run.start` a new one or `Run.resume` an old one, then `go`."""

    def __init__(
        self,
        folder: Path,
        settings: Recipe,
        left_out: Collection[str] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self.folder = folder
        self.recipe = settings
        self.ranks = ranks
        ranks.deal(settings.shards, settings.batch_size)
        if ranks.size > 1:
            recipe.refuse_ranks(settings.settings)
        self.arithmetic = arithmetic.told(settings)
        self.left_out = left_out
        self.data = recipe.dataset(settings, skip=left_out)
        self.model = recipe.model(settings, self.data)
        if settings.recompute:
            recompute_blocks(self.model)
        self.feed = Feed(
            self.data.train, settings.batch_size, settings.seed, settings.epochs, self._own_samples
        )
        self.per_epoch = self.feed.per_epoch
        self.steps = settings.epochs * self.per_epoch
        self.loss = recipe.loss_function(settings)
        self.optimizer = recipe.optimizer(settings, self.steps)
        self.metrics: Metrics
        self.step = 0
        self.seconds = 0.0  # of all sessions
        self.pending: list[list[float]] = []  # the losses of the steps since the last row
        self.saved: Path | None = None
        self.head_of = ""  # other classes, which the last layer of ``init`` was trained on
        self.new_head: tuple[str, ...] = ()  # what ``init`` did not give, of other classes
        self.changed_code: list[str] = []  # files of one's own that are others than before
        self.damaged: list[checkpoint.CheckpointError] = []
        self.twice: int | None = None  # where a value was not finite, and then it was: run_steps
        self.changes: list[str] = []  # what the last session computed with, and this one does not
        self.lock: FileLock | None = None

    # Beginning

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others out of the folder, until the run ends or this block fails."""
        self.ranks.from_first(self._lock)
        try:
            yield
        except BaseException:
            if self.lock is not None:
                self.lock.release()
            raise

    def _lock(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.folder / ".lock")
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            raise RunError(
                f"another process is training in {self.folder}; wait for it, or stop it"
            ) from None

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that decide the weights."""
        return {k: v for k, v in self.recipe.settings.items() if k not in FREE}

    @classmethod
    def start(
        cls,
        folder: Path,
        settings: Recipe,
        on_picture: Callable[[int, int], None] = lambda done, total: None,
        ranks: Ranks = ALONE,
    ) -> Run:
        """A new run. Raises RunError if the folder holds one already; nothing is overwritten.

        ``on_picture`` is told how many pictures of all were looked at, with ``skip_damaged``. All
        ``ranks`` that are to take its steps call this.
        """

        def look() -> dict[str, str]:
            if (folder / "recipe.toml").exists() or checkpoint.newest_first(folder / "checkpoints"):
                raise RunError(
                    f"{folder} holds a run already: go on with --resume {folder}, "
                    "or give another folder with --out"
                )
            return find_damaged(settings.data, on_picture) if settings.skip_damaged else {}

        damaged = ranks.from_first(look)
        run = cls(folder, settings, damaged, ranks)
        recipe.try_loss(settings, len(run.data.classes))
        if settings.init is not None:
            run.new_head = load_weights(run.model, settings.init, new_head=True).new
            before = inputs_of_a_run(Path(settings.init))
            if before is not None and not run.new_head and before.classes != run.data.classes:
                run.head_of = first_of(before.classes, 5)
        run._agree()
        with run._locked():
            if not ranks.first:
                return run
            if settings.skip_damaged:
                left_out.write(folder, damaged)
            write_whole(folder / "recipe.toml", recipe.write(settings))
            run.metrics = Metrics(folder)
            run._describe({})
            if settings.init is not None:
                # so that the file they came from is not needed again
                run.saved = run._write_checkpoint()
        return run

    @classmethod
    def resume(cls, folder: Path, ranks: Ranks = ALONE) -> Run:
        """The run in a folder, at its newest whole checkpoint, or at its beginning.

        All ``ranks`` that are to take its steps call this; the first one reads the folder. They may
        be another number than before, as long as the shards can be dealt out to them.
        """

        def read() -> tuple[Recipe, dict[str, str]]:
            if not (folder / "recipe.toml").is_file():
                raise RunError(f"{folder}: no run to resume: it has no recipe.toml")
            settings = recipe.of_run(folder)
            return settings, left_out.read(folder, settings)

        settings, left = ranks.from_first(read)
        run = cls(folder, settings, left, ranks)
        with run._locked():
            described, found = ranks.from_first(run._kept)
            run._restore(found)
            run._agree()
            if ranks.first:
                run.changed_code = run._changed_code(described)
                run.metrics = Metrics(folder, run.step)
                run._describe(described)
        return run

    def _kept(self) -> tuple[dict[str, Any], tuple[Any, ...] | None]:
        """What run.json holds, and what `checkpoint.load_newest` finds; None where there is none.

        What a process left behind that was killed while writing is removed.
        """
        for partial in self.folder.rglob("*.partial"):
            partial.unlink()
        path, folder = self.folder / "run.json", self.folder / "checkpoints"
        described = _read_json(path) if path.exists() else {}
        if not checkpoint.newest_first(folder):
            return described, None
        return described, checkpoint.load_newest(folder)

    def _restore(self, found: tuple[Any, ...] | None) -> None:
        if found is None:
            return
        path, arrays, state, self.damaged = found
        if state["data"] != self.data.fingerprint:
            raise RunError(
                f"{self.recipe.data} holds other data than this run began with "
                f"({self.data.fingerprint}, then {state['data']}); put the old data back"
            )
        before = state.get("recipe", self.fixed)  # older checkpoints do not have it
        usual = Recipe().settings  # what older ones do not name was as it is by default
        for name in sorted(before.keys() | self.fixed.keys()):
            if before.get(name, usual.get(name)) != self.fixed.get(name):
                raise RunError(
                    f"{self.folder / 'recipe.toml'}: {name} = {self.fixed.get(name)}, but the run "
                    f"began with {before.get(name)}; put that back, or begin another run from "
                    f"its weights: --init {self.folder}"
                )
        self.model.load_state_dict(checkpoint.of_the_model(arrays))
        self.optimizer.load_state_dict(checkpoint.unflatten(arrays, state["values"], "optimizer"))
        self.step, self.seconds = state["step"], state["seconds"]
        self.pending = state["pending"]
        self.saved = path

    def _agree(self) -> None:
        """Raise RanksError where this is not the same run for all ranks."""
        told = {name: self.recipe.settings.get(name) for name in Recipe.model_fields}
        for name in ("model", "loss"):
            told[name] = _by_content(getattr(self.recipe, name))
        told |= {f"the setting {name}": told.pop(name) for name in list(told)}
        for name in ("data", "init"):  # each machine may have them in another place
            del told[f"the setting {name}"]
        told |= {
            "data": f"{self.data.name} ({self.data.fingerprint})",
            "NumPy": version("numpy"),
            **arithmetic.flat({k: v for k, v in self.arithmetic.items() if k != "threads"}),
        }
        self.ranks.agree(told, "has come")
        self._agree_on_weights()

    def _agree_on_weights(self) -> None:
        """Raise RanksError where the ranks' weights have drifted apart, be it by a bit."""
        if self.ranks.size == 1:
            return
        told = sha256()
        for _, array in sorted(self.model.state_dict().items()):  # batch norm's statistics too
            told.update(to_host(array).tobytes())
        try:
            self.ranks.agree({"weights": told.hexdigest()[:16]}, f"is at step {self.step}")
        except RanksError as error:
            raise RanksError(f"{error}. {self._why_apart}") from None

    @property
    def _why_apart(self) -> str:
        """What ranks may have drifted apart by, and what is left of the run."""
        if self.step == 0 and self.saved is None:
            return "They begin from other weights: look at what makes the model, and at --init"
        kept = f"The last checkpoint, on which they agreed, is {self.saved}"
        return (
            "Something on one of them is not what the step says: a model or a loss that draws by "
            "itself or asks for its rank, or a machine that computes otherwise. "
            f"{kept if self.saved else 'No checkpoint was written yet'}; mend that, then: "
            f"{self.to_go_on if self.saved else 'begin again'}"
        )

    def _changed_code(self, described: dict[str, Any]) -> list[str]:
        """The files of the model and the loss that are not those of the session before."""
        before = described.get("sessions", [{}])[-1].get("code", {})
        return [path for path, told in recipe.code(self.recipe).items() if before.get(path) != told]

    def _describe(self, before: dict[str, Any]) -> None:
        """Write run.json: what ran, on what, and every time it was started or resumed."""
        sessions = before.get("sessions", [])
        if sessions and "arithmetic" in sessions[-1]:  # older runs did not keep it
            self.changes = arithmetic.changes(sessions[-1]["arithmetic"], self.arithmetic)
        session = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "from_step": self.step,
            "rsam_ref": rsam_ref.__version__,
            "numpy": version("numpy"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "backend": current_backend().name,
            **current_backend().describe(),
            "arithmetic": self.arithmetic,
            "ranks": self.ranks.size,
        }
        if code := recipe.code(self.recipe):
            session["code"] = code
        described = {
            "seed": self.recipe.seed,
            "parameters": int(self.model.weights.flat.size),
            "steps": self.steps,
            "data": {
                "name": self.data.name,
                "fingerprint": self.data.fingerprint,
                "train": len(self.data.train),
                "test": len(self.data.test),
                "validation": len(self.data.validation or ()),
                "classes": len(self.data.classes),
                "notes": list(self.data.notes),
                "damaged": len(self.left_out),
            },
            "inputs": recipe.inputs(self.recipe, self.data).plain(),
            "sessions": [*sessions, session],
        }
        text = json.dumps(described, indent=2) + "\n"
        write_whole(self.folder / "run.json", text.encode())

    # Going on

    def go(
        self,
        on_step: Callable[[int], None] = lambda step: None,
        on_row: Callable[[Row], None] = lambda row: None,
    ) -> bool:
        """Train to the end, or until Ctrl-C or SIGTERM. Returns whether the end was reached.

        Raises DivergedError, and RunError where the disk will not take what must be written; the
        checkpoints written before stay good in both cases.
        """
        settings = self.recipe
        board = self._tensorboard() if settings.tensorboard and self.ranks.first else None
        tests = recipe.steps_between_tests(settings, self.data, self.per_epoch)
        saves = settings.checkpoint_every or self.per_epoch
        self.model.train()
        try:
            if self.ranks.first:
                (self.folder / DIVERGED).unlink(missing_ok=True)
            with arithmetic.as_asked(settings), Interruption() as stop:
                while self.step < self.steps and not self.ranks.stopping(stop.asked):
                    began = time.perf_counter()
                    goals = [
                        _after(self.step, every) for every in (settings.log_every, tests, saves)
                    ]
                    goal = min(*goals, self.steps)
                    try:
                        self._advance(goal, stop, on_step)
                    except DivergedError as error:
                        self._keep(error)
                        raise
                    self.seconds += time.perf_counter() - began
                    end = self.step == self.steps
                    test = end or self.step % tests == 0
                    if self.pending and (test or self.step % settings.log_every == 0):
                        on_row(self._row(test, board))
                    if end or self.ranks.stopping(stop.asked) or self.step % saves == 0:
                        self._save()
            if self.step == self.steps:
                self.ranks.from_first(self._finish)
            self.ranks.wait()
        except OSError as error:
            raise RunError(
                f"{error.filename or self.folder}: {error.strerror or error}. {self._stopped}. "
                f"Mend that, then: {self.to_go_on}"
            ) from None
        except SystemExit as end:  # of code that is not ours
            raise RunError(
                f"the model, the loss or what they call has ended the program: SystemExit({end}). "
                f"{self._stopped}"
            ) from end
        except DamagedImage as damage:
            raise RunError(
                f"{damage.path}: {damage.what}. {self._stopped}. {self._way_out(damage)}"
            ) from None
        finally:
            if board is not None:
                board.close()
            self.close()
        return self.step == self.steps

    def _keep(self, fault: DivergedError) -> None:
        """Write diverged.json."""
        if self.ranks.first:
            told = {"diverged": str(fault), "seconds": round(self.seconds, 3)}
            text = json.dumps(told, indent=2) + "\n"
            write_whole(self.folder / DIVERGED, text.encode())

    def close(self) -> None:
        """Let others into the folder. `go` does so at its end."""
        self.feed.close()
        if self.lock is not None:
            self.lock.release()

    @property
    def to_go_on(self) -> str:
        """The command that goes on with this run, on as many ranks."""
        ranks = f"mpiexec -n {self.ranks.size} " if self.ranks.size > 1 else ""
        return f"{ranks}rsam-ref train --resume {self.folder}"

    @property
    def _stopped(self) -> str:
        safe = f"the last good checkpoint is {self.saved}" if self.saved else "no checkpoint yet"
        return f"The run stopped at step {self.step}; {safe}"

    def _way_out(self, damage: DamagedImage) -> str:
        """What to do about a picture that cannot be read any more, or never could."""
        anew = "--skip-damaged, which leaves such pictures out from the start"
        if self.recipe.skip_damaged:
            anew = "--skip-damaged, which will leave it out"
        if damage.changed:
            return (
                "The file is another than when the run began: put the old one back, then: "
                f"{self.to_go_on}; or begin another run with {anew}"
            )
        return (
            "The file has the size that it had when the run began, and without it the run is "
            f"another: begin one with {anew}"
        )

    def _advance(self, goal: int, stop: Interruption, on_step: Callable[[int], None]) -> None:
        def batch(step: int) -> Objective:
            on_step(step)
            return self._objective(step)

        todo = range(self.step, goal)
        losses = run_steps(
            self.model,
            self.optimizer,
            batch,
            todo,
            self.per_epoch,
            stop=lambda: self.ranks.stopping(stop.asked),
            on_twice=self._computed_twice,
        )
        self.pending += losses.T.tolist()
        self.step += losses.shape[1]

    def _computed_twice(self, step: int) -> None:
        self.twice = step if self.twice is None else self.twice

    def _own_samples(self, n: int) -> slice:
        """This rank's samples of a mini-batch of n; all, if there are fewer than shards."""
        shards = self.recipe.shards
        if self.ranks.size == 1 or n < shards:
            return slice(n)
        cuts, own = bounds(n, shards), self.ranks.group.own(shards)
        return slice(cuts[own.start], cuts[own.stop])

    def _objective(self, step: int) -> Objective:
        x, y = (to_device(a) for a in self.feed(step))
        epoch, i = divmod(step, self.per_epoch)
        settings, n = self.recipe, self.feed.size(step)

        def seed(part: int) -> int:
            return mix(settings.seed, epoch, i, part)

        parts = min(max(settings.accumulate, settings.shards), n)
        if parts == 1 and settings.perturbation == "global":
            return objective(self.model, x, y, self.loss, seed=mix(settings.seed, epoch, i))
        group = self.ranks.group if n >= settings.shards else ONE_PROCESS
        if settings.perturbation == "worker":
            return Workers(self.model, x, y, self.loss, seed, parts, settings.m, group, n)
        seeds = [seed(part) for part in range(parts)]
        if settings.shards > 1:
            return Sharded(self.model, x, y, self.loss, seeds, group, n)
        return Accumulated(self.model, x, y, self.loss, seeds)

    def _score(self) -> Score:
        """On all test samples, of which every rank has taken its batches."""
        ranks = self.ranks
        mine = batch_scores(
            self.model, in_order(self.data.watched, ranks.rank, ranks.size), self.loss
        )
        if ranks.size == 1:
            return added_up(mine)
        told = ranks.gather([(n, float(losses), int(right)) for n, losses, right in mine])
        rows = itertools.zip_longest(*told)  # the ranks have taken turns
        return added_up(found for row in rows for found in row if found is not None)

    def _row(self, test: bool, board: Any) -> Row:
        means = [math.fsum(column) / len(self.pending) for column in zip(*self.pending)]
        self.pending = []
        last = self.step - 1  # schedules are read at the step that was taken last
        has_radius = "rho" not in recipe.UNUSED[self.recipe.optimizer]
        rho = recipe.radius(self.recipe, self.steps) if has_radius else None
        row: Row = {
            "step": self.step,
            "epoch": self.step / self.per_epoch,
            "loss": means[0],
            "adversarial_loss": means[1] if len(means) > 1 else None,
            "lr": recipe.learning_rate(self.recipe, self.steps)(last),
            "rho": rho(last) if callable(rho) else rho,
            "test_loss": None,
            "test_accuracy": None,
            "seconds": round(self.seconds, 3),
        }
        if test:
            result = self._score()
            row["test_loss"] = result.loss if math.isfinite(result.loss) else None
            row["test_accuracy"] = result.accuracy
        if self.ranks.first:
            self.metrics.add(row)
        if board is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    board.add_scalar(name, value, self.step)
        return row

    def _tensorboard(self) -> Any:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise RunError(
                "tensorboard = true needs tensorboardX: pip install 'rsam-ref[tensorboard]'"
            ) from None
        return SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step)

    # Ending

    def _save(self) -> None:
        """Keep what the ranks agree on."""
        self._agree_on_weights()

        def write() -> Path:
            path = self._write_checkpoint()
            self.metrics.write_csv()
            return path

        self.saved = self.ranks.from_first(write)

    def _write_checkpoint(self) -> Path:
        arrays, values = checkpoint.flatten(self.optimizer.state_dict(), "optimizer")
        arrays |= {f"model.{name}": array for name, array in self.model.state_dict().items()}
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "pending": self.pending,
            "values": values,
            "data": self.data.fingerprint,
            "recipe": self.fixed,
        }
        return checkpoint.save(
            self.folder / "checkpoints",
            self.step,
            arrays,
            state,
            keep=self.recipe.keep_checkpoints,
        )

    def _finish(self) -> None:
        from rsam_ref.figures import save
        from rsam_ref.training.figures import curves_figure

        weights = to_bytes(self.model.state_dict(), {"model": self.recipe.model})
        write_whole(self.folder / "model.safetensors", weights)
        self.metrics.write_csv()
        model = name_in(self.recipe.model)
        title = f"{model} on {self.data.name}, {self.recipe.optimizer}"
        part = "validation" if self.data.validation else "test"
        save(curves_figure(self.metrics.rows, title, part), self.folder / "curves.png")


def _by_content(target: str) -> str:
    """The name of a model or a loss; of one in a file, which may lie elsewhere, what is in it."""
    path = file_of(target)
    return f"{path.name}:{name_in(target)} ({fingerprint(target)})" if path else target


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise RunError(
            f"{path}: damaged ({error}); it only tells of the run, so remove it and go on"
        ) from None


def _after(step: int, every: int) -> int:
    """The first multiple of ``every`` after a step."""
    return (step // every + 1) * every
