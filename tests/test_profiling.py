"""The profile of a step: what it says adds up, and measuring changes nothing."""

import pytest

from rsam_ref import RSAM, SAM, SGD, models, objective
from rsam_ref.autograd import ops
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.training import profiling
from rsam_ref.training.profiling import (
    NOISE,
    OPTIMIZER,
    TAPE,
    Clock,
    intercepted,
    profile,
    random_batch,
)
from tests.helpers.commands import called, command

CASES = {"sgd": (lambda: SGD(0.1), 1), "sam": (lambda: SAM(SGD(0.1)), 2)}
CASES["rsam"] = (lambda: RSAM(SGD(0.1)), 2)


@pytest.mark.parametrize("name", CASES)
def test_calls_are_those_of_the_step_and_shares_add_up(name):
    make, passes = CASES[name]
    x, y = random_batch(4, (64,), 10)
    result = profile(models.mlp([64, 8, 10]), make(), x, y, steps=3)
    calls = {(row.name, row.phase): row.calls for row in result.rows}
    assert calls["linear", "forward"] == 2 * passes
    assert calls["relu", "forward"] == passes
    assert calls["relu", "backward"] == passes
    assert calls["cross_entropy", "forward"] == passes
    assert (NOISE in calls) == (name == "rsam")
    assert {TAPE, OPTIMIZER} <= calls.keys()
    assert result.measured == pytest.approx(sum(row.seconds for row in result.rows))
    assert all(row.seconds >= 0 for row in result.rows)
    assert result.unmeasured > 0


def test_measuring_changes_no_bit_and_leaves_nothing_behind():
    model = models.cnn(size=8, width=2)
    x, y = random_batch(4, (1, 8, 8), 10)
    expected = objective(model, x, y)(model.weights.flat)[1]
    with intercepted(lambda label, work: work()) as ran:
        found = objective(model, x, y)(model.weights.flat)[1]
    assert found.tobytes() == expected.tobytes()
    assert ran["conv2d"] == "kernel"
    seen = []
    with intercepted(lambda label, work: seen.append(label) or work()):
        pass
    ops.exp(Tensor([1.0]))
    assert not seen


def test_time_counts_for_the_innermost_label_only(monkeypatch):
    """The time is one that the test itself lets pass."""
    now = [0.0]

    def passes(seconds):
        now[0] += seconds

    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])
    clock = Clock(lambda: passes(0.25))  # a device that is waited for, before and after
    outer, inner = ("outer", ""), ("inner", "")

    def work():
        passes(2)
        clock(inner, lambda: passes(5))
        clock(inner, lambda: passes(10))
        passes(1)

    clock(outer, work)
    assert clock.seconds == {outer: 2 + 1 + 3 * 0.25, inner: 5 + 10 + 2 * 0.25}
    assert clock.calls == {outer: 1, inner: 2}


def test_the_command_prints_and_draws(tmp_path):
    picture = tmp_path / "profile.png"
    done = command("profile", "cnn", "--batch", "4", "--steps", "2", "--save", str(picture))
    assert done.returncode == 0, done.stderr
    for text in ("conv2d", "backward", "kernel", "the optimizer", "Not measured, a step takes"):
        assert text in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    plain = called("profile", "mlp", "--steps", "1", "--kernels", "plain")
    assert "definition" in plain.stdout
    assert "kernel " not in plain.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet21"], "there is no model 'resnet21'"),
        (["mlp", "--optimizer", "adam"], "unknown optimizer 'adam'; there are sgd, sam, rsam"),
        (["mlp", "--batch", "0"], "a mini-batch must hold at least 1 sample, not 0"),
        (["mlp", "--steps", "0"], "--steps must be at least 1, not 0"),
        (["mlp", "--save", "x.jpg"], "give a file ending in .png, .svg, .pdf"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message):
    done = called("profile", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_op_can_be_profiled():
    assert {
        "conv2d",
        "batch_norm",
        "relu",
        "linear",
        "add",
        "matmul",
    } <= profiling.DEFINITIONS.keys()
