"""rsam_ref.jax in training loops as they are written: donated, accumulated, stacked, retuned."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("x32")]
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

from rsam_ref.jax import (  # noqa: E402
    equinox_axis,
    filter_noise,
    filter_norms,
    flax_axis,
    rsam,
    sam,
    stacked,
)

from .trees_in_jax import grad, quadratic, some_params  # noqa: E402


def close(a, b, rtol=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-7)


def one_step(tx, params=None):
    params = some_params() if params is None else params
    return tx.step(grad, params, tx.init(params))[0]


# The key


@pytest.mark.parametrize("key", [0, jax.random.key(3), jax.random.PRNGKey(3)])
def test_a_state_that_is_donated_leaves_the_maker_as_it_was(key):
    tx = rsam(optax.sgd(0.1, momentum=0.9), 0.1, 0.1, key=key)
    step = jax.jit(lambda p, s: tx.step(grad, p, s)[:2], donate_argnums=(0, 1))
    first, _ = step(some_params(), tx.init(some_params()))
    again, _ = step(some_params(), tx.init(some_params()))
    close(first, again, rtol=0)
    if not isinstance(key, int):
        rsam(optax.sgd(0.1), key=key).init(some_params())  # the key itself was not donated either


@pytest.mark.parametrize(
    "base",
    [
        optax.inject_hyperparams(optax.sgd)(learning_rate=jnp.float32(0.1)),
        optax.chain(optax.add_noise(0.1, 0.1, jax.random.key(0)), optax.sgd(0.1)),
        optax.contrib.dog(0.1),  # its state holds the first weights themselves
    ],
    ids=["of its maker", "a key", "the weights"],
)
def test_what_a_base_keeps_of_others_is_not_donated(base):
    tx = sam(base, 0.1)
    step = jax.jit(lambda p, s: tx.step(grad, p, s)[:2], donate_argnums=(0, 1))
    for _ in range(2):
        params = some_params()
        params, state = step(params, tx.init(params))
        step(params, state)


def test_a_seed_may_be_an_array_or_traced():
    expected = one_step(rsam(optax.sgd(0.1), 0.1, 0.1, key=3))
    for seed in (np.int64(3), np.array(3), jnp.int32(3), jnp.uint32(3)):
        close(one_step(rsam(optax.sgd(0.1), 0.1, 0.1, key=seed)), expected, rtol=0)
    of_seed = lambda seed: one_step(rsam(optax.sgd(0.1), 0.1, 0.1, key=seed))
    close(jax.jit(of_seed)(3), expected)
    several = jax.vmap(of_seed)(jnp.arange(4))
    close(jax.tree.map(lambda leaf: leaf[3], several), expected)
    assert not np.allclose(several["w"][0], several["w"][3], rtol=1e-4)


@pytest.mark.parametrize("key", [5, jax.random.key(5)])
def test_fold_in_gives_the_draw_of_a_step_again(key):
    tx, params = rsam(optax.sgd(0.1), 0.1, 0.1, key=key), some_params()
    state = tx.init(params)
    for k in range(3):
        before = params
        params, state, trace = tx.step(grad, params, state)
        again = filter_noise(jax.random.fold_in(state.key, k), before, 0.1)
        close(trace.noise, again, rtol=0)
    reseeded = state._replace(key=jax.random.PRNGKey(8))
    close(tx.step(grad, params, state._replace(key=8))[0], tx.step(grad, params, reseeded)[0])


def test_the_draw_of_a_part_is_had_again_by_the_part():
    params, mask = some_params(), {"w": False, "b": True}
    tx = rsam(optax.sgd(0.1), 0.1, 0.1, trainable=mask)
    state = tx.init(params)
    part = {"w": None, "b": params["b"]}
    key = jax.random.fold_in(state.key, state.step)
    close(tx.step(grad, params, state)[2].noise, filter_noise(key, part, 0.1), rtol=0)


def test_a_stack_may_be_left_out():
    axis = stacked(flax_axis, "layers")
    params = {"layers": some_params(), "head": some_params()}
    tx = rsam(optax.sgd(0.1), output_axis=axis, trainable={"layers": False, "head": True})
    close(one_step(tx, params)["layers"], params["layers"], rtol=0)


def test_two_with_the_same_seed_draw_alike():
    one, two = rsam(optax.sgd(0.1), 0.1, 0.1), rsam(optax.adam(0.1), 0.2, 0.1)
    params = some_params()
    a, b = (tx.step(grad, params, tx.init(params))[2].noise for tx in (one, two))
    close(a, b, rtol=0)


# Radius and rate, by hand


def test_the_radius_may_change_without_another_compilation():
    compiled = []

    @jax.jit
    def step(params, state, rho):
        compiled.append(rho)
        return sam(optax.sgd(0.1), rho).step(grad, params, state)

    params = some_params()
    state = sam(optax.sgd(0.1)).init(params)
    for rho in (0.1, 0.3, 0.0):
        after, _, trace = step(params, state, rho)
        np.testing.assert_allclose(optax.tree.norm(trace.perturbation), rho, rtol=1e-5)
        close(after, one_step(sam(optax.sgd(0.1), rho)))
    assert len(compiled) == 1


@pytest.mark.parametrize("make", [sam, rsam])
def test_inject_hyperparams_may_hold_the_radius(make):
    compiled = []

    def of_rho(rho):
        return make(optax.sgd(0.1), rho)

    tx = optax.inject_hyperparams(of_rho)(rho=0.1)

    @jax.jit
    def step(params, state):
        compiled.append(state)
        gradient = lambda p, i: grad(p)[1]
        updates, state = tx.update(gradient(params, 0), state, params, grad_fn=gradient)
        return optax.apply_updates(params, updates), state

    params = some_params()
    for rho in (0.1, 0.4):
        state = tx.init(params)
        state.hyperparams["rho"] = jnp.float32(rho)
        after, _ = step(params, state)
        close(after, one_step(of_rho(rho)))
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("make", "static"), [(sam, "ascent_steps"), (rsam, ("output_axis", "draw"))]
)
def test_inject_hyperparams_takes_all_settings_but_the_static_ones(make, static):
    tx = optax.inject_hyperparams(make, static_args=static)(optax.sgd(0.1), rho=0.2)
    params, gradient = some_params(), lambda p, i: grad(p)[1]
    if make is rsam:  # what it makes a number of is taken where jit does not trace it
        all_of_them = optax.inject_hyperparams(make)(optax.sgd(0.1), rho=0.2)
        updates, _ = all_of_them.update(None, all_of_them.init(params), params, grad_fn=gradient)
        close(optax.apply_updates(params, updates), one_step(rsam(optax.sgd(0.1), 0.2)))
    step = jax.jit(lambda p, s: tx.update(gradient(p, 0), s, p, grad_fn=gradient)[0])
    updates = step(params, tx.init(params))
    close(optax.apply_updates(params, updates), one_step(make(optax.sgd(0.1), 0.2)))


def test_the_eta_of_asam_may_be_traced():
    of_eta = lambda eta: one_step(sam(optax.sgd(0.1), 0.2, adaptive=True, eta=eta))
    close(jax.jit(of_eta)(0.5), of_eta(0.5))


def test_injected_rates_of_the_base_may_be_set():
    tx = sam(optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), 0.1)
    state = tx.init(some_params())
    state.base.hyperparams["learning_rate"] = 0.4
    after, _, _ = tx.step(grad, some_params(), state)
    close(after, one_step(sam(optax.sgd(0.4), 0.1)))


# What optax does with a transformation


def test_what_is_replaced_or_copied_keeps_its_step():
    tx = rsam(optax.adam(0.1), 0.1, 0.1, key=2)
    for other in (tx._replace(init=tx.init), copy.copy(tx), type(tx)(tx.init, tx.update)):
        close(one_step(other), one_step(tx), rtol=0)


@pytest.mark.parametrize("trainable", [None, {"w": True, "b": False}])
@pytest.mark.parametrize("by", [lambda tx: tx, lambda tx: tx.init])
def test_map_params_finds_the_weights_in_a_state(trainable, by):
    tx = rsam(optax.adam(0.1), 0.1, trainable=trainable)
    params = some_params()
    _, state, _ = tx.step(grad, params, tx.init(params))
    mapped = optax.tree.map_params(by(tx), lambda leaf: leaf * 0 + 7, state)
    assert (mapped.step, mapped.base[0].count) == (1, 1)
    assert (mapped.key == state.key).all()
    for moments in (mapped.base[0].mu, mapped.base[0].nu):
        assert (moments["w"] == 7).all()
        assert moments["b"] is None if trainable else (moments["b"] == 7).all()


def test_multi_steps_may_be_the_base():
    params = some_params()
    tx = sam(optax.MultiSteps(optax.sgd(0.1), 2), 0.3)
    found, state = params, tx.init(params)
    for scale in (
        1.0,
        3.0,
    ):  # the gradients of two micro-batches, each at its own perturbed weights
        found, state, trace = tx.step(grad, found, state, scale)
        if scale == 1.0:
            close(found, params)
    expected = one_step(sam(optax.sgd(0.2), 0.3))  # (1 + 3) / 2 times the gradient
    close(found, expected)
    assert state.step == 2
    assert trace.loss == 3 * quadratic(params)


def test_a_partition_may_be_the_base():
    rates = {"slow": optax.sgd(0.01), "fast": optax.sgd(0.1)}
    tx = sam(optax.partition(rates, {"w": "slow", "b": "fast"}), 0.2)
    slow, fast = (one_step(sam(rates[name], 0.2)) for name in ("slow", "fast"))
    close(one_step(tx), {"w": slow["w"], "b": fast["b"]})
    half = sam(optax.masked(optax.sgd(0.1), {"w": True, "b": False}), 0.2)
    close(one_step(half)["w"], fast["w"])


def test_a_mask_may_be_a_module_that_can_be_called():
    @dataclass
    class Model:
        w: object
        b: object

        def __call__(self, x):
            raise AssertionError("the mask was called")

    jax.tree_util.register_dataclass(Model, ["w", "b"], [])
    params = Model(**some_params())
    after = one_step(sam(optax.sgd(0.1), 0.1, trainable=Model(True, False)), params)
    assert (after.b == params.b).all()
    assert (after.w != params.w).all()


def test_lengths_overflow_where_squares_do():
    large = {"w": jnp.full(3, 1e20)}
    steep = jax.value_and_grad(lambda p: (p["w"] * 1e-15).sum())
    tx = rsam(optax.sgd(0.1), 0.1)
    assert jnp.isinf(tx.step(steep, large, tx.init(large))[2].noise["w"]).all()
    steep = jax.value_and_grad(lambda p: (p["w"] * 1e20).sum())
    small = {"w": jnp.ones(3)}
    trace = sam(optax.sgd(0.1)).step(steep, small, sam(optax.sgd(0.1)).init(small))[2]
    assert (trace.perturbation["w"] == 0).all()


# Layers in a stack


def unstacked(params, depth):
    """A stack's leaves as a list of layers."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(depth)]


