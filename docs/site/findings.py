"""The directive `findings`: an entry for every code of the checker's catalogue, under its anchor.

Wherever else a page names a code as code, the name becomes a link to its entry.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from rsam_ref.conformance import CATALOGUE

PAGE = "docs/findings"
EVIDENCE = Path(__file__).resolve().parents[1] / "findings.json"

GROUPS = {
    "noise": ("The draw", "D"),
}


class Findings(SphinxDirective):
    def run(self):
        made, section = [], None
        for code, entry in CATALOGUE.items():
            group = code.split(".")[0]
            if section is None or section["names"] != [group]:
                section = nodes.section(ids=[group], names=[group])
                section += nodes.title(group, group)
                made.append(section)
            item = nodes.section(ids=[code], names=[code])
            item += nodes.title("", "", nodes.literal(code, code))
            item += nodes.paragraph("", entry.what)
            section += item
        return made


def setup(app):
    app.add_directive("findings", Findings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
