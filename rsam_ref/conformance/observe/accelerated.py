"""An accelerator for a training step that takes one, on the CPU and in one process."""

from __future__ import annotations

from typing import Any

from rsam_ref.conformance.observe.observer import BrokenError


def accelerated(model: Any, optimizer: Any) -> tuple[Any, Any, Any]:
    """An `accelerate.Accelerator`, and the model and the optimizer as it prepares them."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise BrokenError(
            f"a training step that takes an accelerator needs accelerate ({error}); "
            "pip install accelerate"
        ) from None
    try:
        accelerator = Accelerator(cpu=True)
    except ValueError:  # there is one in this process, made with other settings
        accelerator = Accelerator()
    return accelerator, *accelerator.prepare(model, optimizer)
