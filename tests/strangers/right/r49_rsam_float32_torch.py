"""Function form, but torch inside and float32 only."""
import numpy as np
import torch

torch.set_grad_enabled(True)


def to_torch(arrays):
    return [torch.as_tensor(np.ascontiguousarray(a, dtype=np.float32)).clone() for a in arrays]


def train_step(weights, loss_and_grad, state, hyper):
    w = to_torch(weights)
    if "rng" not in state:
        state["rng"] = torch.Generator().manual_seed(11)
    noise = []
    for p in w:
        z = torch.randn(p.shape, generator=state["rng"])
        s = p.flatten(1).norm(dim=1).view(-1, *[1] * (p.dim() - 1)) if p.dim() > 1 else p.norm()
        noise.append(hyper.sigma * s * z)
    _, g0 = loss_and_grad([(p + d).numpy() for p, d in zip(w, noise)])
    a = [hyper.lam * g + d for g, d in zip(to_torch(g0), noise)]
    norm = torch.stack([v.norm() for v in a]).norm()
    _, g1 = loss_and_grad([(p + hyper.rho * v / (norm + 1e-12)).numpy() for p, v in zip(w, a)])
    g1 = [g + hyper.weight_decay * p for g, p in zip(to_torch(g1), w)]
    if "m" in state:
        state["m"] = [hyper.momentum * m + g for m, g in zip(state["m"], g1)]
    else:
        state["m"] = g1
    return [(p - hyper.lr * m).numpy() for p, m in zip(w, state["m"])], state
