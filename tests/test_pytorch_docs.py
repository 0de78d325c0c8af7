"""docs/pytorch.md: its snippets run, and it answers the fourteen questions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

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
