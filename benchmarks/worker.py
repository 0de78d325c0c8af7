"""A contestant's process: makes a step, then times it as often as it is asked to.

    python -m benchmarks.worker benchmarks.contestants:mlp_32_sgd_ours_cpu [--one-core]

Each answer is a line of JSON. First, unasked, the versions of the libraries, or what is absent. A
number of steps is answered by the median of their seconds; "memory" by the bytes by which this
process grew at its peak, from `before_the_net` on. With --one-core it keeps to one of its cores,
and seconds are those of the processor, in which other processes' work does not count.

On Linux the peak is the kernel's VmHWM, set back before the network is made. `ru_maxrss` would not
do there: a process inherits the peak of the one that started it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "torch", "autograd", "jax", "jaxlib", "tinygrad", "cupy", "dpnp", "dpctl")
STATUS = Path("/proc/self/status")

_before = 0


def before_the_net() -> None:
    """Contestants call this when their libraries are loaded, and before they make anything."""
    global _before
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    _before = peak()


def peak() -> int:
    """The most bytes of memory that this process has had."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def grown() -> int:
    """Bytes by which the process grew at its peak; 0 where it never called `before_the_net`."""
    return peak() - _before if _before else 0


def versions() -> dict[str, str]:
    """Of the libraries that this process has loaded."""
    found = {}
    for name in LIBRARIES:
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # cupy's package is named after its CUDA
                found[name] = getattr(sys.modules[name], "__version__", "unknown")
    return found


def say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def main(target: str, one_core: bool) -> None:
    from benchmarks import worker  # not __main__: the contestants' own import of this file

    clock = time.process_time if one_core else time.perf_counter
    if one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    module, name = target.split(":")
    try:
        step = getattr(importlib.import_module(module), name)()
    except ImportError as error:
        say({"absent": str(error)})
        return
    say({"versions": versions()})
    for line in sys.stdin:
        if line.strip() == "memory":
            say(worker.grown())
            continue
        times = []
        for _ in range(int(line)):
            start = clock()
            step()
            times.append(clock() - start)
        say(statistics.median(times))


if __name__ == "__main__":
    main(sys.argv[1], "--one-core" in sys.argv[2:])
