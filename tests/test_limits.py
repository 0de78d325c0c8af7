"""The limits in which the algorithms must agree with simpler ones, exactly.

"Bit for bit" compares bytes. The net has a filter, a matrix, biases, batch norm and dropout; where
no net is needed a plain function of a bare vector takes its place.
"""

from __future__ import annotations

import copy
import functools
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsam_ref import RSAM, SAM, SGD, asam_gradient, models, objective, rsam_gradient, sam_gradient
from rsam_ref.algorithms.noise import filter_scale
from rsam_ref.algorithms.variants import (
    gradient_rsam_gradient,
    noise_gradient,
    stacked_rsam_gradient,
)
from rsam_ref.autograd.ops_nn import cross_entropy
from tests.helpers.problems import BASES, WRAPPERS, Watched, batches, bumpy, net, points, train

NOISE = 0.1 * np.random.default_rng(5).standard_normal(12)

# Every rule as a function of (loss_and_grad, w) alone.
RULES = {
    "sam": functools.partial(sam_gradient, rho=0.3),
    "3-step sam": functools.partial(sam_gradient, rho=0.3, ascent_steps=3),
    "asam": functools.partial(asam_gradient, rho=0.3),
    "rsam": functools.partial(rsam_gradient, noise=NOISE, rho=0.3),
    "gradient": functools.partial(gradient_rsam_gradient, noise=NOISE, rho=0.3),
    "stacked": functools.partial(stacked_rsam_gradient, noise=NOISE, rho=0.3),
    "noise": functools.partial(noise_gradient, noise=NOISE),
}

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS.keys())
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def image_objective(dtype="float64", **options):
    """The net and its objective on one batch."""
    model = net(dtype)
    return model, objective(model, *next(batches(1)), **options)


def weights_after(optimizer, dtype="float64", on_net=True):
    """The bytes of the weights after four steps on the net, or on a plain function."""
    if on_net:
        model = net(dtype)
        train(model, optimizer)
        return model.weights.flat.tobytes()
    f, w = points(dtype=dtype)
    for _ in range(4):
        optimizer.step(f, w)
    return w.tobytes()


def in_the_net_and_without(test):
    marked = pytest.mark.parametrize("on_net", [True, False], ids=["net", "function"])(test)
    return every_dtype(marked)


# rho = 0 is the base optimizer


@in_the_net_and_without
@every_base
@pytest.mark.parametrize("name", ["sam", "3-step sam", "asam", "rsam", "gradient", "ball"])
def test_radius_zero_is_the_base_bit_for_bit(name, base, dtype, on_net):
    wrapped, alone = WRAPPERS[name](base(), 0.0), base()
    assert weights_after(wrapped, dtype, on_net) == weights_after(alone, dtype, on_net)


@pytest.mark.parametrize("name", ["sam", "3-step sam", "rsam", "gradient"])
def test_radius_zero_looks_at_the_weights_where_the_gradient_is_infinite(name):
    _, w = points()
    places = []

    def steep(at):
        places.append(at)
        return np.inf, np.full_like(at, np.inf)

    trace = functools.partial(RULES[name].func, **{**RULES[name].keywords, "rho": 0.0})(steep, w)
    assert all(at.tobytes() == w.tobytes() for at in places[1:])
    assert not trace.perturbation.any()


@pytest.mark.parametrize("number", [np.float64, np.float32, np.float16, np.int64, np.array])
def test_numpys_numbers_as_settings_widen_nothing(number):
    f, w = points(dtype="float32")
    noise = NOISE.astype("float32")
    found = [
        sam_gradient(f, w, rho=number(1), ascent_steps=2),
        asam_gradient(f, w, rho=number(1), eta=number(1)),
        rsam_gradient(f, w, noise, rho=number(1), lam=number(1)),
        stacked_rsam_gradient(f, w, noise, rho=number(1)),
    ]
    assert {trace.gradient.dtype.name for trace in found} == {"float32"}


