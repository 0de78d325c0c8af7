"""Recomputed blocks: the same bits in less memory."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from rsam_backends import use_backend
from rsam_ref import RSAM, SGD, models, objective
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.nn.batch_parts import Sharded
from rsam_ref.nn.faults import first_not_finite
from rsam_ref.nn.recompute import recompute_blocks

NETS = {
    "resnet": lambda: models.cifar_resnet(8, seed=0),
    "wide": lambda: models.wide_resnet(depth=10, width=1, dropout=0.3, seed=0),
    "vit": lambda: models.vision_transformer(
        8, 2, depth=3, image_size=8, patch=4, classes=10, dropout=0.3, seed=0
    ),
}


def batch(n=6) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 3, 8, 8), "float32"), rng.integers(0, 10, n)


def state_after(model, make, steps=3):
    """Everything after some R-SAM steps, as bytes, and the losses."""
    optimizer = RSAM(SGD(0.1, momentum=0.9), 0.1, sigma=0.01)
    losses = [float(optimizer.step(make(model, i), model.weights.flat).loss) for i in range(steps)]
    return {name: value.tobytes() for name, value in model.state_dict().items()}, losses


@pytest.mark.parametrize("kernels", ["fast", "plain"])
@pytest.mark.parametrize("net", NETS)
def test_training_is_the_same_bit_by_bit(net, kernels):
    make = lambda model, i: objective(model, *batch(), seed=i)
    with use_backend("numpy", kernels=kernels):
        expected = state_after(NETS[net](), make)
        model = NETS[net]()
        assert recompute_blocks(model) == 3
        assert state_after(model, make) == expected
        other = NETS[net]()
        recompute_blocks(other)
        recompute_blocks(other, on=False)
        assert not any("forward" in vars(module) for module in other.modules().values())
        assert state_after(other, make) == expected


def test_looking_for_a_fault_leaves_it_on():
    model = NETS["vit"]()
    recompute_blocks(model)
    before = [vars(module).get("forward") for module in model.modules().values()]
    assert first_not_finite(model, batch()[0]) is None
    assert [vars(module).get("forward") for module in model.modules().values()] == before


def test_it_goes_with_shards():
    make = lambda model, i: Sharded(model, *batch(), cross_entropy, [2 * i, 2 * i + 1])
    expected = state_after(NETS["wide"](), make)
    model = NETS["wide"]()
    recompute_blocks(model)
    assert state_after(model, make) == expected


def peak(model, n):
    """The most bytes that a pass holds at a time."""
    loss_and_grad = objective(model, *batch(n))
    loss_and_grad(model.weights.flat)
    tracemalloc.start()
    loss_and_grad(model.weights.flat)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.cifar_resnet(44),
        lambda: models.vision_transformer(32, 2, depth=12, image_size=8, patch=2, classes=10),
    ],
    ids=["resnet44", "vit"],
)
def test_it_needs_less_than_half_the_memory(make):
    whole, model = peak(make(), 32), make()
    recompute_blocks(model)
    assert peak(model, 32) < whole / 2


def test_a_parameter_that_is_used_inside_and_outside_gets_both_gradients():
    from rsam_ref.nn.layers import Linear, Sequential, Tanh
    from rsam_ref.nn.module import Module

    class Tied(Module):
        def __init__(self):
            shared = Linear(4, 4)
            self.first = shared
            self.body = Sequential(Sequential(shared, Tanh()), Sequential(shared, Tanh()))

        def forward(self, x):
            return self.body(self.first(x))

    gradients = []
    for on in (False, True):
        model = Tied().build(0, "float64")
        recompute_blocks(model, on)
        x = np.random.default_rng(0).standard_normal((5, 4))
        gradients.append(objective(model, x, np.arange(5) % 4)(model.weights.flat)[1])
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-12)
