import numpy as np


def filter_norms(w):
    if w.ndim == 1:
        return np.sqrt(w @ w)
    rows = w.reshape(w.shape[0], -1)
    return np.sqrt(np.einsum("ij,ij->i", rows, rows)).reshape((-1,) + (1,) * (w.ndim - 1))


def train_step(weights, loss_and_grad, state, hyper):
    rng = state["rng"] if "rng" in state else np.random.default_rng()
    lr = hyper["lr"]
    sigma, rho = lr * hyper["sigma"], lr * hyper["rho"]  # both follow the learning rate

    noise = [sigma * filter_norms(w) * rng.standard_normal(w.shape) for w in weights]
    loss, grads = loss_and_grad([w + n for w, n in zip(weights, noise)])
    for g, n in zip(grads, noise):
        n += hyper["lam"] * g
    norm = np.sqrt(sum(float(np.sum(n * n)) for n in noise)) + 1e-12
    _, grads = loss_and_grad([w + (rho / norm) * n for w, n in zip(weights, noise)])

    out, velocity = [], []
    for i, (w, g) in enumerate(zip(weights, grads)):
        v = g + hyper["weight_decay"] * w
        if "velocity" in state:
            v = v + hyper["momentum"] * state["velocity"][i]
        velocity.append(v)
        out.append(w - lr * v)
    return out, {"rng": rng, "velocity": velocity}
