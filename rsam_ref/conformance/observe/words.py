"""What an error of a stranger's code says, in a few words."""

from __future__ import annotations

import re

ARRAY = re.compile(
    r"\b(tensor|array|Array|Parameter containing:\s*tensor)\((?:[^()]|\([^()]*\))*\)"
)
TRACED = re.compile(r"\{[^{}]*Tracer.*\}", re.DOTALL)
"""A dict of what JAX traces."""
MOST_SAID = 400


def readable(error: BaseException) -> str:
    """What an error says, without the numbers of an array, in one line that is not too long."""
    text = " ".join(ARRAY.sub(r"\1(...)", TRACED.sub("{...}", str(error))).split())
    return text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]} ..."


def named(error: BaseException) -> str:
    """The same after the error's class."""
    return ": ".join(filter(None, (type(error).__name__, readable(error))))
