"""The small problem that the optimizers for PyTorch are tested on: the net of problems.py."""

from __future__ import annotations

import torch
from torch import nn

from rsam_ref.nn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential
from tests.helpers.problems import batches


def numpy_net(seed=0):
    """Images (N, 2, 4, 4) to scores (N, 4), in float64."""
    return Sequential(
        Conv2d(2, 3, 3, padding=1),
        BatchNorm2d(3),
        ReLU(),
        Flatten(),
        Linear(48, 5),
        ReLU(),
        Linear(5, 4),
    ).build(seed, "float64")


def torch_net(seed=0, dropout=0.0, dtype=torch.float64):
    """The same with the same weights, and perhaps dropout."""
    layers = [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.ReLU(),
        nn.Linear(5, 4),
    ]
    if dropout:
        layers.insert(4, nn.Dropout(dropout))
    model = nn.Sequential(*layers).to(dtype)
    weights = numpy_net(seed).weights
    start = 0
    with torch.no_grad():
        for p, shape in zip(model.parameters(), weights.shapes):
            assert tuple(p.shape) == tuple(shape)
            p.copy_(torch.from_numpy(weights.flat[start : start + p.numel()]).reshape(p.shape))
            start += p.numel()
    return model


def flat(model):
    """All weights in one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def torch_batches(steps, dtype=torch.float64, samples=8):
    """Another mini-batch for every step: those of problems.py."""
    for x, y in batches(steps, samples=samples):
        yield torch.from_numpy(x).to(dtype), torch.from_numpy(y)


def closure_of(model, optimizer, x, y, log=None):
    """What is given to step: the loss and its gradients, on one mini-batch."""

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if log is not None:
            log.append((flat(model), loss.item()))
        return loss

    return closure


def train(model, optimizer, steps, **options):
    """Some steps by closures; the losses that they return."""
    return [
        optimizer.step(closure_of(model, optimizer, x, y), **options).item()
        for x, y in torch_batches(steps)
    ]


def in_halves(model, optimizer, x, y):
    """One step by its parts."""
    for part in optimizer.PARTS:
        if part != "draw_step":
            nn.functional.cross_entropy(model(x), y).backward()
        getattr(optimizer, part)()
    optimizer.zero_grad()
