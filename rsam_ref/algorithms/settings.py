"""What the settings of a step may be, said in one line where they may not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar, cast

APART = {"dpnp", "cupy"}
"""Libraries whose arrays take no arrays of others beside them."""

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
    """The rule, given Python's numbers for NumPy's among its settings, and vectors with a norm.

    ``np.float64(0.1)``, as a sweep over ``np.linspace`` has it, would make float32 vectors float64,
    and so would ``np.int64(1)`` and ``np.array(0.1)``. What a library traces or computes (JAX,
    PyTorch) is left as it is. Vectors that `check_precision` refuses are refused before the loss is
    asked for anything.
    """

    @functools.wraps(rule)
    def given(*places: Any, **settings: Any) -> Any:
        for name, value in settings.items():
            plain = type(value) in (float, int)
            if not plain and isinstance(value, Real) and not isinstance(value, Integral):
                settings[name] = float(value)
            elif type(value).__module__ == "numpy" and value.shape == ():
                settings[name] = value.item()
        for vector in places[1:]:
            check_precision(vector)
            check_library(places[1], vector)
        return rule(*places, **settings)

    return cast(Rule, given)


def check_precision(vector: Any) -> None:
    """Raise TypeError for float16 and for complex numbers, whose v @ v is no squared length.

    float16 has no square of a length above 256 or below 2e-4; of bfloat16 the range is wide enough.
    """
    kind = getattr(vector, "dtype", None)
    wide = getattr(kind, "kind", "") == "f" and getattr(kind, "itemsize", 0) > 2
    if wide:  # most vectors; NumPy's name takes 5 us
        return
    name = _name(kind)
    if name.startswith(("complex", "cfloat", "cdouble")):
        raise TypeError(
            f"vectors in {name} have no real v @ v, the squared length here; give the real and the "
            "imaginary parts as one vector of real numbers"
        )
    if name in ("float16", "half"):
        raise TypeError(
            "vectors in float16 have no norm (squares overflow above 256, vanish below 2e-4); give "
            "float32, as mixed precision keeps the weights and their gradients"
        )


def check_library(w: Any, v: Any) -> None:
    """Raise TypeError for vectors of two libraries where one takes no others' (dpnp, CuPy)."""
    if type(v) is type(w):
        return
    ours, theirs = (type(vector).__module__.partition(".")[0] for vector in (w, v))
    if ours != theirs and ({ours, theirs} & APART) and hasattr(v, "shape"):
        raise TypeError(
            f"w is an array of {ours}, and one of {theirs} is to be added to it: give noise and "
            "gradient in w's library (to_device and to_host of rsam_backends move arrays)"
        )


def climbs(rho: float) -> bool:
    """Whether a radius is other than 0; True for one that JAX traces."""
    return is_traced(rho) or rho != 0


def _name(kind: Any) -> str:
    """A type's name: float16, which libraries write as torch.float16, Float16 or half as well."""
    return str(getattr(kind, "name", kind)).rpartition(".")[2].lower()


def is_traced(number: Any) -> bool:
    """Whether a number has no value yet, but only once what `jax.jit` makes of this runs."""
    return type(number).__name__.endswith("Tracer")
