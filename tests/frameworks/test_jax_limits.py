"""rsam_ref.jax under JAX's transformations, its noise, trees of every kind, and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("x32")]
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

from rsam_ref.algorithms.noise import filter_scale  # noqa: E402
from rsam_ref.conformance.observe.jax_types import double  # noqa: E402
from rsam_ref.jax import (  # noqa: E402
    equinox_axis,
    filter_noise,
    filter_norms,
    flax_axis,
    rsam,
    sam,
    sam_gradient,
    stacked,
    table,
)

from .right_jax import length  # noqa: E402
from .trees_in_jax import grad, quadratic, some_params  # noqa: E402

KEY = jax.random.key(0)


@pytest.fixture
def x64():
    with double():
        yield


def equal(a, b):
    """Bit for bit, trees of keys too."""
    a, b = (jax.tree.map(plain, tree) for tree in (a, b))
    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
        jax.tree.map(np.array_equal, a, b)
    )


def plain(leaf):
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf)


TXS = {
    "sam": lambda **more: sam(optax.sgd(0.1, momentum=0.9), 0.1, **more),
    "asam": lambda **more: sam(optax.adam(0.1), 0.1, adaptive=True, **more),
    "rsam": lambda **more: rsam(
        optax.adamw(0.1), optax.linear_schedule(0.2, 0.1, 9), lambda t: 0.01 + 0.001 * t, **more
    ),
}


def run(tx, steps, params, state, step=None):
    step = step or jax.jit(lambda p, s: tx.step(grad, p, s))
    for _ in range(steps):
        params, state, _ = step(params, state)
    return params, state


# Under the transformations


@pytest.mark.parametrize("name", TXS)
def test_jit_changes_nothing(name, x64):
    params = jax.tree.map(lambda p: p.astype("float64"), some_params())
    tx = TXS[name]()
    eager = run(tx, 5, params, tx.init(params), partial(tx.step, grad))
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(run(tx, 5, params, tx.init(params)))):
        np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize("name", TXS)
def test_a_scan_is_the_loop(name):
    params, tx = some_params(), TXS[name]()

    def body(both, _):
        params, state, trace = tx.step(grad, *both)
        return (params, state), trace.loss

    (scanned, state), losses = jax.lax.scan(body, (params, tx.init(params)), length=6)
    looped, other = run(tx, 6, params, tx.init(params))
    assert losses.shape == (6,)
    assert int(state.step) == int(other.step) == 6
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves(looped)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_seeds_side_by_side_are_each_alone():
    params = some_params()

    def trained(key):
        tx = rsam(optax.sgd(0.1), 0.1, 0.05, key=key)
        state = tx.init(params)
        for _ in range(3):
            params_, state, _ = tx.step(grad, params, state)
        return params_

    keys = jax.random.split(KEY, 4)
    together = jax.vmap(trained)(keys)
    for i, key in enumerate(keys):
        alone = trained(key)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone)):
            np.testing.assert_allclose(a[i], b, rtol=1e-5)
    assert not np.allclose(together["w"][0], together["w"][1], rtol=1e-4)


@pytest.mark.parametrize("name", TXS)
@pytest.mark.parametrize("key", [7, "typed"])
def test_a_run_that_was_saved_goes_on_to_the_same_bits(name, key, tmp_path):
    more = {} if name != "rsam" else {"key": KEY if key == "typed" else key}
    params, tx = some_params(), TXS[name](**more)
    whole = run(tx, 6, params, tx.init(params))
    half = run(tx, 3, params, tx.init(params))
    leaves, structure = jax.tree.flatten(half)
    np.savez(tmp_path / "saved.npz", *(plain(leaf) for leaf in leaves))
    loaded = np.load(tmp_path / "saved.npz")
    again = [
        jax.random.wrap_key_data(jnp.asarray(a)) if plain(leaf).dtype != leaf.dtype else a
        for a, leaf in zip(loaded.values(), leaves)
    ]
    tx = TXS[name](**(more and {"key": 99}))  # the key is the state's
    assert equal(run(tx, 3, *structure.unflatten(again)), whole)


@pytest.fixture(scope="module")
def on_devices():
    settings = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    settings["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    command = [sys.executable, "-m", "tests.frameworks.devices_in_jax"]
    done = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_both_published_ways_over_devices_are_their_statement_on_one(on_devices):
    assert on_devices["devices"] == 2
    for way, apart in on_devices["apart"].items():
        if way.startswith("between"):
            assert apart > 1e-3, way
        else:
            assert apart < 1e-12, way


def test_a_loss_of_each_device_by_itself_is_refused_where_jax_tells(on_devices):
    for said in on_devices["refused"].values():
        assert "average what it gives by jax.lax.pmean, and let it take the batch" in said


def test_what_m_sharpness_averages_may_not_be_averaged_before_where_jax_tells(on_devices):
    for way, said in on_devices["averaged twice"].items():
        assert "leave out the jax.lax.pmean, or m_sharpness" in said, way


def test_m_sharpness_by_update_is_refused_where_jax_sums_gradients(on_devices):
    assert len(on_devices["by update"]) == 4
    for said in on_devices["by update"]:
        assert "take the step by step(loss_and_grad, params, state, batch)" in said


# Gradients in parts


def halves_gradient(params, batch):
    """The mean over micro-batches, one after the other."""

    def one(total, part):
        found = jax.value_and_grad(loss_of)(params, part)
        return jax.tree.map(jnp.add, total, found), None

    start = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(one, start, batch)
    return jax.tree.map(lambda a: a / len(batch), total)


def loss_of(params, x):
    return jnp.mean((jnp.tanh(x @ params["w"]) @ jnp.ones(2) + params["b"].sum()) ** 2)


def test_a_gradient_summed_over_micro_batches_is_the_whole_ones():
    params = some_params()
    x = jax.random.normal(KEY, (8, 3))
    tx = sam(optax.sgd(0.1), 0.3)
    whole, _, _ = tx.step(jax.value_and_grad(loss_of), params, tx.init(params), x)
    parts, _, _ = tx.step(halves_gradient, params, tx.init(params), x.reshape(2, 4, 3))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_multi_steps_inside_is_m_sharpness():
    params = some_params()
    x = jax.random.normal(KEY, (2, 4, 3))
    tx = sam(optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), 0.3)
    found, state = params, tx.init(params)
    for part in x:
        found, state, _ = tx.step(jax.value_and_grad(loss_of), found, state, part)
    over = sam(optax.sgd(0.1), 0.3, m_sharpness="parts")
    step = jax.vmap(
        lambda part: over.step(jax.value_and_grad(loss_of), params, over.init(params), part)[0],
        axis_name="parts",
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(step(x))):
        np.testing.assert_allclose(a, b[0], rtol=1e-5)


def test_multi_steps_outside_takes_the_second_gradient_of_what_grad_fn_is_of():
    params = some_params()
    x = jax.random.normal(KEY, (2, 4, 3))
    tx = sam(optax.sgd(0.1), 0.3)
    whole, _, _ = tx.step(jax.value_and_grad(loss_of), params, tx.init(params), x.reshape(8, 3))

    def accumulated(batch_of):
        outer, now = optax.MultiSteps(tx, 2), params
        state = outer.init(params)
        for part in x:
            grad_fn = lambda p, i, part=part: jax.grad(loss_of)(p, batch_of(part))
            updates, state = outer.update(jax.grad(loss_of)(now, part), state, now, grad_fn=grad_fn)
            now = optax.apply_updates(now, updates)
        return now

    right, wrong = accumulated(lambda part: x.reshape(8, 3)), accumulated(lambda part: part)
    np.testing.assert_allclose(right["w"], whole["w"], rtol=1e-5)
    assert np.abs(wrong["w"] - whole["w"]).max() > 1e-3


# The noise


def weights():
    rng = np.random.default_rng(1)
    drawn = lambda *shape: jnp.asarray(rng.standard_normal(shape), "float32")
    return {
        "conv": {"kernel": drawn(3, 3, 4, 5), "bias": jnp.arange(1.0, 6.0)},
        "query": {"kernel": drawn(4, 2, 3), "bias": jnp.full((2, 3), 2.0)},
        "table": {"embedding": drawn(7, 4)},
    }


def test_norms_by_the_first_axis_are_the_references(x64):
    rng = np.random.default_rng(0)
    tree = [rng.standard_normal(shape) for shape in ((4, 3), (4,), (2, 3, 2, 2))]
    flat = np.concatenate([a.ravel() for a in tree])
    norms = filter_norms([jnp.asarray(a) for a in tree])
    found = np.concatenate([np.broadcast_to(n, a.shape).ravel() for n, a in zip(norms, tree)])
    np.testing.assert_allclose(found, filter_scale(flat, [a.shape for a in tree]), rtol=1e-15)


def test_the_filters_of_flax():
    w = weights()
    s = filter_norms(w, flax_axis)
    kernel = np.asarray(w["conv"]["kernel"])
    expected = np.linalg.norm(kernel.reshape(-1, 5), axis=0)
    np.testing.assert_allclose(s["conv"]["kernel"].ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(s["conv"]["bias"], [np.sqrt(55)], rtol=1e-6)
    heads = np.linalg.norm(np.asarray(w["query"]["kernel"]), axis=0)  # (heads, of a head)
    np.testing.assert_allclose(s["query"]["kernel"][0], heads, rtol=1e-6)
    np.testing.assert_allclose(s["query"]["bias"].ravel(), [np.sqrt(24)], rtol=1e-6)
    rows = np.linalg.norm(np.asarray(w["table"]["embedding"]), axis=1)
    np.testing.assert_allclose(s["table"]["embedding"].ravel(), rows, rtol=1e-6)


HEADS = {"kernel": (8, 2, 4)}
KERNELS = [  # a leaf, its siblings, and the axes along which its outputs lie
    ("norm/scale", {"norm/scale": (1, 1, 1, 8), "norm/offset": (1, 1, 1, 8)}, ()),
    ("norm/offset", {"norm/scale": (1, 1, 1, 8), "norm/offset": (1, 1, 1, 8)}, ()),
    ("conv2_d/b", {"conv2_d/b": (8, 1, 1), "conv2_d/w": (3, 3, 4, 8)}, ()),
    ("conv2_d/w", {"conv2_d/b": (8, 1, 1), "conv2_d/w": (3, 3, 4, 8)}, (3,)),
    ("net/~/conv2_d_transpose/w", {"net/~/conv2_d_transpose/w": (3, 3, 8, 4)}, (2,)),
    ("conv1_d_transpose_1/w", {"conv1_d_transpose_1/w": (3, 4, 4)}, (1,)),
    ("up/w", {"up/w": (3, 3, 8, 4), "up/b": (8,)}, (2,)),
    ("transpose_it/w", {"transpose_it/w": (8, 4)}, (1,)),
    ("up/kernel", {"up/kernel": (3, 3, 8, 4), "up/bias": (8,)}, (2,)),
    ("up/kernel", {"up/kernel": (3, 3, 8, 4), "up/bias": (4,)}, (3,)),
    ("query/kernel", {"query/kernel": (1, 1, 8, 4)}, (3,)),
    ("net/query/w", {"net/query/w": (1, 1, 8, 4)}, (3,)),
    ("query/kernel", {"query/kernel": (1, 1, 1, 8, 4), "query/bias": (4,)}, (4,)),
    ("value/kernel", {"value/kernel": (3, 8, 6), "value/bias": (6,)}, (2,)),
    ("value/kernel", {"value/kernel": (1, 8, 6)}, (2,)),
    ("a/key/kernel", {"a/key/kernel": (1, 8, 4), "a/out/kernel": (1, 4, 8)}, (2,)),
    ("a/key/kernel", {"a/key/kernel": (8, 2, 4), "a/out/kernel": (2, 4, 8)}, (1, 2)),
    ("a/key/kernel", {"a/key/kernel": (8, 2, 4), "a/key/bias": (2, 4)}, (1, 2)),
    ("a/out/kernel", {"a/out/kernel": (2, 4, 8), "a/out/bias": (8,)}, (2,)),
    ("join/kernel", {"join/kernel": (8, 2, 4), "join/bias": (2, 4)}, (1, 2)),
    ("sum/kernel", {"sum/kernel": (8, 2, 4), "sum/bias": (8, 4)}, (0, 2)),
    ("key/kernel/value", {"key/kernel/value": (8, 2, 4), "key/bias/value": (2, 4)}, (1, 2)),
    (
        "key/kernel/value",
        {"key/kernel/value": (8, 2, 4), "out/kernel/value": (2, 4, 8)},
        (1, 2),
    ),
    ("key/kernel/value", {"key/kernel/value": (3, 8, 4), "key/bias/value": (4,)}, (2,)),
]


@pytest.mark.parametrize("stack", [None, "layers"])
@pytest.mark.parametrize(("name", "shapes", "kept"), KERNELS)
def test_outputs_lie_along_the_axes_of_the_bias(name, shapes, kept, stack):
    params: dict = {}
    for path, shape in shapes.items():
        *parents, last = [*([stack] if stack else []), *path.split("/")]
        branch = params
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = jnp.ones((3, *shape) if stack else shape)
    axis = stacked(flax_axis, stack) if stack else flax_axis
    found = filter_norms(params, axis)
    for part in [*([stack] if stack else []), *name.split("/")]:
        found = found[part]
    shape = shapes[name]
    one = tuple(size if axis in kept else 1 for axis, size in enumerate(shape))
    assert found.shape == ((3, *one) if stack else one)


def test_a_function_may_ask_for_the_shapes_of_all_leaves():
    params = {"key": {"kernel": jnp.ones((3, 8, 4)), "bias": jnp.ones(4)}, "gain": jnp.ones((2, 3))}

    def axis(name, leaf, shapes):
        return None if name == "gain" else flax_axis(name, leaf, shapes)

    found = jax.tree.map(jnp.shape, filter_norms(params, axis))
    assert found == {"key": {"kernel": (1, 1, 4), "bias": (1,)}, "gain": (1, 1)}


def test_a_bias_that_is_left_out_does_not_make_attention_a_convolution():
    layers = {name: HEADS | {"bias": (2, 4)} for name in ("query", "key", "value")}
    shapes = {"attention": layers | {"out": {"kernel": (2, 4, 8), "bias": (8,)}}}
    params = jax.tree.map(jnp.ones, shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    whole = filter_norms(params, flax_axis)["attention"]["query"]["kernel"]
    for keep in ("kernel", "query"):
        part = jax.tree_util.tree_map_with_path(
            lambda path, leaf, keep=keep: leaf if keep in jax.tree_util.keystr(path) else None,
            params,
        )
        part["attention"]["query"]["bias"] = None
        found = filter_norms(part, flax_axis)["attention"]["query"]["kernel"]
        assert found.shape == whole.shape == (1, 2, 4)


@pytest.mark.parametrize("bias", [True, False])
def test_the_kernels_of_flax_models_are_known_by_their_biases(bias):
    linen: Any = pytest.importorskip("flax.linen")
    from flax import nnx

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            linen.MultiHeadDotProductAttention(2, use_bias=bias, name="attention")(x)
            linen.Conv(4, (3,), use_bias=bias, name="query")(x)
            linen.Conv(4, (1, 1), use_bias=bias, name="key")(x[None])
            linen.Conv(6, (1,), use_bias=bias, name="out")(x)

    params = Net().init(KEY, jnp.ones((2, 5, 8)))["params"]
    s = jax.tree.map(jnp.shape, filter_norms(params, flax_axis))
    assert s["attention"]["query"]["kernel"] == (1, 2, 4)
    assert s["attention"]["out"]["kernel"] == (1, 1, 8)
    assert s["query"]["kernel"] == (1, 1, 4)
    assert s["key"]["kernel"] == (1, 1, 1, 4)
    model = nnx.MultiHeadAttention(2, 8, use_bias=bias, decode=False, rngs=nnx.Rngs(0))
    params = nnx.split(model, nnx.Param, ...)[1]
    s = filter_norms(params, flax_axis)
    assert s["query"]["kernel"].get_value().shape == (1, 2, 4)


def test_the_filters_of_equinox():
    kernel = jax.random.normal(KEY, (5, 4, 3, 3))
    s = filter_norms({"weight": kernel, "bias": jnp.full((4, 1, 1), 3.0)}, equinox_axis)
    rows = np.linalg.norm(np.asarray(kernel).reshape(5, -1), axis=1)
    np.testing.assert_allclose(s["weight"].ravel(), rows, rtol=1e-6)
    assert s["bias"].ravel().tolist() == [6.0]


def test_several_axes_may_count_the_filters():
    stacked = jax.random.normal(KEY, (2, 4, 3))
    s = filter_norms([stacked], lambda name, leaf: (0, -1))[0]
    np.testing.assert_allclose(s[:, 0], np.linalg.norm(stacked, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (40, 2500)), (-1, (2500, 40)), (flax_axis, (50, 50, 40))]
)
def test_every_filter_has_noise_of_its_size(axis, shape):
    w = {"kernel": jax.random.normal(jax.random.key(1), shape)}
    w["kernel"] *= 1 + jnp.arange(40).reshape((-1, 1) if axis == 0 else (40,))
    noise = filter_noise(KEY, w, 0.1, output_axis=axis)["kernel"]
    over = (1,) if axis == 0 else tuple(range(len(shape) - 1))
    s = np.linalg.norm(
        np.moveaxis(np.asarray(w["kernel"]), 0 if axis == 0 else -1, 0).reshape(40, -1), axis=1
    )
    np.testing.assert_allclose(noise.std(over), 0.1 * s, rtol=6.5 / np.sqrt(2 * 2500))
    assert np.abs(noise.mean(over) / (0.1 * s)).max() < 6.5 / np.sqrt(2500)


def test_leaves_of_equal_shape_are_drawn_apart_unless_that_is_asked():
    w = [jnp.ones((100, 100)), jnp.ones((100, 100))]
    a, b = filter_noise(KEY, w, 0.1)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 6.5 / 100
    a, b = filter_noise(KEY, w, 0.1, draw="one-key")
    assert (a == b).all()


def test_steps_draw_apart_and_the_same_step_alike():
    params, tx = some_params(), rsam(optax.sgd(0.1), 0.1, 0.1)
    state = tx.init(params)
    noises = [tx.step(grad, params, state._replace(step=t))[2].noise["w"] for t in (0, 1, 1)]
    assert (noises[1] == noises[2]).all()
    assert not np.allclose(noises[0], noises[1])


# The limits


@pytest.mark.parametrize("base", [optax.sgd(0.1, momentum=0.9), optax.adamw(0.1)])
def test_a_radius_of_0_is_the_base_optimizer_bit_for_bit(base):
    params = some_params()
    updates, expected = base.update(grad(params)[1], base.init(params), params)
    for tx in (sam(base, 0.0), rsam(base, 0.0, 0.1)):
        moved, state, _ = tx.step(grad, params, tx.init(params))
        assert equal(moved, optax.apply_updates(params, updates))
        assert equal(state.base, expected)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "rho",
    [0.0, jnp.float32(0.0), lambda step: 0.0, optax.linear_schedule(0.0, 1.0, 9)],
    ids=["a number", "an array", "a schedule", "a schedule of optax"],
)
@pytest.mark.parametrize("first", [0.0, np.nan])
def test_a_radius_of_0_leaves_a_gradient_that_is_not_finite_to_the_base(first, rho, compiled):
    params = {"w": jnp.array([first, 1.0]), "b": jnp.array([-0.0, 4.0])}
    roots = jax.value_and_grad(lambda p: jnp.sqrt(p["w"]).sum() + (p["b"] ** 2).sum())
    base = optax.chain(optax.clip(1.0), optax.sgd(0.1))
    updates, _ = base.update(roots(params)[1], base.init(params), params)
    for tx in (
        sam(base, rho),
        sam(base, rho, ascent_steps=3),
        sam(base, rho, adaptive=True),
        rsam(base, rho, 0.0),
    ):
        step = jax.jit(partial(tx.step, roots)) if compiled else partial(tx.step, roots)
        moved, _, trace = step(params, tx.init(params))
        for a, b in zip(*map(jax.tree.leaves, (moved, optax.apply_updates(params, updates)))):
            np.testing.assert_array_equal(a, b)
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(trace.perturbation))


@pytest.mark.parametrize("name", TXS)
def test_a_step_has_a_derivative_where_a_filter_is_0(name, x64):
    params = {"w": jnp.array([[1.0, -2.0], [0.5, 0.3], [0.0, 0.0]]), "b": jnp.zeros(3)}
    x = jax.random.normal(KEY, (8, 2))

    def loss(p, x):
        return jnp.mean((jnp.tanh(x @ p["w"].T + p["b"]).sum(1) - x[:, 0]) ** 2)

    tx = TXS[name]()

    def after(p):
        return loss(tx.step(jax.value_and_grad(loss), p, tx.init(p), x)[0], x[::-1] + 0.1)

    found = jax.grad(after)(params)
    h = 1e-6
    for leaf, at in (("w", (0, 1)), ("w", (2, 0)), ("b", (1,))):
        up, down = (params | {leaf: params[leaf].at[at].add(s * h)} for s in (1, -1))
        expected = (after(up) - after(down)) / (2 * h)
        np.testing.assert_allclose(found[leaf][at], expected, rtol=1e-4, atol=1e-7)


def test_the_derivative_at_a_gradient_of_0_is_that_of_the_direction(x64):
    params = {"w": jnp.zeros(3)}
    climb = lambda p: sam_gradient(grad, p, rho=0.1).perturbation["w"].sum()
    np.testing.assert_allclose(jax.grad(climb)(params)["w"], 0.1 / 1e-12, rtol=1e-6)


def test_leaves_in_float32_need_no_promotion_where_float64_is_enabled(x64):
    params = jax.tree.map(lambda p: p.astype("float32"), some_params())
    rates = (0.1, jnp.float32(0.1), optax.linear_schedule(0.1, 0.0, 9), table(lambda t: 0.1, 9))
    for rate in rates:
        for tx in (
            sam(optax.sgd(0.1), rate),
            sam(optax.sgd(0.1), rate, adaptive=True),
            rsam(optax.sgd(0.1), rate, rate, rate),
        ):
            expected = tx.step(grad, params, tx.init(params))[0]
            with jax.numpy_dtype_promotion("strict"):
                found = jax.jit(partial(tx.step, grad))(params, tx.init(params))[0]
            for a, b in zip(*map(jax.tree.leaves, (found, expected))):
                np.testing.assert_allclose(a, b, rtol=1e-6)
    mixed = params | {"b": params["b"].astype("float64")}
    with jax.numpy_dtype_promotion("strict"):
        assert sam_gradient(grad, mixed, rho=0.1).gradient["b"].dtype == "float64"


def test_no_noise_is_sam_bit_for_bit():
    params = some_params()
    a, b = sam(optax.sgd(0.1), 0.2), rsam(optax.sgd(0.1), 0.2, 0.0, 1.0)
    assert equal(a.step(grad, params, a.init(params))[0], b.step(grad, params, b.init(params))[0])


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_gradient_of_0_gives_no_nan(dtype, x64):
    params = {"w": jnp.zeros((3, 2), dtype)}
    base = optax.sgd(0.1, momentum=0.9)
    for tx in (sam(base, 0.1), sam(base, 0.1, adaptive=True), rsam(base, 0.1, 0.0)):
        moved, _, trace = jax.jit(partial(tx.step, grad))(params, tx.init(params))
        assert (trace.perturbation["w"] == 0).all()
        assert (moved["w"] == 0).all()
        assert moved["w"].dtype == dtype


def test_the_length_in_float16_is_not_taken_in_float16():
    params = {"w": jnp.full(1000, 30.0, "float16")}  # whose squares sum to 900000
    trace = sam_gradient(grad, params, rho=1.0)
    length = np.linalg.norm(np.asarray(trace.perturbation["w"], "float32"))
    np.testing.assert_allclose(length, 1.0, rtol=1e-3)


# Trees of every kind


def test_a_tree_of_anything_keeps_its_types(x64):
    params = {
        "scalar": jnp.float32(2.0),
        "empty": jnp.zeros((0, 3)),
        "half": jnp.ones((4, 2), "bfloat16"),
        "eighth": jnp.ones((3, 2), "float8_e4m3fn"),
        "double": jnp.ones(3, "float64"),
        "complex": jnp.array([1 + 2j, -1j], "complex64"),
        "none": None,
        "pair": (jnp.ones(1, "float16"), [jnp.ones((1, 1, 1), "float32")]),
    }
    types = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    for tx in (TXS["sam"](), TXS["asam"](), TXS["rsam"]()):
        moved, state, trace = jax.jit(partial(tx.step, grad))(params, tx.init(params))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), moved) == types
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), trace.gradient) == types
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
        tx.step(grad, moved, state)


def test_complex_weights_are_two_real_ones(x64):
    c = jnp.array([0.3 - 1.2j, 2 + 0.5j])

    def loss(z):
        return jnp.sum(jnp.abs(z - c) ** 4) + (z.real * z.imag).sum()

    def of_parts(v):
        return loss(jax.lax.complex(v[:2], v[2:]))

    z = jnp.array([1 + 2j, -1 - 0.5j])
    v = jnp.concatenate([z.real, z.imag])
    tx = sam(optax.sgd(0.1), 0.3)
    found, _, _ = tx.step(jax.value_and_grad(loss), z, tx.init(z))
    expected, _, _ = tx.step(jax.value_and_grad(of_parts), v, tx.init(v))
    np.testing.assert_allclose(jnp.concatenate([found.real, found.imag]), expected, rtol=1e-13)
    noise = filter_noise(KEY, jnp.ones(20000, "complex128"), 1.0) / np.sqrt(20000)
    assert abs(noise.real.std() - 1) < 6.5 / 200
    assert abs(noise.imag.std() - 1) < 6.5 / 200


def test_frozen_leaves_stay_and_do_not_count():
    params = {"head": some_params(), "body": {"w": jnp.full((2, 2), 5.0), "n": jnp.arange(3)}}
    loss = jax.value_and_grad(quadratic, allow_int=True)
    for mask in ({"head": True, "body": False}, lambda p: {"head": True, "body": False}):
        tx = rsam(optax.adamw(0.1, weight_decay=0.5), 0.2, 0.01, trainable=mask)
        moved, _, trace = jax.jit(partial(tx.step, loss))(params, tx.init(params))
        assert equal(moved["body"], params["body"])
        assert not equal(moved["head"], params["head"])
        assert trace.perturbation["body"] == {"w": None, "n": None}
        np.testing.assert_allclose(length(trace.perturbation["head"]), 0.2, rtol=1e-5)
        updates, _ = tx.update(None, tx.init(params), params, grad_fn=lambda p, i: loss(p)[1])
        assert equal(optax.apply_updates(params, updates)["body"], params["body"])


def test_what_the_loss_gives_beside_itself_is_the_first_passes():
    def loss(params, count):
        return quadratic(params), {"mean": params["b"].mean(), "count": count + 1}

    params = some_params()
    tx = sam(optax.sgd(0.1), 0.5)
    both = jax.value_and_grad(loss, has_aux=True)
    _, _, trace = jax.jit(partial(tx.step, both))(params, tx.init(params), 3)
    value, aux = trace.loss
    assert value == quadratic(params)
    assert aux == {"mean": 1.0, "count": 4}
    assert trace.adversarial_loss[1]["mean"] != 1.0


# With the rest of optax


def test_it_stands_in_a_chain_and_under_wrappers_of_optax():
    params = some_params()
    tx = optax.chain(sam(optax.sgd(0.1), 0.1), optax.clip(1e-3))
    wrapped = optax.apply_if_finite(tx, 3)
    grad_fn = lambda p, i: grad(p)[1]
    updates, _ = wrapped.update(grad_fn(params, 0), wrapped.init(params), params, grad_fn=grad_fn)
    assert max(jnp.abs(u).max() for u in jax.tree.leaves(updates)) == np.float32(1e-3)


def test_a_base_that_asks_for_the_loss_gets_it():
    params = some_params()
    for loss, has_aux in ((quadratic, False), (lambda p: (quadratic(p), p), True)):
        plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=1)
        tx = sam(optax.chain(optax.sgd(0.0), plateau), 0.1)  # which does not move
        both = jax.value_and_grad(loss, has_aux=has_aux)
        state = tx.init(params)
        for _ in range(4):
            params, state, _ = tx.step(both, params, state)
        assert state.base[1].best_value == quadratic(params)
        assert state.base[1].scale < 1


def test_settings_may_be_traced():
    params = some_params()

    @jax.jit
    def step(rho, sigma, lam):
        tx = rsam(optax.sgd(0.1), rho, sigma, lam)
        return tx.step(grad, params, tx.init(params))[2].perturbation

    np.testing.assert_allclose(length(step(0.3, 0.01, 2.0)), 0.3, rtol=1e-5)
    lengths = jax.vmap(lambda rho: length(step(rho, 0.01, 2.0)))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(lengths, [0.1, 0.2], rtol=1e-5)
