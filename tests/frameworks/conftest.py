"""JAX compiles here as it does in the process of its own that `rsam-ref check` gives a check."""

from __future__ import annotations

import os

from rsam_ref.conformance.isolated import FAST_XLA

os.environ.setdefault("XLA_FLAGS", FAST_XLA)  # read when JAX is loaded
