"""The page as one file of HTML that needs nothing else, joined from the files beside this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rsam_ref
from rsam_backends import Stream, to_host, use_backend
from rsam_ref.files import write_whole
from rsam_ref.teaching.interactive.grounds import digits_slice, samples
from rsam_ref.teaching.interactive.state import DRAWS, RANGES, check_state

FOLDER = Path(__file__).parent
SCRIPTS = (
    "steps",
    "surfaces",
    "inner",
    "equations",
    "state",
    "ground",
    "labels",
    "picture",
    "rim",
    "beside",
    "numbers",
    "settings",
    "hands",
    "page",
)
"""In their order: each uses those before it."""


def data(start: str = "") -> dict[str, Any]:
    """What the scripts are given: draws, samples, the digits' slice, ranges, and the first state.

    ``start`` is the state where the address has none. ValueError where the page has no such state.
    """
    if start:
        check_state(start)
    with use_backend("numpy"):
        draws = [Stream("noise", seed).normal(2, "float64") for seed in range(DRAWS)]
        told = digits_slice()
        return {
            "start": start,
            "ranges": RANGES,
            "draws": [to_host(z).tolist() for z in draws],
            "samples": samples(),
            "digits": {name: told[name] for name in ("reach", "scale", "coefficients")},
        }


def script(start: str = "", names: tuple[str, ...] = SCRIPTS) -> str:
    """The scripts of these names as one, with their data."""
    written = json.dumps(data(start), separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )
    parts = [f"const DATA = {written};", *(_read(f"{name}.js") for name in names)]
    return "\n".join(['"use strict";', *parts])


def page(start: str = "") -> str:
    """The page, in the state ``start`` unless its address says another one."""
    text = _read("page.html")
    filled = {
        "/* style */": _read("page.css"),
        "/* script */": script(start),
        "VERSION": rsam_ref.__version__,
    }
    for mark, part in filled.items():
        head, _, tail = text.partition(mark)
        text = head + part + tail
    return text


def write(path: Path, start: str = "") -> None:
    """Write the page to a file. ValueError where the page has no such state."""
    write_whole(path, page(start).encode())


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
