"""The files of the vectors: two of tensors, a manifest, the verifier, and their checksums."""

from __future__ import annotations

import errno
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from rsam_ref.files import write_whole
from rsam_ref.vectors import problem
from rsam_ref.vectors.cases import ALGORITHMS, BASES
from rsam_ref.vectors.record import record

FORMAT = 1
"""Of the files: which there are, and what the manifest holds under which name."""

VERSION = 1
"""Of the numbers: vectors of one version are the same bytes, whoever makes them."""

TOLERANCES = {"float64": 1e-12, "float32": 5e-5}
"""How far a row may be from the vectors', by its largest entry (docs/vectors.md says why)."""

ABOUT = (
    "Five steps of SGD and AdamW, SAM, R-SAM and their readings, number by number. docs/vectors.md "
    "of rsam-ref specifies these files; verify.py states what they hold, and checks it."
)

CHECKSUMS = "SHA256SUMS"


def files() -> dict[str, bytes]:
    """Every file by its name."""
    tensors = {dtype: record(dtype) for dtype in TOLERANCES}
    made = {f"{dtype}.safetensors": save(tensors[dtype]) for dtype in tensors}
    text = json.dumps(manifest(tensors), indent=1, sort_keys=True)
    made["vectors.json"] = text.encode() + b"\n"
    made["verify.py"] = (resources.files("rsam_ref.vectors") / "verify.py").read_bytes()
    sums = [f"{hashlib.sha256(contents).hexdigest()}  {name}\n" for name, contents in made.items()]
    return {**made, CHECKSUMS: "".join(sums).encode()}


def manifest(tensors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What vectors.json says: the problem, the settings of every case, tolerances, checksums."""
    return {
        "about": ABOUT,
        "format": FORMAT,
        "version": VERSION,
        "problem": {
            "parameters": [[name, list(shape)] for name, shape in problem.PARAMETERS.items()],
            "weights": problem.WEIGHTS,
            "batch": problem.BATCH,
            "steps": problem.STEPS,
        },
        "algorithms": ALGORITHMS,
        "bases": BASES,
        "types": {
            dtype: {
                "file": f"{dtype}.safetensors",
                "tolerance": TOLERANCES[dtype],
                "tensors": {name: _described(tensor) for name, tensor in of_type.items()},
            }
            for dtype, of_type in tensors.items()
        },
    }


def _described(tensor: Any) -> dict[str, Any]:
    """A tensor's shape, and the checksum of its numbers: little-endian, the last axis fastest."""
    numbers = tensor.astype(tensor.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(tensor.shape), "sha256": hashlib.sha256(numbers).hexdigest()}


def write(folder: Path) -> list[Path]:
    """Write every file into a folder, which is made where it is not; returns their paths.

    A file that is there with the same contents is left. FileExistsError, and nothing is written,
    where one is there with others.
    """
    made = {folder / name: contents for name, contents in files().items()}
    for path, contents in made.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != contents):
            told = "is there with other contents; nothing was written: give another folder"
            raise FileExistsError(errno.EEXIST, told, str(path))
    folder.mkdir(parents=True, exist_ok=True)
    for path, contents in made.items():
        if not path.exists():
            write_whole(path, contents)
    return list(made)
