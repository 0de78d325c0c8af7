"""Ctrl-C while a model has other weights: met between two batches, when it has its own again.

Python lets Ctrl-C raise between any two instructions, within what puts the model back as well. So
while other tensors stand in the model's place the signal is noted, and raised when none do.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Noted:
    """Takes the place of the handlers of Ctrl-C and SIGTERM, where Python has some."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.noted: list[int] = []
        self.closing = False

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.noted and not self.closing:  # a second time insists
            self.before[number](number, frame)
        else:
            self.noted.append(number)

    def meet(self) -> None:
        """What was noted does now what it is for."""
        while self.noted:
            number = self.noted.pop()
            self.before[number](number, None)


def _in_force() -> _Noted | None:
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            owner = getattr(signal.getsignal(number), "__self__", None)
            if isinstance(owner, _Noted):
                return owner
    return None


@contextmanager
def noted_until_done() -> Iterator[None]:
    """A block that the first Ctrl-C breaks into at `may_stop` alone; else it is met at its end.

    Of blocks within each other the outermost is meant. Another thread than the main one meets no
    signal.
    """
    if threading.current_thread() is not threading.main_thread() or _in_force():
        yield
        return
    block = _Noted()
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler):
            block.before[number] = handler
            signal.signal(number, block.note)
    try:
        yield
    finally:
        block.closing = True  # what puts the handlers back is not broken into either
        for given, before in block.before.items():
            signal.signal(given, before)
        block.meet()


def may_stop() -> None:
    """A place within the block where a signal that was noted does what it is for."""
    block = _in_force()
    if block is not None:
        block.meet()
