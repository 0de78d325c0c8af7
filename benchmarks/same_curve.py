"""Does a ResNet-20 learn the same in PyTorch with `rsam_ref.pytorch` as it does here?

    python -m benchmarks.same_curve [--data DIR] [--epochs 1]

From the same weights, on the same mini-batches of CIFAR-10, with the same draws, in float32: the
training loss of every step of the reference, of PyTorch, and of PyTorch with channels last. The
last two run the same program and differ by the order of their sums alone; so what lies between
them is what rounding does, and the reference should lie no further away. In float64 as well. At a
learning rate of 0.1 the first steps of this network throw every difference far apart: ten of them
led from float64's rounding to differences of 5e-3, in PyTorch's two layouts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from rsam_ref import RSAM, SAM, SGD, models, objective
from rsam_ref import pytorch as there
from rsam_ref.commands.terminal import progress_bar
from rsam_ref.data import load_dataset
from rsam_ref.data.feed import Feed
from tests.helpers.torch_models import CifarResNet

BASE = {"momentum": 0.9, "weight_decay": 5e-4}
SETTINGS: dict[str, dict[str, Any]] = {
    "sam": {"rho": 0.05},
    "rsam": {"rho": 0.05, "sigma": 5e-4, "lam": 2.0, "seed": 0},
}

Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]


def here(method: str, batches: Batches, dtype: str, lr: float) -> list[float]:
    """The losses of the reference's steps."""
    model = models.resnet20(seed=0, dtype=dtype)
    kind: Any = SAM if method == "sam" else RSAM
    optimizer = kind(SGD(lr, **BASE), **SETTINGS[method])
    losses = []
    for x, y in batches():
        trace = optimizer.step(objective(model, x.astype(dtype), y), model.weights.flat)
        losses.append(float(trace.loss))
    return losses


def in_pytorch(
    method: str, batches: Batches, dtype: str, lr: float, *, channels_last: bool
) -> list[float]:
    """The losses of the steps of `rsam_ref.pytorch`, from the same weights."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = CifarResNet(20).to(getattr(torch, dtype))
    state = models.resnet20(seed=0, dtype=dtype).state_dict()
    net.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    net = net.to(memory_format=layout)
    options: dict[str, Any] = {**SETTINGS[method], **BASE, "lr": lr}
    if method == "rsam":
        options["draw"] = "reference"
    kind: Any = there.SAM if method == "sam" else there.RSAM
    optimizer = kind(net, torch.optim.SGD, **options)
    losses = []
    for x, y in batches():
        images = torch.tensor(x.astype(dtype)).contiguous(memory_format=layout)
        labels = torch.tensor(y)

        def closure(images: Any = images, labels: Any = labels) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images), labels)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


def main(
    data: Annotated[Path, typer.Option(help="A folder with CIFAR-10.")] = Path(
        "../shared/data/cifar-10-lossless"
    ),
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 128,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, float64; repeatable.")] = None,
    lr: Annotated[float, typer.Option(help="The learning rate.")] = 0.01,
) -> None:
    """Train three times, and say how far apart the losses are."""
    console = Console()
    samples = load_dataset(str(data)).train
    feed = Feed(samples, batch_size, seed=0)
    steps = epochs * feed.per_epoch
    table = Table(
        *("method", "precision", "loss, first and last"),
        *("reference - PyTorch", "channels last - PyTorch"),
        title=f"ResNet-20 on {len(samples):,} rows of CIFAR-10, {steps} steps of {batch_size}: "
        "largest difference of the loss, over the first ten steps and over all",
    )
    precisions = dtype or ["float32", "float64"]
    runs: dict[str, Callable[..., list[float]]] = {
        "reference": here,
        "torch": lambda *a: in_pytorch(*a, channels_last=False),
        "last": lambda *a: in_pytorch(*a, channels_last=True),
    }
    with progress_bar() as progress:
        task = progress.add_task("steps", total=len(SETTINGS) * len(precisions) * 3 * steps)

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for step in range(steps):
                yield feed.prepare(step)
                progress.advance(task)

        for method in SETTINGS:
            for kind in precisions:
                found = {
                    name: np.array(run(method, batches, kind, lr)) for name, run in runs.items()
                }
                loss = found["torch"]
                apart = [_apart(found[name], loss) for name in ("reference", "last")]
                table.add_row(method, kind, f"{loss[0]:.3f} {loss[-1]:.3f}", *apart)
    console.print(table)


def _apart(a: np.ndarray, b: np.ndarray) -> str:
    apart = abs(a - b)
    return f"{apart[:10].max():.0e}, {apart.max():.0e}"


if __name__ == "__main__":
    typer.run(main)
