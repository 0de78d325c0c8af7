import numpy as np


class State(dict):
    pass


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def unflat(vector, like):
    ends = np.cumsum([a.size for a in like])[:-1]
    return [part.reshape(a.shape) for part, a in zip(np.split(vector, ends), like)]


def sam(weights, loss_and_grad, state, hyper):
    """SAM. The radius shrinks together with the learning rate; decay as in AdamW."""
    w = flat(weights)
    _, g = loss_and_grad(weights)
    g = flat(g)
    radius = hyper["rho"] * hyper["lr"]
    w_adv = w + radius * g / (np.linalg.norm(g) + 1e-12)
    _, g = loss_and_grad(unflat(w_adv, weights))
    v = hyper["momentum"] * state.get("v", 0.0) + flat(g)
    w = w * (1 - hyper["lr"] * hyper["weight_decay"]) - hyper["lr"] * v
    return unflat(w, weights), State(v=v)
