"""What a check observes when a mistake is planted, for the site's page of findings.

``python -m tests.conformance.evidence`` writes docs/findings.json anew: for every code the planted
mistake (or the right implementation with a habit) in which it shows, and its evidence there. It
takes some four minutes. The page is made from that file, and a test asks for every code.
"""

from __future__ import annotations

import json
from pathlib import Path

from rsam_ref.conformance import CATALOGUE, check

from .plants import PLANTS
from .right import NOTED

FILE = Path(__file__).parents[2] / "docs" / "findings.json"


def collect() -> dict[str, dict]:
    """By code: the plant, the algorithm it was held against, where it showed, the evidence."""
    shown: dict[str, dict] = {}
    for case in [*PLANTS, *NOTED]:
        codes = {*case.notes} if hasattr(case, "notes") else {case.code, *case.also, *case.instead}
        if codes <= shown.keys():
            continue
        report = check(case.subject, case.algorithm, form=case.form, seed=0)
        for finding in report.findings:
            if finding.code in codes - shown.keys():
                shown[finding.code] = {
                    "plant": case.name,
                    "algorithm": case.algorithm,
                    "where": finding.where,
                    "evidence": {k: rounded(v) for k, v in finding.evidence.items()},
                }
    return {code: shown[code] for code in CATALOGUE if code in shown}


def rounded(value):
    """Two digits of a number: the others differ from machine to machine."""
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return value if isinstance(value, str | int) else float(f"{value:.2g}")


if __name__ == "__main__":
    found = collect()
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(found)} of {len(CATALOGUE)} codes; without: {CATALOGUE.keys() - found.keys()}")
