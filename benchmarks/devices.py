"""Whole training steps on dpnp's device, against the same definitions on NumPy.

    python -m benchmarks.devices [--blocks 5]

Neither has kernels of its own, so the same lines of rsam_ref run on both. Every step ends by
waiting for the device; the two take turns, each in a process of its own. Where the device is the
processor itself, the ratio is what SYCL's launches cost, and it has no goal.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from benchmarks.duel import Case, Result, carry_out, results_table, tell_absent

CASES = [
    Case(model, size, method, "ours_dpnp", "ours_plain_cpu")
    for model, size in (("mlp", 128), ("cnn", 128), ("resnet20", 32))
    for method in ("sgd", "rsam")
]


def main() -> int:
    from rsam_backends import BackendError, get_backend

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=5, help="pairs of blocks for every case")
    asked = parser.parse_args()
    try:
        described = get_backend("dpnp").describe()
    except BackendError as error:
        print(f"benchmarks.devices: {error}", file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    told = [described[name] for name in ("library", "device", "driver")]
    console.print("; ".join(told), soft_wrap=True, highlight=False)
    results: dict[Case, Result] = {}
    absent = carry_out(CASES, console, blocks=asked.blocks, on_result=results.__setitem__)
    console.print(results_table(results, "Time of a step, dpnp / NumPy with plain definitions"))
    tell_absent(absent, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
