"""Of which mini-batch inputs are, and which of its rows."""

from __future__ import annotations

import numpy as np

from rsam_ref.conformance.observe.observer import BrokenError, Samples
from rsam_ref.conformance.observe.problem import Problem

NEAR = 1e-2
"""How far inputs may be from those of a mini-batch, as in half precision."""


def samples_of(problem: Problem, given: np.ndarray, number: int) -> Samples:
    """The mini-batch and the rows that inputs (n, 2, 6, 6) are, in the step of that number."""
    for step in [number, *range(number + 2)]:
        whole = problem.batch(step)[0]
        if len(given) and given.shape[1:] == whole.shape[1:]:
            apart = np.abs(given[:, None] - whole[None]).reshape(len(given), len(whole), -1)
            rows = frozenset(int(i) for i in np.nonzero(apart.max(axis=2) < NEAR)[1])
            if rows and len(rows) == len(given):
                return step, None if len(rows) == len(whole) else rows
    raise BrokenError(
        f"in step {number + 1} the model was run on inputs of shape {given.shape} that "
        "belong to no mini-batch; if the step augments or mixes its inputs, take that out for "
        "the check"
    )
