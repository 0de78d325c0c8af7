"""The checker lets the right implementations through and names what is wrong with the others.

``python -m tests.conformance.test_plants [part of a name ...]`` prints what is found, as a table.
"""

from __future__ import annotations

import importlib.util
import sys
import time

import pytest

from rsam_ref.conformance import check

from .broken import BROKEN, SOURCES
from .plants import COMPOUND, NOT_PLANTED, PLANTS
from .plants_late import LATE, WHEN
from .right import NOTED, RIGHT

WITHOUT_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


def cases(rows):
    return [
        pytest.param(row, id=row.name, marks=() if row.form == "function" else WITHOUT_TORCH)
        for row in rows
    ]


def run(case):
    return check(case.subject, case.algorithm, form=case.form, seed=0)


def divergences(report):
    return [finding.code for finding in report.findings if not finding.note]


def told(case, report):
    lines = [
        f"  {'note' if f.note else 'FOUND'} {f.code} ({f.stage}): {f.evidence}"
        for f in report.findings
    ]
    return "\n".join([f"{case.name}: conforms={report.conforms}, as {report.algorithm}", *lines])


def wrong_with(case, report):
    """What is wrong with a report on a right implementation or a plant; None if nothing is."""
    found = divergences(report)
    if hasattr(case, "notes"):
        if found or not report.conforms:
            return "it is right"
        missing = set(case.notes) - {f.code for f in report.findings}
        return f"not noted: {', '.join(missing)}" if missing else None
    if report.conforms or not found:
        return f"not found: {case.code}"
    if found[0] not in {case.code, *case.instead}:
        return f"first should be {case.code}"
    if not_true := [code for code in found if code not in case.allowed]:
        return f"not true of it: {', '.join(not_true)}"
    missing = [code for code in COMPOUND.get(case.name, ())[1:] if code not in found]
    return f"not found: {', '.join(missing)}" if missing else None


@pytest.mark.parametrize("case", cases(RIGHT))
def test_what_is_right_conforms(case):
    report = run(case)
    assert wrong_with(case, report) is None, told(case, report)
    assert report.algorithm == case.algorithm, told(case, report)


@pytest.mark.parametrize("case", cases(NOTED))
def test_what_is_right_with_a_habit_is_noted(case):
    report = run(case)
    assert wrong_with(case, report) is None, told(case, report)


@pytest.mark.parametrize("case", cases(PLANTS))
def test_what_is_planted_is_found_once(case):
    report = run(case)
    assert wrong_with(case, report) is None, told(case, report)
    codes = [finding.code for finding in report.findings]
    assert len(codes) == len(set(codes)), told(case, report)


@pytest.mark.parametrize("case", cases(row for row in LATE if WHEN[row.name]))
def test_it_is_told_in_which_steps(case):
    finding, *_ = run(case).findings
    assert finding.evidence["when"] == WHEN[case.name]


@pytest.mark.parametrize("case", cases(BROKEN))
def test_what_is_broken_is_told(case):
    said = outcome(case.subject, case.form)
    if case.says:
        assert case.says.lower() in said.lower(), said
    else:
        assert said == "conforms"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_what_cannot_be_loaded_is_told(source, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(source.text)
    said = outcome(f"{path}:{source.attribute}", "function")
    assert said != "conforms"
    assert source.says.lower() in said.lower(), said


def outcome(subject, form):
    """ "conforms", or everything that is said: the error's name and message, or the findings."""
    try:
        report = check(subject, "sam", form=form, seed=0, timeout=3)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if report.conforms:
        return "conforms"
    return "\n".join(f"{f.code}: {f.evidence}" for f in report.findings)


def test_every_code_is_planted():
    """Every code of the catalogue must be found in something, or is said not to be plantable.

    A code that another may take the place of, or that may be found besides, is not one that must
    be found: one that is never emitted would go unnoticed.
    """
    from rsam_ref.conformance.report.catalogue import CATALOGUE

    expected = {row.code for row in PLANTS if not row.instead}
    expected |= {note for row in NOTED for note in row.notes}
    expected |= {code for codes in COMPOUND.values() for code in codes[1:]}
    if importlib.util.find_spec("torch") is not None:
        assert set(CATALOGUE) - expected == set(NOT_PLANTED)
    assert expected <= set(CATALOGUE)
    names = [row.name for row in [*RIGHT, *NOTED, *PLANTS]]
    assert len(names) == len(set(names))


def main(parts):
    rows = [*RIGHT, *NOTED, *PLANTS]
    rows = [row for row in rows if not parts or any(part in row.name for part in parts)]
    bad = 0
    for row in rows:
        begun = time.perf_counter()
        try:
            report = run(row)
            codes = [("~" if f.note else "") + f.code for f in report.findings]
            fault = wrong_with(row, report)
        except Exception as error:
            codes, fault = [], f"{type(error).__name__}: {error}"
        bad += fault is not None
        seconds = time.perf_counter() - begun
        mark = "ok   " if fault is None else "WRONG"
        print(f"{mark} {row.name:42} {seconds:5.1f}s {', '.join(codes)}")
        if fault is not None:
            print(f"      {fault}")
    print(f"{len(rows) - bad} of {len(rows)} ok")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
