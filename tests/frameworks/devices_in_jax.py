"""Steps on two virtual devices, beside what they should be on one: printed as a table in JSON.

XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m tests.frameworks.devices_in_jax
"""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from rsam_ref.jax import filter_noise, rsam, rsam_gradient, sam

P = PartitionSpec
RHO, LR, SIGMA = 0.3, 0.1, 0.02
rng = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(rng.standard_normal((3, 4))), "b": jnp.zeros(3)}
X, Y = jnp.asarray(rng.standard_normal((8, 4))), jnp.asarray(rng.standard_normal((8, 3)))
HALVES = [(X[:4], Y[:4]), (X[4:], Y[4:])]


def loss_fn(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"].T + params["b"]) - y) ** 2)


grad = jax.value_and_grad(loss_fn)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))


def averaged_gradient(params, batch):
    return jax.lax.pmean(grad(params, batch), "batch")


def averaged_loss(params, batch):
    return jax.lax.pmean(loss_fn(params, batch), "batch")


def averaged_over_parts(params, batch):
    """The mean over micro-batches of one sample each, and over the devices."""

    def add(total, part):
        found = grad(params, part)
        return jax.tree.map(jnp.add, total, found), None

    parts = jax.tree.map(lambda a: a[:, None], batch)
    first = grad(params, jax.tree.map(lambda a: a[0], parts))
    rest = jax.tree.map(lambda a: a[1:], parts)
    total, _ = jax.lax.scan(add, first, rest)
    return jax.lax.pmean(jax.tree.map(lambda a: a / 4, total), "batch")


def with_aux(params, batch):
    loss = lambda params: (averaged_loss(params, batch), batch[0].mean())
    return jax.value_and_grad(loss, has_aux=True)(params)


def refused(tx, loss_and_grad):
    """What a shard_map that checks its axes says of it."""
    try:
        by_shards(tx, loss_and_grad)
    except TypeError as error:
        return str(error)
    return ""


def by_closure(tx):
    """The batch is no argument of loss_and_grad."""

    def step(params, state, batch):
        return tx.step(lambda p: grad(p, batch), params, state)[0]

    specs = {"in_specs": (P(), P(), P("batch")), "out_specs": P()}
    try:
        return jax.shard_map(step, mesh=mesh, **specs)(PARAMS, tx.init(PARAMS), (X, Y))
    except TypeError as error:
        return str(error)


def by_update(loss_and_grad):
    """`update`, which is given no batch."""
    tx = sam(optax.sgd(LR), RHO)

    def step(params, state, batch):
        grad_fn = lambda params, i: loss_and_grad(params, batch)[1]
        updates, _ = tx.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)
        return optax.apply_updates(params, updates)

    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P("batch")), out_specs=P())
    return mapped(PARAMS, tx.init(PARAMS), (X, Y))


def function_by_shards(loss_and_grad):
    """`rsam_gradient` itself, at weights that are shared."""
    noise = filter_noise(jax.random.key(0), PARAMS, SIGMA)
    of = lambda params, batch: rsam_gradient(loss_and_grad, params, noise, batch, rho=RHO).gradient
    mapped = jax.shard_map(of, mesh=mesh, in_specs=(P(), P("batch")), out_specs=P())
    alone = rsam_gradient(grad, PARAMS, noise, (X, Y), rho=RHO).gradient
    return apart(mapped(PARAMS, (X, Y)), alone)


def members(tx, loss_and_grad=grad, by="shard_map", steps=6):
    """After some steps, the weights of each device, one after the other."""
    if by == "vmap":
        step = jax.vmap(
            lambda p, s, b: tx.step(loss_and_grad, p, s, b)[:2],
            axis_name="batch",
        )
        split = jax.tree.map(lambda a: a.reshape(2, 4, *a.shape[1:]), (X, Y))
        params = jax.tree.map(lambda p: jnp.stack([p, p]), PARAMS)
        state = jax.vmap(tx.init)(params)
    else:
        step = jax.shard_map(
            lambda p, s, b: tx.step(loss_and_grad, p, s, b)[:2],
            mesh=mesh,
            in_specs=(P(), P(), P("batch")),
            out_specs=P(),
            check_vma=by == "shard_map",
        )
        split, params, state = (X, Y), PARAMS, tx.init(PARAMS)
    step = jax.jit(step)
    for _ in range(steps):
        params, state = step(params, state, split)
    if by == "vmap":
        return [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(2)]
    return [jax.tree.map(lambda leaf, i=i: leaf.addressable_data(i), params) for i in range(2)]


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def of_mean_loss(base):
    """Steps of a base that is given g of m-sharpness and the mean of both losses, by hand."""

    @jax.jit
    def step(params, state):
        value = sum(loss_fn(params, half) for half in HALVES) / 2
        g = jax.tree.map(lambda p, q: (p - q) / LR, params, each_by_itself(params))
        updates, state = base.update(g, state, params, value=value)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, base.init(PARAMS)
    for _ in range(6):
        params, state = step(params, state)
    return params


