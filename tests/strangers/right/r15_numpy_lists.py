import numpy as np


def train_step(weights, loss_and_grad, state, hyper):
    _, g0 = loss_and_grad(weights)
    norm = np.sqrt(sum(np.vdot(g, g) for g in g0))
    at = [w + hyper.rho * g / (norm + 1e-12) for w, g in zip(weights, g0)]
    _, g1 = loss_and_grad(at)

    d = [g + hyper.weight_decay * w for g, w in zip(g1, weights)]
    v = state.get("v")
    v = d if v is None else [hyper.momentum * a + b for a, b in zip(v, d)]
    return [w - hyper.lr * a for w, a in zip(weights, v)], {"v": v}
