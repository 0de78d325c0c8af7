import numpy as np


class FlatSAM:
    """Works on one flat vector; the caller flattens."""

    def __init__(self, radius, learning_rate, beta, l2):
        self.radius, self.learning_rate, self.beta, self.l2 = radius, learning_rate, beta, l2
        self.m = None

    def step(self, theta, grad_fn):
        g = grad_fn(theta)
        hat = theta + self.radius * g / (np.linalg.norm(g) + 1e-12)
        g = grad_fn(hat) + self.l2 * theta
        self.m = g if self.m is None else self.beta * self.m + g
        return theta - self.learning_rate * self.m


def train_step(weights, loss_and_grad, state, hyper):
    shapes = [w.shape for w in weights]
    cuts = np.cumsum([w.size for w in weights])[:-1]

    def unflat(v):
        return [part.reshape(s) for part, s in zip(np.split(v, cuts), shapes)]

    def grad_fn(v):
        return np.concatenate([g.ravel() for g in loss_and_grad(unflat(v))[1]])

    sam = FlatSAM(hyper["rho"], hyper["lr"], hyper["momentum"], hyper["weight_decay"])
    sam.m = state.get("m")
    theta = sam.step(np.concatenate([w.ravel() for w in weights]), grad_fn)
    return unflat(theta), {"m": sam.m}
