"""The optimizers for JAX against optax's SAM: the time of a compiled step, as a ratio.

    python -m benchmarks.jax_optimizers [--blocks 15] [--model mlp]

Against ``optax.contrib.sam`` in its opaque mode, and against a step that takes two gradients at the
same weights and no ascent. Both have the same network, batch and base, the weights are given up to
the step, and they run in processes of their own, in turn (duel.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from benchmarks.contestants import LAM, LR, MOMENTUM, RHO, SIGMA, batch, first_weights
from benchmarks.duel import AbsentError, cores, duel
from benchmarks.worker import before_the_net

Step = Callable[[], None]
Tree = Any

MODELS = ("mlp", "cnn")
SIZE = 128
OURS = ("sam", "rsam")
PEERS = {"optax": "optax.contrib.sam", "twice": "two gradients, no ascent"}


def contestant(model: str, who: str) -> Step:
    """A function that takes a compiled step, on one batch."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    make = MAKERS[who]
    before_the_net()
    weights = [jnp.asarray(p) for p in first_weights(model, channels_last=True)]
    images, labels = batch(model, SIZE)
    if model == "cnn":
        images = images.transpose(0, 2, 3, 1)
    both = jnp.asarray(images), jnp.asarray(labels)
    init, take = make(partial(loss_of, model))
    state = init(weights)
    compiled = jax.jit(take, donate_argnums=(0, 1))

    def step() -> None:
        nonlocal weights, state
        weights, state, _ = jax.block_until_ready(compiled(weights, state, both))

    return step


def loss_of(model: str, w: list[Any], both: tuple[Any, Any]) -> Any:
    """The mean cross-entropy; weights (in, out) and (height, width, in, out)."""
    import jax
    import optax

    x, y = both
    if model == "cnn":
        x = layer(layer(x, w[0], w[1]), w[2], w[3]).reshape(SIZE, -1) @ w[4] + w[5]
    else:
        x = jax.nn.relu(x @ w[0] + w[1])
        x = jax.nn.relu(x @ w[2] + w[3]) @ w[4] + w[5]
    return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()


def layer(x: Any, weight: Any, bias: Any) -> Any:
    import jax

    layout = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout)
    x = jax.nn.relu(x + bias)
    return jax.lax.reduce_window(x, -float("inf"), jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


Made = tuple[Callable[[Tree], Any], Callable[[Tree, Any, Any], tuple[Tree, Any, Any]]]


def our(kind: str, loss: Callable[..., Any]) -> Made:
    import jax
    import optax

    from rsam_ref.jax import flax_axis, rsam, sam

    base = optax.sgd(LR, momentum=MOMENTUM)
    if kind == "sam":
        tx = sam(base, RHO)
    else:
        tx = rsam(base, RHO, SIGMA, LAM, output_axis=flax_axis)

    def take(weights: Tree, state: Any, both: Any) -> tuple[Tree, Any, Any]:
        weights, state, trace = tx.step(jax.value_and_grad(loss), weights, state, both)
        return weights, state, trace.loss

    return tx.init, take


def optaxs(loss: Callable[..., Any]) -> Made:
    import jax
    import optax
    from optax import contrib

    ascent = optax.chain(contrib.normalize(), optax.sgd(RHO))
    tx = contrib.sam(optax.sgd(LR, momentum=MOMENTUM), ascent, opaque_mode=True, reset_state=False)

    def take(weights: Tree, state: Any, both: Any) -> tuple[Tree, Any, Any]:
        value, grads = jax.value_and_grad(loss)(weights, both)
        grad_fn = lambda w, i: jax.grad(loss)(w, both)
        updates, state = tx.update(grads, state, weights, grad_fn=grad_fn)
        return optax.apply_updates(weights, updates), state, value

    return tx.init, take


def twice(loss: Callable[..., Any]) -> Made:
    import jax
    import optax

    tx = optax.sgd(LR, momentum=MOMENTUM)

    def take(weights: Tree, state: Any, both: Any) -> tuple[Tree, Any, Any]:
        value, grads = jax.value_and_grad(loss)(weights, both)
        near = jax.tree.map(lambda w, g: w + 1e-30 * g, weights, grads)  # else they were one
        updates, state = tx.update(jax.grad(loss)(near, both), state, weights)
        return optax.apply_updates(weights, updates), state, value

    return tx.init, take


MAKERS: dict[str, Callable[[Callable[..., Any]], Made]] = {
    "sam": partial(our, "sam"),
    "rsam": partial(our, "rsam"),
    "optax": optaxs,
    "twice": twice,
}


def __getattr__(name: str) -> Callable[[], Step]:
    """``mlp_optax``: what a process of its own asks for."""
    model, _, who = name.partition("_")
    if model in MODELS and who in MAKERS:
        return lambda: contestant(model, who)
    raise AttributeError(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=15, help="pairs of blocks to a ratio")
    parser.add_argument("--model", choices=MODELS, action="append", help="one of the networks")
    options = parser.parse_args()
    console = Console()
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    table = Table(
        *("step", "against"),
        *(Column(name, **right) for name in ("ours (ms)", "(ms)", "ratio", "quartiles")),
        title=f"Time of a compiled step, ours / theirs, batch {SIZE}, {cores()} cores",
    )
    absent = {}
    for model in options.model or MODELS:
        for peer in PEERS:
            for ours in OURS:
                targets = [f"benchmarks.jax_optimizers:{model}_{who}" for who in (ours, peer)]
                try:
                    r = duel(*targets, blocks=options.blocks, seconds=0.5)
                except AbsentError as error:
                    absent[peer] = str(error)
                    continue
                times = [f"{r.a * 1e3:.2f}", f"{r.b * 1e3:.2f}", f"{r.ratio:.2f}"]
                table.add_row(
                    f"{model}, {ours}", PEERS[peer], *times, f"{r.low:.2f} to {r.high:.2f}"
                )
    console.print(table)
    for peer, reason in absent.items():
        console.print(f"Left out, {PEERS[peer]}: {reason}", soft_wrap=True)


if __name__ == "__main__":
    main()
