"""The training loop: it learns, it repeats, and it explains what went wrong and where."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rsam_ref import RSAM, SAM, SGD, AdamW, models, objective
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.commands.train import _no_better_than_a_guess
from rsam_ref.data import digits_split
from rsam_ref.nn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential
from rsam_ref.nn.module import Module
from rsam_ref.training.checkpoint import flatten
from rsam_ref.training.loop import DivergedError, batches, evaluate, run_steps, train


def small() -> Module:
    return models.mlp([64, 32, 10], seed=0)


@pytest.mark.parametrize(
    "wrap", [lambda base: base, lambda base: SAM(base, 0.05), lambda base: RSAM(base, 0.05)]
)
def test_it_learns_clean_digits(wrap):
    split = digits_split(0)
    model = small()
    history = train(
        model, wrap(SGD(0.1, momentum=0.9)), split.x_train, split.y_train, epochs=15, seed=1
    )
    assert [epoch.number for epoch in history] == list(range(1, 16))
    assert history[-1].loss < 0.1 < history[0].loss
    assert evaluate(model, split.x_test, split.y_test).accuracy > 0.93


def test_equal_seeds_give_equal_weights():
    split = digits_split(0)
    weights = []
    for seed in (0, 0, 1):
        model = small()
        train(model, RSAM(SGD(0.1), 0.1), split.x_train, split.y_train, epochs=1, seed=seed)
        weights.append(model.weights.flat)
    assert weights[0].tobytes() == weights[1].tobytes()
    assert weights[0].tobytes() != weights[2].tobytes()


def test_batches_hold_every_sample_once_and_differ_by_epoch():
    order = np.concatenate(list(batches(10, 4, seed=0, epoch=0)))
    assert sorted(order) == list(range(10))
    assert [len(b) for b in batches(10, 4, 0, 0)] == [4, 4, 2]
    assert order.tolist() != np.concatenate(list(batches(10, 4, seed=0, epoch=1))).tolist()


class Explosive(Module):
    """Infinite as soon as its input holds the value 99."""

    def forward(self, x):
        return x * np.where(x.data == 99, np.inf, 1).astype(x.dtype)


def test_a_loss_that_is_not_finite_names_its_step_and_layer():
    model = Sequential(Linear(4, 3), ReLU(), Explosive(), Linear(3, 2)).build(seed=0)
    weights = model.weights.views(model.weights.flat)
    weights[0][...] = 1
    weights[1][...] = 0
    x = np.ones((12, 4), "float32")
    x[list(batches(12, 4, 0, 0))[1][0]] = 99 / 4  # a sample of the epoch's second batch
    with pytest.raises(
        DivergedError, match=r"step 2 of epoch 1: the loss is .*: the output of 2 \(Explosive\)"
    ):
        train(model, SGD(0.0), x, np.zeros(12, int), epochs=3, batch_size=4, seed=0)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda: SGD(1e30), r"step [12] of epoch 1: .*(weights|gradient|loss)"),
        (lambda: SAM(SGD(0.1), 1e38), r"step 1 of epoch 1: the loss at the perturbed weights is"),
    ],
)
def test_a_diverging_run_stops_and_leaves_finite_weights(optimizer, message):
    split = digits_split(0)
    model = small()
    with pytest.raises(DivergedError, match=message) as caught:
        train(model, optimizer(), split.x_train, split.y_train, epochs=2)
    assert "\n" not in str(caught.value)
    assert "Lower the learning rate" in str(caught.value)
    assert np.isfinite(model.weights.flat).all()


@pytest.mark.parametrize("base", [lambda: SGD(0.1, momentum=0.9), lambda: AdamW(0.1)])
def test_a_diverged_step_leaves_nothing_of_itself(base):
    """Statistics, momentum and the count of steps are those of the step before as well."""
    layers = Conv2d(1, 2, 3), BatchNorm2d(2), ReLU(), Flatten(), Linear(72, 10)
    x = np.random.default_rng(0).standard_normal((24, 1, 8, 8), dtype="float32")
    order, labels = list(batches(24, 8, 0, 0)), np.arange(24) % 10

    def state_after(steps, broken):
        model, optimizer = Sequential(*layers).build(0), SAM(base(), 0.05)
        inputs = x.copy()
        inputs[order[2][0]] = np.inf if broken else 0
        made = [objective(model, inputs[i], labels[i], seed=1) for i in order]
        fails = pytest.raises(DivergedError, match="step 3 of epoch 1")
        with fails if broken else nullcontext():
            run_steps(model, optimizer, lambda i: made[i], range(steps), 3)
        arrays, values = flatten({**model.state_dict(), "of": optimizer.state_dict()}, "")
        return {name: array.tobytes() for name, array in arrays.items()} | values

    assert state_after(3, broken=True) == state_after(2, broken=False)


def test_a_step_that_is_computed_again_has_the_loss_that_counts():
    """Of a model that gives a NaN once: in the fifth of its passes, the third step of SAM."""
    passes: list[None] = []
    told: list[int] = []

    def loss(scores, labels):
        passes.append(None)
        return cross_entropy(scores * (np.nan if len(passes) == 5 else 1), labels)

    split = digits_split(0)
    losses = []
    for own in (loss, cross_entropy):
        model = small()
        made = objective(model, split.x_train[:32], split.y_train[:32], own)
        sam = SAM(SGD(0.1), 0.05)
        losses.append(
            run_steps(model, sam, lambda i, made=made: made, range(4, 8), 4, on_twice=told.append)
        )
    assert told == [4]
    assert len(passes) == 16
    np.testing.assert_array_equal(losses[0], losses[1])


def test_nothing_is_read_back_inside_an_epoch(monkeypatch):
    """The losses of an epoch are read together, after its last step."""
    from rsam_ref.training import loop as training

    reads = []
    monkeypatch.setattr(training, "to_host", lambda a: reads.append(a.shape) or np.asarray(a))
    split = digits_split(0)
    train(small(), SGD(0.1), split.x_train, split.y_train, epochs=2, batch_size=100)
    assert reads == [(1, 9), (1, 9)]


def test_evaluation_leaves_no_trace():
    model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), ReLU(), Flatten(), Linear(72, 10)).build(0)
    x = np.random.default_rng(0).standard_normal((20, 1, 8, 8), dtype="float32")
    before = {name: value.tobytes() for name, value in model.state_dict().items()}
    score = evaluate(model, x, np.zeros(20, int), batch_size=7)
    assert score == evaluate(model, x, np.zeros(20, int), batch_size=7)
    assert {name: value.tobytes() for name, value in model.state_dict().items()} == before
    assert model.training
    whole = evaluate(model, x, np.zeros(20, int))
    assert whole.loss == pytest.approx(score.loss, rel=1e-5)


def test_evaluation_leaves_frozen_parts_frozen():
    model: Any = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Flatten(), Linear(72, 10)).build(0)
    model.layers[1].eval()
    evaluate(model, np.zeros((2, 1, 8, 8), "float32"), np.zeros(2, int))
    assert [layer.training for layer in model.layers] == [True, False, True, True]


@pytest.mark.parametrize(
    ("samples", "labels", "batch_size", "message"),
    [
        (4, 3, 2, "4 inputs and 3 targets"),
        (3, 4, 2, "3 inputs and 4 targets"),
        (0, 0, 2, "there are no samples"),
        (4, 4, 0, "batch_size must be a whole number >= 1, not 0"),
        (4, 4, -2, "batch_size must be a whole number >= 1, not -2"),
        (4, 4, 2.0, "batch_size must be a whole number >= 1, not 2.0"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, labels, batch_size, message):
    model = models.mlp([2, 10], seed=0)
    x, y = np.ones((samples, 2), "float32"), np.zeros(labels, int)
    with pytest.raises(ValueError, match=message):
        train(model, SGD(0.1), x, y, epochs=1, batch_size=batch_size)
    with pytest.raises(ValueError, match=message):
        evaluate(model, x, y, batch_size=batch_size)


def test_accuracy_needs_labels():
    model = models.mlp([2, 3], seed=0)
    with pytest.raises(ValueError, match=r"accuracy needs labels \(N,\), not targets of shape"):
        evaluate(model, np.ones((3, 2), "float32"), np.eye(3, dtype="float32"))


def test_inputs_that_are_not_finite_are_named():
    x = np.ones((4, 64), "float32")
    x[2, 3] = np.nan
    message = r"step 1 of epoch 1: .* the inputs hold values that are not finite\. Look at the data"
    with pytest.raises(DivergedError, match=message):
        train(small(), SGD(0.1), x, np.zeros(4, int), epochs=1)


def test_a_prediction_that_is_not_finite_is_wrong():
    model = models.mlp([2, 2], seed=0)
    model.weights.flat[...] = np.nan
    assert evaluate(model, np.ones((4, 2), "float32"), np.zeros(4, int)).accuracy == 0


@pytest.mark.parametrize(("accuracy", "told"), [(0.25, True), (0.33, True), (0.45, False)])
def test_an_accuracy_that_a_guess_has_is_told(accuracy, told):
    labels = np.repeat(np.arange(4), 25)
    run = SimpleNamespace(
        data=SimpleNamespace(watched=SimpleNamespace(labels=labels)),
        recipe=SimpleNamespace(lr=0.1),
        steps=6,
    )
    line = _no_better_than_a_guess(run, accuracy)
    assert (line is not None) == told
    if line:
        assert f"{100 * accuracy:.1f} %, where the most frequent class has 25.0 %" in line
        assert "--lr 0.01 (now 0.1)" in line
        better = "not significantly better" if accuracy > 0.25 else "no better"
        assert line.startswith(f"This is {better} than a guess: ")
    labels[:] = 0  # of one class there is nothing to guess
    assert _no_better_than_a_guess(run, 1.0) is None
