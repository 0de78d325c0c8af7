"""The findings of the checker: a page for every code, and the directive `findings`, their list.

The pages are written to docs/findings/ (which git ignores) before Sphinx looks for pages: each
holds the directive `finding` alone.

What a code means comes from the catalogue. How it shows comes from docs/findings.json: what a check
observed of a mistake that the tests plant (`python -m tests.conformance.evidence` writes it anew).
Wherever another page names a code as code, the name becomes a link to its page.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from finding_words import GROUPS, NOT_SHOWN
from sphinx.util.docutils import SphinxDirective

from rsam_ref.conformance import CATALOGUE

PAGE = "docs/findings"
FOLDER = Path(__file__).resolve().parents[1] / "findings"
EVIDENCE = Path(__file__).resolve().parents[1] / "findings.json"

NAMES = {"sam": "SAM", "asam": "ASAM", "rsam": "R-SAM"}


def how_it_shows(code: str, shown: dict) -> str:
    if code in NOT_SHOWN:
        return NOT_SHOWN[code]
    if code not in shown:
        raise LookupError(f"no evidence of {code}: python -m tests.conformance.evidence")
    seen = shown[code]
    facts = [f"{name}: {value_text(value)}" for name, value in seen["evidence"].items()]
    place = "" if seen["where"] == "training" else f", in the probe “{seen['where']}”"
    held = f"held against {NAMES[seen['algorithm']]}{place}"
    return ("; ".join(facts) or "nothing moves") + f" ({seen['plant']}, {held})"


def value_text(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


class Findings(SphinxDirective):
    """Every code with what is done, group by group; a code's page is a click away."""

    def run(self):
        return [self.group(name) for name in GROUPS]

    def group(self, name: str) -> nodes.section:
        title, where = GROUPS[name]
        section = nodes.section(ids=[name], names=[name])
        section += [nodes.title("", title), nodes.paragraph("", where)]
        listed = nodes.bullet_list()
        for code, entry in CATALOGUE.items():
            if code.split(".")[0] == name:
                text = nodes.paragraph("", "", nodes.literal(code, code))
                text += nodes.Text(f": {entry.what}")
                listed += nodes.list_item("", text, ids=[code])
        section += listed
        return section


class Finding(SphinxDirective):
    """What is done, how it shows, what it does and how to mend it: the argument is the code."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(str(EVIDENCE))
        shown = json.loads(EVIDENCE.read_text(encoding="utf-8"))
        code = self.arguments[0]
        entry = CATALOGUE[code]
        kind = "A note." if entry.note else "A divergence."
        rows = {
            "What is done": f"{capital(entry.what)}. {kind}",
            "How it shows": how_it_shows(code, shown) + ".",
            "What it does": capital(entry.effect) + ".",
            "How to mend it": capital(entry.remedy) + ".",
        }
        fields = nodes.field_list(classes=["finding"])
        for name, text in rows.items():
            body = nodes.field_body("", nodes.paragraph("", text))
            fields += nodes.field("", nodes.field_name("", name), body)
        return [fields]


def page(code: str) -> str:
    """The source of a code's page."""
    group = GROUPS[code.split(".")[0]][0]
    return f""":orphan:

{code}
{"=" * len(code)}

.. finding:: {code}

*{group}*: :doc:`all findings </{PAGE}>` of the checker, and what the evidence means.
"""


def write_pages(app):
    """A page for every code of the catalogue, and none for a code that is gone."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.rst"):
        if path.stem not in CATALOGUE:
            path.unlink()
    for code in CATALOGUE:
        (FOLDER / f"{code}.rst").write_text(page(code), encoding="utf-8")


def capital(text: str) -> str:
    """A sentence: but an equation, or a name that is written small, stays as it is."""
    word = text.split()[0]
    return text[0].upper() + text[1:] if word.isalpha() and len(word) > 1 else text


def link_codes(app, doctree, docname):
    """Make every code that is written as code on another page a link to its own page."""
    for node in list(doctree.findall(nodes.literal)):
        inside = isinstance(node.parent, nodes.reference | nodes.title)
        place = f"{PAGE}/{node.astext()}"
        if node.astext() in CATALOGUE and not inside and place in app.env.found_docs:
            uri = app.builder.get_relative_uri(docname, place)
            node.replace_self(nodes.reference("", "", node.deepcopy(), internal=True, refuri=uri))


def setup(app):
    app.add_directive("findings", Findings)
    app.add_directive("finding", Finding)
    app.connect("builder-inited", write_pages)
    app.connect("doctree-resolved", link_codes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
