"""docs/pytorch.md: its snippets run, and it answers the fourteen questions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.helpers.commands import command

TEXT = (Path(__file__).parent.parent / "docs" / "pytorch.md").read_text(encoding="utf-8")
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST, *REST = re.split(r"^##+ ", TEXT, flags=re.MULTILINE)
SECTIONS = {part.partition("\n")[0]: SNIPPET.findall(part) for part in REST}
[BEGIN] = SNIPPET.findall(FIRST)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A folder for the files that they write, and no group of processes left behind."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.chdir(tmp_path)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("title", [title for title, found in SECTIONS.items() if found])
@pytest.mark.usefixtures("alone")
def test_the_snippets_of_a_section_run(title):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names = {"__name__": "pytorch"}
        for snippet in [BEGIN, *SECTIONS[title]]:
            exec(compile(snippet, f"docs/pytorch.md, {title}", "exec"), names)


def test_every_one_of_the_fourteen_questions_has_its_snippet():
    asked = [title for title in SECTIONS if re.match(r"\d+\. ", title)]
    assert [int(title.partition(".")[0]) for title in asked] == list(range(1, 15))
    assert all(SECTIONS[title] for title in asked)
    assert all("?" in title for title in asked)


FLATNESS = (Path(__file__).parent.parent / "docs" / "flatness.md").read_text(encoding="utf-8")
OWN = FLATNESS.split("## Your own network")[1].split("\n## ")[0]
FILE, *CALLS = SNIPPET.findall(OWN)


def test_the_snippets_about_flatness_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names: dict[str, Any] = {"__name__": "flatness"}
        for snippet in (FILE, *CALLS):
            exec(compile(snippet, "docs/flatness.md", "exec"), names)
    assert {row["measure"] for row in names["rows"]} == {"line", "average", "hessian"}
    assert (tmp_path / "flatness.png").read_bytes().startswith(b"\x89PNG")
    top = names["steepest"][0]
    assert names["curvature"] <= top
    assert names["rows"][-5]["value"] == pytest.approx(top, rel=1e-3)
    assert float(names["rise"]) > 0
    a, b, nearer = (names[name] for name in ("a", "b", "nearer"))
    assert float((nearer - a).norm()) < float((b - a).norm())
    ends = [float(names["between"].loss(w)) for w in (b, nearer)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)  # it computes what b computes
    assert names["losses"].shape == (3, 3)
    assert float(names["losses"][1, 1]) == float(names["between"].loss(a))


def test_the_commands_about_flatness_run(tmp_path):
    (tmp_path / "net.py").write_text(FILE, encoding="utf-8")
    [line] = re.findall(r"^    rsam-ref (sharpness net.py:make --batches-from .*)$", OWN, re.M)
    quick = ["--measure", "stability", "--sigma", "0.01", "--samples", "64"]
    done = command(*line.split(), *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Cosine of the gradients" in done.stdout
