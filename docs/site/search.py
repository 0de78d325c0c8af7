"""Holds the site's search to words that users type: each must lead to its page, by its name.

The site's own script finds titles, entries of the index, and names of functions and classes before
it looks for words in texts. The rules here are those three, as the script has them.
"""

from __future__ import annotations

import json
from pathlib import Path

FINDINGS = "docs/findings"

SOUGHT = {
    "load_trained": "docs/api/training",
    "load_predictor": "docs/api/training",
    "--image-size": "docs/commands",
    "--resume": "docs/commands",
    "predict": "docs/commands",
    "evaluate": "docs/commands",
    "summary": "docs/commands",
    "tutorials": "docs/commands",
    "fine-tune": "docs/trained",
    "Ctrl-C": "docs/troubleshooting",
    "exit code": "docs/troubleshooting",
    "troubleshooting": "docs/troubleshooting",
    "many runs": "docs/many-runs",
    "SAM in PyTorch": "docs/pytorch",
    "load my model": "docs/trained",
    "conv2d": "docs/api/autograd",
    "cross_entropy": "docs/api/autograd",
    "BatchNorm2d": "docs/api/nn",
    "rsam_gradient": "docs/api/algorithms",
    "ascent.wrong-radius": f"{FINDINGS}/ascent.wrong-radius",
}
"""What is typed, and a page that must be among those found by name."""


def read(site: Path) -> dict:
    """The index that `make docs` writes for the site's script."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))


def found(index: dict, query: str) -> set[str]:
    """The pages with a title, an entry of the index or a name that is what was typed."""
    typed = query.lower()
    pages = set()
    for entries in (index["alltitles"], index["indexentries"]):
        for name, places in entries.items():
            if typed in name.lower() and len(typed) >= len(name) / 2:
                pages |= {place[0] for place in places}
    for module, members in index["objects"].items():
        for page, *_, name in members:
            if typed in (f"{module}.{name}".lower(), name.lower().rpartition(".")[2]):
                pages.add(page)
    return {index["docnames"][page] for page in pages}


def not_found(site: Path) -> list[str]:
    """A line for every word that does not lead to its page."""
    index = read(site)
    return [
        f"the search for {query!r} does not find {page}"
        for query, page in SOUGHT.items()
        if page not in found(index, query)
    ]
