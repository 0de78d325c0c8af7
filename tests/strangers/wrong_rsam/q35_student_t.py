import numpy as np

DOF = 4


def heavy_tailed(rng, w, sigma):
    z = rng.standard_t(DOF, size=w.shape) / np.sqrt(DOF / (DOF - 2))
    if w.ndim == 1:
        return sigma * np.linalg.norm(w) * z
    return sigma * np.linalg.norm(w.reshape(w.shape[0], -1), axis=1).reshape(w.shape[:1] + (1,) * (w.ndim - 1)) * z


def train_step(weights, loss_and_grad, state, hyper):
    """One flat vector in between; the lists only at the borders."""
    shapes = [w.shape for w in weights]
    cuts = np.cumsum([w.size for w in weights])[:-1]

    def unflat(v):
        return [part.reshape(s) for part, s in zip(np.split(v, cuts), shapes)]

    def flat(ws):
        return np.concatenate([np.ravel(w) for w in ws])

    state.setdefault("rng", np.random.default_rng(31))
    w = flat(weights)
    d = flat([heavy_tailed(state["rng"], v, hyper.sigma) for v in weights])
    g = flat(loss_and_grad(unflat(w + d))[1])
    a = hyper.lam * g + d
    g = flat(loss_and_grad(unflat(w + hyper.rho * a / (np.linalg.norm(a) + 1e-12)))[1])
    g = g + hyper.weight_decay * w
    state["m"] = hyper.momentum * state["m"] + g if "m" in state else g
    return unflat(w - hyper.lr * state["m"]), state
