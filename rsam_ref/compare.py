"""The main job: SGD, SAM, k-step SAM, noise alone and R-SAM on handwritten digits, compared fairly.

Every method has one setting that is tuned, over equally many values, on validation samples: the
radius rho of SAM and R-SAM, the scale sigma of the noise alone, the learning rate of SGD. All else
is the same for all, and a seed means the same split, label noise, initial weights and order of
samples for all, so that methods are compared seed by seed. The test samples are looked at once,
with the setting that the validation samples chose.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rsam_backends import use_backend
from rsam_ref import models
from rsam_ref.data import digits_split
from rsam_ref.files import write_whole
from rsam_ref.optim import RSAM, SAM, SGD, NoiseOnly, Optimizer
from rsam_ref.schedules import cosine, rsam_sigma
from rsam_ref.training import DivergedError, evaluate, train

ACCURACY = "test_accuracy"


@dataclass(frozen=True)
class Settings:
    """What all runs of a comparison share. The defaults are those of ``rsam-ref compare``."""

    label_noise: float = 0.4
    epochs: int = 60
    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    sigma: float = 1e-3
    lam: float = 2.0
    backend: str = "numpy"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch size must be at least 1")
        for name in ("lr", "momentum", "weight_decay", "sigma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, not {getattr(self, name)}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label noise is a share and lies in [0, 1], not {self.label_noise}")
        if not 0 < self.lam < math.inf:
            raise ValueError(f"lam must be a finite number > 0, not {self.lam}")

    @property
    def steps(self) -> int:
        """Steps of one run: half of the 1,797 digits are trained on."""
        return self.epochs * math.ceil(898 / self.batch_size)


@dataclass(frozen=True)
class Run:
    """One training run: a method, the value of its tuned setting, a seed."""

    method: str
    value: float
    seed: int

    def hyperparameters(self, settings: Settings) -> dict[str, float]:
        """The run's lr, rho, sigma and lam; 0 where the method has none."""
        knob = METHODS[self.method].knob
        has_noise = self.method in ("noise", "rsam")
        return {
            "lr": self.value if knob == "lr" else settings.lr,
            "rho": self.value if knob == "rho" else 0.0,
            "sigma": self.value if knob == "sigma" else settings.sigma if has_noise else 0.0,
            "lam": settings.lam if self.method == "rsam" else 0.0,
        }


@dataclass(frozen=True)
class Method:
    """How a method is called, which setting of it is tuned, and how its optimizer is made."""

    label: str
    knob: str
    make: Callable[[Optimizer, dict[str, float], int, int], Optimizer]


METHODS = {
    "sgd": Method("SGD", "lr", lambda base, h, steps, seed: base),
    "sam": Method("SAM", "rho", lambda base, h, steps, seed: SAM(base, h["rho"])),
    "sam2": Method("2-step SAM", "rho", lambda base, h, steps, seed: SAM(base, h["rho"], 2)),
    "noise": Method(
        "noise only",
        "sigma",
        lambda base, h, steps, seed: NoiseOnly(base, rsam_sigma(h["sigma"], steps), seed),
    ),
    "rsam": Method(
        "R-SAM",
        "rho",
        lambda base, h, steps, seed: RSAM(
            base, h["rho"], rsam_sigma(h["sigma"], steps), h["lam"], seed
        ),
    ),
}

RHOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
QUICK_RHOS = (0.3, 0.5, 0.8)
RANGES = {"lr": (3e-3, 0.3), "sigma": (1e-3, 3e-2)}


