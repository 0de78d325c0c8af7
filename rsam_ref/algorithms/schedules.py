"""Numbers that change over a run: a schedule is a function of the step, counted from 0.

Everything that takes a learning rate, a rho or a sigma takes a number or a schedule. Schedules can
be copied and pickled, and so can what holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

Schedule = Callable[[int], float]


def at(value: float | Schedule, step: int) -> float:
    """The value at a step of what may be a number or a schedule, as a Python number."""
    return float(value(step) if callable(value) else value)


def warmup(peak: float, steps: int, after: Schedule) -> Schedule:
    """From 0 in equal steps to ``peak`` at step ``steps``; then ``after``, counted from there."""
    return partial(_warmup, peak=peak, steps=steps, after=after)


def _warmup(step: int, *, peak: float, steps: int, after: Schedule) -> float:
    return peak * step / steps if step < steps else after(step - steps)


def cosine(start: float, steps: int, end: float = 0.0) -> Schedule:
    """From ``start`` to ``end`` along half a cosine, over ``steps`` steps; then ``end``."""
    _check_length(steps)
    return partial(_cosine, start=start, steps=steps, end=end)


def _cosine(step: int, *, start: float, steps: int, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


def linear(start: float, steps: int, end: float = 0.0) -> Schedule:
    """From ``start`` to ``end`` in equal steps, over ``steps`` steps; then ``end``."""
    _check_length(steps)
    return partial(_linear, start=start, steps=steps, end=end)


def _linear(step: int, *, start: float, steps: int, end: float) -> float:
    return start + (end - start) * min(step / steps, 1)


def constant(value: float, steps: int) -> Schedule:
    """``value`` at every one of the ``steps`` steps, and after."""
    _check_length(steps)
    return partial(_constant, value=value)


def _constant(step: int, *, value: float) -> float:
    return value


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
    return partial(_rsam_rho, lr=lr, lr_max=lr_max, warmup_steps=warmup_steps, low=low, high=high)


def _rsam_rho(
    step: int, *, lr: Schedule, lr_max: float, warmup_steps: int, low: float, high: float
) -> float:
    relative = lr(step) / lr_max
    return high * relative if step < warmup_steps else low + (high - low) * relative


def _check_length(steps: int) -> None:
    if not steps > 0:
        raise ValueError(f"a schedule runs over at least one step, not {steps}")
