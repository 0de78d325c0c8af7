"""What a finding's code means.

A *divergence* makes an implementation another algorithm than the one it is held against. A *note*
is precision, style or cost: it does not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """What a code means: what is done, what that does to training, how to mend it."""

    what: str
    effect: str
    remedy: str
    note: bool = False
