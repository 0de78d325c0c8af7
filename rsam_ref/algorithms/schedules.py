"""Numbers that change over a run: a schedule is a function of the step, counted from 0.

Everything that takes a learning rate, a rho or a sigma takes a number or a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def at(value: float | Schedule, step: int) -> float:
    """The value at a step of what may be a number or a schedule, as a Python number."""
    return float(value(step) if callable(value) else value)


def warmup(peak: float, steps: int, after: Schedule) -> Schedule:
    """From 0 in equal steps to ``peak`` at step ``steps``; then ``after``, counted from there."""

    def schedule(step: int) -> float:
        return peak * step / steps if step < steps else after(step - steps)

    return schedule


def cosine(start: float, steps: int, end: float = 0.0) -> Schedule:
    """From ``start`` to ``end`` along half a cosine, over ``steps`` steps; then ``end``."""
    _check_length(steps)

    def schedule(step: int) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2

    return schedule


def linear(start: float, steps: int, end: float = 0.0) -> Schedule:
    """From ``start`` to ``end`` in equal steps, over ``steps`` steps; then ``end``."""
    _check_length(steps)

    def schedule(step: int) -> float:
        return start + (end - start) * min(step / steps, 1)

    return schedule


def constant(value: float, steps: int) -> Schedule:
    """``value`` at every one of the ``steps`` steps, and after."""
    _check_length(steps)
    return lambda step: value


def rsam_sigma(sigma: float, steps: int, rise: float = 5.0) -> Schedule:
    """R-SAM's noise scale: from ``sigma`` to ``rise * sigma`` along half a cosine over the run.

    sigma_t = sigma (1 + 4 (1 - cos(pi t / T)) / 2), as the public JAX code for ViT-B/16 has it.
    """
    return cosine(sigma, steps, rise * sigma)


def rsam_rho(
    lr: Schedule, lr_max: float, warmup_steps: int, low: float = 1.5, high: float = 2.5
) -> Schedule:
    """R-SAM's radius: ``high * lr / lr_max`` in warm-up, then linear in lr between low and high.

    As the public JAX code for ViT-B/16 has it.
    """
    if not lr_max > 0:
        raise ValueError(f"a radius that follows the learning rate needs lr_max > 0, not {lr_max}")

    def schedule(step: int) -> float:
        relative = lr(step) / lr_max
        return high * relative if step < warmup_steps else low + (high - low) * relative

    return schedule


def _check_length(steps: int) -> None:
    if not steps > 0:
        raise ValueError(f"a schedule runs over at least one step, not {steps}")
