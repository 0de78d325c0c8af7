import numpy as np


def ball(rng, n, radius):
    z = rng.normal(size=n)
    return radius * z / (np.linalg.norm(z) + 1e-12)


def train_step(weights, loss_and_grad, state, hyper):
    rng = state.get("rng", np.random.default_rng(0))
    sizes = [w.size for w in weights]
    flat = ball(rng, sum(sizes), hyper.sigma)
    noise, at = [], 0
    for w in weights:
        noise.append(flat[at : at + w.size].reshape(w.shape))
        at += w.size
    _, grads = loss_and_grad([w + n for w, n in zip(weights, noise)])
    ascent = [hyper.lam * g + n for g, n in zip(grads, noise)]
    length = np.sqrt(np.sum([np.sum(a**2) for a in ascent])) + 1e-12
    _, grads = loss_and_grad([w + hyper.rho * a / length for w, a in zip(weights, ascent)])
    grads = [g + hyper.weight_decay * w for g, w in zip(grads, weights)]
    m = [hyper.momentum * b + g for b, g in zip(state["m"], grads)] if "m" in state else grads
    return [w - hyper.lr * b for w, b in zip(weights, m)], dict(rng=rng, m=m)
