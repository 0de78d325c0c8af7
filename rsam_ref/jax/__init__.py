"""SAM and R-SAM on pytrees of JAX's arrays, and around any optax optimizer: extra ``jax``.

::

    from rsam_ref.jax import sam

    tx = sam(optax.sgd(0.1, momentum=0.9), rho=0.05)
    state = tx.init(params)

    @jax.jit
    def train_step(params, state, batch):
        params, state, trace = tx.step(jax.value_and_grad(loss), params, state, batch)
        return params, state, trace.loss

docs/jax.md says how to use them with everything else. Start reading at ``gradients.py``.
``objectives.py`` makes a loss of a tree a function of one vector, and ``network.py`` measures its
flatness. May import: `rsam_ref.algorithms`, jax and optax; `network.py` and `given.py` take the
measures of `rsam_ref.sharpness`, on data of `rsam_ref.data`. Imported by: `rsam_ref.commands`,
which measures networks.
"""

from typing import Any

from rsam_ref.jax.around import SharpnessAware, State
from rsam_ref.jax.axes import equinox_axis, flax_axis, stacked
from rsam_ref.jax.draw import filter_noise, filter_norms
from rsam_ref.jax.gradients import asam_gradient, rsam_gradient, sam_gradient
from rsam_ref.jax.objectives import Objective, objective
from rsam_ref.jax.optimizers import rsam, sam
from rsam_ref.jax.settings import table

__all__ = [
    "Objective",
    "SharpnessAware",
    "State",
    "asam_gradient",
    "equinox_axis",
    "filter_noise",
    "filter_norms",
    "flatness",
    "flax_axis",
    "objective",
    "rsam",
    "rsam_gradient",
    "sam",
    "sam_gradient",
    "stacked",
    "table",
]


def __getattr__(name: str) -> Any:
    """What needs the room of measures is imported when it is asked for."""
    if name == "flatness":
        from rsam_ref.jax.network import flatness

        return flatness
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
