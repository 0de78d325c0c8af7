"""The main job: SGD, SAM, k-step SAM, noise alone and R-SAM, compared fairly on one problem.

Every method has one setting that is tuned, over equally many values, on validation samples: the
radius rho of SAM and R-SAM, the scale sigma of the noise alone, the learning rate of SGD. All else
is the same for all, and a seed means the same split, label noise, initial weights and order of
samples for all, so that methods are compared seed by seed. The test samples are looked at once,
with the setting that the validation samples chose.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rsam_backends import use_backend
from rsam_ref.algorithms.base import SGD
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.optimizers import RSAM, SAM, NoiseOnly
from rsam_ref.algorithms.relatives import RELATIVES, Relative, make
from rsam_ref.algorithms.schedules import cosine, rsam_sigma
from rsam_ref.data import Dataset
from rsam_ref.files import write_table, write_whole
from rsam_ref.training.loop import DivergedError, evaluate, train
from rsam_ref.training.problem import Problem
from rsam_ref.training.statistics import mean, paired_interval, spread
from rsam_ref.training.trials import ADDED_LATER, Trial

ACCURACY = "test_accuracy"


@dataclass(frozen=True)
class Experiment:
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
    problem: Problem = field(default_factory=Problem)
    kernels: str = field(default="fast", metadata=ADDED_LATER)

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
        """Steps of one run."""
        return self.epochs * math.ceil(self.problem.samples / self.batch_size)


@dataclass(frozen=True)
class Method:
    """How a method is called, which setting of it is tuned, and how its optimizer is made."""

    label: str
    knob: str
    make: Callable[[Optimizer, dict[str, float], int, int], Optimizer]
    parts: int = 1
    """The mini-batch is taken in so many parts."""


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


"""What is compared unless methods are named."""


def _of_relative(relative: Relative) -> Method:
    """A relative of SAM with its radius tuned, or its noise scale; all else by default."""
    knob = "rho" if "rho" in relative.settings else "sigma"

    def made(base: Optimizer, h: dict[str, float], steps: int, seed: int) -> Optimizer:
        return make(relative.name, base, seed=seed, **{knob: h[knob]})

    return Method(relative.title, knob, made, parts=4 if "parts" in relative.needs else 1)


ALL_METHODS = METHODS | {name: _of_relative(relative) for name, relative in RELATIVES.items()}


RHOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)


QUICK_RHOS = (0.3, 0.5, 0.8)


RANGES = {"lr": (3e-3, 0.3), "sigma": (1e-3, 3e-2)}


def plan(methods: list[str], rhos: list[float], seeds: int) -> list[Trial]:
    """All runs: every method with as many values of its setting as there are radii, every seed."""
    if unknown := [m for m in methods if m not in ALL_METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}; there are {', '.join(ALL_METHODS)}")
    if not methods or not rhos or seeds < 1:
        raise ValueError("a comparison needs at least one method, one radius and one seed")
    if bad := [rho for rho in rhos if not 0 <= rho < math.inf]:
        raise ValueError(f"rho is a radius and must be a finite number >= 0, not {bad[0]}")
    values = {"rho": sorted(set(rhos))}
    for knob, (low, high) in RANGES.items():
        values[knob] = geometric(low, high, len(values["rho"]))
    return [
        Trial(method, value, seed)
        for seed in range(seeds)
        for method in dict.fromkeys(methods)
        for value in values[ALL_METHODS[method].knob]
    ]


def geometric(low: float, high: float, n: int) -> list[float]:
    """n values from low to high in equal ratios, to two digits; for n = 1 the middle one."""
    if n == 1:
        return [float(f"{math.sqrt(low * high):.2g}")]
    return [float(f"{low * (high / low) ** (i / (n - 1)):.2g}") for i in range(n)]


def hyperparameters(experiment: Experiment, trial: Trial) -> dict[str, float]:
    """The trial's lr, rho, sigma and lam; 0 where the method has none."""
    knob = ALL_METHODS[trial.method].knob
    has_noise = trial.method in ("noise", "rsam")
    return {
        "lr": trial.value if knob == "lr" else experiment.lr,
        "rho": trial.value if knob == "rho" else 0.0,
        "sigma": trial.value if knob == "sigma" else experiment.sigma if has_noise else 0.0,
        "lam": experiment.lam if trial.method == "rsam" else 0.0,
    }


def execute(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    """Train and evaluate one trial; the record that goes into ``runs.jsonl``."""
    use_backend(experiment.backend, kernels=experiment.kernels)
    start = time.perf_counter()
    split = experiment.problem.split(trial.seed, experiment.label_noise)
    model = experiment.problem.make(trial.seed, experiment.hidden)
    h = hyperparameters(experiment, trial)
    base = SGD(
        cosine(h["lr"], experiment.steps),
        momentum=experiment.momentum,
        weight_decay=experiment.weight_decay,
    )
    method = ALL_METHODS[trial.method]
    optimizer = method.make(base, h, experiment.steps, trial.seed)
    curve: list[float] = []
    diverged = ""
    try:
        train(
            model,
            optimizer,
            split.x_train,
            split.y_train,
            epochs=experiment.epochs,
            batch_size=experiment.batch_size,
            seed=trial.seed,
            parts=method.parts,
            on_epoch=lambda epoch: curve.append(evaluate(model, split.x_val, split.y_val).accuracy),
        )
    except DivergedError as error:
        diverged = str(error)
    test = evaluate(model, split.x_test, split.y_test)
    return {
        "method": trial.method,
        "value": trial.value,
        **h,
        "seed": trial.seed,
        "test_accuracy": test.accuracy,
        "train_accuracy": evaluate(model, split.x_train, split.y_train).accuracy,
        "val_accuracy": evaluate(model, split.x_val, split.y_val).accuracy,
        "test_loss": test.loss if math.isfinite(test.loss) else None,  # JSON has no NaN
        "seconds": time.perf_counter() - start,
        "diverged": diverged,
        "val_curve": curve,
    }


@dataclass(frozen=True)
class WithData:
    """An experiment, and its data for a machine that may lack them."""

    experiment: Experiment
    data: Dataset


def execute_with_data(given: WithData, trial: Trial) -> dict[str, Any]:
    """As `execute`, on the data that come along."""
    given.experiment.problem.take_over(given.data)
    return execute(given.experiment, trial)


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
                    "val_accuracy": mean([r["val_accuracy"] for r in of_value]),
                    "test_accuracy": mean(accuracies),
                    "test_deviation": spread(accuracies),
                    "test_accuracies": accuracies,
                    "diverged": sum(bool(r["diverged"]) for r in of_value),
                }
            )
        best = max(sweep, key=lambda point: point["val_accuracy"])
        methods[name] = {
            "label": ALL_METHODS[name].label,
            "knob": ALL_METHODS[name].knob,
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
    folder: Path, experiment: Experiment, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write ``results.json`` and ``results.csv``; returns what is in the former."""
    results = {"settings": asdict(experiment), "runs": records, "summary": summarise(records)}
    write_whole(folder / "results.json", json.dumps(results, indent=1).encode())
    columns = [key for key in records[0] if key != "val_curve"]
    rows = ([record.get(name) for name in columns] for record in records)
    write_table(folder / "results.csv", columns, rows)
    return results
