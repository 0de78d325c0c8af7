"""The command line, run as a user runs it, in a process or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from subprocess import CompletedProcess
from unittest import mock

from rsam_ref.commands.main import main


def command(*arguments, cwd=None, **environment) -> CompletedProcess[str]:
    """What a shell would start."""
    return subprocess.run(
        [sys.executable, "-m", "rsam_ref", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def started(*arguments, **options) -> subprocess.Popen[str]:
    """A process that goes on beside the test. It hears Ctrl-C even where the tests run in a shell's
    background, which has its jobs ignore it."""
    hearing = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from rsam_ref.__main__ import main; main()"
    )
    program = [sys.executable, "-c", hearing]
    return subprocess.Popen([*program, *map(str, arguments)], text=True, **options)


def called(*arguments, cwd=None, **environment) -> CompletedProcess[str]:
    """The same without the second or so that a process takes to start: for the many cases of one
    kind, of which one at least goes through `command`."""
    from rsam_ref.commands import terminal  # its consoles know the width that they were made with

    output, errors, code = io.StringIO(), io.StringIO(), 0
    width = int(environment.get("COLUMNS", "100"))
    with (
        mock.patch.object(terminal.console, "_width", width),
        mock.patch.object(terminal.errors, "_width", width),
        mock.patch.dict(os.environ, {"COLUMNS": "100", **environment}),
        mock.patch.object(sys, "argv", ["rsam-ref", *map(str, arguments)]),
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())
