"""How the tests run: examples are not timed, few each, and the same ones on every run in CI."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

settings.register_profile(
    "rsam-ref", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("rsam-ref")
torch.set_num_threads(1)  # the arrays are small, and tests may run side by side
