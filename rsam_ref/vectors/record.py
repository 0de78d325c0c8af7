"""Five steps of every case, and every quantity of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_backends import use_backend
from rsam_ref.algorithms.sam import sam_gradient
from rsam_ref.vectors import problem
from rsam_ref.vectors.arithmetic import ordered
from rsam_ref.vectors.cases import ALGORITHMS, BASES, find, make_base

QUANTITIES = (
    "loss",
    "noise",
    "ascent_gradient",
    "perturbation",
    "adversarial_loss",
    "gradient",
)
"""What a trace holds, by the names of `Trace`."""


def record(dtype: str) -> dict[str, Any]:
    """All tensors of the vectors in float64 or float32: the problem, then ALGORITHM/BASE/QUANTITY.

    The definitions are run as they read, without a backend's kernels, on arrays that add in index
    order. Row t of a quantity is that of step t; of w and the base optimizer's state, after it.
    """
    numbers = {name: ordered(values, dtype) for name, values in problem.given().items()}
    tensors: dict[str, Any] = dict(numbers)
    with use_backend("numpy", kernels="plain"):
        for algorithm in ALGORITHMS:
            for base in BASES:
                for name, rows in _case(algorithm, base, numbers).items():
                    tensors[f"{algorithm}/{base}/{name}"] = np.array(rows, dtype)
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def _case(algorithm: str, base: str, numbers: dict[str, Any]) -> dict[str, list[Any]]:
    """The rows of every quantity of a case."""
    w, optimizer = numbers["w0"].copy(), make_base(base)
    rows: dict[str, list[Any]] = {}
    for x, target, z in zip(numbers["x"], numbers["target"], numbers["z"]):
        loss_and_grad = problem.objective(x, target)
        trace = find(algorithm, loss_and_grad, w, z)
        found = {name: getattr(trace, name) for name in QUANTITIES}
        if algorithm == "k-step-sam":
            found |= _first_ascent(loss_and_grad, w)
        optimizer.move(w, trace.gradient)
        optimizer.steps += 1
        found |= {"w": w.copy(), **optimizer.state_dict()}
        del found["steps"]
        for name, value in found.items():
            if value is not None:
                rows.setdefault(name, []).append(value)
    return rows


def _first_ascent(loss_and_grad: Any, w: Any) -> dict[str, Any]:
    """Of 2-step SAM what no trace holds: eps after the first ascent, and the gradient there."""
    settings = ALGORITHMS["k-step-sam"]
    half = sam_gradient(loss_and_grad, w, rho=settings["rho"] / settings["ascent_steps"])
    return {"first_perturbation": half.perturbation, "second_ascent_gradient": half.gradient}
