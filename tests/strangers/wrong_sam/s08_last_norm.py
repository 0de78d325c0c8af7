# SAM for anything that gives gradients as numpy arrays
import numpy as np


def train_step(weights, loss_and_grad, state, hyper):
    velocity = state.get("v", [np.zeros_like(w) for w in weights])
    loss, grads = loss_and_grad(weights)

    for g in grads:
        norm = np.linalg.norm(g)
    eps = [hyper.rho * g / (norm + 1e-12) for g in grads]

    _, grads = loss_and_grad([w + e for w, e in zip(weights, eps)])
    velocity = [
        hyper.momentum * v + g + hyper.weight_decay * w for v, g, w in zip(velocity, grads, weights)
    ]
    return [w - hyper.lr * v for w, v in zip(weights, velocity)], {"v": velocity, "loss": loss}
