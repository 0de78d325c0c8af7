"""The benchmark of the inner maximum: it measures what it says, and pairs by seed."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import inner_maximum
from rsam_ref.training import comparison as compare


def row(method, seed, value, gradients=1, sigma=None, **more):
    where = {"trained": "sgd", "seed": seed, "epoch": 0, "rho": 0.1}
    return {**where, "method": method, "sigma": sigma, "gradients": gradients, **more} | {
        "value": value,
        "rise": 1.0,
    }


def test_a_run_is_measured_at_its_epochs(monkeypatch):
    monkeypatch.setattr(inner_maximum, "EPOCHS", (0, 2))
    monkeypatch.setattr(inner_maximum, "MINI_BATCHES", 2)
    monkeypatch.setattr(inner_maximum, "RHOS", (0.2,))
    settings = replace(compare.Experiment(), epochs=2, hidden=(8,))
    rows = [r for seed in (0, 1) for r in inner_maximum.run("rsam", seed, settings)]
    assert [r["epoch"] for r in rows if (r["method"], r["seed"]) == ("rsam", 1)] == [0, 0, 2, 2]
    rises = [r["rise"] for r in rows if r["method"] == "maximum" and r["seed"] == 0]
    assert rises[0] != rises[1]
    assert all(0 < r["value"] <= 1 for r in rows if r["method"] in ("sam", "ascent", "worst start"))
    panels = inner_maximum.figure(rows).axes
    assert len(panels) == 3
    drawn: Any = panels[2].containers
    lines = {c.get_label(): list(c.lines[0].get_ydata()) for c in drawn}
    sam = [r["value"] for r in rows if (r["method"], r["gradients"], r["epoch"]) == ("sam", 1, 2)]
    assert lines["SAM, 1 gradient"][1] == pytest.approx(100 * sum(sam) / 2)


def test_differences_are_paired_by_seed():
    rows = [row("rsam", seed, 0.5 + seed / 10, sigma=1e-3) for seed in (2, 0, 1)]
    rows += [row("sam", seed, 0.6 + seed / 10) for seed in (1, 2, 0)]
    rows += [row("maximum", seed, 1.0, gradients=99) for seed in range(3)]
    found = inner_maximum.differences(rows)
    assert len(found) == 1
    assert found[0]["method"] == "rsam"
    for name in ("points", "low", "high"):  # the same in every seed: an interval of no width
        assert found[0][name] == pytest.approx(-10)
