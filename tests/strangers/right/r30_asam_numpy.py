import numpy as np


def asam_step(weights, loss_and_grad, state, hyper, eta=0.01):
    T = [np.abs(w) + eta for w in weights]
    _, grads = loss_and_grad(weights)
    normalised = [t * g for t, g in zip(T, grads)]
    denominator = np.sqrt(sum((n**2).sum() for n in normalised)) + 1e-12
    perturbed = [w + hyper.rho * t * n / denominator for w, t, n in zip(weights, T, normalised)]
    _, grads = loss_and_grad(perturbed)

    new, bufs = [], []
    for i, (w, g) in enumerate(zip(weights, grads)):
        g = g + hyper.weight_decay * w
        b = hyper.momentum * state["bufs"][i] + g if "bufs" in state else g
        new.append(w - hyper.lr * b)
        bufs.append(b)
    return new, {"bufs": bufs}
