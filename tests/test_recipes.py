"""The recipes in docs/, and what the pages say of optax, where it is installed."""

from pathlib import Path

import pytest

from rsam_ref.conformance import check

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"


@pytest.mark.parametrize("mode", ["opaque", "transparent"])
def test_optax_makes_sams_step(mode):
    pytest.importorskip("optax")
    report = check(f"{RECIPES / 'optax_sam.py'}:{mode}", "sam")
    assert report.algorithm == "sam"
    assert [f.code for f in report.findings if not f.note] == ["ascent.nan-at-zero-gradient"]
