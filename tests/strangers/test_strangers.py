"""The checker among strangers: right code conforms, wrong code is told by a name that leads there.

`python -m tests.strangers.test_strangers` prints the table of docs/check.md.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rsam_ref.conformance import BrokenError, check

HERE = Path(__file__).parent
NOT_YET = json.loads((HERE / "not_yet.json").read_text(encoding="utf-8"))
"""What falls short today, by file, with the reason: each must fail until it is mended."""


class Case(NamedTuple):
    """An implementation, what it claims to be, and what is wrong with it ("": nothing)."""

    file: str
    target: str
    algorithm: str
    mistake: str
    codes: list[str]

    @property
    def needs(self) -> list[str]:
        """Libraries that it imports and that are not here."""
        text = (HERE / self.file).read_text(encoding="utf-8")
        wanted = [name for name in ("torch", "jax", "optax") if f"import {name}" in text]
        return [name for name in wanted if importlib.util.find_spec(name) is None]


CASES = [Case(**row) for row in json.loads((HERE / "cases.json").read_text(encoding="utf-8"))]


def verdict(case: Case) -> tuple[str, list[str]]:
    """How the checker did: right, false alarm, missed, misnamed or not checked; and its codes."""
    try:
        report = check(f"{HERE / case.file}:{case.target}", case.algorithm)
    except BrokenError as error:
        return "not checked", [str(error)]
    codes = [f.code for f in report.findings if not f.note and not f.conditional]
    if not case.mistake:
        return ("right" if report.conforms else "false alarm"), codes
    if report.conforms:
        return "missed", [f.code for f in report.findings]
    return ("right" if set(codes) & set(case.codes) else "misnamed"), codes


def parameter(case: Case) -> Any:
    marks = [pytest.mark.strangers]
    if reason := NOT_YET.get(case.file):
        marks.append(pytest.mark.xfail(reason=reason, strict=True))
    return pytest.param(case, id=case.file.removesuffix(".py"), marks=marks)


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_the_checker_is_right_about_a_stranger(case):
    if case.needs:
        pytest.skip(f"needs {' and '.join(case.needs)}: make strangers installs it")
    said, codes = verdict(case)
    assert said == "right", f"{said}: {codes}; {case.mistake or 'it is right'}"


def main() -> None:
    table: Counter[tuple[str, str]] = Counter()
    for case in CASES:
        kind = "wrong" if case.mistake else "right"
        said, codes = ("not here", case.needs) if case.needs else verdict(case)
        table[kind, said] += 1
        if said != "right":
            print(f"{said:12} {case.file:50} {', '.join(codes)[:100]}", flush=True)
    for (kind, said), count in sorted(table.items()):
        print(f"{kind} implementations, {said}: {count}")


if __name__ == "__main__":
    sys.exit(main())
