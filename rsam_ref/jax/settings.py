"""The settings of an optimizer: numbers, schedules of the step, and the key of the draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsam_ref.algorithms.noise import check_sigma
from rsam_ref.algorithms.schedules import Schedule
from rsam_ref.algorithms.settings import check_step, is_traced
from rsam_ref.algorithms.variants import check_eta
from rsam_ref.jax.checks import told

Number = Any
"""A number, or a schedule as optax has them: a function of the step, which jit traces."""


def check_numbers(schedules: bool = False, **settings: Number) -> None:
    """Raise for settings that cannot be: rho, sigma, lam, eta, ascent_steps.

    TypeError for what is no number; where ``schedules``, a function may stand for one.
    """
    for name, value in settings.items():
        schedule = schedules and name not in ("eta", "ascent_steps")
        if schedule and callable(value):
            continue
        if not _is_number(value):
            or_more = " or a schedule of the step" if schedule else ""
            raise TypeError(f"{name} is a number{or_more}, not {told(value)}")
        _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if name == "ascent_steps":
        check_known(ascent_steps=value)
    if is_traced(value):
        return
    if name == "sigma":
        check_sigma(value)
    elif name == "eta":
        check_eta(value)
    else:
        check_step(**{name: value})


def check_known(**settings: Any) -> None:
    """Raise TypeError for a setting that jit traces, and that a compiled step must know."""
    for name, value in settings.items():
        if is_traced(value):
            raise TypeError(
                f"{name} must be known before a step is compiled; where optax.inject_hyperparams "
                f"makes the optimizer, name it in static_args, or inject a function of rho alone"
            )


def _is_number(value: Any) -> bool:
    kind = getattr(value, "dtype", None)
    if kind is None:
        return isinstance(value, int | float) and not isinstance(value, bool)
    real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
    return bool(real) and value.ndim == 0


def at(name: str, value: Number, step: Any) -> Any:
    """The value at a step of what may be a schedule; it is checked as a number is."""
    if not callable(value):
        return value
    try:
        now = value(step)
    except jax.errors.JAXTypeError:
        raise TypeError(
            f"{name} is a schedule that asks for the number of the step, which jit does not know; "
            "give table(schedule, steps), or one of optax's schedules"
        ) from None
    check_numbers(**{name: now})
    return now


def table(schedule: Schedule, steps: int) -> Callable[[Any], Any]:
    """A schedule of `rsam_ref.algorithms.schedules` in the form that jit traces.

    Its values are computed now, for so many steps; after them the last one stays.

    >>> from rsam_ref.algorithms.schedules import linear
    >>> [float(table(linear(1.0, 4), 5)(step)) for step in (0, 1, 9)]
    [1.0, 0.75, 0.0]

    Raises TypeError for what is no schedule, ValueError where steps is no whole number >= 1.
    """
    if not hasattr(steps, "__index__") or steps < 1:
        raise ValueError(f"table(schedule, steps) takes a whole number of steps >= 1, not {steps}")
    if not callable(schedule):
        raise TypeError(f"table(schedule, steps) takes a function of the step, not {schedule!r}")
    values = np.array([schedule(step) for step in range(steps)])
    return lambda step: jnp.asarray(values)[jnp.minimum(step, steps - 1)]


def key_of(key: Any) -> Any:
    """A key of `jax.random`: the key itself, or that of a seed, which may be traced."""
    if is_key(key):
        return key
    kind = getattr(key, "dtype", None)
    whole = isinstance(key, int) if kind is None else jnp.issubdtype(kind, jnp.integer)
    if not whole or not _is_number(key):
        raise TypeError(f"key is one key of jax.random, or a seed, not {told(key)}")
    return jax.random.PRNGKey(key)


def is_key(key: Any) -> bool:
    """Whether this is one key: typed, or the plain integers of one."""
    kind = getattr(key, "dtype", None)
    if kind is None:
        return False
    typed = jnp.issubdtype(kind, jax.dtypes.prng_key) and key.ndim == 0
    return bool(typed or (kind == jnp.uint32 and key.shape in ((2,), (4,))))
