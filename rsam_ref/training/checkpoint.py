"""Checkpoints: a safetensors file with everything that the next step depends on.

A file appears under its name only when it is whole: it is written under another name, flushed to
the disk and renamed. It carries a checksum of its contents, so a file damaged later is known.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from rsam_backends import to_host
from rsam_ref.data.errors import DataError, because
from rsam_ref.files import write_whole

KEEP = 2  # so many of the newest are kept, if nothing else is asked for

Arrays = dict[str, Any]


class CheckpointError(DataError):
    """A checkpoint that cannot be used. The message names the file and says why."""


class UnreadableError(CheckpointError):
    """One that the system does not let us read: it may well be whole."""


def save(
    folder: Path, step: int, arrays: Arrays, state: dict[str, Any], *, keep: int = KEEP
) -> Path:
    """Write the checkpoint of a step: host arrays by name, and state that JSON can hold.

    Only the ``keep`` newest stay, and only after this one is safe on the disk.
    """
    folder.mkdir(exist_ok=True)
    arrays = {name: _plain(array) for name, array in arrays.items()}
    path = folder / f"step-{step:09d}.safetensors"
    text = json.dumps(state, sort_keys=True)
    metadata = {"rsam_ref": text, "sha256": _checksum(arrays, text)}
    write_whole(path, to_bytes(arrays, metadata))
    for old in newest_first(folder)[keep:]:
        old.unlink()
    return path


def _plain(array: Any) -> Any:
    """The host array in the order and with the bytes that safetensors takes it to have."""
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder, that of the largest step first."""
    names = re.compile(r"step-\d{9,}\.safetensors")
    found = [path for path in folder.glob("step-*") if names.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step whose checkpoint a file is, by its name."""
    return int(path.stem.rpartition("-")[2])


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the state in a checkpoint. Raises CheckpointError."""
    try:
        with path.open("rb"), safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text, expected = metadata["rsam_ref"], metadata["sha256"]
    except KeyError:
        raise CheckpointError(path, "is no checkpoint of rsam-ref") from None
    except OSError as error:
        raise UnreadableError(path, f"cannot be read: {because(error)}") from None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(path, f"is damaged, or no safetensors file ({error})") from None
    except (TypeError, AttributeError) as error:  # bfloat16, float8
        raise CheckpointError(path, f"holds numbers that NumPy does not have ({error})") from None
    if (found := _checksum(arrays, text)) != expected:
        raise CheckpointError(
            path,
            f"is damaged: its contents have the checksum {found[:16]}..., "
            f"it was written with {expected[:16]}...",
        )
    return arrays, json.loads(text)


def load_newest(folder: Path) -> tuple[Path, Arrays, dict[str, Any], list[CheckpointError]]:
    """The newest checkpoint that is whole, and the errors of newer ones that are not.

    Damaged ones are renamed to ``*.damaged``, so that they are not met again. Where none is whole,
    or one cannot be read, they stay as they are: CheckpointError.
    """
    damaged = []
    for path in newest_first(folder):
        try:
            arrays, state = load(path)
        except UnreadableError:
            raise
        except CheckpointError as error:
            damaged.append((path, error))
        else:
            for other, _ in damaged:
                other.replace(other.with_name(other.name + ".damaged"))
            return path, arrays, state, [error for _, error in damaged]
    if damaged:
        raise CheckpointError(
            folder,
            f"no checkpoint in it is whole; of the newest, {damaged[0][1]}. To begin this run "
            "again, remove that folder",
        )
    raise CheckpointError(folder, "there is no checkpoint in it")


def _checksum(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def of_the_model(arrays: Arrays) -> Arrays:
    """A checkpoint's arrays that are the model's, by the names in its state."""
    return {
        name.removeprefix("model."): array
        for name, array in arrays.items()
        if name.startswith("model.")
    }


def flatten(tree: dict[str, Any], prefix: str) -> tuple[Arrays, dict[str, Any]]:
    """A nested state as arrays and plain values, both under dotted names that begin with prefix."""
    arrays: Arrays = {}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict):
            more_arrays, more_values = flatten(value, name)
            arrays |= more_arrays
            values |= more_values
        elif hasattr(value, "dtype"):
            arrays[name] = to_host(value)
        else:
            values[name] = value
    return arrays, values


def unflatten(arrays: Arrays, values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The nested state that `flatten` took apart."""
    tree: dict[str, Any] = {}
    for name, value in {**values, **arrays}.items():
        if name.startswith(f"{prefix}."):
            *path, last = name.removeprefix(f"{prefix}.").split(".")
            branch = tree
            for key in path:
                branch = branch.setdefault(key, {})
            branch[last] = value
    return tree
