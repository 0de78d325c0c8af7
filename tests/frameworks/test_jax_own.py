"""rsam_ref.jax beside the NumPy reference, optax's SAM and the checker, and at its limits."""

from __future__ import annotations

import doctest
import importlib
import json
from functools import partial

import numpy as np
import pytest

pytestmark = pytest.mark.frameworks
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402
from optax import contrib  # noqa: E402

import rsam_ref  # noqa: E402
from rsam_backends import Stream  # noqa: E402
from rsam_ref import objective  # noqa: E402
from rsam_ref.algorithms.schedules import linear, rsam_sigma  # noqa: E402
from rsam_ref.conformance import check  # noqa: E402
from rsam_ref.conformance.observe.jax_types import double  # noqa: E402
from rsam_ref.jax import (  # noqa: E402
    asam_gradient,
    rsam,
    rsam_gradient,
    sam,
    sam_gradient,
    table,
)
from tests.helpers import public_names  # noqa: E402
from tests.helpers.problems import batches  # noqa: E402

from . import ours_in_jax  # noqa: E402

STEPS = 50
SIZES = (6, 5, 4)
RHO = linear(0.1, STEPS, 0.05)
SIGMA = rsam_sigma(0.01, STEPS)


@pytest.fixture
def x64():
    with double():
        yield


def numpy_net():
    return rsam_ref.models.mlp(SIZES, seed=0, dtype="float64")


