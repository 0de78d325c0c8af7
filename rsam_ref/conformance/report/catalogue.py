"""Everything that a check can find, gathered from the stages; one entry a code."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from rsam_ref.conformance.ascent.findings import FINDINGS as ASCENT
from rsam_ref.conformance.base_step.findings import FINDINGS as BASE_STEP
from rsam_ref.conformance.draw.findings import FINDINGS as DRAW
from rsam_ref.conformance.family import FINDINGS as FAMILY
from rsam_ref.conformance.observe.findings import FINDINGS as OBSERVE
from rsam_ref.conformance.probes.findings import FINDINGS as PROBES
from rsam_ref.conformance.report.entry import Entry

CATALOGUE: dict[str, Entry] = {**OBSERVE, **DRAW, **FAMILY, **ASCENT, **BASE_STEP, **PROBES}


def check_codes(codes: Collection[str]) -> None:
    """Raise `ValueError` for what is no code, with the codes that look like it."""
    for code in [codes] if isinstance(codes, str) else codes:
        if code not in CATALOGUE:
            near = get_close_matches(code, CATALOGUE)
            there = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"unknown code {code!r}{there} (rsam-ref check --codes lists all)")
