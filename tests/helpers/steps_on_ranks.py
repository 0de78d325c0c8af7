"""Training steps on a mini-batch that ranks share: the same problems for threads and for MPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_backends import to_device, to_host
from rsam_ref import RSAM, SAM, SGD, models, nn, objective
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.optimizers import NoiseOnly
from rsam_ref.algorithms.workers import PerWorker
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.nn.batch_parts import Sharded
from rsam_ref.nn.module import Module
from rsam_ref.nn.mpi import MPIGroup
from rsam_ref.nn.shards import ONE_PROCESS, Group, bounds
from rsam_ref.nn.workers import Workers

BATCH = 12

WAYS: dict[str, dict[str, Any]] = {
    "global": {},
    "worker": {"per_worker": True},
    "worker of 2": {"per_worker": True, "m": 2},
}


def cnn_with_batch_norm(dtype: str, dropout: float = 0.0) -> Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.GlobalAvgPool2d(),
        nn.Linear(6, 5),
    ).build(seed=1, dtype=dtype)


def mlp(dtype: str) -> Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.Tanh(), nn.Linear(16, 5)).build(
        seed=1, dtype=dtype
    )


MODELS: dict[str, Callable[[str], Module]] = {
    "mlp": mlp,
    "cnn": cnn_with_batch_norm,
    "dropout": lambda dtype: cnn_with_batch_norm(dtype, 0.2),
    "resnet20": lambda dtype: models.resnet20(classes=5, seed=1, dtype=dtype),
    "vit_tiny": lambda dtype: models.vit_tiny(
        image_size=8, patch=4, depth=2, classes=5, seed=1, dtype=dtype
    ),
}

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(0.02, momentum=0.9, weight_decay=1e-3),
    "sam": lambda: SAM(SGD(0.02, momentum=0.9), 0.05),
    "asam": lambda: SAM(SGD(0.02, momentum=0.9), 0.2, adaptive=True),
    "rsam": lambda: RSAM(SGD(0.02, momentum=0.9), 0.05, 0.01, seed=3),
    "noise": lambda: NoiseOnly(SGD(0.02, momentum=0.9), 0.01, seed=3),
}


def mini_batch(step: int, n: int, dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng([7, step])
    return rng.standard_normal((n, 3, 8, 8)).astype(dtype), rng.integers(0, 5, n)


def own_part(x: Any, shards: int, group: Group) -> Any:
    """What this process has of a mini-batch."""
    cuts, own = bounds(len(x), shards), group.own(shards)
    return to_device(x[cuts[own.start] : cuts[own.stop]])


def train(
    model: Module,
    optimizer: Optimizer,
    shards: int,
    steps: int,
    group: Group = ONE_PROCESS,
    *,
    per_worker: bool = False,
    m: int | None = None,
    n: int = BATCH,
) -> list[float]:
    """Take these steps; the losses of their first passes. No shards: the plain objective."""
    dtype = str(model.weights.flat.dtype)
    if per_worker:
        optimizer = PerWorker(optimizer)
    losses = []
    for step in range(steps):
        x, y = mini_batch(step, n, dtype)
        batch: Any
        if shards == 0:
            batch = objective(model, to_device(x), to_device(y), seed=step)
        else:
            own = own_part(x, shards, group), own_part(y, shards, group), cross_entropy
            seed = lambda part, step=step: 100 * step + part
            if per_worker:
                batch = Workers(model, *own, seed, shards, m, group, n)
            else:
                seeds = list(map(seed, range(shards)))
                batch = Sharded(model, *own, seeds, group, n)
        losses.append(float(optimizer.step(batch, model.weights.flat).loss))
    return losses


def bits(model: Module) -> bytes:
    """All that training has changed of a model."""
    return b"".join(to_host(value).tobytes() for value in model.state_dict().values())


def group_of(communicator: Any, shards: int) -> MPIGroup:
    return MPIGroup(communicator, shards // communicator.size)