def tree_of(flat, shapes):
    """The flat vector of the NumPy net, as a list of arrays."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [jnp.asarray(p.reshape(s)) for p, s in zip(np.split(np.asarray(flat), ends), shapes)]


def flat_of(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def loss_fn(params, batch):
    """The same net in JAX: weights (out, in)."""
    x, y = batch
    w1, b1, w2, b2 = params
    logits = jax.nn.relu(x @ w1.T + b1) @ w2.T + b2
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def data(steps=STEPS):
    return list(batches(steps, inputs=(SIZES[0],), classes=SIZES[-1]))


def draws(shapes, seed, steps=STEPS):
    """z of `rsam_ref.RSAM` with this seed, as a function of the step that jit traces."""
    size = sum(int(np.prod(shape)) for shape in shapes)
    drawn = [Stream("noise", seed, step).normal(size, "float64") for step in range(steps)]
    trees = [tree_of(z, shapes) for z in drawn]
    stacked = [jnp.stack(leaves) for leaves in zip(*trees)]
    return lambda step, params: [leaf[step] for leaf in stacked]


BASES = {
    "sgd": (
        lambda: rsam_ref.SGD(0.05, momentum=0.9, weight_decay=0.01),
        lambda: optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.05, momentum=0.9)),
    ),
    "nesterov": (
        lambda: rsam_ref.SGD(0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
        lambda: optax.chain(
            optax.add_decayed_weights(0.01), optax.sgd(0.05, momentum=0.9, nesterov=True)
        ),
    ),
    "adamw": (
        lambda: rsam_ref.AdamW(0.01, eps=1e-5, weight_decay=0.1),
        lambda: optax.adamw(0.01, eps=1e-5, weight_decay=0.1),
    ),
}
METHODS = {
    "sam": (lambda b: rsam_ref.SAM(b, RHO), lambda b, _: sam(b, table(RHO, STEPS))),
    "3-step sam": (
        lambda b: rsam_ref.SAM(b, 0.1, ascent_steps=3),
        lambda b, _: sam(b, 0.1, ascent_steps=3),
    ),
    "asam": (
        lambda b: rsam_ref.SAM(b, 0.5, adaptive=True, eta=0.02),
        lambda b, _: sam(b, 0.5, adaptive=True, eta=0.02),
    ),
    "rsam": (
        lambda b: rsam_ref.RSAM(b, 0.1, SIGMA, 1.5, seed=3),
        lambda b, z: rsam(b, 0.1, table(SIGMA, STEPS), 1.5, draw=z),
    ),
}


def compiled(tx, loss=loss_fn):
    """A step of tx, compiled."""

    @jax.jit
    def step(params, state, *args):
        return tx.step(jax.value_and_grad(loss), params, state, *args)

    return step


# Beside the reference


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
def test_fifty_steps_are_the_references(method, base, x64):
    ours, theirs = METHODS[method]
    make, of_optax = BASES[base]
    model, optimizer = numpy_net(), ours(make())
    shapes = model.weights.shapes
    params = tree_of(model.weights.flat.copy(), shapes)
    tx = theirs(of_optax(), draws(shapes, 3))
    state, step = tx.init(params), compiled(tx)
    for x, y in data():
        trace = optimizer.step(objective(model, x, y), model.weights.flat)
        params, state, found = step(params, state, (jnp.asarray(x), jnp.asarray(y)))
        for name in ("loss", "adversarial_loss"):
            np.testing.assert_allclose(getattr(found, name), getattr(trace, name), rtol=1e-11)
        for name in ("noise", "ascent_gradient", "perturbation", "gradient"):
            expected = getattr(trace, name)
            if expected is None:
                assert getattr(found, name) is None
            else:
                assert np.abs(flat_of(getattr(found, name)) - expected).max() < 1e-11, name
    assert np.abs(flat_of(params) - model.weights.flat).max() < 1e-11
    assert int(state.step) == STEPS


def test_the_functions_are_the_references_on_a_flat_vector(x64):
    rng = np.random.default_rng(0)
    w, c, noise = (rng.standard_normal(9) for _ in range(3))

    def loss(w):
        flat = jnp.concatenate([w["a"].ravel(), w["b"]])
        return jnp.sum(flat**4) / 4 + (c @ flat) ** 2 / 2

    def of_flat(w):
        return (w**4).sum() / 4 + (c @ w) ** 2 / 2, w**3 + (c @ w) * c

    def tree(v):
        return {"a": jnp.asarray(v[:6].reshape(2, 3)), "b": jnp.asarray(v[6:])}

    grad = jax.value_and_grad(loss)
    pairs = [
        (sam_gradient(grad, tree(w), rho=0.3), rsam_ref.sam_gradient(of_flat, w, rho=0.3)),
        (asam_gradient(grad, tree(w), rho=0.3), rsam_ref.asam_gradient(of_flat, w, rho=0.3)),
        (
            rsam_gradient(grad, tree(w), tree(noise), rho=0.3, lam=0.7),
            rsam_ref.rsam_gradient(of_flat, w, noise, rho=0.3, lam=0.7),
        ),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(flat_of(found.gradient), expected.gradient, rtol=1e-13)
        np.testing.assert_allclose(flat_of(found.perturbation), expected.perturbation, rtol=1e-13)


@pytest.mark.parametrize("opaque", [True, False])
def test_sam_is_optaxs_to_rounding(opaque, x64):
    params = tree_of(numpy_net().weights.flat, numpy_net().weights.shapes)
    ours = sam(optax.sgd(0.05, momentum=0.9), rho=0.1)
    ascent = optax.chain(contrib.normalize(), optax.sgd(0.1))
    theirs = contrib.sam(
        optax.sgd(0.05, momentum=0.9), ascent, sync_period=2, opaque_mode=opaque, reset_state=False
    )
    mine = its = params
    state, its_state = ours.init(params), theirs.init(params)
    for batch in data(20):
        grad_fn = partial(lambda batch, p, i: jax.grad(loss_fn)(p, batch), batch)
        updates, state = ours.update(grad_fn(mine, 0), state, mine, grad_fn=grad_fn)
        mine = optax.apply_updates(mine, updates)
        for _ in range(1 if opaque else 2):
            more = {"grad_fn": grad_fn} if opaque else {}
            updates, its_state = theirs.update(grad_fn(its, 0), its_state, its, **more)
            its = optax.apply_updates(its, updates)
    assert np.abs(flat_of(mine) - flat_of(its)).max() < 1e-13
    assert np.abs(flat_of(mine) - flat_of(params)).max() > 0.01


@pytest.mark.parametrize("method", ["sam", "rsam"])
def test_update_and_step_are_the_same(method, x64):
    params = tree_of(numpy_net().weights.flat, numpy_net().weights.shapes)
    tx = {"sam": sam, "rsam": rsam}[method](optax.adam(0.01), rho=0.1)
    [batch] = data(1)
    stepped, after, _ = tx.step(jax.value_and_grad(loss_fn), params, tx.init(params), batch)
    grad_fn = lambda p, i: jax.grad(loss_fn)(p, batch)
    for grads in (grad_fn(params, 0), None):
        updates, other = tx.update(grads, tx.init(params), params, grad_fn=grad_fn)
        assert (flat_of(optax.apply_updates(params, updates)) == flat_of(stepped)).all()
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), after, other))


# Before the checker

CHECKED = [
    ("make_sam", "sam", []),
    ("make_asam", "asam", []),
    ("make_rsam", "rsam", []),
    ("make_compiled_sam", "sam", []),
    ("sam_function", "sam", []),
    ("rsam_function_as_flax", "rsam", ["noise.last-axis"]),
]


@pytest.mark.parametrize(("name", "algorithm", "codes"), CHECKED, ids=[c[0] for c in CHECKED])
def test_the_checker_finds_nothing(name, algorithm, codes):
    report = check(getattr(ours_in_jax, name), algorithm)
    assert report.algorithm == algorithm, report
    assert [f.code for f in report.findings] == codes, report


def test_the_checker_names_the_draw_by_one_key():
    report = check(ours_in_jax.make_one_key, "rsam")
    assert [f.code for f in report.findings] == ["noise.same-for-equal-shapes"], report


def test_the_public_names_are_those_of_the_table():
    kept = json.loads(public_names.TABLE.read_text(encoding="utf-8"))["names"]
    assert public_names.names(public_names.IN_JAX) == kept[public_names.IN_JAX]


def test_the_examples_of_the_docstrings_print_what_they_say():
    modules = [
        importlib.import_module(f"rsam_ref.jax.{name}")
        for name in ("axes", "draw", "optimizers", "settings")
    ]
    results = [doctest.testmod(module) for module in modules]
    assert [r.failed for r in results] == [0, 0, 0, 0]
    assert all(r.attempted for r in results)
