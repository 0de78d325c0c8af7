"""The checker calls SAM's relatives by their names, and nothing else by one of them."""

from __future__ import annotations

import pytest

from rsam_ref.algorithms.relatives import RELATIVES
from rsam_ref.conformance import CATALOGUE, check, family

from .plants_relatives import KNOWN, step_of


@pytest.mark.parametrize(("name", "settings", "code"), KNOWN, ids=lambda value: str(value))
def test_a_relative_is_called_by_its_name(name, settings, code):
    report = check(step_of(name, **settings), "sam")
    first = next(f for f in report.findings if f.diverges)
    assert first.code == code
    assert report.algorithm in (name, family.CODES.get(name))
    told = first.evidence.get("form") or first.evidence.get("known as")
    if told:
        assert told.startswith(RELATIVES[name].title)
        for setting, value in settings.items():
            if setting not in family.SHOWN:
                assert f"{setting} {value:.4g}" in told


def test_every_relative_is_known_or_told_why_not():
    known = {name for name, _, _ in KNOWN}
    elsewhere = {
        "m-sam",  # by its evaluations: plants.py
        "sparse-sam",  # needs single samples: test_sparse_sam_is_known
        "arwp",  # its draw cannot be told from one of another size: noise-only
        "bayesian-sam",  # by what its draws and perturbations have in common: hidden.py
    }
    assert known | elsewhere == RELATIVES.keys()
    for name in RELATIVES:
        assert name in family.SLIPS or f"algorithm.{family.CODES.get(name, name)}" in CATALOGUE
