"""A table that a command makes, in a page that people write: it stands between two marks."""

from __future__ import annotations

from pathlib import Path


def put_between(page: Path, marks: tuple[str, str], inside: str) -> None:
    """Replace what a page has between its marks; they stay, and all around them."""
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, _, after = rest.partition(marks[1])
    page.write_text(before + marks[0] + inside + marks[1] + after, encoding="utf-8")
