import numpy as np


def _scale(w):
    if w.ndim <= 1:
        return np.linalg.norm(w) + 1e-16
    return np.sqrt((w**2).sum(axis=tuple(range(1, w.ndim)), keepdims=True))


def rsam_step(weights, loss_and_grad, state, hyper):
    rng = state.setdefault("rng", np.random.default_rng(2022))
    delta = [hyper["sigma"] * _scale(w) * rng.standard_normal(w.shape) for w in weights]
    _, grads = loss_and_grad([w + d for w, d in zip(weights, delta)])

    ascent = [g + hyper["lam"] * d for g, d in zip(grads, delta)]
    length = np.sqrt(sum((a**2).sum() for a in ascent)) + 1e-12
    _, grads = loss_and_grad([w + hyper["rho"] * a / length for w, a in zip(weights, ascent)])

    buf = state.get("buf") or [np.zeros_like(w) for w in weights]
    buf = [hyper["momentum"] * b + g + hyper["weight_decay"] * w for b, g, w in zip(buf, grads, weights)]
    state["buf"] = buf
    return [w - hyper["lr"] * b for w, b in zip(weights, buf)], state
