"""Finished trials on disk, kept from one call to the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

K = TypeVar("K")


class Keeps(Protocol[K]):
    """What keeps the records of finished trials, by what a trial is known by."""

    finished: dict[K, dict[str, Any]]

    def add(self, trial: K, record: dict[str, Any], /) -> None:
        """Keep a record."""


@dataclass(frozen=True)
class Trial:
    """One training among many: a method, the value of its tuned setting, a seed."""

    method: str
    value: float
    seed: int


ADDED_LATER = {"added later": True}
"""Metadata of a setting that is left out of the fingerprint where it is the default."""


def settings_of(experiment: Any) -> dict[str, Any]:
    """Its settings, without those added later that are as before: so runs from before are kept."""
    found = asdict(experiment)
    for setting in fields(experiment):
        if setting.metadata == ADDED_LATER and found[setting.name] == setting.default:
            del found[setting.name]
    return found


class Store:
    """Records of finished trials, one JSON object a line.

    Each line carries a fingerprint of the settings, so trials of other settings in the same folder
    are neither lost nor mixed in.
    """

    def __init__(self, path: Path, experiment: Any) -> None:
        self.path = path
        self.fingerprint = hashlib.sha256(
            json.dumps(settings_of(experiment), sort_keys=True).encode()
        ).hexdigest()[:16]
        self.finished: dict[Trial, dict[str, Any]] = {}
        self._cut = False  # whether the last line was cut short
        if path.exists():
            self._cut = path.read_bytes()[-1:] not in (b"", b"\n")
            for record in self._read():
                if record.pop("settings", None) == self.fingerprint:
                    key = Trial(record["method"], record["value"], record["seed"])
                    self.finished[key] = record

    def _read(self) -> Iterator[dict[str, Any]]:
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line cut short when the process was killed: that trial is done again
            if isinstance(record, dict) and {"method", "value", "seed"} <= record.keys():
                yield record

    def add(self, trial: Trial, record: dict[str, Any]) -> None:
        """Keep a finished trial's record, as a line at the end of the file."""
        line = json.dumps({"settings": self.fingerprint, **record}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + line if self._cut else line)
        self._cut = False
        self.finished[trial] = record
