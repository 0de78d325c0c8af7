"""Measures on disk, kept from one call to the next: one model's rows of one measure a line.

A line carries a fingerprint of the weights and of the settings that the measure uses, so results of
other weights or settings in the same folder are neither lost nor mixed in.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rsam_ref.sharpness.survey import USES, Row, SurveySettings


class Kept:
    """What was measured, by fingerprint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, list[Row]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    kept = json.loads(line)
                    self._rows[kept["fingerprint"]] = kept["rows"]
                except (json.JSONDecodeError, TypeError, KeyError):
                    continue  # a line cut short when the process was killed: it is measured again

    def get(self, fingerprint: str) -> list[Row] | None:
        """The rows of this fingerprint, or None."""
        return self._rows.get(fingerprint)

    def add(self, fingerprint: str, rows: list[Row]) -> None:
        """Keep rows under a fingerprint, safe on the disk before this returns."""
        rows = [finite(row) for row in rows]
        line = json.dumps({"fingerprint": fingerprint, "rows": rows}) + "\n"
        with self.path.open("a+b") as file:
            if file.tell() and not self.path.read_bytes().endswith(b"\n"):
                file.write(b"\n")  # after a line that was cut short
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._rows[fingerprint] = rows


class Measured(Protocol):
    """A model that is measured: a run's (`Trained`), or a network of another library."""

    def identity(self, uses: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """What decides the numbers of a measure with these settings: plain values, and arrays."""
        ...


def fingerprint(model: Measured, settings: SurveySettings, measure: str) -> str:
    """What decides a measure's numbers, as 16 hex digits."""
    used = {name: getattr(settings, name) for name in ("seed", *USES[measure])}
    return digest_of(model, USES[measure], [measure, used])


def digest_of(model: Measured, uses: Sequence[str], others: Sequence[Any]) -> str:
    """What a model is, where settings of these names are used, and other values: 16 hex digits."""
    plain, arrays = model.identity(uses)
    digest = hashlib.sha256(json.dumps([*others, *plain], sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name}\0{array.dtype.str}\0".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def finite(row: Row) -> Row:
    """The row with None for numbers that are not finite, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
