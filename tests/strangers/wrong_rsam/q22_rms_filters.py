import numpy as np


def rms(w):
    """Root of the mean square of each filter, so that wide layers are not smoothed more than narrow ones."""
    if w.ndim == 1:
        return np.sqrt(np.mean(w * w))
    r = np.sqrt(np.mean(w.reshape(len(w), -1) ** 2, axis=1))
    return r.reshape((-1,) + (1,) * (w.ndim - 1))


def inner(a, b):
    return sum(np.vdot(u, v) for u, v in zip(a, b))


def train_step(weights, loss_and_grad, state, hyper):
    t = state.get("t", 0)
    rng = np.random.default_rng([11, t])
    lr, mu, wd = hyper["lr"], hyper["momentum"], hyper["weight_decay"]
    noise = [hyper["sigma"] * rms(w) * rng.normal(size=w.shape) for w in weights]
    loss, g = loss_and_grad([w + n for w, n in zip(weights, noise)])
    a = [hyper["lam"] * u + n for u, n in zip(g, noise)]
    k = hyper["rho"] / (np.sqrt(inner(a, a)) + 1e-12)
    loss2, g = loss_and_grad([w + k * u for w, u in zip(weights, a)])
    g = [u + wd * w for u, w in zip(g, weights)]
    v = g if t == 0 else [mu * m + u for m, u in zip(state["v"], g)]
    return [w - lr * m for w, m in zip(weights, v)], {"t": t + 1, "v": v}
