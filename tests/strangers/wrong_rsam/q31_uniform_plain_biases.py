import numpy as np


def uniform(rng, shape):
    half_width = np.sqrt(3.0)  # unit variance
    return rng.uniform(-half_width, half_width, size=shape)


def noisy(rng, w, sigma):
    if w.ndim == 1:
        return sigma * uniform(rng, w.shape)
    norms = np.linalg.norm(w.reshape(w.shape[0], -1), axis=1)
    return sigma * norms.reshape([-1] + [1] * (w.ndim - 1)) * uniform(rng, w.shape)


def train_step(weights, loss_and_grad, state, hyper):
    rng = state.get("rng") or np.random.RandomState(123)
    d = [noisy(rng, w, hyper.sigma) for w in weights]
    g = loss_and_grad([a + b for a, b in zip(weights, d)])[1]
    direction = [hyper.lam * a + b for a, b in zip(g, d)]
    norm = np.sqrt(sum(np.sum(np.square(v)) for v in direction)) + 1e-12
    g = loss_and_grad([w + hyper.rho * v / norm for w, v in zip(weights, direction)])[1]
    velocity = state.get("velocity", [0.0] * len(weights))
    velocity = [hyper.momentum * v + a + hyper.weight_decay * w for v, a, w in zip(velocity, g, weights)]
    return [w - hyper.lr * v for w, v in zip(weights, velocity)], {"rng": rng, "velocity": velocity}
