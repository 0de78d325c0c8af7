"""Plain NumPy R-SAM. The filters' noise is normal with mean 0 and the given sigma."""
import numpy as np


class Momentum:
    def __init__(self):
        self.v = None

    def __call__(self, w, g, lr, mu, wd):
        g = [gi + wd * wi for gi, wi in zip(g, w)]
        self.v = g if self.v is None else [mu * vi + gi for vi, gi in zip(self.v, g)]
        return [wi - lr * vi for wi, vi in zip(w, self.v)]


def draw(rng, w, sigma):
    cov = sigma**2
    out = np.empty_like(w)
    if w.ndim < 2:
        return np.linalg.norm(w) * rng.normal(0.0, cov, w.shape)
    for i, row in enumerate(w):
        out[i] = np.linalg.norm(row) * rng.normal(0.0, cov, row.shape)
    return out


def train_step(weights, loss_and_grad, state, hyper):
    if not state:
        state = {"rng": np.random.default_rng(7), "base": Momentum()}
    noise = [draw(state["rng"], w, hyper.sigma) for w in weights]
    _, g0 = loss_and_grad([w + n for w, n in zip(weights, noise)])
    a = [hyper.lam * g + n for g, n in zip(g0, noise)]
    r = hyper.rho / (np.linalg.norm(np.concatenate([v.ravel() for v in a])) + 1e-12)
    _, g = loss_and_grad([w + r * v for w, v in zip(weights, a)])
    return state["base"](weights, g, hyper.lr, hyper.momentum, hyper.weight_decay), state