def farthest(base, by, expected):
    """How far two devices are from each other, and from what is expected of both."""
    one, other = map(as_numpy, members(sam(base, RHO, m_sharpness="batch"), by=by))
    return max(apart(one, other), apart(one, expected))


def told_by_update(make, loss_fn):
    """What update says of m-sharpness in a shard_map that checks."""
    tx = make(optax.sgd(LR), RHO, m_sharpness="batch")

    def step(params, state, batch):
        grad_fn = lambda params, i: jax.grad(loss_fn)(params, batch)
        return tx.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)[0]

    specs = {"in_specs": (P(), P(), P("batch")), "out_specs": P()}
    try:
        jax.shard_map(step, mesh=mesh, **specs)(PARAMS, tx.init(PARAMS), (X, Y))
    except TypeError as error:
        return str(error)
    return ""


def whole(tx):
    """One device with the whole batch."""
    return tx.step(grad, PARAMS, tx.init(PARAMS), (X, Y))[0]


def by_shards(tx, loss_and_grad, checked=True):
    def step(params, state, batch):
        return tx.step(loss_and_grad, params, state, batch)[0]

    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P(), P("batch")), out_specs=P(), check_vma=checked
    )
    return jax.jit(mapped)(PARAMS, tx.init(PARAMS), (X, Y))


def each_alone(map_, tx, expected):
    """Of a gradient of the averaged loss: how far each device is from a step of its own."""
    loss_and_grad = jax.value_and_grad(averaged_loss)
    step = map_(
        lambda half: tx.step(loss_and_grad, PARAMS, tx.init(PARAMS), half)[0], axis_name="batch"
    )
    found = step(jax.tree.map(lambda a: a.reshape(2, 4, *a.shape[1:]), (X, Y)))
    of_each = [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(2)]
    return max(map(apart, of_each, expected))


def by_map(map_, tx, loss_and_grad):
    """pmap, or vmap on one device."""
    split = jax.tree.map(lambda a: a.reshape(2, 4, *a.shape[1:]), (X, Y))
    step = map_(
        lambda p, s, b: tx.step(loss_and_grad, p, s, b)[0],
        axis_name="batch",
        in_axes=(None, None, 0),
    )
    both = step(PARAMS, tx.init(PARAMS), split)
    assert all((leaf[0] == leaf[1]).all() for leaf in jax.tree.leaves(both))
    return jax.tree.map(lambda leaf: leaf[0], both)


def by_jit(tx):
    """No map at all: the batch lies on both devices, and jit sees to the rest."""
    batch = jax.device_put((X, Y), NamedSharding(mesh, P("batch")))
    return jax.jit(lambda p, s, b: tx.step(grad, p, s, b)[0])(PARAMS, tx.init(PARAMS), batch)


def each_by_itself(params=PARAMS):
    """SAM's m-sharpness, by hand."""

    def one(half):
        g0 = jax.grad(loss_fn)(params, half)
        scale = RHO / (optax.tree.norm(g0) + 1e-12)
        return jax.grad(loss_fn)(jax.tree.map(lambda p, g: p + scale * g, params, g0), half)

    found = [one(half) for half in HALVES]
    return jax.tree.map(lambda p, a, b: p - LR * (a + b) / 2, params, *found)


def each_with_its_draw():
    """R-SAM's, with the draw of each device."""
    now, found = jax.random.fold_in(jax.random.PRNGKey(5), 0), []
    for device, half in enumerate(HALVES):
        noise = filter_noise(jax.random.fold_in(now, device), PARAMS, SIGMA)
        found.append(rsam_gradient(grad, PARAMS, noise, half, rho=RHO).gradient)
    return jax.tree.map(lambda p, a, b: p - LR * (a + b) / 2, PARAMS, *found)


