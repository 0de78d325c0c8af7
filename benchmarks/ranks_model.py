"""A model of a step on N ranks: what is computed, what is exchanged, and where more stop paying.

A step's time is passes * (flops of a rank's samples / rate) + exchanges. An exchange of a vector is
sent in 2 (N - 1) messages a rank, 2 (N - 1) / N of its bytes; one of batch norm's short arrays is a
whole array of every other rank, in log2 N messages. Tests hold exchanges and bytes to those that
a group counts (`nn/mpi.py`); rate, latency and bandwidth are measured or given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """What of a network a step's cost depends on; all in float32."""

    name: str
    weights: int
    flops: float
    """Of one sample's forward pass: 2 for every multiplication with its addition."""
    norms: tuple[int, ...] = ()
    """The channels of each batch norm."""


def resnet50_norms() -> tuple[int, ...]:
    """The channels of ResNet-50's batch norms, in order."""
    found = [64]
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            found += [width, width, 4 * width] + [4 * width] * (block == 0)
    return tuple(found)


# Multiplications of a forward pass at 224 x 224 as torchvision's pages of its models give them.
NETWORKS = (
    Network("ResNet-50", 25_557_032, 2 * 4.09e9, resnet50_norms()),
    Network("ViT-B/16", 86_567_656, 2 * 17.56e9),
)


@dataclass(frozen=True)
class Method:
    """What of a method a step's cost depends on."""

    name: str
    passes: int
    sums: int
    """Exchanges of a vector."""
    own_statistics: bool = False
    """Whether batch norm looks at each worker's samples alone."""


METHODS = (
    Method("SGD", 1, 1),
    Method("SAM, R-SAM", 2, 2),
    Method("the same per worker", 2, 1, own_statistics=True),
)


@dataclass(frozen=True)
class Machine:
    """What a rank computes with, and the way between ranks."""

    rate: float
    """Flops a second in forward and backward passes."""
    latency: float
    """Seconds of a message, whatever its size."""
    bandwidth: float
    """Bytes a second that a rank receives."""


@dataclass(frozen=True)
class Cost:
    """Of one step, on every rank."""

    sums: int
    gathers: int
    received: float
    """Bytes from other ranks."""
    computing: float
    """Seconds; the backward pass is reckoned as two forward ones."""
    exchanging: float
    """Seconds."""

    @property
    def seconds(self) -> float:
        return self.computing + self.exchanging

    @property
    def seconds_if_overlapped(self) -> float:
        """If exchanges went on during backward passes, two thirds of the computing: at best."""
        return self.computing + max(0.0, self.exchanging - 2 / 3 * self.computing)


def cost(network: Network, method: Method, machine: Machine, ranks: int, samples: float) -> Cost:
    """A step in which every rank has so many samples."""
    vector = 4 * network.weights
    if method.own_statistics:  # the running ones travel with the gradient
        vector += 4 * 2 * sum(network.norms)
    gathers, short = 0, 0
    if not method.own_statistics:
        gathers = 2 * len(network.norms) * method.passes  # forward and backward
        short = 4 * (3 + 2) * sum(network.norms) * method.passes  # mean, variance, share; two means
    received = method.sums * 2 * (ranks - 1) / ranks * vector + (ranks - 1) * short
    messages = method.sums * 2 * (ranks - 1) + gathers * math.ceil(math.log2(ranks))
    computing = 3 * method.passes * network.flops * samples / machine.rate
    exchanging = messages * machine.latency + received / machine.bandwidth
    return Cost(method.sums, gathers, received, computing, exchanging)


def efficiency(
    network: Network, method: Method, machine: Machine, ranks: int, samples: float
) -> float:
    """One rank's time for all samples over N ranks' time for their parts, a rank's share of it."""
    found = cost(network, method, machine, ranks, samples)
    return found.computing / found.seconds


def pays_until(network: Network, method: Method, machine: Machine, batch: int) -> int:
    """The most ranks, by doubling, that share a batch and spend half of their time computing."""
    ranks = 1
    while 2 * ranks <= batch:
        if efficiency(network, method, machine, 2 * ranks, batch / (2 * ranks)) < 0.5:
            break
        ranks *= 2
    return ranks
