"""Training steps in two processes on gloo: which of the published ways, and what is wrong."""

import pytest

torch = pytest.importorskip("torch")

from rsam_ref.conformance import BrokenError, check  # noqa: E402
from rsam_ref.conformance.processes import name_of  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
        reason="torch.distributed has no gloo here",
    ),
]


def codes(name, algorithm="sam", module="distributed_steps"):
    report = check(f"tests.frameworks.{module}:{name}", algorithm, processes=2)
    return report, [f.code for f in report.findings]


@pytest.mark.parametrize(
    ("name", "algorithm", "notes"),
    [
        ("synchronised", "sam", ["processes.synchronised"]),
        ("per_worker", "sam", ["processes.per-worker"]),
        ("own_draws", "rsam", ["processes.synchronised", "processes.own-draws"]),
        ("one_draw", "rsam", ["processes.synchronised", "processes.same-draw"]),
    ],
)
def test_both_published_ways_conform_and_are_told_apart(name, algorithm, notes):
    report, found = codes(name, algorithm)
    assert report.conforms, str(report)
    assert report.algorithm == algorithm
    assert found == notes


def test_gradients_that_are_averaged_by_hand_are_not_averaged_by_the_wrapper():
    report, found = codes("train_step", module="by_hand")
    assert report.conforms, str(report)
    assert found == ["processes.synchronised"]


@pytest.mark.parametrize(
    ("name", "divergence"),
    [
        ("never_averaged", "processes.not-averaged"),
        ("second_alone", "processes.not-averaged"),
        ("drifts", "processes.replicas-drift"),
        ("descends", "ascent.descends"),
    ],
)
def test_what_is_wrong_between_processes_is_named(name, divergence):
    report, _ = codes(name)
    assert [f.code for f in report.findings if f.diverges] == [divergence], str(report)


def test_a_base_that_is_asked_for_is_held_to_in_several_processes():
    name = "tests.frameworks.distributed_steps:synchronised"
    report = check(name, "sam", base="adamw", processes=2)
    assert [f.code for f in report.findings if f.diverges] == ["update.other-base"], str(report)


def test_what_another_process_cannot_find_is_told():
    with pytest.raises(BrokenError, match="another process cannot find"):
        name_of(lambda model, optimizer, loss_fn, batch, hyper: None)
    with pytest.raises(BrokenError, match="are for train_step"):
        check("torch.optim:SGD", "sam", processes=2)
