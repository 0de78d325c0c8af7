"""JAX compiles here as it does in the process of its own that `rsam-ref check` gives a check."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rsam_ref.conformance.isolated import FAST_XLA

os.environ.setdefault("XLA_FLAGS", FAST_XLA)  # read when JAX is loaded


@pytest.fixture
def x32() -> Iterator[None]:
    """JAX in single precision, as it is by default."""
    jax = pytest.importorskip("jax")
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)
