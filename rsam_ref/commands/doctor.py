"""`rsam-ref doctor`: which backends work here."""

from __future__ import annotations

import json
import os
import platform

import rsam_ref
from rsam_ref.commands.terminal import (
    console,
)

LOOK = "from rsam_ref.commands.doctor import look_at; look_at({name!r})"
MARK = "what doctor found: "


def doctor() -> None:
    """Say which backends work here, on what, and what to do about those that do not."""
    from rsam_backends import available_backends
    from rsam_backends.switch import ENVIRONMENT

    in_force = os.environ.get(ENVIRONMENT, "numpy")  # nothing is loaded here to ask
    console.print(
        f"rsam-ref {rsam_ref.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}; in force: {in_force}",
        highlight=False,
        soft_wrap=True,
    )
    for name in sorted(available_backends(), key=lambda name: (name != "numpy", name)):
        mark, lines = _found(name)
        console.print(f"{name}: {mark}", highlight=False)
        for line in lines:
            console.print(f"    {line}", highlight=False, soft_wrap=True, markup=False)


def _found(name: str) -> tuple[str, list[str]]:
    """Whether a backend works, and lines on it, from a process of its own.

    A driver that is broken takes its process along without a word.
    """
    from rsam_backends.processes import end_of, in_another_process

    done = in_another_process(LOOK.format(name=name))
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            mark, lines = json.loads(line.removeprefix(MARK))
            return mark, lines
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    return "broken", [f"its process {end_of(done)}: {last}"]


def look_at(name: str) -> None:
    """Print, for the process that asks, whether a backend works, and lines on it."""
    from rsam_backends import BackendError, get_backend
    from rsam_backends.base import one_line
    from rsam_backends.selftest import trial

    try:
        backend = get_backend(name)
        described = backend.describe() | backend.describe_kernels() | trial(backend).describe()
        found = "works", [f"{key}: {value}" for key, value in described.items()]
    except BackendError as error:
        found = "not here", [one_line(error)]
    except Exception as error:  # another package's backend may fail in any way
        found = "broken", [f"{type(error).__name__}: {one_line(error)}"]
    print(MARK + json.dumps(found), flush=True)
