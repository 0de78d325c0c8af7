"""A check in a process of its own, so that whatever the implementation does ends in a message."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import rsam_backends
import rsam_ref
from rsam_backends.processes import code_in_words
from rsam_ref.conformance.checking import Progress, check, raised
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.report.report import Report
from rsam_ref.loading import shadowing

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One thread each: for networks this small more of them only wait for each other."""

FAST_XLA = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)
"""JAX compiles every operation for every shape: what it compiles here runs a few times only, and
so is compiled as fast as can be. A JAX that does not know one of these ends the process.
"""


START = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "sys.path += [folder for folder in {ours!r} if folder not in sys.path]; "
    "from rsam_ref.conformance.isolated import main; sys.path.insert(0, ''); main()"
)
"""The child's program. The folder it runs in comes first only when Python's own modules that it
needs are loaded, so that a stranger's file named json stands in for none of them.
"""


class _FlagsError(BrokenError):
    """JAX does not know what it was told in XLA_FLAGS."""


def check_isolated(
    target: str,
    algorithm: str,
    *,
    form: str | None = None,
    base: str | None = None,
    seed: int = 0,
    timeout: float = 60.0,
    progress: Progress | None = None,
    processes: int = 1,
) -> Report:
    """`check` of what "FILE.py:NAME" names; what it prints is kept out of the way.

    Raises `BrokenError` also where the process ends or falls silent for ``timeout`` seconds.
    """
    settings: dict[str, Any] = {"algorithm": algorithm, "form": form, "base": base}
    settings |= {"seed": seed, "timeout": timeout, "processes": processes}
    arguments = [target, json.dumps(settings)]
    try:
        try:
            return _in_child(arguments, FAST_XLA, timeout, progress)
        except _FlagsError:
            return _in_child(arguments, "", timeout, progress)
    except BrokenError as error:
        neighbour = shadowing(target, str(error))
        if neighbour is None or "rename it" in str(error):
            raise
        raise BrokenError(
            f"{error}; {neighbour} stands before the module {neighbour.stem!r}: rename it"
        ) from None


def _in_child(
    arguments: list[str], flags: str, timeout: float, progress: Progress | None
) -> Report:
    environment = {**os.environ, **{name: "1" for name in THREADS if name not in os.environ}}
    environment["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}".strip()
    with tempfile.TemporaryFile() as printed:
        child = subprocess.Popen(
            [sys.executable, "-c", START.format(ours=_ours()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            env=environment,
            start_new_session=True,  # a group of its own, so that all that it starts ends with it
        )
        try:
            return _listen(child, timeout, progress, printed)
        finally:
            _end(child)


def _end(child: Any) -> None:
    """End the process, and those that it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _ours() -> list[str]:
    """The folders of this project's packages."""
    return sorted({str(Path(str(m.__file__)).parents[1]) for m in (rsam_ref, rsam_backends)})


def _listen(child: Any, timeout: float, progress: Progress | None, printed: Any) -> Report:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        with child.stdout:
            for line in child.stdout:
                lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    doing = "loading"
    while True:
        try:
            line = lines.get(timeout=1.5 * timeout + 2)
        except queue.Empty:
            raise BrokenError(
                f"the implementation was stopped: {doing} took more than {timeout:g} seconds; "
                "does it hang?"
            ) from None
        if not line:
            code = child.wait()
            said = _lines(printed)
            if any("XLA_FLAGS" in text for text in said):
                raise _FlagsError("; ".join(said))
            last = _last(said)
            raise BrokenError(f"the implementation ended the process ({code_in_words(code)}){last}")
        message = json.loads(line)
        if "broken" in message:
            raise BrokenError(
                message["broken"] + (_last(_lines(printed)) if message["exit"] else "")
            )
        if "report" in message:
            return Report.from_json(message["report"])
        doing = message["doing"]
        if progress:
            progress(doing, message["done"], message["total"])


def _lines(printed: Any) -> list[str]:
    """What the child has printed so far."""
    printed.seek(0)
    text: str = printed.read().decode(errors="replace")
    return text.strip().splitlines()


def _last(said: list[str]) -> str:
    return f"; the last it printed: {said[-1]}" if said else ""


def main() -> None:
    """The child: messages on what was the standard output; everything printed goes elsewhere."""
    target, settings = sys.argv[1], json.loads(sys.argv[2])
    sys.argv[:] = [target.rpartition(":")[0]]  # as if it were run, without arguments
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    try:
        report = check(
            target,
            settings.pop("algorithm"),
            progress=lambda doing, done, total: tell(doing=doing, done=done, total=total),
            **settings,
        )
    except BrokenError as error:
        sys.stdout.flush()
        tell(broken=str(error), exit="SystemExit" in str(error))
    except (KeyboardInterrupt, MemoryError) as error:  # of its own: Ctrl-C ends this process
        tell(broken=raised(error), exit=False)
    else:
        tell(report=report.to_json())


if __name__ == "__main__":
    main()