def test_radius_zero_stacked_is_noise_alone_bit_for_bit():
    runs = [weights_after(WRAPPERS[name](SGD(0.1), 0.0)) for name in ("stacked", "noise")]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ["sam", "3-step sam", "asam"])
def test_radius_zero_moves_the_running_statistics_like_the_base(name):
    states = []
    for optimizer in (WRAPPERS[name](SGD(0.1), 0.0), SGD(0.1)):
        model = net()
        train(model, optimizer)
        states.append({k: v.tobytes() for k, v in model.state_dict().items()})
    assert states[0] == states[1]


# sigma = 0 is SAM


@in_the_net_and_without
@every_base
@pytest.mark.parametrize("variant", RSAM.VARIANTS)
def test_no_noise_is_sam_bit_for_bit_for_lam_one(variant, base, dtype, on_net):
    rsam, sam = RSAM(base(), 0.3, sigma=0.0, lam=1.0, variant=variant), SAM(base(), 0.3)
    assert weights_after(rsam, dtype, on_net) == weights_after(sam, dtype, on_net)


@pytest.mark.parametrize("lam", [1e-3, 0.3, 2.0, 1e4])
def test_no_noise_is_sam_to_rounding_for_any_lam(lam):
    f, w = points()
    sam, rsam = sam_gradient(f, w, rho=0.3), rsam_gradient(f, w, 0 * w, rho=0.3, lam=lam)
    np.testing.assert_allclose(rsam.perturbation, sam.perturbation, rtol=3e-12 / min(lam, 1))
    np.testing.assert_allclose(rsam.gradient, sam.gradient, rtol=3e-12 / min(lam, 1))


@pytest.mark.parametrize("wrapper", ["rsam", "noise"])
def test_no_noise_moves_the_running_statistics_like_sam(wrapper):
    other: Any = WRAPPERS[wrapper](SGD(0.1), 0.3)
    other.sigma, other.lam = 0.0, 1.0
    states = []
    for optimizer in (other, SAM(SGD(0.1), 0.3)):
        model = net()
        train(model, optimizer, steps=1)
        states.append([v.tobytes() for k, v in model.state_dict().items() if "running" in k])
    assert states[0] == states[1]


# Nothing to go by


@every_dtype
@every_rule
def test_zero_gradient_and_zero_noise_give_no_perturbation(rule, dtype):
    w = points(dtype=dtype)[1]
    silent = {"noise": 0 * w} if "noise" in rule.keywords else {}
    trace = rule(lambda w: (np.float64(1), 0 * w), w, **silent)
    assert trace.perturbation is None or not np.any(trace.perturbation)
    assert not np.any(trace.gradient)


@every_dtype
@every_wrapper
def test_zero_gradient_and_zero_noise_leave_the_net_as_it_is(wrapper, dtype):
    model, flat = image_objective(dtype, loss=lambda out, y: cross_entropy(out, y) * 0.0)
    before = model.weights.flat.copy()
    optimizer = wrapper(SGD(0.1, momentum=0.9), 0.3)
    optimizer.sigma = 0.0
    trace = optimizer.step(flat, model.weights.flat)
    assert np.array_equal(model.weights.flat, before)
    assert trace.perturbation is None or not np.any(trace.perturbation)


# The weights stay where they are until the base moves them


@every_dtype
@every_rule
def test_pure_functions_leave_w_as_it_is(rule, dtype):
    f, w = points(dtype=dtype)
    w *= 10.0 ** np.arange(-6, 6)  # sizes at which w + eps - eps is another w
    before = w.tobytes()
    w.setflags(write=False)
    rule(f, w)
    assert w.tobytes() == before


@every_rule
def test_pure_functions_leave_w_as_it_is_when_the_loss_fails(rule):
    f, w = points()
    before = w.tobytes()
    with pytest.raises(ArithmeticError, match="out of order"):
        rule(Watched(f, fail_at=1 if rule is RULES["noise"] else 2), w)
    assert w.tobytes() == before


