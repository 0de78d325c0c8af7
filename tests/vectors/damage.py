"""Vectors with changed bits."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any


def flip(folder: Path, name: str, byte: int, bit: int) -> None:
    """Change one bit of a file."""
    contents = bytearray((folder / name).read_bytes())
    contents[byte % len(contents)] ^= 1 << bit
    (folder / name).write_bytes(contents)


def places(path: Path) -> dict[str, tuple[int, int]]:
    """Where every tensor of a file begins and ends, in bytes from the file's beginning."""
    contents = path.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    header: dict[str, Any] = json.loads(contents[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {name: told["data_offsets"] for name, told in header.items()}
    return {name: (8 + length + begin, 8 + length + end) for name, (begin, end) in found.items()}


def flip_in_every_tensor(folder: Path, name: str, source: random.Random) -> list[str]:
    """Change one drawn bit in each tensor of a file; the tensors' names."""
    found = places(folder / name)
    for begin, end in found.values():
        flip(folder, name, source.randrange(begin, end), source.randrange(8))
    return list(found)
