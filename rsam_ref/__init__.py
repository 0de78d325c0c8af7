"""rsam-ref: the reference for SAM and R-SAM that you can read, run, and check yours against.

::

    from rsam_ref import RSAM, SGD, models, objective

    model = models.mlp([64, 256, 10], seed=0)
    optimizer = RSAM(SGD(lr=0.1, momentum=0.9), rho=0.5, sigma=1e-3)
    for x, y in batches:
        trace = optimizer.step(objective(model, x, y), model.weights.flat)

Start reading at ``sam.py``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsam_backends import use_backend
    from rsam_ref import models
    from rsam_ref.algorithms.base import SGD, AdamW
    from rsam_ref.algorithms.optimizers import RSAM, SAM, NoiseOnly
    from rsam_ref.algorithms.sam import Trace, rsam_gradient, sam_gradient
    from rsam_ref.algorithms.variants import asam_gradient
    from rsam_ref.autograd.errors import GraphError, ShapeError
    from rsam_ref.autograd.tensor import Tensor, no_grad
    from rsam_ref.nn.objective import objective

__version__ = "0.1.0"

__all__ = [
    "RSAM",
    "SAM",
    "SGD",
    "AdamW",
    "GraphError",
    "NoiseOnly",
    "ShapeError",
    "Tensor",
    "Trace",
    "asam_gradient",
    "models",
    "no_grad",
    "objective",
    "rsam_gradient",
    "sam_gradient",
    "use_backend",
]

_HOMES = {
    "rsam_backends": ["use_backend"],
    "rsam_ref.algorithms.base": ["SGD", "AdamW"],
    "rsam_ref.algorithms.optimizers": ["RSAM", "SAM", "NoiseOnly"],
    "rsam_ref.algorithms.sam": ["Trace", "rsam_gradient", "sam_gradient"],
    "rsam_ref.algorithms.variants": ["asam_gradient"],
    "rsam_ref.autograd.errors": ["GraphError", "ShapeError"],
    "rsam_ref.autograd.tensor": ["Tensor", "no_grad"],
    "rsam_ref.nn.objective": ["objective"],
}
"""Where each name comes from, when it is first asked for: so that `--help` is quick."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return globals().setdefault(name, getattr(import_module(home), name))
    if name == "models":
        return import_module("rsam_ref.models")
    raise AttributeError(f"module 'rsam_ref' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
