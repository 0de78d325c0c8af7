"""The draw is a function of a seed, the step and the array's number: nothing else is stored."""
import numpy as np

SEED = 20221128


def gaussian(step, index, shape):
    return np.random.Generator(np.random.Philox(key=[SEED, step * 4096 + index])).standard_normal(shape)


def unit_norms(w):
    m = w.reshape(w.shape[0], -1) if w.ndim >= 2 else w.reshape(1, -1)
    n = np.linalg.norm(m, axis=1)
    return n.reshape((-1,) + (1,) * (w.ndim - 1)) if w.ndim >= 2 else n[0]


def update(weights, loss_and_grad, state, hyper):
    t = state.setdefault("t", 0)
    D = [hyper["sigma"] * unit_norms(w) * gaussian(t, i, w.shape) for i, w in enumerate(weights)]
    shifted = [np.add(w, d) for w, d in zip(weights, D)]
    g0 = loss_and_grad(shifted)[1]
    a = [hyper["lam"] * g + d for g, d in zip(g0, D)]
    length = np.linalg.norm(np.concatenate([x.ravel() for x in a]))
    adversarial = [w + x * (hyper["rho"] / (length + 1e-12)) for w, x in zip(weights, a)]
    g1 = loss_and_grad(adversarial)[1]

    velocity = state.setdefault("velocity", [np.zeros_like(w) for w in weights])
    out = []
    for i, (w, g) in enumerate(zip(weights, g1)):
        velocity[i] = hyper["momentum"] * velocity[i] + g + hyper["weight_decay"] * w
        out.append(w - hyper["lr"] * velocity[i])
    state["t"] = t + 1
    return out, state
