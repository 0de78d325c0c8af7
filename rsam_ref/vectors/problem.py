"""The problem of the vectors: a network of 3, 4 and 2 units, five mini-batches of four samples.

Its activation u / (1 + |u|) and squared error need no function of the C library. All numbers that
are given are whole multiples of 1/64, so they are the same in float32 and float64.
"""

from __future__ import annotations

import random
from typing import Any

from rsam_ref.algorithms.sam import LossAndGrad
from rsam_ref.vectors.arithmetic import in_order, joined

INPUTS, HIDDEN, OUTPUTS = 3, 4, 2
PARAMETERS = {
    "W1": (HIDDEN, INPUTS),
    "b1": (HIDDEN,),
    "W2": (OUTPUTS, HIDDEN),
    "b2": (OUTPUTS,),
}
"""Names and shapes, in the order in which they lie in w."""

WEIGHTS, STEPS, BATCH = 26, 5, 4

GIVEN = {
    "w0": (WEIGHTS,),
    "x": (STEPS, BATCH, INPUTS),
    "target": (STEPS, BATCH, OUTPUTS),
    "z": (STEPS, WEIGHTS),
}
"""What a problem is made of: first weights, mini-batches, and draws z for the noise."""


def given() -> dict[str, list[Any]]:
    """The numbers of `GIVEN`, nested lists of their shapes.

    About as if from N(0, 1). Python promises that ``random()`` gives the same numbers in every
    version.
    """
    source = random.Random(2022)

    def normal() -> float:
        return round(64 * (sum(source.random() for _ in range(12)) - 6)) / 64

    def nested(shape: tuple[int, ...]) -> Any:
        return [nested(shape[1:]) for _ in range(shape[0])] if shape else normal()

    return {name: nested(shape) for name, shape in GIVEN.items()}


def objective(x: Any, target: Any) -> LossAndGrad:
    """The loss on a mini-batch x (N, 3), target (N, 2), and its gradient, at flat weights (26,).

    L = 1/(2N) sum over samples and outputs of (y - target)^2. Every sum adds in index order.
    """
    n = len(x)

    def loss_and_grad(w: Any) -> tuple[Any, Any]:
        w1, b1 = w[:12].reshape(HIDDEN, INPUTS), w[12:16]
        w2, b2 = w[16:24].reshape(OUTPUTS, HIDDEN), w[24:]
        u = in_order(x[:, None, :] * w1, 2) + b1  # (N, 4)
        h = u / (1 + abs(u))  # (N, 4)
        e = in_order(h[:, None, :] * w2, 2) + b2 - target  # (N, 2)
        loss = in_order((e * e).reshape(-1), 0) / (2 * n)
        dy = e / n  # (N, 2)
        dh = in_order(dy[:, :, None] * w2, 1)  # (N, 4)
        du = dh / ((1 + abs(u)) * (1 + abs(u)))  # (N, 4)
        dw1 = in_order(du[:, :, None] * x[:, None, :], 0)  # (4, 3)
        dw2 = in_order(dy[:, :, None] * h[:, None, :], 0)  # (2, 4)
        return loss, joined([dw1, in_order(du, 0), dw2, in_order(dy, 0)])

    return loss_and_grad
