"""Whole training steps on a GPU, against PyTorch eager on the same GPU.

    python -m benchmarks.gpu

Every step ends by waiting for the device; the two take turns, each in a process of its own. TF32 is
off on both sides (CuPy's default; PyTorch is told).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

BATCHES = 128, 1024
METHODS = "sgd", "rsam"
MLP = [784, 256, 256, 10]


def batch(model: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (size, 784) if model == "mlp" else (size, 1, 28, 28)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, size)


def ours(model: str, size: int, method: str) -> Callable[[], Any]:
    from rsam_backends import synchronize, to_device, use_backend
    from rsam_ref import RSAM, SGD, models, objective

    use_backend("cupy")
    net = models.mlp(MLP) if model == "mlp" else models.cnn()
    x, y = map(to_device, batch(model, size))
    optimizer: Any = SGD(0.01, momentum=0.9, weight_decay=5e-4)
    if method == "rsam":
        optimizer = RSAM(optimizer, 0.05)

    def step() -> None:
        optimizer.step(objective(net, x, y), net.weights.flat)
        synchronize()

    for _ in range(20):  # kernels compile and the pool fills
        step()
    return step


def torch_eager(model: str, size: int, method: str) -> Callable[[], Any]:
    import torch
    from torch import nn

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if model == "mlp":
        layers: list[nn.Module] = []
        for inputs, outputs in zip(MLP, MLP[1:]):  # noqa: RUF007
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        net = nn.Sequential(*layers[:-1])
    else:
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(3136, 10),
        )
    net = net.cuda()
    x, y = (torch.from_numpy(a).cuda() for a in batch(model, size))
    parameters = list(net.parameters())
    base = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)

    def gradients() -> None:
        base.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()

    @torch.no_grad()
    def noise(p: torch.Tensor) -> torch.Tensor:
        rows = p.reshape(p.shape[0], -1) if p.ndim > 1 else p.reshape(1, -1)
        return (
            5e-4
            * rows.norm(dim=1, keepdim=True).expand_as(rows).reshape(p.shape)
            * (torch.randn_like(p))
        )

    def rsam() -> None:
        saved = [p.detach().clone() for p in parameters]
        draws = [noise(p) for p in parameters]
        with torch.no_grad():
            torch._foreach_add_(parameters, draws)
        gradients()
        with torch.no_grad():
            ascent = [2.0 * p.grad + d for p, d in zip(parameters, draws)]
            norm = torch.stack([a.norm() for a in ascent]).norm()
            for p, w, a in zip(parameters, saved, ascent):
                p.copy_(w + 0.05 / (norm + 1e-12) * a)
        gradients()
        with torch.no_grad():
            torch._foreach_copy_(parameters, saved)
        base.step()

    def sgd() -> None:
        gradients()
        base.step()

    def step() -> None:
        (rsam if method == "rsam" else sgd)()
        torch.cuda.synchronize()

    for _ in range(20):
        step()
    return step


CASES = [(m, size, method) for m in ("mlp", "cnn") for size in BATCHES for method in METHODS]
# A process of its own finds each contestant by its name in this module.
for _model, _size, _method in CASES:
    for _function in (ours, torch_eager):
        _name = f"{_function.__name__}_{_model}_{_size}_{_method}"
        globals()[_name] = partial(_function, _model, _size, _method)


def main() -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.duel import duel
    from rsam_backends import BackendError, get_backend

    try:
        described = get_backend("cupy").describe()
    except BackendError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 1
    import torch

    if not torch.cuda.is_available():
        print(
            f"benchmarks.gpu: PyTorch {torch.__version__} sees no GPU; install a CUDA build of it",
            file=sys.stderr,
        )
        return 1
    console = Console()
    console.print(*described.values(), f"PyTorch {torch.__version__}", sep="; ", soft_wrap=True)
    columns = "step", "ours (ms)", "PyTorch (ms)", "ratio", "quartiles"
    table = Table(*columns, title="The goal is 1.5")
    for model, size, method in CASES:
        names = [f"benchmarks.gpu:{f}_{model}_{size}_{method}" for f in ("ours", "torch_eager")]
        r = duel(*names)
        table.add_row(
            f"{model}, batch {size}, {method}",
            f"{r.a * 1e3:.2f}",
            f"{r.b * 1e3:.2f}",
            f"{r.ratio:.2f}",
            f"{r.low:.2f} to {r.high:.2f}",
        )
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
