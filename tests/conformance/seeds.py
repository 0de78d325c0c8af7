"""Right implementations on random problems: none may diverge, on whatever seed.

``python -m tests.conformance.seeds --framework torch32 --seeds 500`` checks SAM, ASAM and R-SAM by
turns, each in one implementation after the other, and prints what diverges. Frameworks: numpy,
torch32, torch64, jax.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rsam_ref.conformance import check
from rsam_ref.conformance.isolated import FAST_XLA

from .right import RIGHT

ALGORITHMS = ("sam", "asam", "rsam")
Subjects = dict[str, list[Any]]
"""By algorithm, the right implementations in a framework."""


def numpy() -> Subjects:
    return {
        a: [r.subject for r in RIGHT if (r.form, r.algorithm) == ("function", a)]
        for a in ALGORITHMS
    }


def torch64() -> Subjects:
    """Optimizer classes: factories and training steps are tried elsewhere."""
    named = ("torch-closure", "torch-foreach", "torch-hooks", "torch-asam", "torch-rsam-flat")
    named += ("torch-rsam-inside", "torch-own-names")
    chosen = [r for r in RIGHT if r.name in named and inspect.isclass(r.subject)]
    return {a: [r.subject for r in chosen if r.algorithm == a] for a in ALGORITHMS}


def torch32() -> Subjects:
    """The same, each of which refuses other weights than float32."""
    return {a: [in_float32(s) for s in subjects] for a, subjects in torch64().items()}


def in_float32(made: type) -> type:
    """A class of optimizers whose steps take float32 alone, so that all is checked in it."""

    def only_in_float32(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def step(self: Any, *args: Any, **more: Any) -> Any:
            if str(self.param_groups[0]["params"][0].dtype) != "torch.float32":
                raise TypeError("expected float32")
            return method(self, *args, **more)

        return step

    own = {name: getattr(made, name, None) for name in ("first_step", "step")}
    steps = {name: only_in_float32(method) for name, method in own.items() if method}
    return type(made.__name__, (made,), steps)


def jax() -> Subjects:
    os.environ.setdefault("XLA_FLAGS", FAST_XLA)
    from tests.frameworks.right_jax import SETTINGS_TOGETHER

    return {algorithm: [step] for algorithm, step in SETTINGS_TOGETHER.items()}


FRAMEWORKS: dict[str, Callable[[], Subjects]] = {
    "numpy": numpy,
    "torch32": torch32,
    "torch64": torch64,
    "jax": jax,
}


def divergences(framework: str, seeds: range) -> tuple[Counter[str], list[str]]:
    """How many checks of each algorithm were made, and what diverged."""
    subjects = {a: itertools.cycle(own) for a, own in FRAMEWORKS[framework]().items() if own}
    made: Counter[str] = Counter()
    wrong = []
    for seed, algorithm in zip(seeds, itertools.cycle(subjects)):
        subject = next(subjects[algorithm])
        made[algorithm] += 1
        try:
            report = check(subject, algorithm, seed=seed)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        else:
            if report.conforms and report.algorithm == algorithm:
                continue
            said = ", ".join(f.code for f in report.findings if f.diverges)
        name = getattr(subject, "__name__", type(subject).__name__)
        wrong.append(f"seed {seed}: {name}, {algorithm}: {said}")
        print(wrong[-1], flush=True)
    return made, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, required=True)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first", type=int, default=1_000, help="the first of them")
    asked = parser.parse_args()
    begun = time.perf_counter()
    made, wrong = divergences(asked.framework, range(asked.first, asked.first + asked.seeds))
    counts = ", ".join(f"{count} {algorithm}" for algorithm, count in made.items())
    seconds = time.perf_counter() - begun
    print(f"{asked.framework}: {len(wrong)} of {made.total()} diverge ({counts}); {seconds:.0f} s")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
