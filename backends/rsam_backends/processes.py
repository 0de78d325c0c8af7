"""Trying in another process what may take its process along: a library that is damaged, say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from subprocess import CompletedProcess

NEUTRAL = {"RSAM_REF_BACKEND": "numpy", "RSAM_REF_KERNELS": "fast"}
"""So that loading this package there loads nothing that is to be tried."""


def in_another_process(code: str, *arguments: str) -> CompletedProcess[str]:
    """Run Python code with this process's places of modules; it finds the arguments in sys.argv."""
    places = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **NEUTRAL, "PYTHONPATH": places},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def end_of(done: CompletedProcess[str]) -> str:
    """How a process ended, as what follows its name: is ended by SIGBUS."""
    how = code_in_words(done.returncode)
    return f"ends with {how}" if done.returncode >= 0 else f"is ended by {how}"


def code_in_words(code: int) -> str:
    """What a process returned: exit code 1, SIGBUS, signal 40."""
    try:
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
