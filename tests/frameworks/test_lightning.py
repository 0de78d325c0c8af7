"""A LightningModule with a training_step of its own is judged as it is."""

import importlib.util

import pytest

from rsam_ref.conformance import BrokenError, check

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("lightning") is None, reason="lightning is not installed"
    ),
    pytest.mark.filterwarnings("ignore"),  # Lightning's and what it imports
]


def report_on(name):
    from tests.frameworks import lightning_modules

    return check(getattr(lightning_modules, name), "sam")


def divergences(report):
    return [f.code for f in report.findings if not f.note]


@pytest.mark.parametrize("name", ["ByHand", "InHalves"])
def test_manual_optimisation_that_is_right_conforms(name):
    report = report_on(name)
    assert report.form == "lightning"
    assert report.conforms, str(report)
    assert report.algorithm == "sam"
    assert report.probes["batch norm, dropout, shared weights"] in ("passed", "findings")
    assert "settings" not in report.probes  # all were passed


def test_the_automatic_loop_hands_the_optimizer_a_closure():
    report = report_on("Automatic")
    assert divergences(report) == ["batch-norm.moved-twice"]


@pytest.mark.parametrize("name", ["WithRhoInside", "WithRhoHidden"])
def test_a_radius_that_the_optimizer_keeps_is_changed_there_or_not_at_all(name):
    report = report_on(name)
    assert report.conforms, str(report)
    assert report.probes["rho = 0"] == "passed"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("WithRhoFixed", "ascent.radius-ignored"),
        ("StaysPerturbed", "restore.not-undone"),
        ("Descends", "ascent.descends"),
        ("AutomaticSgd", "algorithm.base-optimizer"),
    ],
)
def test_what_is_wrong_in_a_module_is_named(name, code):
    assert divergences(report_on(name))[0] == code


def test_a_constructor_that_needs_something_else_is_told():
    with pytest.raises(BrokenError, match="NeedsData needs 'vocabulary'"):
        report_on("NeedsData")
