import numpy as np


def asam(weights, loss_and_grad, state, hyper):
    """eps = rho T^2 g / |T g| with T^2 = w^2 + eta."""
    _, g = loss_and_grad(weights)
    t2 = [w * w + hyper.eta for w in weights]
    norm = np.sqrt(sum(float(np.sum(t * x * x)) for t, x in zip(t2, g))) + 1e-12
    _, g = loss_and_grad([w + hyper.rho * t * x / norm for w, t, x in zip(weights, t2, g)])
    new, velocity = [], []
    for i, (w, x) in enumerate(zip(weights, g)):
        v = x + hyper.weight_decay * w
        if "velocity" in state:
            v = v + hyper.momentum * state["velocity"][i]
        velocity.append(v)
        new.append(w - hyper.lr * v)
    return new, {"velocity": velocity}