@every_rule
def test_the_model_is_back_at_its_weights_after_a_look_and_after_a_failure(rule):
    model, f = image_objective()
    x, _ = next(batches(1))
    w = model.weights.flat
    noise = {"noise": np.full_like(w, 0.1)} if "noise" in rule.keywords else {}
    before, output = w.tobytes(), model.eval()(x).data.tobytes()
    rule(f, w, **noise)
    f.loss = lambda out, y: 1 / 0
    with pytest.raises(ZeroDivisionError):
        rule(f, w, **noise)
    assert w.tobytes() == before
    assert model(x).data.tobytes() == output


@every_base
@every_wrapper
def test_a_step_that_fails_has_not_happened(wrapper, base):
    """Not to the weights, the momentum, or the count; the run goes on as if nothing had been."""
    optimizers = wrapper(base(), 0.3), wrapper(base(), 0.3)
    f, w = points()
    w = [w, w.copy()]
    for i in (0, 1):
        for _ in range(2):
            optimizers[i].step(f, w[i])
    before, state = w[0].tobytes(), copy.deepcopy(optimizers[0].state_dict())
    last = 1 if wrapper is WRAPPERS["noise"] else 2
    with pytest.raises(ArithmeticError, match="out of order"):
        optimizers[0].step(Watched(f, fail_at=last), w[0])
    assert w[0].tobytes() == before
    assert repr(optimizers[0].state_dict()) == repr(state)
    for i in (0, 1):
        optimizers[i].step(f, w[i])
    assert w[0].tobytes() == w[1].tobytes()


# Where the two passes look


def test_sam_looks_at_w_and_at_w_plus_eps():
    f, w = points()
    f = Watched(f)
    trace = sam_gradient(f, w, rho=0.3)
    assert [q.tobytes() for q in f.visited] == [w.tobytes(), (w + trace.perturbation).tobytes()]
    assert trace.gradient.tobytes() == f.inner(w + trace.perturbation)[1].tobytes()
    assert trace.adversarial_loss == f.inner(w + trace.perturbation)[0]


