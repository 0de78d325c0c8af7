"""What stands in the documents and tutorials."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = re.compile(r"\]\([\w./]*interactive\.md#([^)\s#]*=[^)\s]*)\)")


def state_links() -> list[tuple[str, str]]:
    """Links that open the interactive page in a state: the file's name, and the state."""
    files = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("tutorials/*.py"), ROOT / "README.md"]
    return [
        (path.name, address)
        for path in sorted(files)
        for address in STATE.findall(path.read_text(encoding="utf-8"))
    ]
