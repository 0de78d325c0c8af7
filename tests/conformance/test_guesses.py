"""A guess is told; what other guesses do not give is a conditional finding."""

from __future__ import annotations

import pytest

from rsam_ref.conformance import check

from .right import NOTED

torch = pytest.importorskip("torch")

from .right_torch import TwoStepSam  # noqa: E402


def diverging(report):
    return [f.code for f in report.findings if f.diverges]


def perhaps(report):
    return [f.code for f in report.findings if f.conditional and not f.note]


class PartlyNormalised(TwoStepSam):
    """Between SAM (1) and unnormalised SAM (0), by a number that must be given."""

    def __init__(self, params, base_optimizer, rho, share, **kwargs):
        super().__init__(params, base_optimizer, rho, **kwargs)
        self.share = share

    def climb(self, p, group, norm):
        p.add_(p.grad * (group["rho"] * (1 - self.share + self.share / (norm + 1e-12))))


class NamedLikeAnothers(PartlyNormalised):
    """That number has the name of a setting that R-SAM has, and SAM has not."""

    def __init__(self, params, base_optimizer, rho, lambd, **kwargs):
        super().__init__(params, base_optimizer, rho, lambd, **kwargs)


class SamForTheRest(TwoStepSam):
    """The base optimizer for most of the steps, whose number must be given; then SAM."""

    def __init__(self, params, total_steps: int, rho=0.05, lr=0.1, momentum=0.0, weight_decay=0.0):
        more = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, rho=rho, **more)
        self.left = int(0.7 * total_steps)

    first_step = second_step = None

    def step(self, closure):
        self.left -= 1
        loss = closure()
        if self.left < 0:
            TwoStepSam.first_step(self)
            self.zero_grad()
            closure()
            with torch.no_grad():
                self.restore()
        self.base_optimizer.step()
        return loss


class WrongWhateverIsGuessed(PartlyNormalised):
    def restore(self):
        self.saved.clear()

    def climb(self, p, group, norm):
        p.sub_(p.grad * (group["rho"] / (norm + 1e-12)))


def test_a_finding_that_another_guess_does_not_give_is_conditional():
    report = check(PartlyNormalised, "sam")
    assert report.conforms, report
    assert perhaps(report) == ["ascent.partly-normalised"]
    assert (
        report.verdict == "conforms to SAM, but for what may come from settings that are not known"
    )
    (finding,) = [f for f in report.findings if f.conditional]
    assert finding.evidence["guessed"] == "share = 0.1"
    told = report.probes["settings"]
    assert told.startswith("not done: share = 0.1 was guessed")
    assert "with share = 1 is found: nothing on the step" in told
    assert "make(params, hyper)" in told


def test_a_setting_of_another_algorithm_is_a_guess_too():
    report = check(NamedLikeAnothers, "sam")
    assert diverging(report) == []
    told = report.probes["settings"]
    assert "lambd = 1 was guessed" in told
    assert "with lambd = 0.5 is found: ascent.partly-normalised" in told


def test_a_number_of_steps_is_guessed_as_one():
    report = check(SamForTheRest, "sam")
    assert report.conforms
    assert perhaps(report) == ["algorithm.base-optimizer"]
    assert "total_steps = 100 was guessed" in report.probes["settings"]


def test_what_is_found_with_every_guess_diverges():
    report = check(WrongWhateverIsGuessed, "sam")
    assert {"ascent.descends", "restore.not-undone"} <= set(diverging(report)), report


def test_nothing_is_told_of_guesses_where_all_is_known():
    report = check(TwoStepSam, "sam")
    assert "settings" not in report.probes
    assert report.verdict == "conforms to SAM"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sam-own-step-size", "conforms to SAM's ascent, with a step size of its own"),
        ("sam-own-rule", "conforms to SAM's ascent, with a base step that was not judged"),
        ("sam-adam", "conforms to SAM"),
    ],
)
def test_a_base_step_that_is_not_known_to_be_right_is_not_called_right(name, words):
    (subject,) = [row.subject for row in NOTED if row.name == name]
    assert check(subject, "sam").verdict == words
