"""SAM's relatives beside their authors' own code: ten steps each, and the largest difference.

    python -m benchmarks.authors [--authors FOLDER]

The files come from GitHub, each at a fixed commit and with a checksum; or from a folder that holds
their repositories as owner/name, checked out or bare. The table goes into docs/survey.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.authors import sources
from benchmarks.authors.adapters import Row
from benchmarks.authors.rows import NOT_RUN, ROWS
from benchmarks.pages import put_between
from benchmarks.survey import PAGE, SAME, difference

MARKS = "<!-- the authors' table -->", "<!-- the end of the authors' table -->"


class Loaded:
    """The definitions of a file as attributes; ``space`` holds their globals."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space

    def __getattr__(self, name: str) -> Any:
        return self.space[name]


@dataclass(frozen=True)
class Found:
    """What came of a row."""

    error: float | None = None
    """The largest difference of any weight after any step."""
    changed: float | None = None
    """The same with the told difference built into ours."""
    not_run: str = ""


def compare(row: Row, folder: Path | None = None) -> Found:
    """Both sides of a row."""
    if row.needs and importlib.util.find_spec(row.needs) is None:
        return Found(not_run=f"it needs {row.needs}")
    try:
        code = sources.text(row.source, folder)
        loaded = Loaded(sources.load(code, row.names, **row.given()))
    except sources.NotHereError as error:
        return Found(not_run=str(error))
    with contextlib.redirect_stdout(io.StringIO()):  # theirs tell of their settings
        try:
            theirs = row.run(loaded)
        except Exception as error:
            return Found(not_run=f"raises {type(error).__name__}: {error}")
    changed = difference(theirs, row.changed()) if row.changed else None
    return Found(difference(theirs, row.ours()), changed)


def verdict(row: Row, found: Found) -> str:
    """The same, why it differs, or that this is not known."""
    if found.error is None:
        return f"not run: {found.not_run}"
    if found.error < SAME:
        return "the same" if not row.why else f"UNEXPECTED: the same, not told so: {row.why}"
    if found.changed is None or found.changed >= SAME:
        return f"UNEXPECTED: differs, and the reason told is not all of it: {row.why or 'none'}"
    return row.why


def size(error: float | None) -> str:
    """A difference as a cell."""
    return "" if error is None else f"{error:.0e}"


def table(found: dict[str, Found]) -> str:
    """The rows in Markdown."""
    head = ["relative", "file", "licence", "theirs", "ours", "max abs(dw)"]
    head += ["why", "ours so changed"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in ROWS:
        f, s = found[row.id], row.source
        link = f"[{s.repository}@{s.commit[:7]}]({s.page})"
        place = [f"`{row.relative}`", link, s.licence]
        end = [size(f.error), verdict(row, f), size(f.changed)]
        lines.append("| " + " | ".join([*place, row.theirs, row.mine, *end]) + " |")
    for relative, reason in NOT_RUN.items():
        lines.append(f"| `{relative}` | | | | | | not run: {reason} | |")
    return "\n".join(lines)


def write(found: dict[str, Found], page: Path = PAGE) -> None:
    """Put the table where the page has its marks."""
    day = datetime.now(UTC).strftime("%d %B %Y").lstrip("0")
    names = ("torch", "numpy", *(["jax"] if importlib.util.find_spec("jax") else []))
    used = ", ".join(f"{name} {version(name)}" for name in names)
    words = f"{day}; Python {sys.version.split()[0]}, {used}, rsam-ref {version('rsam-ref')}."
    put_between(page, MARKS, f"\n{words}\n\n{table(found)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--authors", type=Path, metavar="FOLDER", help="their repositories, as owner/name in it"
    )
    asked = parser.parse_args(arguments)
    console = Console()
    found = {}
    for number, row in enumerate(ROWS, start=1):
        one = found[row.id] = compare(row, asked.authors)
        told = f"{row.id}: {size(one.error)} {verdict(row, one)} {size(one.changed)}"
        console.print(f"{number}/{len(ROWS)} {told}", highlight=False, soft_wrap=True)
    if all(one.error is None for one in found.values()):
        console.print("nothing could be run; the table stays as it was")
        return 1
    write(found)
    console.print(f"the table is in docs/{PAGE.name}")
    return any("UNEXPECTED" in verdict(row, found[row.id]) for row in ROWS)


if __name__ == "__main__":
    sys.exit(main())
