"""IDX files, the format of MNIST: a magic number, the sizes of the axes, the values.

All numbers are big-endian. Magic: two zero bytes, a code for the type, the number of axes.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from rsam_ref.data.errors import DataError, read_bytes

_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, gzipped or not.

    Raises DataError for a file that cannot be read, is truncated, too long, damaged or of another
    kind; the message says at which byte (of the unpacked contents).
    """
    raw = read_bytes(path)
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                path, f"the gzip data is damaged ({error}); fetch the file again"
            ) from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise DataError(
            path,
            f"no IDX file: it starts with {raw[:4].hex(' ') or 'nothing'} at byte 0, where "
            "00 00, a type and the number of axes should stand; fetch the file again",
        )
    dtype, ndim = _TYPES[raw[2]], raw[3]
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise DataError(
            path,
            f"ends at byte {len(raw)}, inside its header of {start} bytes; fetch the file again",
        )
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + dtype.itemsize * math.prod(shape)
    if len(raw) != expected:
        raise DataError(
            path,
            f"{len(raw)} bytes, but a header of {start} bytes and values of shape {shape} "
            f"({dtype}) make {expected}; fetch the file again",
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
