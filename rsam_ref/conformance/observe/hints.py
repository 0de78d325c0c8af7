"""What to write instead, where a step raised because it takes what a check does not give."""

from __future__ import annotations

import inspect
from typing import Any

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import parameters_of
from rsam_ref.conformance.observe.frameworks import framework_of

OF_TENSORS = (
    "; a function of arrays is given NumPy's: a step on PyTorch's tensors is checked as "
    "train_step(model, optimizer, loss_fn, batch, hyper), or as an optimizer class"
)
OF_A_MODEL = (
    "; in JAX the check gives weights as a dict of arrays and no model object: write the step for "
    "params, and take loss_fn(params, batch) or apply_fn(params, x)"
)


def what_to_write(subject: Any, form: str, told: str) -> str:
    """What is added to the message of what was raised; "" where nothing is known."""
    of_types = "Tensor" in told or "numpy" in told
    if form == "function" and of_types and framework_of(subject) == "torch":
        return OF_TENSORS
    if form == "jax" and callable(subject) and not inspect.isclass(subject):
        taken = parameters_of(subject)
        if any(names.is_called(name, names.MODELS) for name in taken):
            return OF_A_MODEL
    return ""
