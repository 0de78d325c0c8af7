"""What the tape costs: an op on one number, and a small network's step against PyTorch.

python -m benchmarks.overhead
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np

CHAIN = 1000
SIZES = [784, 256, 256, 10]
BATCH = 32
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4


def chain_of_multiplications() -> tuple[list[float], list[float]]:
    """Microseconds an op, forward and backward, in 30 runs; and NumPy's arithmetic in it alone."""
    from rsam_ref.autograd.tensor import Tensor

    one = np.ones(1)
    factor = Tensor(one, requires_grad=True)
    tape, arithmetic = [], []
    for _ in range(30):
        start = time.perf_counter()
        product = factor
        for _ in range(CHAIN):
            product = product * factor
        product.backward()
        middle = time.perf_counter()
        for _ in range(CHAIN):
            one * one, one * one, one * one, one + one  # forward, two gradients, their sum
        tape.append((middle - start) / CHAIN * 1e6)
        arithmetic.append((time.perf_counter() - middle) / CHAIN * 1e6)
    return tape, arithmetic


def _batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, SIZES[0]), dtype=np.float32)
    return x, rng.integers(0, SIZES[-1], BATCH)


def ours() -> Callable[[], object]:
    from rsam_ref import SGD, models, objective

    x, y = _batch()
    model = models.mlp(SIZES, seed=0)
    optimizer = SGD(LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    w = model.weights.flat
    return lambda: optimizer.step(objective(model, x, y), w)


def torch_eager() -> Callable[[], object]:
    import torch
    from torch import nn

    x, y = map(torch.from_numpy, _batch())
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(SIZES):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def main() -> None:
    from benchmarks.duel import duel

    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    for label, times in zip(("tape", "NumPy's own arithmetic in it"), chain_of_multiplications()):
        print(f"{label}: {min(times):.1f} us an op (median {statistics.median(times):.1f})")
    print(f"    forward and backward, {CHAIN} multiplications of one number; the goal is at most 6")
    result = duel("benchmarks.overhead:ours", "benchmarks.overhead:torch_eager")
    sizes = "-".join(map(str, SIZES))
    print(f"MLP {sizes}, batch {BATCH}, one SGD step: {result.a * 1e6:.0f} us, ", end="")
    print(f"PyTorch eager {result.b * 1e6:.0f} us")
    print(
        f"      ratio {result.ratio:.2f}, quartiles {result.low:.2f} to {result.high:.2f}; ", end=""
    )
    print("the goal is at most 1")


if __name__ == "__main__":
    main()
