"""What hatchling asks when it builds: the README for a package index, and the wheel's tutorials.

The README is shown without links to files beside it. An index has none of the
repository's files, so a relative link would lead to nothing there. Once pyproject.toml names the
public address as `Repository` in [project.urls], relative links become absolute ones below it;
until then they become their text, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)\n?")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def for_an_index(readme: str, address: str | None) -> str:
    """The README with links that work without the files beside it."""
    if address is None:
        return LINK.sub(r"\1", PICTURE.sub("", readme))
    there = address.rstrip("/")
    readme = PICTURE.sub(rf"![\1]({there}/raw/main/\2)\n", readme)
    return LINK.sub(rf"[\1]({there}/blob/main/\2)", readme)


class ReadmeHook(MetadataHookInterface):
    """The field `readme`, which pyproject.toml leaves to this file."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the text."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": for_an_index(readme, address),
        }


class TutorialsHook(BuildHookInterface):
    """The tutorials in the wheel, for `rsam-ref tutorials`; an editable install has them beside."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder and its place in the wheel."""
        if version == "standard":
            tutorials = str(Path(self.root) / "tutorials")
            build_data["force_include"][tutorials] = "rsam_ref/teaching/tutorials"