def test_rsam_looks_at_w_plus_noise_and_at_w_plus_eps():
    f, w = points()
    f = Watched(f)
    trace = rsam_gradient(f, w, NOISE, rho=0.3)
    places = [w + NOISE, w + trace.perturbation]  # the second from w, not from w + noise
    assert [q.tobytes() for q in f.visited] == [q.tobytes() for q in places]
    assert trace.ascent_gradient.tobytes() == f.inner(places[0])[1].tobytes()
    assert trace.gradient.tobytes() == f.inner(places[1])[1].tobytes()
    assert trace.adversarial_loss == f.inner(places[1])[0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_k_steps_of_sam_are_as_long_as_one(steps):
    """k ascents of rho / k: k + 1 gradients, and each step of the climb has its share."""
    f, w = points()
    f = Watched(f)
    sam_gradient(f, w, rho=0.3, ascent_steps=steps)
    assert len(f.visited) == steps + 1
    lengths = np.linalg.norm(np.diff(f.visited, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 0.3 / steps, rtol=1e-11)


@every_wrapper
def test_both_passes_see_the_same_dropout_mask(wrapper):
    """With no way to go, the second pass repeats the first bit for bit."""
    model, f = image_objective()
    optimizer = wrapper(SGD(0.0), 0.0)
    optimizer.sigma = 0.0
    trace = optimizer.step(f, model.weights.flat)
    assert trace.adversarial_loss in (None, trace.loss)
    other = optimizer.step(f, model.weights.flat)
    assert other.loss != trace.loss, "the next step draws another mask"


# The length of the perturbation


@given(
    seed=st.integers(0, 10**6),
    rho=st.floats(1e-6, 1e3),
    lam=st.floats(1e-2, 1e2),
    steepness=st.floats(1e-3, 1e6),
)
def test_the_perturbation_is_as_long_as_the_radius(seed, rho, lam, steepness):
    f, w = points(seed=seed)

    def steep(w):
        return tuple(steepness * value for value in f(w))

    for trace in (
        sam_gradient(steep, w, rho=rho),
        rsam_gradient(steep, w, NOISE, rho=rho, lam=lam),
    ):
        assert np.linalg.norm(trace.perturbation) == pytest.approx(rho, rel=1e-7)


def test_the_norm_is_one_over_all_parameters():
    """Every tensor's part of the perturbation is the same multiple of its part of the gradient."""
    model, f = image_objective()
    trace = sam_gradient(f, model.weights.flat, rho=0.3)
    parts = zip(model.weights.views(trace.perturbation), model.weights.views(trace.ascent_gradient))
    ratios = [np.linalg.norm(eps) / np.linalg.norm(g) for eps, g in parts if np.linalg.norm(g) > 0]
    assert len(ratios) == 8
    np.testing.assert_allclose(ratios, 0.3 / np.linalg.norm(trace.ascent_gradient), rtol=1e-6)


@every_wrapper
def test_weight_decay_momentum_and_rate_have_no_part_in_the_perturbation(wrapper):
    f, w = points()
    other = SGD(3.0, momentum=0.5, weight_decay=0.7, clip_norm=0.01)
    traces = [wrapper(base, 0.3).step(f, w.copy()) for base in (SGD(0.1), other)]
    for name in ("ascent_gradient", "perturbation", "gradient"):
        assert repr(getattr(traces[0], name)) == repr(getattr(traces[1], name))


# Scaling the loss


def scaled(f, c):
    return lambda w: tuple(c * value for value in f(w))


@pytest.mark.parametrize("c", [1e-3, 0.5, 3.0, 1e3])
@pytest.mark.parametrize("rule", [sam_gradient, asam_gradient])
def test_scaling_the_loss_leaves_sams_perturbation(rule, c):
    f, w = points()
    one, other = rule(f, w, rho=0.3), rule(scaled(f, c), w, rho=0.3)
    np.testing.assert_allclose(other.perturbation, one.perturbation, rtol=1e-8)
    np.testing.assert_allclose(other.gradient, c * one.gradient, rtol=1e-8)


@pytest.mark.parametrize("c", [1e-3, 0.5, 3.0, 1e3])
def test_scaling_the_loss_scales_rsams_gradient_against_its_draw(c):
    """So lam is not free of the loss's scale: a loss c times as large is a lam c times as large."""
    f, w = points()
    large = rsam_gradient(scaled(f, c), w, NOISE, rho=0.3, lam=2.0)
    heavy = rsam_gradient(f, w, NOISE, rho=0.3, lam=2.0 * c)
    np.testing.assert_allclose(large.perturbation, heavy.perturbation, rtol=1e-12)
    ascent = 2.0 * c * f(w + NOISE)[1] + NOISE
    np.testing.assert_allclose(
        large.perturbation, 0.3 * ascent / (np.linalg.norm(ascent) + 1e-12), rtol=1e-12
    )
    one = rsam_gradient(f, w, NOISE, rho=0.3, lam=2.0)
    assert np.linalg.norm(large.perturbation - one.perturbation) > 1e-4


def test_epsilon_is_added_to_the_norm():
    """Seen where the gradient is as small as epsilon itself."""
    w = np.zeros(2)
    trace = sam_gradient(lambda w: (0.0, np.array([0.0, 1e-12])), w, rho=1.0)
    assert trace.perturbation[1] == pytest.approx(0.5, rel=1e-12)


# Batch norm, and the loss that is reported


def first_place(trace, w):
    return w if trace.noise is None else w + trace.noise


@every_dtype
@every_wrapper
def test_running_statistics_move_once_from_the_first_pass(wrapper, dtype):
    model = net(dtype)
    conv, norm = model.layers[:2]
    rtol = 1e-5 if dtype == "float32" else 1e-12
    optimizer = wrapper(SGD(0.1), 0.5)
    for x, y in batches(3):
        w, mean, var = model.weights.flat.copy(), norm.running_mean, norm.running_var
        trace = optimizer.step(objective(model, x, y), model.weights.flat)
        model.weights.bind(first_place(trace, w))
        seen = conv(x.astype(dtype)).data
        model.weights.bind(model.weights.flat)
        mean = 0.9 * mean + 0.1 * seen.mean(axis=(0, 2, 3))
        var = 0.9 * var + 0.1 * seen.var(axis=(0, 2, 3), ddof=1)
        np.testing.assert_allclose(norm.running_mean, mean, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(norm.running_var, var, rtol=rtol)


@every_wrapper
def test_the_reported_loss_is_the_first_passes(wrapper):
    """At w for SAM, at w + noise for R-SAM."""
    model, f = image_objective()
    w = model.weights.flat.copy()
    trace = wrapper(SGD(0.1), 0.5).step(f, model.weights.flat)
    assert float(trace.loss) == float(f(first_place(trace, w))[0])
    if trace.perturbation is not None:
        assert float(trace.adversarial_loss) == float(f(w + trace.perturbation)[0])


# R-SAM between its neighbours


def test_a_large_lam_tends_to_the_variant_gradient():
    f, w = points()
    limit = gradient_rsam_gradient(f, w, NOISE, rho=0.3)
    lams = [1e1, 1e2, 1e3, 1e4, 1e5]
    distances = [
        np.linalg.norm(
            rsam_gradient(f, w, NOISE, rho=0.3, lam=lam).perturbation - limit.perturbation
        )
        for lam in lams
    ]
    shrinking = [near / far for far, near in itertools.pairwise(distances)]
    np.testing.assert_allclose(shrinking, 0.1, rtol=0.2)


def test_the_defaults_are_one_ascent_and_lam_two():
    f, w = points()
    pairs = [
        (sam_gradient(f, w, rho=0.3), sam_gradient(f, w, rho=0.3, ascent_steps=1)),
        (rsam_gradient(f, w, NOISE, rho=0.3), rsam_gradient(f, w, NOISE, rho=0.3, lam=2.0)),
        (RSAM(SGD(0.1)).step(f, w.copy()), RSAM(SGD(0.1), lam=2.0).step(f, w.copy())),
    ]
    for default, told in pairs:
        assert default.gradient.tobytes() == told.gradient.tobytes()


def test_a_small_lam_tends_to_the_draw_alone():
    f, w = points()
    trace = rsam_gradient(f, w, NOISE, rho=0.3, lam=1e-12)
    np.testing.assert_allclose(trace.perturbation, 0.3 * NOISE / np.linalg.norm(NOISE), rtol=1e-9)


def test_the_optimizers_noise_is_filter_wise():
    model, f = image_objective()
    scale = filter_scale(model.weights.flat, model.weights.shapes)
    trace = RSAM(SGD(0.1), 0.3, sigma=1e-3).step(f, model.weights.flat)
    assert 0.9 < np.std(trace.noise[scale > 0] / (1e-3 * scale[scale > 0])) < 1.1


# ASAM's invariance


@pytest.mark.parametrize("factor", [0.1, 4.0])
def test_asam_without_eta_does_not_see_a_rescaling(factor):
    """One layer up and the next one down: the same function, the same ascent; not so for SAM."""
    model = models.mlp([5, 7, 3], seed=1, dtype="float64")
    rng = np.random.default_rng(1)
    f = objective(model, rng.standard_normal((6, 5)), rng.integers(0, 3, 6))
    w = model.weights.flat
    factors = np.ones_like(w)
    for view, power in zip(model.weights.views(factors), [1, 1, -1, 0]):
        view *= factor**power

    one, other = (asam_gradient(f, v, rho=0.5, eta=0.0) for v in (w, factors * w))
    np.testing.assert_allclose(other.perturbation, factors * one.perturbation, rtol=1e-10)
    assert float(other.adversarial_loss) == pytest.approx(float(one.adversarial_loss), rel=1e-10)
    one, other = (sam_gradient(f, v, rho=0.5) for v in (w, factors * w))
    assert abs(float(other.adversarial_loss) - float(one.adversarial_loss)) > 1e-3


def test_a_bare_vector_of_any_length_will_do():
    f, w = bumpy(np.array([2.0])), np.array([0.3])
    trace = sam_gradient(f, w, rho=0.1)
    assert abs(trace.perturbation[0]) == pytest.approx(0.1)
