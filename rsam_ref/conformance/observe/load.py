"""Loading an implementation from "FILE.py:NAME" or "package.module:NAME"."""

from __future__ import annotations

from typing import Any

from rsam_ref import loading
from rsam_ref.conformance.observe.keras_backend import choose_backend
from rsam_ref.conformance.observe.observer import BrokenError

INSTALL = {
    "torch": "pip install 'rsam-ref[torch]'",
    "jax": "pip install 'rsam-ref[jax]'",
    "optax": "pip install 'rsam-ref[jax]'",
    "flax": "pip install flax",
    "keras": "pip install keras",
    "lightning": "pip install lightning",
    "accelerate": "pip install accelerate",
    "mlx": "pip install mlx",
}
"""How what an implementation imports is installed."""


def load(target: str) -> Any:
    """What is called NAME there. Raises `BrokenError` with what is missing, or what went wrong."""
    try:
        return loading.load(target, choose_backend)
    except loading.LoadError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        remedy = f"; install it: {INSTALL[missing]}" if missing in INSTALL else ""
        raise BrokenError(f"{error}{remedy}") from cause
