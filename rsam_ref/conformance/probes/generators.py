"""Whether a step seeds a generator that everybody else draws from."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.observer import Step
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting
from rsam_ref.conformance.report.report import Finding


def reseeding(s: Setting) -> list[Finding]:
    """Two runs whose generators begin differently: where they end alike, a step has seeded them.

    Seeds that are put back (as within torch.random.fork_rng) leave them different, and are right.
    """
    ends = []
    for seed in (s.seed + 101, s.seed + 202):
        problem = Problem(s.seed)
        subject = s.maker(problem, s.hyper)
        _seed(seed)
        subject.step(0, s.hyper, Step(0, s.hyper, subject.weights()))
        ends.append(_states())
    names = [name for name in ends[0] if ends[0][name] == ends[1][name]]
    if names:
        return [
            Finding("contract.reseeds-generator", {"the global generator of": " and ".join(names)})
        ]
    return []


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def _states() -> dict[str, Any]:
    drawn: Any = np.random.get_state()  # noqa: NPY002
    states: dict[str, Any] = {
        "NumPy": (drawn[1].tobytes(), drawn[2]),
        "Python's random": random.getstate(),
    }
    if torch := sys.modules.get("torch"):
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states
