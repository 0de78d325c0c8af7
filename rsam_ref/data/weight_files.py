"""Files of weights: arrays by name, as safetensors and as NumPy's npz. Nothing is unpickled.

PyTorch writes its own files as pickles, which can run code when they are read; they are refused
here, with the line that turns one into safetensors.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_safetensors

from rsam_ref.data.errors import DataError, because
from rsam_ref.files import write_whole

Arrays = dict[str, np.ndarray]

KINDS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}
"""NumPy's names for the types of safetensors that it has."""

A_PICKLE = (
    "is a file of PyTorch's own, which can run code when it is read. In Python, where you trust "
    "it: state = torch.load(FILE, weights_only=True), then "
    "safetensors.torch.save_file(state, NEW), and give NEW"
)


PICKLE_BEGINS = b"\x80"
"""The first byte of a pickle: what PyTorch wrote before its files were archives."""


def write_safetensors(path: Path, arrays: Arrays, metadata: dict[str, Any]) -> None:
    """Write arrays by name; metadata as JSON under ``export``."""
    text = json.dumps(metadata, sort_keys=True)
    whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    write_whole(path, to_safetensors(whole, {"export": text}))


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write arrays by name."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def read_weights(path: Path) -> Arrays:
    """The arrays in a safetensors or npz file, by name. bfloat16 becomes float32, which is exact.

    Raises DataError, with one line, for what is missing, damaged or of another kind.
    """
    if path.exists() and not path.is_file():
        raise DataError(path, "is no file of weights")
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise DataError(path, f"cannot be read: {because(error)}") from None
    if contents[:2] == b"PK":
        return _npz(path, contents)
    is_safetensors = contents[8:9] == b"{"  # behind the length of the header, of any bytes
    if contents[:1] == PICKLE_BEGINS and not is_safetensors:
        raise DataError(path, A_PICKLE)
    return _safetensors(path, contents)


def _npz(path: Path, contents: bytes) -> Arrays:
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            if any(name.endswith(".pkl") for name in archive.namelist()):
                raise DataError(path, A_PICKLE)
        with np.load(io.BytesIO(contents), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(path, f"is damaged, or no npz of plain arrays ({error})") from None


def _safetensors(path: Path, contents: bytes) -> Arrays:
    try:
        found = deserialize(contents)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise DataError(path, f"is damaged, or neither safetensors nor npz ({error})") from None
    return {name: _array(path, name, told) for name, told in found}


def _array(path: Path, name: str, told: dict[str, Any]) -> np.ndarray:
    kind, shape, data = told["dtype"], told["shape"], bytes(told["data"])
    if kind == "BF16":  # the upper half of a float32
        upper = np.frombuffer(data, "<u2").astype("<u4") << 16
        return upper.view("<f4").reshape(shape)
    if kind not in KINDS:
        raise DataError(path, f"{name} is {kind}, which NumPy does not have; write it as float32")
    return np.frombuffer(data, KINDS[kind]).reshape(shape)
