"""A JAX training step with a loss that can be traced is checked as it is, with no adapter."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.frameworks
jax = pytest.importorskip("jax")
pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

from rsam_ref.conformance import BrokenError, check  # noqa: E402
from rsam_ref.conformance.observe.forms import form_of  # noqa: E402

from .right_jax import RIGHT, drawn, length, moved, rsam_as_flax, with_momentum  # noqa: E402


def codes(report):
    return [f.code for f in report.findings if f.diverges]


CASES = [(algorithm, step) for algorithm, steps in RIGHT.items() for step in steps]


@pytest.mark.parametrize(("algorithm", "step"), CASES, ids=lambda c: getattr(c, "__name__", c))
def test_a_right_step_conforms(algorithm, step):
    assert form_of(step) == "jax"
    report = check(step, algorithm)
    assert codes(report) == [], report
    assert report.algorithm == algorithm


def test_a_method_that_equinox_compiles_is_a_step():
    equinox: Any = pytest.importorskip("equinox")

    class Stepper(equinox.Module):
        tx: Any = equinox.field(static=True)
        rho: float

        @equinox.filter_jit
        def step(self, params, opt_state, batch, loss_fn):
            grads = jax.grad(loss_fn)(params, batch)
            up = moved(params, grads, self.rho / (length(grads) + 1e-12))
            updates, opt_state = self.tx.update(jax.grad(loss_fn)(up, batch), opt_state, params)
            return equinox.apply_updates(params, updates), opt_state

    report = check(Stepper, "sam")
    assert codes(report) == [], report


def test_a_state_of_no_known_class_is_asked_for():
    class Kept(NamedTuple):  # unknown where the step is
        params: Any
        key: Any

    def step(state, batch, loss_fn, tx):
        return Kept(state.params, state.key), jax.grad(loss_fn)(state.params, batch)

    with pytest.raises(BrokenError, match=r"has no 'key'; annotate .*with your class"):
        check(step, "sam")


def test_filters_along_the_last_axis_are_told():
    report = check(rsam_as_flax, "rsam")
    assert "noise.last-axis" in [f.code for f in report.findings]


def sam(
    scale=lambda grads, rho: rho / (length(grads) + 1e-12),
    direction=lambda g, params, hyper: g,
    start=lambda params, up: params,
    gradient=lambda first, second: second,
    feed=lambda grads, params, hyper: grads,
):
    """A step of SAM with a hook for each stage."""

    @partial(jax.jit, static_argnames="loss_fn")
    def train_step(params, velocity, batch, loss_fn, hyper):
        loss, first = jax.value_and_grad(loss_fn)(params, batch)
        along = direction(first, params, hyper)
        by = scale(along, hyper["rho"])
        if isinstance(by, dict):
            up = jax.tree.map(lambda p, d, s: p + s * d, params, along, by)
        else:
            up = moved(params, along, by)
        grads = gradient(first, jax.grad(loss_fn)(up, batch))
        grads = feed(grads, params, hyper)
        params, velocity = with_momentum(start(params, up), velocity, grads, hyper)
        return params, velocity, loss

    return train_step


def rsam(
    first_at=lambda params, noise: moved(params, noise, 1.0),
    ascent=lambda lam, g, d: lam * g + d,
    second_from=lambda params, noise: params,
    noise_of=drawn,
    start=lambda params, noise: params,
):
    @partial(jax.jit, static_argnames="loss_fn")
    def train_step(params, velocity, batch, key, loss_fn, hyper):
        noise = noise_of(key, params, hyper["sigma"])
        first = jax.grad(loss_fn)(first_at(params, noise), batch)
        along = jax.tree.map(lambda g, d: ascent(hyper["lam"], g, d), first, noise)
        up = moved(second_from(params, noise), along, hyper["rho"] / (length(along) + 1e-12))
        grads = jax.grad(loss_fn)(up, batch)
        return with_momentum(start(params, noise), velocity, grads, hyper)

    return train_step


def one_key(key, params, sigma):
    return drawn(jax.random.PRNGKey(0), params, sigma)


def whole_tensors(key, params, sigma):
    return drawn(key, params, sigma, lambda ndim: None)


def inputs(key, params, sigma):
    return drawn(key, params, sigma, lambda ndim: (0,))


def per_tensor(grads, rho):
    return {name: rho / (jnp.linalg.norm(g) + 1e-12) for name, g in grads.items()}


def decayed(g, params, hyper):
    return moved(g, params, hyper["weight_decay"])


@partial(jax.jit, static_argnames="loss_fn")
def through_the_ascent(params, velocity, batch, loss_fn, hyper):
    """The perturbation is differentiated as well."""

    def sharp(p):
        grads = jax.grad(loss_fn)(p, batch)
        return loss_fn(moved(p, grads, hyper["rho"] / (length(grads) + 1e-12)), batch)

    return with_momentum(params, velocity, jax.grad(sharp)(params), hyper)


def through_the_ascent_of_outputs(params, velocity, batch, apply_fn, hyper):
    """The same, with a loss of its own."""

    def loss_fn(p, batch):
        logits = apply_fn(p, batch[0])
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch[1][:, None], 1)
        return -picked.mean()

    return through_the_ascent.__wrapped__(params, velocity, batch, loss_fn, hyper)


first_alone = sam(gradient=lambda first, second: first)
WRONG_SAM = {
    "ascent.not-normalised": sam(scale=lambda grads, rho: rho),
    "ascent.norm-per-tensor": sam(scale=per_tensor),
    "ascent.descends": sam(scale=lambda grads, rho: -rho / (length(grads) + 1e-12)),
    "ascent.decay-inside": sam(direction=decayed),
    "restore.not-undone": sam(start=lambda params, up: up),
    "update.uses-first-gradient": first_alone.__wrapped__,  # jit would leave the second out
    "update.decay-twice": sam(feed=decayed),
    "update.second-order": through_the_ascent,
}
WRONG_RSAM = {
    "noise.same-draw": rsam(noise_of=one_key),
    "noise.whole-tensor": rsam(noise_of=whole_tensors),
    "noise.wrong-axis": rsam(noise_of=inputs),
    "noise.not-removed": rsam(start=lambda params, noise: moved(params, noise, 1.0)),
    "direction.lam-on-noise": rsam(ascent=lambda lam, g, d: g + lam * d),
    "direction.lam-ignored": rsam(ascent=lambda lam, g, d: g + d),
    "direction.measured-from-noise": rsam(second_from=lambda p, d: moved(p, d, 1.0)),
}


@pytest.mark.parametrize("code", WRONG_SAM)
def test_what_is_wrong_with_sam_is_named(code):
    assert codes(check(WRONG_SAM[code], "sam"))[:1] == [code]


@pytest.mark.parametrize("code", WRONG_RSAM)
def test_what_is_wrong_with_rsam_is_named(code):
    assert codes(check(WRONG_RSAM[code], "rsam"))[:1] == [code]


def test_a_gradient_through_the_ascent_is_named_where_the_loss_is_its_own():
    assert codes(check(through_the_ascent_of_outputs, "sam"))[:1] == ["update.second-order"]


def test_a_derivative_that_cannot_be_seen_is_told_with_what_to_do():
    def train_step(params, velocity, batch, loss_fn, hyper):
        def slope(p):
            return jax.jvp(lambda q: loss_fn(q, batch), (p,), (velocity,))[1]

        return with_momentum(params, velocity, jax.grad(slope)(params), hyper)

    with pytest.raises(BrokenError, match=r"in forward mode .*reverse mode \(jax.grad"):
        check(train_step, "sam")


def test_a_forward_pass_that_is_made_again_to_save_memory_is_no_extra_gradient():
    def train_step(params, velocity, batch, loss_fn, hyper):
        again = jax.checkpoint(lambda p: loss_fn(p, batch))
        grads = jax.grad(again)(params)
        up = moved(params, grads, hyper["rho"] / (length(grads) + 1e-12))
        return with_momentum(params, velocity, jax.grad(again)(up), hyper)

    report = check(train_step, "sam")
    assert codes(report) == [], report
    assert "cost.extra-evaluations" not in [f.code for f in report.findings]


def test_a_loss_that_is_only_looked_at_is_no_evaluation():
    @partial(jax.jit, static_argnames="loss_fn")
    def train_step(params, velocity, batch, loss_fn, hyper):
        before = loss_fn(params, batch)
        params, velocity, loss = WITHOUT_LOOKS(params, velocity, batch, loss_fn, hyper)
        return params, velocity, loss + 0 * (before - loss_fn(params, batch))

    report = check(train_step, "sam")
    assert codes(report) == [], report
    assert "cost.extra-evaluations" not in [f.code for f in report.findings]


WITHOUT_LOOKS = sam()


def test_a_gradient_that_jit_leaves_out_is_not_taken():
    assert codes(check(first_alone, "sam")) == ["algorithm.base-optimizer"]


def test_inputs_that_are_no_batch_of_its_are_told():
    def train_step(params, batch, loss_fn, rho):
        x, y = batch
        return jax.grad(loss_fn)(params, (jnp.flip(x, 3), y))

    with pytest.raises(BrokenError, match="belong to no mini-batch"):
        check(train_step, "sam")


def test_a_step_of_a_model_object_is_told_to_take_weights():
    def train_step(model, opt_state, x, y, tx, rho):
        return jax.grad(lambda m: jnp.sum(m(x)))(model)

    with pytest.raises(BrokenError, match=r"got \{\.\.\.\}|not callable") as failed:
        check(train_step, "sam")
    assert "weights as a dict of arrays and no model object" in str(failed.value)


def test_a_loss_of_its_own_alone_cannot_be_seen():
    def train_step(params, batch, rho):
        grads = jax.grad(lambda p: length(p) ** 2)(params)
        return moved(params, grads, -0.1)

    with pytest.raises(BrokenError, match="took no gradient of the loss that it was given"):
        check(train_step, "sam")


def test_jax_is_left_in_the_precision_that_it_was_in():
    before = jax.config.read("jax_enable_x64")
    check(RIGHT["sam"][0], "sam")
    assert jax.config.read("jax_enable_x64") == before
