import numpy as np

F = np.float32


def train_step(weights, loss_and_grad, state, hyper):
    """Single precision throughout, as on the device it was written for."""
    params = [np.asarray(w, dtype=F) for w in weights]
    lr, mu, wd, rho = F(hyper.lr), F(hyper.momentum), F(hyper.weight_decay), F(hyper.rho)

    def grads(ps):
        return [np.asarray(g, dtype=F) for g in loss_and_grad(ps)[1]]

    g = grads(params)
    norm = F(np.sqrt(np.sum([np.sum(x * x, dtype=F) for x in g], dtype=F)))
    g = grads([p + rho * (x / (norm + F(1e-12))) for p, x in zip(params, g)])
    bufs = state.get("bufs") or [np.zeros_like(p) for p in params]
    bufs = [mu * b + (x + wd * p) for b, x, p in zip(bufs, g, params)]
    return [p - lr * b for p, b in zip(params, bufs)], {"bufs": bufs}
