"""docs/jax.md: its snippets run, those of flax and equinox where they are installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("x32")]
jax = pytest.importorskip("jax")
pytest.importorskip("optax")

PAGE = Path(__file__).parents[2] / "docs" / "jax.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST, *REST = re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
SECTIONS = {part.partition("\n")[0]: SNIPPET.findall(part) for part in REST}
[BEGIN] = SNIPPET.findall(FIRST)


@pytest.mark.parametrize("title", [title for title, found in SECTIONS.items() if found])
def test_the_snippets_of_a_section_run(title, tmp_path):
    library = title.partition(" ")[0]
    if library in ("flax", "equinox"):
        pytest.importorskip(library)
    names = {"__name__": "in_jax", "path": tmp_path / "saved.npz"}
    for snippet in [BEGIN, *SECTIONS[title]]:
        exec(compile(snippet, f"docs/jax.md, {title}", "exec"), names)


def test_every_section_has_its_snippet():
    bare = [title for title, found in SECTIONS.items() if not found]
    assert bare == ["What else to know", "Numbers", "Times"]
