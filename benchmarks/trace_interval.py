"""In how many of 100 seeds the interval of the Hessian's trace holds the trace.

    python -m benchmarks.trace_interval [--seeds 100] [--products 30]

For the three small trained networks of the tests (tests/helpers/curved.py) and each of Hutch++ and
Hutchinson's estimate: 30 products with the Hessian as the command `sharpness` takes them, by
differences of gradients on the smooth branch, against the trace of PyTorch's exact Hessian, of the
whole network and of its first layer. An interval of 95 % holds in 95 of 100; chance moves that
count by 2.2. docs/flatness.md has the figures.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.progress import track
from rich.table import Table

from rsam_backends import Stream
from rsam_ref.sharpness import hutch_plus_plus, hutchinson, product_at
from tests.helpers.curved import MAKE, curved, exact_hessian


def held(name: str, seeds: int, products: int) -> dict[str, list[int]]:
    """By estimate, in how many seeds the interval holds: of the whole, and of the first layer."""
    network, diagonal = curved(name), exact_hessian(name).diagonal()
    first = network.slices[0]
    exact = [diagonal.sum(), diagonal[first].sum()]
    product = product_at(network.loss, network.w)
    counts = {"Hutch++": [0, 0], "Hutchinson": [0, 0]}
    for seed in track(range(seeds), description=name):
        stream = Stream("trace", seed)
        for estimate, found in (
            (
                "Hutch++",
                hutch_plus_plus(
                    product, network.w, products=products, parts=[first], stream=stream
                ),
            ),
            (
                "Hutchinson",
                hutchinson(product, network.w, probes=products, parts=[first], stream=stream),
            ),
        ):
            for i, one in enumerate([found.total, *found.shares]):
                low, high = one.interval
                counts[estimate][i] += bool(low < exact[i] < high)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--products", type=int, default=30)
    options = parser.parse_args()
    table = Table(
        *("network", "estimate", "whole", "first layer"),
        title=f"Intervals that hold the trace, of {options.seeds} seeds",
    )
    for name in MAKE:
        for estimate, counts in held(name, options.seeds, options.products).items():
            table.add_row(name, estimate, *map(str, counts))
    Console().print(table)


if __name__ == "__main__":
    main()
