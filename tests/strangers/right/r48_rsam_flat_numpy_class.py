import numpy as np


class RandomSAM:
    """One flat vector; `unit[i]` is the number of the filter that weight i belongs to."""

    def __init__(self, shapes, seed=0):
        self.shapes = shapes
        unit, k = [], 0
        for s in shapes:
            size = int(np.prod(s))
            rows = s[0] if len(s) > 1 else 1
            unit.append(k + np.repeat(np.arange(rows), size // rows))
            k += rows
        self.unit = np.concatenate(unit)
        self.rng = np.random.RandomState(seed)
        self.buffer = 0.0

    def pack(self, arrays):
        return np.concatenate([np.ravel(a) for a in arrays])

    def unpack(self, v):
        out, at = [], 0
        for s in self.shapes:
            n = int(np.prod(s))
            out.append(v[at : at + n].reshape(s))
            at += n
        return out

    def step(self, w, grad, h):
        s = np.sqrt(np.bincount(self.unit, weights=w * w))[self.unit]
        D = h.sigma * s * self.rng.randn(w.size)
        a = h.lam * grad(w + D) + D
        eps = h.rho * a / (np.sqrt(a @ a) + 1e-12)
        g = grad(w + eps) + h.weight_decay * w
        self.buffer = h.momentum * self.buffer + g
        return w - h.lr * self.buffer


def train_step(weights, loss_and_grad, state, hyper):
    opt = state.get("opt") or RandomSAM([w.shape for w in weights])
    w = opt.step(opt.pack(weights), lambda v: opt.pack(loss_and_grad(opt.unpack(v))[1]), hyper)
    return opt.unpack(w), {"opt": opt}
