import numpy as np


def draw(rng, w, sigma):
    if w.ndim > 1:
        s = np.sqrt((w**2).sum(axis=tuple(range(1, w.ndim)), keepdims=True))
    else:
        s = np.sqrt((w**2).sum()) + 1e-16
    return sigma * s * rng.standard_normal(w.shape)


def train_step(weights, loss_and_grad, state, hyper):
    rng = state.get("rng") or np.random.default_rng(1234)
    noise = [draw(rng, w, hyper.sigma) for w in weights]
    loss, g0 = loss_and_grad([w + d for w, d in zip(weights, noise)])
    a = [hyper.lam * g + d for g, d in zip(g0, noise)]
    r = hyper.rho / (np.sqrt(sum((x * x).sum() for x in a)) + 1e-12)
    _, g = loss_and_grad([w + r * x for w, x in zip(weights, a)])
    g = [x + hyper.weight_decay * w for x, w in zip(g, weights)]
    v = g if "v" not in state else [hyper.momentum * m + x for m, x in zip(state["v"], g)]
    return [w - hyper.lr * m for w, m in zip(weights, v)], {"rng": rng, "v": v, "loss": loss}