def plan(methods: list[str], rhos: list[float], seeds: int) -> list[Run]:
    """All runs: every method with as many values of its setting as there are radii, every seed."""
    if unknown := [m for m in methods if m not in METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if not methods or not rhos or seeds < 1:
        raise ValueError("a comparison needs at least one method, one radius and one seed")
    if bad := [rho for rho in rhos if not 0 <= rho < math.inf]:
        raise ValueError(f"rho is a radius and must be a finite number >= 0, not {bad[0]}")
    values = {"rho": sorted(set(rhos))}
    for knob, (low, high) in RANGES.items():
        values[knob] = geometric(low, high, len(values["rho"]))
    return [
        Run(method, value, seed)
        for seed in range(seeds)
        for method in dict.fromkeys(methods)
        for value in values[METHODS[method].knob]
    ]


def geometric(low: float, high: float, n: int) -> list[float]:
    """n values from low to high in equal ratios, to two digits; for n = 1 the middle one."""
    if n == 1:
        return [float(f"{math.sqrt(low * high):.2g}")]
    return [float(f"{low * (high / low) ** (i / (n - 1)):.2g}") for i in range(n)]


def execute(settings: Settings, run: Run) -> dict[str, Any]:
    """Train and evaluate one run; the record that goes into ``runs.jsonl``."""
    use_backend(settings.backend)
    start = time.perf_counter()
    split = digits_split(run.seed, settings.label_noise)
    model = models.mlp([64, *settings.hidden, 10], seed=run.seed)
    h = run.hyperparameters(settings)
    base = SGD(
        cosine(h["lr"], settings.steps),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    optimizer = METHODS[run.method].make(base, h, settings.steps, run.seed)
    curve: list[float] = []
    diverged = ""
    try:
        train(
            model,
            optimizer,
            split.x_train,
            split.y_train,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=run.seed,
            on_epoch=lambda epoch: curve.append(evaluate(model, split.x_val, split.y_val).accuracy),
        )
    except DivergedError as error:
        diverged = str(error)
    test = evaluate(model, split.x_test, split.y_test)
    return {
        "method": run.method,
        "value": run.value,
        **h,
        "seed": run.seed,
        "test_accuracy": test.accuracy,
        "train_accuracy": evaluate(model, split.x_train, split.y_train).accuracy,
        "val_accuracy": evaluate(model, split.x_val, split.y_val).accuracy,
        "test_loss": test.loss if math.isfinite(test.loss) else None,  # JSON has no NaN
        "seconds": time.perf_counter() - start,
        "diverged": diverged,
        "val_curve": curve,
    }


class RunFile:
    """Finished runs on disk, one JSON object a line, kept from one call to the next.

    Each line carries a fingerprint of the settings, so runs of other settings in the same folder
    are neither lost nor mixed in.
    """

    def __init__(self, path: Path, settings: Any) -> None:
        self.path = path
        self.fingerprint = hashlib.sha256(
            json.dumps(asdict(settings), sort_keys=True).encode()
        ).hexdigest()[:16]
        self.finished: dict[Run, dict[str, Any]] = {}
        self._cut = False  # whether the last line was cut short
        if path.exists():
            self._cut = path.read_bytes()[-1:] not in (b"", b"\n")
            for record in self._read():
                if record.pop("settings", None) == self.fingerprint:
                    key = Run(record["method"], record["value"], record["seed"])
                    self.finished[key] = record

    def _read(self) -> Iterator[dict[str, Any]]:
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line cut short when the process was killed: that run is done again
            if isinstance(record, dict) and {"method", "value", "seed"} <= record.keys():
                yield record

    def add(self, run: Run, record: dict[str, Any]) -> None:
        line = json.dumps({"settings": self.fingerprint, **record}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + line if self._cut else line)
        self._cut = False
        self.finished[run] = record


@contextmanager
def _workers_environment() -> Iterator[None]:
    """Processes started inside have one BLAS thread each, and leave Ctrl-C to the parent.

    They inherit both: NumPy reads the variables when it is loaded.
    """
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")}
    threads["RSAM_REF_THREADS"] = "1"
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def carry_out(
    settings: Any,
    runs: list[Run],
    file: RunFile,
    *,
    jobs: int = 1,
    on_run: Callable[[Run, dict[str, Any]], None] | None = None,
    work: Callable[[Any, Run], dict[str, Any]] | None = None,
) -> None:
    """Execute the runs that are not in the file yet, ``jobs`` at a time, and add each as it ends.

    ``work(settings, run)`` gives a run's record, by default `execute`. It is done in other
    processes with one BLAS thread each, so a run's numbers do not depend on the number of jobs.
    """
    todo = [run for run in runs if run not in file.finished]
    if not todo:
        return
    pool = ProcessPoolExecutor(min(jobs, len(todo)), multiprocessing.get_context("spawn"))
    waiting: dict[Future[dict[str, Any]], Run] = {}
    try:
        with _workers_environment():
            for run in todo:
                waiting[pool.submit(work or execute, settings, run)] = run
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                run = waiting.pop(future)
                record = future.result()
                file.add(run, record)
                if on_run is not None:
                    on_run(run, record)
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process was killed (out of memory?); the finished runs are kept: run the "
            "same command again, perhaps with fewer --jobs"
        ) from None
    finally:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        if waiting:  # interrupted: what is under way is given up
            for worker in workers:
                worker.terminate()


@dataclass(frozen=True)
class Interval:
    """A mean difference of two methods over seeds, with its 95 % t-interval."""

    mean: float
    low: float
    high: float

    @property
    def within_noise(self) -> bool:
        """Whether 0 lies in the interval (or there are too few seeds for one)."""
        return not (self.low > 0 or self.high < 0)


def paired_interval(a: list[float], b: list[float]) -> Interval:
    """The mean of a - b, pair by pair, with Student's 95 % interval."""
    from scipy.special import stdtrit  # Student's quantiles, without all of scipy.stats

    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(values: list[float]) -> float:
    """The standard deviation over seeds; 0 for a single one."""
    if len(values) < 2:
        return 0.0
    mean = _mean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def summarise(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and spreads of every setting, the one that validation chose, and the differences."""
    methods: dict[str, Any] = {}
    for name in dict.fromkeys(record["method"] for record in records):
        own = [r for r in records if r["method"] == name]
        sweep = []
        for value in sorted({r["value"] for r in own}):
            of_value = sorted((r for r in own if r["value"] == value), key=lambda r: r["seed"])
            accuracies = [r[ACCURACY] for r in of_value]
            sweep.append(
                {
                    "value": value,
                    "seeds": [r["seed"] for r in of_value],
                    "val_accuracy": _mean([r["val_accuracy"] for r in of_value]),
                    "test_accuracy": _mean(accuracies),
                    "test_deviation": _spread(accuracies),
                    "test_accuracies": accuracies,
                    "diverged": sum(bool(r["diverged"]) for r in of_value),
                }
            )
        best = max(sweep, key=lambda point: point["val_accuracy"])
        methods[name] = {
            "label": METHODS[name].label,
            "knob": METHODS[name].knob,
            "sweep": sweep,
            "best": best,
        }
    differences = []
    for other in ("sgd", "sam"):
        for name in methods:
            if other in methods and name not in ("sgd", other):
                a, b = methods[name]["best"], methods[other]["best"]
                if a["seeds"] == b["seeds"]:
                    interval = paired_interval(a["test_accuracies"], b["test_accuracies"])
                    differences.append(
                        {
                            "method": name,
                            "against": other,
                            "mean": interval.mean,
                            "low": interval.low if math.isfinite(interval.low) else None,
                            "high": interval.high if math.isfinite(interval.high) else None,
                            "within_noise": interval.within_noise,
                        }
                    )
    return {"methods": methods, "differences": differences}


def write_results(
    folder: Path, settings: Settings, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write ``results.json`` and ``results.csv``; returns what is in the former."""
    results = {"settings": asdict(settings), "runs": records, "summary": summarise(records)}
    write_whole(folder / "results.json", json.dumps(results, indent=1).encode())
    columns = [key for key in records[0] if key != "val_curve"]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_whole(folder / "results.csv", table.getvalue().encode())
    return results
