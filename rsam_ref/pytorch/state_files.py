"""A state as a file of PyTorch's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rsam_ref.files import whole


def write_torch(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays of the host by name, for ``torch.load(path, weights_only=True)``."""
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    with whole(path) as partial:
        torch.save(state, partial)
