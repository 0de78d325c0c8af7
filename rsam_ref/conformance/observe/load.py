"""Loading an implementation from "FILE.py:NAME" or "package.module:NAME"."""

from __future__ import annotations

from typing import Any

from rsam_ref import loading
from rsam_ref.conformance.observe.keras_backend import choose_backend
from rsam_ref.conformance.observe.observer import BrokenError


def load(target: str) -> Any:
    """What is called NAME there. Raises `BrokenError` with what is missing, or what went wrong."""
    try:
        return loading.load(target, choose_backend)
    except loading.LoadError as error:
        raise BrokenError(str(error)) from error.__cause__
