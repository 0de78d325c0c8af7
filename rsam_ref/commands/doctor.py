"""`rsam-ref doctor`: which backends work here."""

from __future__ import annotations

import platform

import rsam_ref
from rsam_ref.commands.terminal import (
    console,
)


def doctor() -> None:
    """Say which backends work here, on what, and what to do about those that do not."""
    from rsam_backends import BackendError, available_backends, current_backend, get_backend
    from rsam_backends.selftest import trial

    console.print(
        f"rsam-ref {rsam_ref.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}; in force: {current_backend().name}",
        highlight=False,
        soft_wrap=True,
    )
    for name in sorted(available_backends(), key=lambda name: (name != "numpy", name)):
        try:
            backend = get_backend(name)
            described = backend.describe()
            difference = trial(backend)
            within = f" to {difference:.0e}" if difference else ""
            described["trial"] = f"a step of a two-layer network equals NumPy's{within}"
            mark, lines = "works", [f"{key}: {value}" for key, value in described.items()]
        except BackendError as error:
            mark, lines = "not here", [str(error)]
        except Exception as error:  # another package's backend may fail in any way
            mark, lines = "broken", [f"{type(error).__name__}: {error}"]
        console.print(f"{name}: {mark}", highlight=False)
        for line in lines:
            console.print(f"    {line}", highlight=False, soft_wrap=True, markup=False)
