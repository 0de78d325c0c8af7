"""SAM, in place."""
import numpy as np


class Perturbation:
    def __init__(self, weights, eps):
        self.weights, self.eps = weights, eps

    def __enter__(self):
        for w, e in zip(self.weights, self.eps):
            w += e

    def remove(self):
        for w, e in zip(self.weights, self.eps):
            w -= e

    def __exit__(self, *_):
        self.remove()


def train_step(weights, loss_and_grad, state, hyper):
    w = [np.array(x) for x in weights]
    _, g = loss_and_grad(w)
    norm = np.sqrt(sum(np.vdot(x, x) for x in g)) + 1e-12
    shift = Perturbation(w, [hyper.rho * x / norm for x in g])
    with shift:
        _, g = loss_and_grad([x.copy() for x in w])
        shift.remove()
    old = state.get("m")
    m = []
    for i, (x, d) in enumerate(zip(w, g)):
        d = d + hyper.weight_decay * x
        m.append(hyper.momentum * old[i] + (1 - hyper.momentum) * d if old else d)
    return [x - hyper.lr * v for x, v in zip(w, m)], {"m": m}
