"""What settings and their runs are called: in words, as they are typed, as folders."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from rsam_ref.loading import name_in
from rsam_ref.training import summary

LONGEST = 80
"""Letters in the name of a run's folder, without its seed."""


def typed(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def in_words(value: Any) -> str:
    """A value as people write it."""
    return "none" if value is None else summary.in_words(value)


def told(values: dict[str, Any]) -> str:
    """Values of settings in words, on one line."""
    return ", ".join(
        in_words(value) if name in ("optimizer", "model") else f"{name} {in_words(value)}"
        for name, value in values.items()
    )


def folder_of(values: dict[str, Any], method: str) -> str:
    """A name for the folders of a setting with these values, which no other setting has."""
    parts = [
        name_in(str(value)) if name in ("optimizer", "model") else f"{name}{in_words(value)}"
        for name, value in values.items()
    ]
    text = "-".join(parts) or method
    plain = re.sub(r"[^\w.+-]+", "_", text)
    if plain == text and len(plain) <= LONGEST and _tells_all(values):
        return plain
    return f"{plain[: LONGEST - 9]}-{mark(json.dumps(values, default=str))}"


def mark(text: str) -> str:
    """Eight letters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _tells_all(values: dict[str, Any]) -> bool:
    """Whether values in words are these and no others: not of numbers that are told shortened."""
    return all(
        not isinstance(value, float) or math.isclose(float(in_words(value)), value, rel_tol=1e-12)
        for value in values.values()
    )