def test_the_filters_of_a_stack_are_those_of_its_layers():
    rng = np.random.default_rng(0)
    drawn = lambda *shape: jnp.asarray(rng.standard_normal(shape), "float32")
    layers = {
        "dense": {"kernel": drawn(3, 4, 5), "bias": drawn(3, 5)},
        "conv": {"kernel": drawn(3, 2, 2, 4, 5)},
        "query": {"kernel": drawn(3, 4, 2, 3), "bias": drawn(3, 2, 3)},
        "norm": {"scale": drawn(3, 5), "gain": drawn(3)},
    }
    params = {"layers": layers, "head": {"kernel": drawn(5, 2), "bias": drawn(2)}}
    found = filter_norms(params, stacked(flax_axis, "layers"))
    for i, layer in enumerate(unstacked(layers, 3)):
        expected = filter_norms(layer, flax_axis)
        jax.tree.map(
            lambda s, one, w, i=i: np.testing.assert_allclose(
                jnp.broadcast_to(s[i], w.shape), jnp.broadcast_to(one, w.shape), rtol=1e-6
            ),
            *(found["layers"], expected, layer),
        )
    close(found["head"], filter_norms(params["head"], flax_axis))


def test_a_scanned_network_of_flax_takes_the_step_of_the_unrolled_one():
    pytest.importorskip("flax")
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _=None):
            return nn.LayerNorm()(nn.tanh(nn.Dense(4)(x))), None

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(
                Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
            )
            return nn.Dense(2)(scanned(name="layers")(x, None)[0])

    class Unrolled(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i in range(3):
                x, _ = Block(name=f"layer{i}")(x)
            return nn.Dense(2)(x)

    def unrolled(params):
        each = enumerate(unstacked(params["layers"], 3))
        return {"Dense_0": params["Dense_0"]} | {f"layer{i}": layer for i, layer in each}

    def step(net, params, z, axis):
        loss = jax.value_and_grad(lambda p: jnp.mean(net.apply({"params": p}, x) ** 2))
        tx = rsam(optax.sgd(0.1), 0.2, 0.1, output_axis=axis, draw=lambda step, params: z)
        return tx.step(loss, params, tx.init(params))[::2]

    x = jax.random.normal(jax.random.key(0), (5, 4))
    params = Scanned().init(jax.random.key(1), x)["params"]
    params = jax.tree.map(lambda p: p + 0.3, params)  # no bias is 0
    z = jax.tree.map(lambda p: jax.random.normal(jax.random.key(2), p.shape), params)
    after, trace = step(Scanned(), params, z, stacked(flax_axis, "layers"))
    expected, other = step(Unrolled(), unrolled(params), unrolled(z), flax_axis)
    close(unrolled(trace.noise), other.noise)
    close(unrolled(after), expected, rtol=1e-4)
    wrong, _ = step(Scanned(), params, z, flax_axis)
    assert max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (wrong, after)))) > 1e-3


