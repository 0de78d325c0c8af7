"""On whose vectors the two rules run, and how exactly: the table of docs/portable.md.

    python -m benchmarks.portable [NAME ...]

A library that is not installed goes into an environment of its own under runs/portable, and is
measured there by portable_vectors.py. What is measured is kept in runs/portable/rows.jsonl; a
library that is named is measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.pages import put_between
from benchmarks.portable_vectors import DTYPES, LIBRARIES, bare

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "portable"
PAGE = ROOT / "docs" / "portable.md"
MARKS = "<!-- the table of libraries -->", "<!-- the end of the table of libraries -->"


def said(*command: Any, **options: Any) -> str:
    """What a command prints. Raises RuntimeError with the last line of its complaints."""
    run = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, **options
    )
    if run.returncode:
        raise RuntimeError((run.stderr.strip().splitlines() or ["no answer"])[-1])
    return run.stdout


def environment(name: str) -> Path:
    """A Python that has the library: this one, or its own. Raises RuntimeError where pip fails."""
    packages = LIBRARIES[name].packages
    with contextlib.suppress(PackageNotFoundError):
        version(bare(packages[0]))
        return Path(sys.executable)
    folder = RUNS / name
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        said(sys.executable, "-m", "venv", folder)
        where = said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        pinned = [] if "==" in packages[0] else ["-c", str(ROOT / "constraints.txt")]
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned]
        said(python, *pip, *packages)
        # What this library did not bring is found in the environment of this command.
        beside = [place for place in sys.path if Path(place).name == "site-packages"]
        Path(where.strip(), "beside.pth").write_text("\n".join(beside) + "\n")
        done.touch()
    return python


def measure(name: str) -> list[dict[str, Any]]:
    """A library's rows, or one for each type that says why there are none."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'backends'}"}
    try:
        told = said(environment(name), "-m", "benchmarks.portable_vectors", name, env=environ)
        found = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    except RuntimeError as error:
        found = [{"library": name, "version": "", "dtype": d, "says": str(error)} for d in DTYPES]
    day = datetime.now(UTC).date().isoformat()
    return [{**row, "date": day} for row in found]


def cell(row: dict[str, Any]) -> str:
    if "says" in row:
        if row["says"] == "no such type":
            return "-"
        return "refused" if "have no norm" in row["says"] else f"no: {row['says']}"
    return f"{row['error']:.0e}" + ("" if row["kept"] else ", in another type")


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["", f"| vectors of | {' | '.join(DTYPES)} | version, measured |"]
    lines.append("|---" * (len(DTYPES) + 2) + "|")
    for name, library in LIBRARIES.items():
        own = {row["dtype"]: row for row in rows if row["library"] == name}
        if own:
            cells = " | ".join(cell(own[dtype]) for dtype in DTYPES)
            told = own[DTYPES[0]]
            lines.append(f"| {library.title} | {cells} | {told['version']}, {told['date']} |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(LIBRARIES)}")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in LIBRARIES]:
        parser.error(f"no library {unknown[0]!r}; there are {', '.join(LIBRARIES)}")
    console = Console()
    RUNS.mkdir(parents=True, exist_ok=True)
    file = RUNS / "rows.jsonl"
    kept = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for name in LIBRARIES:
        if name not in names and any(row["library"] == name for row in kept):
            continue
        console.print(f"{name} ...")
        kept = [row for row in kept if row["library"] != name] + measure(name)
        file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    put_between(PAGE, MARKS, table(kept))
    console.print(f"Wrote the table of {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
