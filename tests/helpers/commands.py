"""The command line, run as a user runs it."""

import os
import subprocess
import sys


def command(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "rsam_ref", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **environment},
    )
