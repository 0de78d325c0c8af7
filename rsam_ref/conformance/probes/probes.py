"""Besides the main run: limits, odd inputs, other types, saving, modes. Each asks one question.

The registry: which probes a form has, and under what names they are told. Each theme has a file.
"""

from __future__ import annotations

from rsam_ref.conformance.observe.observer import Step
from rsam_ref.conformance.probes.generators import reseeding
from rsam_ref.conformance.probes.gradients import accumulation, infinite_gradient, missing_gradients
from rsam_ref.conformance.probes.groups import added_group, parameter_groups
from rsam_ref.conformance.probes.limits import (
    large_gradient,
    no_learning_rate,
    no_noise,
    no_radius,
    tiny_gradient,
    zero_gradient,
)
from rsam_ref.conformance.probes.loaders import several_batches
from rsam_ref.conformance.probes.long_run import longer_run
from rsam_ref.conformance.probes.losses import returned_loss
from rsam_ref.conformance.probes.mixed_precision import autocast, gradient_scaler
from rsam_ref.conformance.probes.modes import modes
from rsam_ref.conformance.probes.saving import save_and_resume
from rsam_ref.conformance.probes.setting import Probe, Setting, SkippedError
from rsam_ref.conformance.probes.weight_types import half_precision, kept_types

__all__ = ["MUST_RUN", "Probe", "Setting", "SkippedError", "probes_of"]

ALL: dict[str, Probe] = {
    "save and resume": save_and_resume,
    "lr = 0": no_learning_rate,
    "rho = 0": no_radius,
    "sigma = 0": no_noise,
    "zero gradient": zero_gradient,
    "loss x 1e-12": tiny_gradient,
    "loss x 1e3": large_gradient,
    "types": kept_types,
    "float16": half_precision,
    "global generators": reseeding,
    "24 steps": longer_run,
}
MUST_RUN = {
    "rho = 0": "limits.rho-zero",
    "sigma = 0": "limits.sigma-zero",
    "zero gradient": "ascent.nan-at-zero-gradient",
}
"""Limits that an error breaks as well, and by which code."""

LOSS: dict[str, Probe] = {"the loss that is returned": returned_loss}
TORCH: dict[str, Probe] = {
    **LOSS,
    "batch norm, dropout, shared weights": modes,
}
OPTIMIZER: dict[str, Probe] = {
    "two groups": parameter_groups,
    "a group added later": added_group,
    "missing gradients": missing_gradients,
    "accumulation": accumulation,
    "infinite gradient": infinite_gradient,
}


def probes_of(form: str, steps: list[Step], takes_loader: bool = False) -> dict[str, Probe]:
    """The probes of a form, by name, in the order in which they are carried out. What the main
    run's ``steps`` do not use is not asked about.
    """
    if form in ("function", "optax"):
        return ALL
    if form in ("jax", "keras", "mlx"):
        return {**ALL, **LOSS}
    found = {**ALL, **TORCH, **(OPTIMIZER if form == "optimizer" else {})}
    if takes_loader:
        found["several mini-batches"] = several_batches
    if any(step.scaler.scalers for step in steps):
        found["gradient scaler"] = gradient_scaler
    if any(e.lowered_to for step in steps for e in step.evaluations):
        found["autocast"] = autocast
    return found
