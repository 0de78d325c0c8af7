"""A training step in MLX, or a class of optimizers for it, is checked as it is."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.frameworks
pytest.importorskip("mlx.core")

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
from mlx.utils import tree_flatten, tree_map  # noqa: E402

from rsam_ref.conformance import BrokenError, check  # noqa: E402
from rsam_ref.conformance.observe.forms import form_of  # noqa: E402


def codes(report):
    return [f.code for f in report.findings if f.diverges]


def length(tree):
    return mx.sqrt(sum(mx.sum(leaf * leaf) for _, leaf in tree_flatten(tree)))


def to_radius(grads, rho):
    norm = length(grads) + 1e-12
    return tree_map(lambda g: rho * g / norm, grads)


def unnormalised(grads, rho):
    return tree_map(lambda g: rho * g, grads)


def per_tensor(grads, rho):
    return tree_map(lambda g: rho * g / (mx.linalg.norm(g.reshape(-1)) + 1e-12), grads)


def downhill(grads, rho):
    return to_radius(grads, -rho)


def sam(ascent=to_radius, restores=True, second=True):
    def train_step(model, optimizer, loss_fn, x, y, rho):
        both = nn.value_and_grad(model, loss_fn)
        weights = model.parameters()
        loss, first = both(model, x, y)
        model.update(tree_map(lambda p, e: p + e, weights, ascent(first, rho)))
        _, grads = both(model, x, y)
        mx.eval(grads)
        if restores:
            model.update(weights)
        optimizer.update(model, grads if second else first)
        return loss

    return train_step


class Halves:
    def __init__(self, base_optimizer, rho=0.05):
        self.base, self.rho = base_optimizer, rho

    def first_step(self, model, gradients):
        self.saved = model.parameters()
        up = to_radius(gradients, self.rho)
        model.update(tree_map(lambda p, e: p + e, self.saved, up))

    def second_step(self, model, gradients):
        model.update(self.saved)
        self.base.update(model, gradients)


class Driver:
    """It takes both gradients itself."""

    def __init__(self, optimizer, loss_fn, rho=0.05):
        self.optimizer, self.loss_fn, self.rho = optimizer, loss_fn, rho

    def update(self, model, *batch):
        return sam()(model, self.optimizer, self.loss_fn, *batch, self.rho)


def filters(p):
    axes = tuple(range(1, p.ndim)) or (0,)
    return mx.sqrt(mx.sum(p * p, axis=axes, keepdims=True))


def columns(p):
    axes = tuple(range(p.ndim - 1)) or (0,)
    return mx.sqrt(mx.sum(p * p, axis=axes, keepdims=True))


def fresh(shape):
    return mx.random.normal(shape)


def always_the_same(shape):
    return mx.random.normal(shape, key=mx.random.key(3))


def rsam(norms=filters, z=fresh, ascent=lambda lam, g, d: lam * g + d, restores=True):
    def train_step(model, optimizer, loss_fn, batch, hyper):
        both = nn.value_and_grad(model, loss_fn)
        weights = model.parameters()
        noise = tree_map(lambda p: hyper.sigma * norms(p) * z(p.shape), weights)
        noisy = tree_map(lambda p, d: p + d, weights, noise)
        model.update(noisy)
        loss, first = both(model, *batch)
        up = tree_map(lambda g, d: ascent(hyper.lam, g, d), first, noise)
        model.update(tree_map(lambda p, e: p + e, weights, to_radius(up, hyper.rho)))
        _, grads = both(model, *batch)
        mx.eval(grads)
        model.update(weights if restores else noisy)
        optimizer.update(model, grads)
        return loss

    return train_step


RIGHT = [(sam(), "sam"), (Halves, "sam"), (Driver, "sam"), (rsam(), "rsam")]


@pytest.mark.parametrize(("step", "algorithm"), RIGHT)
def test_a_right_step_conforms(step, algorithm):
    assert form_of(step) == "mlx"
    report = check(step, algorithm)
    assert codes(report) == [], report
    assert report.algorithm == algorithm


WRONG = {
    "ascent.not-normalised": (sam(unnormalised), "sam"),
    "ascent.norm-per-tensor": (sam(per_tensor), "sam"),
    "ascent.descends": (sam(downhill), "sam"),
    "restore.not-undone": (sam(restores=False), "sam"),
    "update.uses-first-gradient": (sam(second=False), "sam"),
    "noise.wrong-axis": (rsam(columns), "rsam"),
    "noise.same-draw": (rsam(z=always_the_same), "rsam"),
    "noise.not-removed": (rsam(restores=False), "rsam"),
    "direction.lam-on-noise": (rsam(ascent=lambda lam, g, d: g + lam * d), "rsam"),
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_with_a_step_is_named(code):
    step, algorithm = WRONG[code]
    assert codes(check(step, algorithm))[:1] == [code]


def test_within_compile_nothing_can_be_seen():
    def train_step(model, optimizer, loss_fn, x, y, rho):
        state = [model.state, optimizer.state]
        step = mx.compile(
            lambda x, y: sam()(model, optimizer, loss_fn, x, y, rho), inputs=state, outputs=state
        )
        return step(x, y)

    with pytest.raises(BrokenError, match=r"within mx.compile .* take that off"):
        check(train_step, "sam")
