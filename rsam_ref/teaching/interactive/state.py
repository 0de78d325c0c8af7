"""What the page's address may hold: ``surface=ripples&method=rsam&w=0.3,0.8&rho=0.5``.

`state.js` reads addresses, telling what is wrong in them. Here the same is an error: what the
command starts a page with, and what the documents link to, is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from rsam_ref.teaching.interactive.grounds import BATCH, NAMES, SAMPLES, digits_slice

METHODS = ("sgd", "sam", "k-step", "asam", "rsam", "stacked", "gradient", "ball")
DRAWS = 200
"""The draws that a page has: those of `explain` with the seeds from 0 on."""
RANGES: dict[str, tuple[float, float]] = {
    "w": (-100, 100),
    "rho": (0, 2),
    "sigma": (0, 1),
    "lam": (0, 10),
    "lr": (0, 1),
    "k": (2, 10),
    "seed": (0, DRAWS - 1),
    "batch": (0, SAMPLES // BATCH),
}
"""Of every number, the least and the greatest."""
WHOLE = ("k", "seed", "batch")
FLAGS = ("lock", "draws", "ends")
"""Of the draw that is kept, and of what is shown besides: 0 or 1."""
SEVERAL = {"w": 2, "view": 3}


def check_state(address: str) -> None:
    """Raise ValueError for an address in which the page would find something wrong."""
    given = dict(parse_qsl(address, keep_blank_values=True, strict_parsing=True))
    surface, method = given.get("surface", "ripples"), given.get("method", "rsam")
    if surface not in NAMES:
        raise ValueError(f"unknown surface {surface!r}; the page has {', '.join(NAMES)}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; the page has {', '.join(METHODS)}")
    if (surface, method) == ("digits", "asam"):
        raise ValueError("the page has no ASAM on digits, whose coordinates are no weights")
    for name, text in given.items():
        if name in FLAGS:
            if text not in ("0", "1"):
                raise ValueError(f"{name} is 0 or 1 on the page, not {text!r}")
        elif name not in ("surface", "method"):
            _check_numbers(name, text.split(","), surface)


def _check_numbers(name: str, texts: Sequence[str], surface: str) -> None:
    low, high = RANGES["w" if name == "view" else name] if name in (*RANGES, "view") else (1, 0)
    if high < low:
        raise ValueError(f"the page has no {name!r}")
    if (name, surface) == ("w", "digits"):  # nothing is known outside of the slice
        low, high = -digits_slice()["reach"], digits_slice()["reach"]
    try:
        values = [int(text) if name in WHOLE else float(text) for text in texts]
    except ValueError:
        values = []
    if len(values) != SEVERAL.get(name, 1) or not all(low <= value <= high for value in values):
        count = {1: "a number", 2: "two numbers", 3: "three numbers"}[SEVERAL.get(name, 1)]
        raise ValueError(
            f"{name} is {count} from {low:g} to {high:g} on the page, not {','.join(texts)}"
        )
