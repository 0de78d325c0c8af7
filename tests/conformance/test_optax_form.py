"""An optax transformation is checked as it is, with no adapter."""

from __future__ import annotations

import pytest

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")

from rsam_ref.conformance import check  # noqa: E402
from rsam_ref.conformance.observe.forms import form_of  # noqa: E402


def sgd(hyper):
    decay = optax.add_decayed_weights(hyper.weight_decay)
    return optax.chain(decay, optax.sgd(hyper.lr, momentum=hyper.momentum))


def ascent(rho):
    return optax.chain(optax.contrib.normalize(), optax.sgd(rho))


def two_calls(hyper):
    return optax.contrib.sam(sgd(hyper), ascent(hyper.rho), sync_period=2)


def one_call(hyper):
    return optax.contrib.sam(sgd(hyper), ascent(hyper.rho), sync_period=2, opaque_mode=True)


def by_name(lr, rho, momentum=0.0, weight_decay=0.0):
    """Without normalize() it is silently unnormalised."""
    base = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(lr, momentum=momentum))
    return optax.contrib.sam(base, optax.sgd(rho), sync_period=2)


fixed = optax.contrib.sam(optax.sgd(0.1, momentum=0.9), ascent(0.05), sync_period=2)


def codes(report):
    return [f.code for f in report.findings if f.diverges]


@pytest.mark.parametrize("make", [two_calls, one_call])
def test_optaxs_sam_is_sam_in_both_of_its_modes(make):
    assert form_of(make) == "optax"
    report = check(make, "sam")
    assert report.algorithm == "sam"
    assert codes(report) == ["ascent.nan-at-zero-gradient"]  # normalize() has no epsilon
    assert report.probes["save and resume"] == "passed"


def test_a_ready_made_transformation_has_its_own_settings():
    report = check(fixed, "sam")
    assert codes(report) == ["ascent.nan-at-zero-gradient"]
    assert "rho (it looks like 0.05), lr (it looks like 0.1)" in report.probes["settings"]


def test_what_is_wrong_with_one_is_named():
    assert codes(check(by_name, "sam"))[0] == "ascent.not-normalised"
    assert codes(check(sgd, "sam")) == ["algorithm.base-optimizer"]


def test_jax_is_left_in_the_precision_that_it_was_in():
    before = jax.config.read("jax_enable_x64")
    check(fixed, "sam")
    assert jax.config.read("jax_enable_x64") == before


def by_grad_fn(base, rho):
    """SAM in one call, around any base."""

    def update(grads, state, params, *, grad_fn, **_):
        length = optax.tree.norm(grads) + 1e-12
        up = jax.tree.map(lambda p, g: p + rho * g / length, params, grads)
        return base.update(grad_fn(up, 1), state, params)

    return optax.GradientTransformationExtraArgs(base.init, update)


def slow(rho):
    """With a learning rate of its own, so small that two calls hardly move the weights."""
    return by_grad_fn(optax.adamw(1e-3), rho)


def slower(rho):
    """So small that a step is not far from the rounding of float32."""
    return by_grad_fn(optax.adamw(1e-4), rho)


def decaying(lr, rho):
    """With a weight decay of its own, as small as adamw's is."""
    return by_grad_fn(optax.adamw(lr), rho)


@pytest.mark.parametrize("make", [slow, slower])
def test_one_call_that_asks_elsewhere_is_a_step_however_short(make):
    report = check(make, "sam")
    assert codes(report) == []
    assert report.algorithm == "sam"


def test_a_decoupled_decay_of_its_own_is_read_off():
    report = check(decaying, "sam")
    [finding] = [f for f in report.findings if f.code == "update.own-base"]
    assert "weight decay 0.0001 decoupled: its own" in str(finding.evidence)
    assert finding.evidence["error"] < 1e-12
    assert "precision.low" not in [f.code for f in report.findings]
