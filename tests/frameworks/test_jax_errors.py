"""rsam_ref.jax says in one line what is wrong with what it is given, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.frameworks
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

from rsam_ref.algorithms.schedules import rsam_sigma  # noqa: E402
from rsam_ref.jax import (  # noqa: E402
    equinox_axis,
    filter_noise,
    filter_norms,
    flax_axis,
    rsam,
    rsam_gradient,
    sam,
    sam_gradient,
    stacked,
    table,
)

from .trees_in_jax import grad, quadratic, some_params  # noqa: E402

KEY = jax.random.key(0)
SGD = optax.sgd(0.1)


def stepped(tx, *args, of=grad, params=None, state=None, **named):
    params = some_params() if params is None else params
    return tx.step(of, params, tx.init(params) if state is None else state, *args, **named)


def updated(tx, params=None, **more):
    params = some_params() if params is None else params
    return tx.update(grad(params)[1], tx.init(params), params, **more)


def grad_fn(params, i):
    return grad(params)[1]


def wrapped(tx):
    """Its updates, behind a wrapper of optax."""
    params = some_params()
    return tx.update(grad_fn(params, 0), tx.init(params), params, grad_fn=grad_fn)


def injected(make, **settings):
    tx = optax.inject_hyperparams(make)(SGD, rho=0.1, **settings)
    return jax.jit(lambda: wrapped(tx))()


SETTINGS = [
    ("rho is a radius", lambda: sam(SGD, -1.0)),
    ("lam weighs the gradient", lambda: rsam(SGD, lam=0.0)),
    ("sigma scales the noise", lambda: rsam(SGD, sigma=-0.1)),
    ("one ascent step", lambda: sam(SGD, ascent_steps=2, adaptive=True)),
    ("rho is a number or a schedule of the step, not None", lambda: sam(SGD, None)),
    ("rho is a number or a schedule of the step, not '0.05'", lambda: sam(SGD, "0.05")),
    ("rho is a number .* array of float32 with shape .2,", lambda: sam(SGD, jnp.ones(2))),
    ("sigma is a number or a schedule of the step, not True", lambda: rsam(SGD, sigma=True)),
    ("lam is a number or a schedule of the step, not 'a'", lambda: rsam(SGD, lam="a")),
    ("eta is a number, not 'a'", lambda: sam(SGD, adaptive=True, eta="a")),
    ("ascent_steps must be a whole number >= 1, not 2.0", lambda: sam(SGD, ascent_steps=2.0)),
    ("rho is a number, not function", lambda: sam_gradient(grad, some_params(), rho=grad_fn)),
    ("sigma is a number, not None", lambda: filter_noise(KEY, some_params(), None)),
    ("ascent_steps must be known .* name it in static_args", lambda: injected(sam)),
    ("output_axis must be known .* name it in static_args", lambda: injected(rsam)),
    (
        r"sigma is a schedule that asks .* give table\(schedule, steps\)",
        lambda: jax.jit(lambda: stepped(rsam(SGD, sigma=rsam_sigma(0.1, 5))))(),
    ),
    ("sigma scales the noise .* not -0.1", lambda: stepped(rsam(SGD, sigma=lambda step: -0.1))),
    ("sigma scales the noise .* not nan", lambda: stepped(rsam(SGD, sigma=lambda step: jnp.nan))),
    ("sigma is a number, not 'x'", lambda: stepped(rsam(SGD, sigma=lambda step: "x"))),
    ("rho is a number, not 'x'", lambda: jax.jit(lambda: stepped(sam(SGD, lambda step: "x")))()),
    ("lam weighs the gradient", lambda: stepped(rsam(SGD, lam=lambda step: 0.0))),
    ("takes a whole number of steps >= 1, not 0", lambda: table(rsam_sigma(0.1, 5), 0)),
    ("takes a whole number of steps >= 1, not 2.5", lambda: table(rsam_sigma(0.1, 5), 2.5)),
    ("m_sharpness is the name of a mapped axis, .* not True", lambda: sam(SGD, m_sharpness=True)),
    ("m_sharpness is the name of a mapped axis, .* not 2", lambda: rsam(SGD, m_sharpness=2)),
    (
        "m_sharpness='batch' is no mapped axis here: take the step in",
        lambda: stepped(sam(SGD, m_sharpness="batch")),
    ),
    (
        r"m_sharpness=\('a', 'b'\) is no mapped axis here",
        lambda: stepped(rsam(SGD, m_sharpness=("a", "b"))),
    ),
    (
        r"draw\(step, params\) must give z, a tree like params; it lacks params\['b'\]",
        lambda: stepped(rsam(SGD, draw=lambda step, params: jnp.ones(3))),
    ),
    (
        r"draw\(step, params\) must give z, a tree like params; it has shape",
        lambda: stepped(rsam(SGD, draw=lambda step, params: NARROW)),
    ),
    ("draw is 'independent', 'one-key', or a function", lambda: rsam(SGD, draw="tied")),
    (
        "draw is 'independent' or 'one-key', not",
        lambda: filter_noise(KEY, [jnp.ones(2)], 1.0, draw=""),
    ),
    ("key is one key of jax.random, or a seed, not 0.5", lambda: rsam(SGD, key=0.5)),
    ("key is one key .* with shape .4,", lambda: rsam(SGD, key=jax.random.split(KEY, 4))),
    ("key is one key .* not True", lambda: rsam(SGD, key=True)),
    ("new in every step, such as .*, not by 0$", lambda: filter_noise(0, some_params(), 0.1)),
    ("not by an array of int32", lambda: filter_noise(jnp.int32(0), some_params(), 0.1)),
    ("not by dict", lambda: filter_noise(some_params(), KEY, 0.1)),
]

WEIGHTS = [
    ("no leaf that could be trained", lambda: sam_gradient(grad, {}, rho=0.1)),
    (
        r"params\['n'\] is int32, of which there is no gradient; .* by `trainable` and .*allow_int",
        lambda: sam(SGD).init({"n": jnp.arange(3)}),
    ),
    (
        r"params\[1\] is a function; give the arrays alone, of a module by equinox.partition",
        lambda: sam(SGD).init([jnp.ones(1), equinox_axis]),
    ),
    (r"params\['act'\] is 'relu'; give", lambda: sam(SGD).init({"act": "relu"})),
    (
        "params is a function; the order is loss_and_grad, params",
        lambda: sam_gradient(grad, grad, rho=0.1),
    ),
    (
        "loss_and_grad must be a function, .* not dict; the order is",
        lambda: sam_gradient(some_params(), grad, rho=0.1),
    ),
    (
        "loss_and_grad must be a function, .* not dict; the order is",
        lambda: stepped(sam(SGD), of=some_params()),
    ),
    (
        "params is a state; the order",
        lambda: sam(SGD).step(grad, sam(SGD).init(some_params()), some_params()),
    ),
    ("follows the state without names, .*state, scale", lambda: stepped(sam(SGD), scale=2.0)),
    ("`trainable` must be a tree", lambda: sam(SGD, trainable={"w": True}).init(some_params())),
    ("trainable is a tree of bools .* it has 'w'", lambda: sam(SGD, trainable="w")),
    (r"it has 3 at trainable\['w'\]", lambda: sam(SGD, trainable={"w": 3, "b": True})),
    ("trainable is .* it has no leaf", lambda: sam(SGD, trainable={})),
    ("it has 'w'", lambda: sam(SGD, trainable=lambda params: "w").init(some_params())),
    (
        "masked by a wrapper .* `trainable`",
        lambda: wrapped(optax.masked(sam(SGD), {"w": True, "b": False})),
    ),
    (
        "masked by a wrapper .* optax.partition or optax.masked as the base",
        lambda: wrapped(
            optax.partition({"a": sam(SGD), "z": optax.set_to_zero()}, {"w": "a", "b": "z"})
        ),
    ),
    ("w has shape .2, 2., and no axis 2", lambda: filter_norms({"w": jnp.ones((2, 2))}, 2)),
    ("output_axis is the text .last", lambda: filter_norms({"w": jnp.ones((2, 2))}, "last")),
    (
        "no leaf has 'layer' in its path, .* the first one's path is 'layers/b'",
        lambda: filter_norms({"layers": some_params()}, stacked(flax_axis, "layer")),
    ),
    ("takes the names of what is stacked", lambda: stacked(flax_axis)),
    (
        "scale has no axis, so nothing is stacked",
        lambda: filter_norms({"scale": jnp.ones(())}, stacked(0, "scale")),
    ),
]

HALF = {"w": jnp.ones((3, 2))}
NARROW: Any = {"w": jnp.ones(2), "b": jnp.ones(())}  # which would be broadcast without a word
MORE = {**some_params(), "c": jnp.ones(1)}
PAIR = (jnp.ones(2), jnp.ones(2))
GRADIENTS = [
    ("the noise must be .* lacks .*'b'", lambda: rsam_gradient(grad, some_params(), HALF, rho=0.1)),
    ("the noise .* has shape", lambda: rsam_gradient(grad, some_params(), NARROW, rho=0.1)),
    ("the noise .* lacks", lambda: rsam_gradient(grad, some_params(), KEY, rho=0.1)),
    (
        "must give the loss and its gradient.*; it gave the gradient alone",
        lambda: sam_gradient(jax.grad(quadratic), some_params(), rho=0.1),
    ),
    (
        "it gave the gradient alone",
        lambda: jax.jit(lambda: stepped(sam(SGD), of=jax.grad(quadratic)))(),
    ),
    ("it gave the gradient alone", lambda: sam_gradient(lambda p: p, PAIR, rho=0.1)),
    ("it gave the gradient first", lambda: stepped(sam(SGD), of=lambda p: grad(p)[::-1])),
    (
        "it gave the gradient first",
        lambda: sam_gradient(lambda w: (w, w.sum()), jnp.ones(3), rho=0.1),
    ),
    ("it gave a number alone", lambda: stepped(sam(SGD), of=quadratic)),
    ("it gave None", lambda: stepped(sam(SGD), of=lambda p: None)),
    ("it gave tuple", lambda: stepped(sam(SGD), of=lambda p: (0.0, 0.0, p))),
    (r"gradient that lacks params\['b'\]", lambda: stepped(sam(SGD), of=lambda p: (0.0, [p["w"]]))),
    (r"gradient that lacks params\['b'\]", lambda: stepped(sam(SGD), of=lambda p: (0.0, HALF))),
    (r"gradient that has a leaf \['c'\]", lambda: stepped(sam(SGD), of=lambda p: (0.0, MORE))),
    (
        r"a gradient that has shape \(\) for params\['b'\], whose shape is \(3,\)",
        lambda: stepped(sam(SGD), of=lambda p: (0.0, NARROW)),
    ),
    (
        "a gradient that has its leaves in containers of another type",
        lambda: sam_gradient(lambda p: (0.0, list(p)), PAIR, rho=0.1),
    ),
    (
        r"grads and grad_fn\(params, i\) must .* gave a gradient that lacks",
        lambda: sam(SGD).update(HALF, sam(SGD).init(some_params()), some_params(), grad_fn=grad_fn),
    ),
    ("grads and grad_fn.* has shape", lambda: updated(sam(SGD), grad_fn=lambda p, i: NARROW)),
]

OTHERS = [
    ("wraps an optimizer of optax, such as optax.sgd.0.1., not 0.1", lambda: sam(0.1)),
    ("wraps an optimizer of optax, .* not 0.05", lambda: sam(0.05, SGD)),
    ("the one inside would be ignored", lambda: sam(rsam(SGD))),
    (
        "the one inside would be ignored",
        lambda: sam(optax.contrib.sam(SGD, SGD)).init(some_params()),
    ),
    (
        "moves pairs of weights, .* optax.incremental_update",
        lambda: sam(optax.lookahead(SGD, 5, 0.5)).init(some_params()),
    ),
    ("no losses for a line search", lambda: sam(optax.lbfgs()).init(some_params())),
    (
        "no losses for a line search",
        lambda: rsam(optax.chain(SGD, optax.scale_by_backtracking_linesearch(5))).init(HALF),
    ),
    ("state is not sam's: .* not tuple", lambda: stepped(sam(SGD), state=SGD.init(HALF))),
    (
        "state is not rsam's: .* another algorithm's",
        lambda: stepped(rsam(SGD), state=sam(SGD).init(some_params())),
    ),
    (
        "state is not sam's: .* another algorithm's",
        lambda: stepped(sam(SGD), state=rsam(SGD).init(some_params())),
    ),
    (
        "state is that of another base, or of other params",
        lambda: stepped(sam(SGD), state=sam(optax.adam(0.1)).init(some_params())),
    ),
    (
        "state is that of another base, or of other params",
        lambda: stepped(sam(optax.adam(0.1)), state=sam(optax.adam(0.1)).init(HALF)),
    ),
    ("params is None: give update", lambda: sam(SGD).update(some_params(), None, None)),
    (
        r"or use step\(loss_and_grad, .*in place of update, and of TrainState.apply_gradients",
        lambda: updated(sam(SGD)),
    ),
    (
        "update was replaced, and with it went the step",
        lambda: stepped(sam(SGD)._replace(update=SGD.update)),
    ),
]
ERRORS = [*SETTINGS, *WEIGHTS, *GRADIENTS, *OTHERS]


@pytest.mark.parametrize(("message", "wrong"), ERRORS, ids=[message for message, _ in ERRORS])
def test_errors_say_what_to_do(message, wrong):
    with pytest.raises((TypeError, ValueError), match=message) as told:
        wrong()
    assert "\n" not in str(told.value)


def test_a_module_of_flax_is_no_tree_of_weights():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="params is a module, Linear: split its weights off"):
        sam(SGD).init(model)


def test_a_module_of_equinox_as_a_whole_holds_functions():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(2, 3, 4, 1, key=KEY)
    with pytest.raises(TypeError, match=r"params.activation is a function; .*equinox.partition"):
        sam(SGD).init(model)


@pytest.mark.parametrize("freeze", ["flax.core.FrozenDict", "flax.nnx.State"])
def test_a_mask_in_another_container_is_told_and_in_the_same_one_taken(freeze):
    module, _, name = freeze.rpartition(".")
    container = getattr(pytest.importorskip(module), name)
    params, mask = container(some_params()), {"w": True, "b": False}
    with pytest.raises(ValueError, match=f"a dict where params is a {name}: make a {name} of it"):
        sam(SGD, trainable=mask).init(params)
    moved, _, _ = stepped(sam(SGD, trainable=container(mask)), params=params)
    assert (moved["b"] == params["b"]).all()
    assert (moved["w"] != params["w"]).any()


def test_apply_gradients_of_a_train_state_says_what_to_call():
    pytest.importorskip("flax")
    from flax.training.train_state import TrainState

    params = some_params()
    state = TrainState.create(apply_fn=None, params=params, tx=sam(SGD))
    with pytest.raises(ValueError, match=r"in place of .* TrainState.apply_gradients"):
        state.apply_gradients(grads=grad(params)[1])
