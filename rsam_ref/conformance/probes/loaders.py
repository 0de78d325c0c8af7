"""A training step that takes a loader, given one of several mini-batches: do both passes of a step
see the same one?

The main run's loader holds one mini-batch, which whoever takes the next for the second pass gets
again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsam_ref.conformance.observe.observer import Evaluation, watch
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting, SkippedError
from rsam_ref.conformance.report.report import Finding

COUNT = 4
"""Mini-batches in the loader."""


@dataclass
class Visit:
    """Gradients that are taken one after the other at one place, of these mini-batches."""

    at: np.ndarray
    batches: set[int]


def several_batches(s: Setting) -> list[Finding]:
    """Whether the two passes of a step are on mini-batches of which none is in both."""
    if not s.conforms and not all(f.note or f.code in ONE_PASS for f in s.main.findings):
        raise SkippedError("the step diverges already")
    if s.conforms and any(len(a.seen.points) != 2 for a in s.main.cases):
        raise SkippedError("a step does not take two gradients")
    problem = Problem(s.seed)
    subject = s.maker(problem, s.hyper)
    subject.give_loader(COUNT)
    step = watch(subject, [s.hyper], first=COUNT - 1)[0]
    seen = visits(step.evaluations)
    for ascent, second in zip(seen[::2], seen[1::2]):
        if ascent.batches & second.batches:
            continue
        up = sum(
            float(problem.loss_and_grad(ascent.at, batch)[1] @ (second.at - ascent.at))
            for batch in ascent.batches
        )
        if up > 0:  # else it is the next step's place, where a step takes one gradient
            first, other = (min(v.batches) + 1 for v in (ascent, second))
            told = f"the ascent on mini-batch {first}, the second gradient on {other}"
            return [
                Finding("update.other-batch", {f"with a loader of {COUNT} that shuffles": told})
            ]
    return []


ONE_PASS = ("algorithm.base-optimizer",)
"""What a step looks like that finds no mini-batch left for its second pass."""


def visits(evaluations: list[Evaluation]) -> list[Visit]:
    """The evaluations of a run, those that follow each other at one place together."""
    found: list[Visit] = []
    for evaluation in evaluations:
        if found and np.array_equal(found[-1].at, evaluation.at):
            found[-1].batches.add(evaluation.batch)
        else:
            found.append(Visit(evaluation.at, {evaluation.batch}))
    return found
