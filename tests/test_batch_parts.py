"""A mini-batch in parts: the same loss, gradient and statistics as in one piece."""

import threading
from typing import Any

import numpy as np
import pytest

from rsam_backends import current_backend, threads, use_backend
from rsam_backends.switch import in_force
from rsam_ref import RSAM, SGD, models, nn, objective
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.nn.batch_parts import Accumulated, Sharded
from rsam_ref.nn.shards import run_in_threads


@pytest.fixture(params=["fast", "plain"], autouse=True)
def kernels(request):
    with use_backend("numpy", kernels=request.param):
        yield


def resnet(dtype="float64", dropout=0.0):
    return models.wide_resnet(depth=10, width=1, seed=0, dtype=dtype, dropout=dropout)


def batch(n, dtype="float64") -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 3, 8, 8)).astype(dtype), rng.integers(0, 10, n)


def everything(make, model):
    """Loss, gradient and running statistics of one pass, in float64 on the host."""
    loss, gradient = make(model)(model.weights.flat)
    state = {k: v for k, v in model.state_dict().items() if "running" in k}
    return {"loss": np.array(float(loss)), "gradient": np.asarray(gradient), **state}


@pytest.mark.parametrize(("n", "k"), [(8, 2), (7, 3), (5, 5), (6, 1)])
def test_shards_are_the_whole_mini_batch_batch_norm_included(n, k):
    x, y = batch(n)
    expected = everything(lambda model: objective(model, x, y), resnet())
    found = everything(lambda m: Sharded(m, x, y, cross_entropy, range(k)), resnet())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", [Accumulated, Sharded])
def test_parts_of_unequal_size_count_by_their_size(kind):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 5)), rng.integers(0, 3, 7)
    model = models.mlp([5, 4, 3], dtype="float64")
    loss, gradient = objective(model, x, y)(model.weights.flat)
    parts = kind(model, x, y, cross_entropy, range(3))
    assert [len(part.x) for part in parts.parts] == [2, 2, 3]
    part_loss, part_gradient = parts(model.weights.flat)
    np.testing.assert_allclose(float(part_loss), float(loss), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(part_gradient), np.asarray(gradient), atol=1e-12)


def training_bits(steps=3):
    model = resnet("float32", dropout=0.2)
    optimizer = RSAM(SGD(0.1, momentum=0.9), 0.1, sigma=0.01)
    x, y = batch(8, "float32")
    for step in range(steps):
        seeds = [10 * step, 10 * step + 1]
        optimizer.step(Sharded(model, x, y, cross_entropy, seeds), model.weights.flat)
    return b"".join(value.tobytes() for value in model.state_dict().values())


def test_a_shard_count_fixes_every_bit():
    bits = []
    for n in (1, 2, 3):
        threads.set_threads(n)
        bits += [training_bits(), training_bits()]
    threads.set_threads(None)
    assert len(set(bits)) == 1


def test_both_passes_of_a_step_see_the_same_dropout_masks():
    model = resnet(dropout=0.5)
    parts = Sharded(model, *batch(6), cross_entropy, [1, 2])
    one, two = parts(model.weights.flat)[1], parts(model.weights.flat)[1]
    np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
    parts.begin_step()
    assert not np.array_equal(np.asarray(one), np.asarray(parts(model.weights.flat)[1]))


def test_the_model_s_mode_is_the_replicas_mode():
    model, (x, y) = resnet(), batch(6)
    Sharded(model, x, y, cross_entropy, [0, 1])(model.weights.flat)
    model.eval()
    expected = objective(model, x, y)(model.weights.flat)[0]
    found = Sharded(model, x, y, cross_entropy, [0, 1])(model.weights.flat)[0]
    np.testing.assert_allclose(float(found), float(expected), rtol=1e-10)


def build_anew(model):
    model.build(seed=3)


def other_statistics(model):
    state = model.eval().state_dict()
    model.load_state_dict({k: v + 1 if "running" in k else v for k, v in state.items()})


def no_dropout(model):
    for module in model.modules().values():
        module.p = 0.0


@pytest.mark.parametrize("change", [build_anew, other_statistics, no_dropout])
def test_replicas_follow_what_is_done_to_the_model(change):
    model, (x, y) = resnet(dropout=0.5), batch(6)
    Sharded(model, x, y, cross_entropy, [0, 1])(model.weights.flat)
    change(model)
    if change is build_anew:
        no_dropout(model)
    expected, expected_gradient = objective(model, x, y)(model.weights.flat)
    found, gradient = Sharded(model, x, y, cross_entropy, [0, 1])(model.weights.flat)
    rtol = 1e-10 if expected.dtype == "float64" else 1e-4
    np.testing.assert_allclose(float(found), float(expected), rtol=rtol)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=rtol, atol=rtol * 1e-2)


class Overflow(nn.Module):
    """Infinite where w x > 3."""

    def __init__(self):
        self.weight = nn.Parameter((1,), nn.constant(1))

    def forward(self, x):
        y = x * self.weight
        return y * np.where(y.data > 3, np.inf, 1)


@pytest.mark.parametrize("kind", [Accumulated, Sharded])
def test_the_layer_is_looked_for_at_the_place_where_the_loss_was_not_finite(kind):
    """At w + eps, and in the part that it happened in: here the last one."""
    model = nn.Sequential(Overflow(), nn.Linear(2, 2)).build(0, "float64")
    x = np.array([[0.1, 0.1], [0.1, 0.1], [2.9, 0.1]])
    parts = kind(model, x, np.zeros(3, int), cross_entropy, range(3))
    assert parts.first_not_finite(model.weights.flat) is None
    assert parts.first_not_finite(1.1 * model.weights.flat) == (
        "the output of 0 (Overflow) is not finite"
    )


def test_an_error_in_one_shard_is_raised_and_nobody_waits_for_ever():
    calls = []

    def failing(scores, labels):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("in a shard")
        return cross_entropy(scores, labels)

    model = resnet()
    parts = Sharded(model, *batch(6), failing, [0, 1, 2])
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="in a shard"):
        parts(model.weights.flat)
    assert threading.active_count() == before
    objective(model, *batch(6))(model.weights.flat)  # the model is left usable


def test_shards_run_on_the_backend_of_their_caller():
    name = current_backend().name
    seen: list = run_in_threads([lambda group: current_backend().name] * 3, [1 / 3] * 3)
    assert seen == [name] * 3
    with use_backend(name, kernels="plain"):
        kernels = run_in_threads([lambda group: in_force.kernels] * 2, [0.5, 0.5])
    assert kernels == [{}, {}]


def test_all_reduce_is_the_sum_in_the_order_of_the_shards():
    values = [np.float32(v) for v in (1e8, 1, -1e8, 1)]
    expected = ((values[0] + values[1]) + values[2]) + values[3]
    works = [lambda group, v=v: group.all_reduce(v) for v in values]
    for _ in range(20):
        assert run_in_threads(works, [0.25] * 4) == [expected] * 4


def test_more_parts_than_samples_are_refused():
    model = resnet()
    for kind in (Accumulated, Sharded):
        with pytest.raises(ValueError, match="a mini-batch of 2 cannot be shared out in 3 parts"):
            kind(model, *batch(2), cross_entropy, range(3))