def test_the_names_of_leaves_are_their_paths():
    eqx = pytest.importorskip("equinox")
    pytest.importorskip("flax")
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    def names(params):
        seen = []
        filter_norms(params, lambda name, leaf: seen.append(name))
        return seen

    net = eqx.nn.MLP(2, 3, 4, depth=0, key=jax.random.key(0))
    assert names(eqx.filter(net, eqx.is_inexact_array)) == ["layers/0/weight", "layers/0/bias"]
    assert "first/kernel/value" in names(nnx.split(Net(), nnx.Param, ...)[1])
    assert names({"dense": {"kernel": jnp.ones((2, 3))}}) == ["dense/kernel"]


def test_layers_that_equinox_makes_by_vmap_are_a_stack():
    eqx = pytest.importorskip("equinox")
    make = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 4, key=key))
    params = {"layers": make(jax.random.split(jax.random.key(0), 3))}
    found = filter_norms(params, stacked(equinox_axis, "layers"))["layers"]
    for i, layer in enumerate(unstacked(params["layers"], 3)):
        expected = filter_norms(layer, equinox_axis)
        np.testing.assert_allclose(found.weight[i], expected.weight, rtol=1e-6)
        np.testing.assert_allclose(found.bias[i], expected.bias, rtol=1e-6)
