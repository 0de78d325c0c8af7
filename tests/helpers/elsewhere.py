"""torchvision and timm, where `make frameworks` puts them: away from all that would look for them.

What asks them is a program of its own, with that folder on its path, that prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("RSAM_REF_ELSEWHERE", Path(sys.prefix) / "elsewhere"))


def there() -> bool:
    """Whether they are installed."""
    return (FOLDER / "torchvision").is_dir()


def answer_of(module: str) -> Any:
    """What a program of the tests prints there."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


_KEPT: list[torch.library.Library] = []  # operators are there as long as their library is


def declare_operators() -> None:
    """Declare the two operators of torchvision that its import asks for.

    Its wheel is built for CUDA, and beside a CPU's PyTorch its own do not load. Neither its models
    nor its data sets need them.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    _KEPT.append(library)
