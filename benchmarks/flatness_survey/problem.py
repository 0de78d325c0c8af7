"""What every package is asked about: three small networks, their weights, and the exact values.

The networks are trained here with rsam_ref and copied into PyTorch. Weights and data are rounded to
float32 and kept as float64: so a package that insists on float32 is asked about the same function.
May import: rsam_ref (to train), torch, numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import rsam_ref
from rsam_ref.data import digits_split
from rsam_ref.nn.layers import (
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    Linear,
    ReLU,
    Sequential,
    Tanh,
)

NETWORKS = ("relu", "tanh", "bn")
SAMPLES, NOISE, EPOCHS, BATCH, SEED = 400, 0.4, 12, 50, 16


def ours(network: str) -> Any:
    """The network of rsam_ref, in float64."""
    if network == "bn":
        layers = [Conv2d(1, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU()]
        layers += [Conv2d(8, 16, 3, stride=2, padding=1, bias=False), BatchNorm2d(16), ReLU()]
        layers += [GlobalAvgPool2d(), Linear(16, 10)]
    else:
        bend = ReLU if network == "relu" else Tanh
        layers = [Linear(64, 16), bend(), Linear(16, 16), bend(), Linear(16, 10)]
    return Sequential(*layers).build(SEED, "float64")


def theirs(network: str) -> Any:
    """The same network of PyTorch, in float64 and, as a new module is, in training mode."""
    from torch import nn

    if network == "bn":
        layers = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        layers += [nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)]
        layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    else:
        bend = nn.ReLU if network == "relu" else nn.Tanh
        layers = [nn.Linear(64, 16), bend(), nn.Linear(16, 16), bend(), nn.Linear(16, 10)]
    return nn.Sequential(*layers).double()


def data(network: str) -> tuple[np.ndarray, np.ndarray]:
    """400 of the digits, as rows or as images, and their labels, 40 % of them drawn anew."""
    split = digits_split(SEED, NOISE)
    x = split.x_train[:SAMPLES].astype("float64")
    return (x.reshape(-1, 1, 8, 8) if network == "bn" else x), split.y_train[:SAMPLES]


def trained(network: str) -> Any:
    """The network of rsam_ref after a few epochs of SGD: the same weights on every machine."""
    model, (x, y) = ours(network), data(network)
    sgd = rsam_ref.SGD(lr=0.05, momentum=0.9)
    order = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        for at in np.split(order.permutation(SAMPLES), SAMPLES // BATCH):
            sgd.step(rsam_ref.objective(model, x[at], y[at]), model.weights.flat)
    for array in (model.weights.flat, *statistics(model)):
        array[...] = array.astype("float32")
    return model


def statistics(model: Any) -> list[np.ndarray]:
    """The running means and variances, in PyTorch's order."""
    norms = [layer for _, layer in model.children() if isinstance(layer, BatchNorm2d)]
    return [s for norm in norms for s in (norm.running_mean, norm.running_var)]


def keep(network: str, file: Path) -> None:
    """Train the network, and write weights, statistics, data and the exact values."""
    model, (x, y) = trained(network), data(network)
    state = {"w": model.weights.flat, "statistics": np.concatenate([*statistics(model), []])}
    np.savez(file, x=x, y=y, **state)
    np.savez(file, x=x, y=y, **state, **exact(*copied(network, file)))


def copied(network: str, file: Path) -> tuple[Any, Any, Any]:
    """PyTorch's network with the weights that are kept, in training mode, and its data."""
    import torch

    kept = np.load(file)
    model = theirs(network)
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(torch.tensor(kept["w"]), model.parameters())
        means = [b for b in model.buffers() if b.is_floating_point()]
        parts = torch.tensor(kept["statistics"]).split([len(b) for b in means]) if means else []
        for buffer, values in zip(means, parts):
            buffer.copy_(values)
    return model, torch.tensor(kept["x"]), torch.tensor(kept["y"])


def exact(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Of the mean cross-entropy in evaluation mode: the Hessian's eigenvalues, and three traces.

    The Hessian (P, P) is written out by double backward. The GGN is J^T (diag p - p p^T) J, and the
    empirical Fisher the mean of g g^T over the samples' gradients g, both from their definitions.
    """
    import torch
    from torch.func import functional_call, jacrev

    model = model.double().eval()
    names = [name for name, _ in model.named_parameters()]
    fixed = dict(model.named_buffers())

    def scores(w: Any, inputs: Any) -> Any:
        parts = dict(zip(names, _parts(w, model)))
        return functional_call(model, {**parts, **fixed}, (inputs,))

    w = torch.nn.utils.parameters_to_vector(model.parameters()).detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(scores(w, x), y)
    (slope,) = torch.autograd.grad(loss, w, create_graph=True)
    rows = [torch.autograd.grad(s, w, retain_graph=True)[0] for s in slope]
    hessian = torch.stack(rows)
    values = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    at = w.detach()
    ggn = fisher = 0.0
    with torch.no_grad():
        for sample, label in zip(x, y):
            jacobian = jacrev(scores)(at, sample[None])[0]  # (10, P)
            p = scores(at, sample[None])[0].softmax(0)
            ggn += float((jacobian**2 * p[:, None]).sum() - ((p @ jacobian) ** 2).sum())
            p[label] -= 1
            fisher += float(((p @ jacobian) ** 2).sum())
    return {
        "loss": float(loss.detach()),
        "values": values.flip(0)[:5].numpy(),
        "lowest": float(values[0]),
        "negative": int((values < 0).sum()),
        "trace": float(hessian.trace()),
        "ggn": ggn / len(x),
        "fisher": fisher / len(x),
        "hessian": hessian.numpy(),
    }


def _parts(w: Any, model: Any) -> list[Any]:
    shapes = [p.shape for p in model.parameters()]
    return [part.view(s) for part, s in zip(w.split([s.numel() for s in shapes]), shapes)]


def losses_at(model: Any, x: Any, y: Any, points: np.ndarray) -> np.ndarray:
    """The loss in evaluation mode at weights (N, P); the statistics are the model's own."""
    import copy

    import torch

    model = copy.deepcopy(model).double().eval()
    x = x.double()
    found = []
    with torch.no_grad():
        for point in points:
            torch.nn.utils.vector_to_parameters(torch.tensor(point), model.parameters())
            found.append(torch.nn.functional.cross_entropy(model(x), y).item())
    return np.array(found)
