"""What the settings of a step may be, said in one line where they may not."""

from __future__ import annotations

from typing import Any


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


def is_traced(number: Any) -> bool:
    """Whether a number has no value yet, but only once what `jax.jit` makes of this runs."""
    return type(number).__name__.endswith("Tracer")
