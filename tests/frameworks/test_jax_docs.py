"""docs/jax.md: its snippets run, those of flax and equinox where installed; of flatness.md too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import command

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


FLATNESS = (PAGE.parent / "flatness.md").read_text(encoding="utf-8")
TREE = FLATNESS.split("## A loss and tree in JAX\n")[1].split("\n## ")[0]
FILE, CALLS = SNIPPET.findall(TREE)


def test_the_snippets_about_flatness_run():
    names: dict[str, Any] = {"__name__": "flatness"}
    for snippet in (FILE, CALLS):
        exec(compile(snippet, "docs/flatness.md", "exec"), names)
    assert {row["measure"] for row in names["rows"]} == {"line", "hessian"}
    top = next(row["value"] for row in names["rows"] if row["measure"] == "hessian")
    assert names["steepest"][0] == pytest.approx(top, rel=1e-3)
    assert float(names["rise"]) > 0
    assert jax.tree.structure(names["tree"]) == jax.tree.structure(names["params"])


def test_the_command_about_flatness_runs(tmp_path):
    (tmp_path / "net.py").write_text(FILE, encoding="utf-8")
    [line] = re.findall(r"^    rsam-ref (sharpness net.py:make --batches-from .*)$", TREE, re.M)
    quick = ["--measure", "stability", "--sigma", "0.01", "--samples", "64"]
    done = command(*line.split(), *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Cosine of the gradients" in done.stdout
