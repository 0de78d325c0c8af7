"""What the settings of a step may be, said in one line where they may not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar, cast

Rule = TypeVar("Rule", bound=Callable[..., Any])


def check_step(*, rho: float = 0.0, lam: float = 1.0, ascent_steps: int = 1) -> None:
    """Raise ValueError for a radius below 0, a weight of the gradient not above 0, no ascent.

    A number that JAX traces passes: it has no value yet.
    """
    if not is_traced(rho) and not 0 <= rho < float("inf"):
        raise ValueError(f"rho is a radius and must be a finite number >= 0, not {rho}")
    if not is_traced(lam) and not 0 < lam < float("inf"):
        raise ValueError(f"lam weighs the gradient and must be a finite number > 0, not {lam}")
    if not hasattr(ascent_steps, "__index__") or ascent_steps < 1:
        raise ValueError(f"ascent_steps must be a whole number >= 1, not {ascent_steps}")


def plain_numbers(rule: Rule) -> Rule:
    """The rule, given Python's numbers for NumPy's among its settings.

    ``np.float64(0.1)``, as a sweep over ``np.linspace`` has it, would make float32 vectors float64,
    and so would ``np.int64(1)`` and ``np.array(0.1)``. What a library traces or computes (JAX,
    PyTorch) is left as it is.
    """

    @functools.wraps(rule)
    def given(*places: Any, **settings: Any) -> Any:
        for name, value in settings.items():
            plain = type(value) in (float, int)
            if not plain and isinstance(value, Real) and not isinstance(value, Integral):
                settings[name] = float(value)
            elif type(value).__module__ == "numpy" and value.shape == ():
                settings[name] = value.item()
        return rule(*places, **settings)

    return cast(Rule, given)


def check_precision(vector: Any) -> None:
    """Raise TypeError for float16: it has no square of a length above 256 or below 2e-4.

    Of bfloat16 the range is wide enough.
    """
    kind = getattr(vector, "dtype", None)
    if getattr(kind, "itemsize", 2) == 2 and _is_float16(kind):
        raise TypeError(
            "vectors in float16 have no norm (squares overflow above 256, vanish below 2e-4); give "
            "float32, as mixed precision keeps the weights and their gradients"
        )


def climbs(rho: float) -> bool:
    """Whether a radius is other than 0; True for one that JAX traces."""
    return is_traced(rho) or rho != 0


def _is_float16(kind: Any) -> bool:
    """By its name, which libraries write as float16, torch.float16, Float16 or half."""
    return str(getattr(kind, "name", kind)).rpartition(".")[2].lower() in ("float16", "half")


def is_traced(number: Any) -> bool:
    """Whether a number has no value yet, but only once what `jax.jit` makes of this runs."""
    return type(number).__name__.endswith("Tracer")
