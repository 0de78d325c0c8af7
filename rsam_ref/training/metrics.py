"""The metrics of a run, on disk as they come."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsam_ref.files import write_whole

Row = dict[str, Any]
"""Of the metrics: step, epoch, losses, learning rate, radius, test results, seconds."""

DIVERGED = "diverged.json"
"""In the folder of a run: where it diverged, if it did."""


def read_rows(path: Path) -> Iterator[Row]:
    """The rows in a run's metrics.jsonl; none where there is no such file."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # cut short when the process was killed
                return


class Metrics:
    """The rows of a run, as JSON lines while it goes on and as CSV beside them."""

    def __init__(self, folder: Path, until: int = 0) -> None:
        """Take up the rows up to step ``until``; later ones belong to steps that are redone."""
        self.path = folder / "metrics.jsonl"
        self.rows: list[Row] = []
        if until:
            self.rows = [row for row in read_rows(self.path) if row["step"] <= until]
        write_whole(self.path, "".join(map(self._line, self.rows)).encode())

    @staticmethod
    def _line(row: Row) -> str:
        return json.dumps(row) + "\n"

    def add(self, row: Row) -> None:
        """Write a row, safe on the disk before this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._line(row))
            file.flush()
            os.fsync(file.fileno())  # a checkpoint must not be safer than the rows before it
        self.rows.append(row)

    def write_csv(self) -> None:
        """Write all rows so far to metrics.csv."""
        text = io.StringIO()
        if self.rows:
            writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        write_whole(self.path.with_suffix(".csv"), text.getvalue().encode())
