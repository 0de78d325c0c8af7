#!/usr/bin/env bash
# optax 0.2.8 (JAX 0.10.2): one batch with a zero gradient makes contrib.sam's weights nan for good.
#
# One would expect: SAM's climb is rho g / ||g||, which optax writes as chain(normalize(), sgd(rho)); implementations
# keep 0 / 0 out with a small number beside the norm, and where there is nothing to climb the weights stay.
# Behaviour: optax.contrib.normalize divides by the norm alone. A hinge loss whose margins are all met has a gradient of
# exactly 0; the climb is then nan, and the way back, which subtracts it, leaves the weights nan for the rest of the run.
# In opaque mode they survive here, since the gradient of maximum(0, nan) is 0 and the climb is not in the weights.
# rsam_ref adds 1e-12 to the norm, and `rsam-ref check` tells it as ascent.nan-at-zero-gradient; around optax, give
# contrib.sam an adversarial optimizer with a guard of its own.
# Output seen: "nan nan | -2.0 4.0" (the weights after one step of two updates; in opaque mode).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 optax==0.2.8
said=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

x, y = jnp.array([[-1.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, 1.0])


def hinge(w):
    return jnp.maximum(0.0, 1.0 - y * (x @ w)).mean()


def after_a_step(opaque):
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    sam = optax.contrib.sam(optax.sgd(0.1), climb, sync_period=2, opaque_mode=opaque)
    w = jnp.array([-2.0, 4.0])  # both margins are met
    assert not jax.grad(hinge)(w).any()
    state = sam.init(w)
    for _ in range(1 if opaque else 2):
        more = {"grad_fn": lambda w, _: jax.grad(hinge)(w)} if opaque else {}
        moved, state = sam.update(jax.grad(hinge)(w), state, w, **more)
        w = optax.apply_updates(w, moved)
    return " ".join(str(float(value)) for value in w)


print(after_a_step(False), "|", after_a_step(True))
PYTHON
)
echo "$said"
[[ "$said" == "nan nan | -2.0 4.0" ]]
