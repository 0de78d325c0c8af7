"""The contestants of the whole-step benchmarks: the same networks and steps, ours and PyTorch's.

A contestant's name is ``MODEL_BATCH_METHOD_WHO``, such as ``resnet20_128_sgd_ours_cpu``: by it a
process of its own (see duel.py) asks for a function that takes one step and waits for its end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Step = Callable[[], None]

MLP = [784, 256, 256, 10]
SHAPES = {
    "mlp": (784,),
    "cnn": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "vit_tiny": (3, 32, 32),
}
VIT = {"image_size": 32, "patch": 4, "depth": 6}
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
RHO, SIGMA, LAM = 0.05, 5e-4, 2.0


def batch(model: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((size, *SHAPES[model]), dtype=np.float32), rng.integers(0, 10, size)


def ours(backend: str, model: str, size: int, method: str) -> Step:
    """Our step, on the numpy or the cupy backend."""
    from rsam_backends import synchronize, to_device, use_backend
    from rsam_ref import RSAM, SAM, SGD, models, objective

    use_backend(backend)
    nets: dict[str, Callable[[], Any]] = {
        "mlp": lambda: models.mlp(MLP),
        "cnn": models.cnn,
        "resnet20": models.resnet20,
        "vit_tiny": lambda: models.vit_tiny(classes=10, **VIT),
    }
    net = nets[model]()
    x, y = map(to_device, batch(model, size))
    base = SGD(LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    optimizer: Any = {
        "sgd": lambda: base,
        "sam": lambda: SAM(base, RHO),
        "rsam": lambda: RSAM(base, RHO, SIGMA, LAM),
    }[method]()

    def step() -> None:
        optimizer.step(objective(net, x, y), net.weights.flat)
        synchronize()

    return step


def torch_eager(device: str, channels_last: bool, model: str, size: int, method: str) -> Step:
    """PyTorch's step, on "cpu" or "cuda", in its default layout or with channels last."""
    import torch
    from torch import nn

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    net = torch_net(model).to(device)
    x, y = (torch.from_numpy(a).to(device) for a in batch(model, size))
    if channels_last and x.ndim == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    base = torch.optim.SGD(parameters, LR, MOMENTUM, weight_decay=WEIGHT_DECAY)

    def gradients() -> list[Any]:
        base.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        return [p.grad for p in parameters]

    def draw(p: Any) -> Any:
        rows = p.reshape(p.shape[0], -1) if p.ndim > 1 else p.reshape(1, -1)
        scale = rows.norm(dim=1, keepdim=True).expand_as(rows).reshape(p.shape)
        return SIGMA * scale * torch.randn_like(p)

    def perturbed() -> None:
        """The gradients of SAM, or with a draw those of R-SAM."""
        saved = [p.detach().clone() for p in parameters]
        if method == "rsam":
            with torch.no_grad():
                draws = [draw(p) for p in parameters]
                torch._foreach_add_(parameters, draws)
            ascent = [LAM * g + d for g, d in zip(gradients(), draws)]
        else:
            ascent = [g.clone() for g in gradients()]
        with torch.no_grad():
            norm = torch.stack([a.norm() for a in ascent]).norm()
            for p, w, a in zip(parameters, saved, ascent):
                p.copy_(w + RHO / (norm + 1e-12) * a)
        gradients()
        with torch.no_grad():
            torch._foreach_copy_(parameters, saved)

    def step() -> None:
        (gradients if method == "sgd" else perturbed)()
        base.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def torch_net(model: str) -> Any:
    """The networks as PyTorch users write them; resnet20 is the tests' own counterpart."""
    from torch import nn

    if model == "mlp":
        layers: list[nn.Module] = []
        for inputs, outputs in zip(MLP, MLP[1:]):  # noqa: RUF007
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])
    if model == "cnn":
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(3136, 10)),
        )
    if model == "resnet20":
        from tests.torch_models import CifarResNet

        return CifarResNet(20)
    return torch_vit()


def torch_vit() -> Any:
    """`VIT` out of PyTorch's own encoder layers, with their fused attention."""
    import torch
    from torch import nn

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 192, VIT["patch"], VIT["patch"])
            tokens = (VIT["image_size"] // VIT["patch"]) ** 2 + 1
            self.token = nn.Parameter(torch.zeros(1, 1, 192))
            self.positions = nn.Parameter(torch.randn(1, tokens, 192) * 0.02)
            options = {"activation": "gelu", "batch_first": True, "norm_first": True}
            self.blocks = nn.Sequential(
                *(
                    nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, **options)
                    for _ in range(VIT["depth"])
                )
            )
            self.norm = nn.LayerNorm(192)
            self.head = nn.Linear(192, 10)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
            return self.head(self.norm(self.blocks(x))[:, 0])

    return Vit()


CONTESTANTS = {
    "ours_cpu": partial(ours, "numpy"),
    "ours_gpu": partial(ours, "cupy"),
    "torch_cpu": partial(torch_eager, "cpu", False),
    "torch_cpu_last": partial(torch_eager, "cpu", True),
    "torch_gpu": partial(torch_eager, "cuda", False),
}


def __getattr__(name: str) -> Callable[[], Step]:
    """``resnet20_128_sgd_ours_cpu`` and the like, by which duel.py asks."""
    for model in SHAPES:
        if name.startswith(f"{model}_"):
            size, method, who = name.removeprefix(f"{model}_").split("_", 2)
            return lambda: CONTESTANTS[who](model, int(size), method)
    raise AttributeError(name)