def apart(a, b):
    return max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def main():
    base = optax.sgd(LR)
    one, m = sam(base, RHO), sam(base, RHO, m_sharpness="batch")
    random = rsam(base, RHO, SIGMA, key=5)
    m_random = rsam(base, RHO, SIGMA, key=5, m_sharpness="batch")
    together, each, drawn = whole(one), each_by_itself(), each_with_its_draw()
    alone = [one.step(grad, PARAMS, one.init(PARAMS), half)[0] for half in HALVES]
    found = {
        "synchronised, pmap": apart(by_map(jax.pmap, one, averaged_gradient), together),
        "synchronised, shard_map": apart(
            by_shards(one, jax.value_and_grad(averaged_loss)), together
        ),
        "synchronised, shard_map, the gradient averaged": apart(
            by_shards(one, averaged_gradient), together
        ),
        "synchronised, shard_map, in micro-batches": apart(
            by_shards(one, averaged_over_parts), together
        ),
        "synchronised, shard_map, with aux": apart(by_shards(one, with_aux), together),
        "synchronised R-SAM, shard_map": apart(
            by_shards(random, jax.value_and_grad(averaged_loss)), whole(random)
        ),
        "synchronised R-SAM, shard_map, the gradient averaged": apart(
            by_shards(random, averaged_gradient), whole(random)
        ),
        "the function, shard_map": function_by_shards(jax.value_and_grad(averaged_loss)),
        "the function, shard_map, the gradient averaged": function_by_shards(averaged_gradient),
        "synchronised, unchecked shard_map": apart(
            by_shards(one, averaged_gradient, checked=False), together
        ),
        "between it and the loss averaged, unchecked shard_map": apart(
            by_shards(one, jax.value_and_grad(averaged_loss), checked=False), together
        ),
        "the loss averaged, unchecked shard_map: the first device alone": apart(
            by_shards(one, jax.value_and_grad(averaged_loss), checked=False), alone[0]
        ),
        "the loss averaged, pmap: each device alone": each_alone(jax.pmap, one, alone),
        "the loss averaged, vmap: each part alone": each_alone(jax.vmap, one, alone),
        "update, shard_map": apart(by_update(jax.value_and_grad(averaged_loss)), together),
        "update, shard_map, the gradient averaged: twice as far": apart(
            by_update(averaged_gradient), whole(sam(optax.sgd(2 * LR), RHO))
        ),
        "synchronised, jit": apart(by_jit(one), together),
        "synchronised R-SAM, pmap": apart(
            by_map(jax.pmap, random, averaged_gradient), whole(random)
        ),
        "synchronised R-SAM, jit": apart(by_jit(random), whole(random)),
        "m-sharpness, pmap": apart(by_map(jax.pmap, m, grad), each),
        "m-sharpness, vmap": apart(by_map(jax.vmap, m, grad), each),
        "m-sharpness, shard_map": apart(by_shards(m, grad), each),
        "m-sharpness, unchecked shard_map": apart(by_shards(m, grad, checked=False), each),
        "m-sharpness R-SAM, pmap": apart(by_map(jax.pmap, m_random, grad), drawn),
        "m-sharpness R-SAM, shard_map": apart(by_shards(m_random, grad), drawn),
        "m-sharpness, shard_map, a closure": apart(by_closure(m), each),
        "m-sharpness of one axis by its tuple": apart(
            by_shards(sam(base, RHO, m_sharpness=("batch",)), grad), each
        ),
        "between the two semantics": apart(together, each),
        "between their draws": apart(whole(random), drawn),
    }
    plateau = optax.contrib.reduce_on_plateau(patience=1, factor=0.5, rtol=0.5)
    for name, asks in (
        ("plateau", optax.chain(base, plateau)),
        ("polyak", optax.polyak_sgd(max_learning_rate=9.0)),
    ):
        expected = of_mean_loss(asks)
        for by in ("vmap", "shard_map", "unchecked shard_map"):
            found[f"{name} by the mean loss, {by}"] = farthest(asks, by, expected)
    told = {"neither averaged": refused(one, grad), "a closure": by_closure(one)}
    twice = {
        "the loss": refused(m, jax.value_and_grad(averaged_loss)),
        "both": refused(m, averaged_gradient),
        "the gradient": refused(m, lambda *args: (grad(*args)[0], averaged_gradient(*args)[1])),
        "the loss with aux": refused(m, with_aux),
        "the loss, R-SAM": refused(m_random, jax.value_and_grad(averaged_loss)),
    }
    updates = [told_by_update(make, of) for make in (sam, rsam) for of in (loss_fn, averaged_loss)]
    table = {
        "devices": jax.device_count(),
        "apart": found,
        "refused": told,
        "averaged twice": twice,
        "by update": updates,
    }
    sys.stdout.write(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
