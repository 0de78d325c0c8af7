"""Which framework Keras is to run on, where nobody has said so before it is imported."""

from __future__ import annotations

import importlib.util
import os
import sys

BACKENDS = ("torch", "jax")
"""Those through which the check sees."""


def choose_backend(text: str) -> None:
    """Set KERAS_BACKEND for a file with this text: to what it imports, else to what is there.

    Keras' own default is TensorFlow, and where that is not installed its import fails.
    """
    if "keras" not in text or "keras" in sys.modules or "KERAS_BACKEND" in os.environ:
        return
    there = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    named = [name for name in there if f"import {name}" in text or f"from {name}" in text]
    for name in [*named, *there][:1]:
        os.environ["KERAS_BACKEND"] = name
