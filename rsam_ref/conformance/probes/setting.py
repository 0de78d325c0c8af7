"""What a probe is, and what it has to work with.

A probe asks one question after the main run. It gives findings, or says in a `SkippedError` why the
question cannot be asked here. Where it disturbs the run, it compares with the same run undisturbed:
a finding is what the disturbance changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.ascent.length import HALVES, ROUNDED
from rsam_ref.conformance.ascent.relatives import take_parts_together
from rsam_ref.conformance.diagnosis import Diagnosis
from rsam_ref.conformance.observe.forms import Maker
from rsam_ref.conformance.observe.observer import Seen, Step, watch
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.report.catalogue import CATALOGUE
from rsam_ref.conformance.report.report import Finding


class SkippedError(Exception):
    """A probe was not carried out. The message says why."""


@dataclass
class Setting:
    """What the probes have to work with."""

    maker: Maker
    seed: int
    algorithm: str
    hyper: Hyper
    main: Diagnosis
    steps: list[Step]
    resumed: Any
    """A subject that was saved and loaded after half of the main run."""
    outcomes: dict[str, str]
    """What could not be tried in the main run, and why."""
    others: list[Any] = field(default_factory=list)
    """Further ways to drive it that work."""
    one_group: bool = False
    """Found by a probe: only the first parameter group is treated."""

    @property
    def conforms(self) -> bool:
        return all(finding.note for finding in self.main.findings)

    @property
    def in_halves(self) -> bool:
        """Whether the main run tells of a norm that is rounded to half precision."""
        return any(f.code == "precision.low" and ROUNDED in f.evidence for f in self.main.findings)

    @property
    def ascent_tolerance(self) -> float:
        """How far eps may be from the algorithm's without another finding."""
        return max(self.main.tolerance, HALVES) if self.in_halves else self.main.tolerance

    def need_conformance(self) -> None:
        """For questions that only a right step can be asked."""
        if not self.conforms:
            raise SkippedError("the step diverges already")

    def one_step(self, hyper: Hyper, scale: float = 1.0, dtype: str = "float64") -> Step:
        problem = Problem(self.seed, scale)
        return watch(self.maker(problem, hyper, dtype=dtype), [hyper])[0]


Probe = Callable[[Setting], list[Finding]]


def cases_of(
    problem: Problem, steps: list[Step], before: list[Case] | None = None, looks: bool = False
) -> list[Case]:
    """The steps as cases, each knowing the one before it. ``looks``: unused gradients are kept."""
    cases = list(before or [])
    for step in steps:
        seen = Seen(problem, step)
        if not looks and take_parts_together([seen]) is None:
            seen.forget_looks()
        cases.append(Case(problem, seen, cases[-1] if cases else None))
    return cases


def where_not_finite(step: Step) -> str:
    """Which of a step's weights are not finite."""
    bad = [i for i, e in enumerate(step.evaluations) if not np.isfinite(e.at).all()]
    return f"the weights of evaluation {bad[0] + 1}" if bad else "the weights after the step"


def is_finite(step: Step) -> bool:
    return all(np.isfinite(v).all() for v in [*(e.at for e in step.evaluations), step.after])


def is_note(code: str) -> bool:
    return CATALOGUE[code].note
