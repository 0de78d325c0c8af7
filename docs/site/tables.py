"""What other files say, as parts of pages, so that it stands once.

`settings`: what a training recipe may hold. `presets`: the recipes that come with the package.
`citations`: BibTeX of the software and of the papers in CITATION.cff.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from rsam_ref.training import recipe

ROOT = Path(__file__).resolve().parents[2]


class Written(SphinxDirective):
    """A directive that stands for Markdown."""

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self):
        holder = nodes.Element()
        lines = StringList(self.markdown().splitlines(), source=f"<{self.name}>")
        self.state.nested_parse(lines, self.content_offset, holder)
        for table in holder.findall(nodes.table):
            table["classes"].append(self.name)
        return holder.children


class Settings(Written):
    def markdown(self) -> str:
        rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
        for name, kind, default, told in settings():
            rows.append(f"| `{name}` | {kind} | {default} | {escaped(told)} |")
        return "\n".join(rows)


KINDS = {
    "Count": "whole number >= 1",
    "Bits": "whole number, 8 to 16",
    "Size": "number >= 0",
    "Positive": "number > 0",
    "Share": "number from 0 to 1",
    "Part": "number from 0, below 1",
    "Loss": "text",
    "str": "text",
    "bool": "true, false",
    "int": "whole number",
    "dict[str, Any]": "table",
    "tuple[float, float]": "two numbers",
}
"""What recipe.py's types are called in words."""


def escaped(text: str) -> str:
    """Prose in which Markdown finds nothing but `code`."""
    return text.replace("<", "&lt;").replace("*", r"\*")


def as_toml(value: ast.expr) -> str:
    """A default as a recipe would have it."""
    default = ast.literal_eval(value)
    return "none" if default is None else f"`{json.dumps(default)}`"


def settings() -> list[tuple[str, str, str, str]]:
    """Name, type, default and meaning of every setting, as recipe.py writes them."""
    [body] = [
        node.body
        for node in ast.walk(ast.parse(inspect.getsource(recipe)))
        if isinstance(node, ast.ClassDef) and node.name == "Recipe"
    ]
    rows = []
    for node, after in zip(body, [*body[1:], None]):
        if isinstance(node, ast.AnnAssign):
            told = after.value.value if isinstance(after, ast.Expr) else ""
            kind = plain(node.annotation)
            rows.append((node.target.id, kind, as_toml(node.value), " ".join(told.split())))
    return rows


def plain(annotation: ast.expr) -> str:
    """A type without what pydantic is told besides."""
    text = ast.unparse(annotation)
    inner = re.fullmatch(r"Annotated\[(.+?), Field\(.*\)\]", text)
    text = inner[1] if inner else text
    if choices := re.fullmatch(r"Literal\[(.*)\]", text):
        return choices[1].replace("'", "")
    name, _, none = text.partition(" | ")
    return KINDS.get(name, name) + (", or none" if none else "")


class Presets(Written):
    def markdown(self) -> str:
        parts = []
        for path in sorted(recipe.PRESETS.glob("*.toml")):
            text = path.read_text(encoding="utf-8")
            about = tomllib.loads(text)["notes"]["about"]
            parts.append(f"**{path.stem}.** {about}.\n\n```toml\n{text}```\n")
        return "\n".join(parts)


class Citations(Written):
    def markdown(self) -> str:
        cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
        entries = [software(cited), *(paper(entry) for entry in cited["references"])]
        return "```bibtex\n" + "\n\n".join(entries) + "\n```"


def software(entry: dict) -> str:
    names = " and ".join(f"{{{author['name']}}}" for author in entry["authors"])
    fields = {"author": names, "title": f"{{{entry['title']}}}", "version": entry["version"]}
    return bibtex("software", "rsam-ref", fields)


def paper(entry: dict) -> str:
    authors = [f"{a['family-names']}, {a['given-names']}" for a in entry["authors"]]
    key = f"{entry['authors'][0]['family-names'].lower()}{entry['year']}"
    fields = {
        "author": " and ".join(authors),
        "title": f"{{{entry['title']}}}",
        "booktitle": entry["collection-title"],
        "year": entry["year"],
    }
    return bibtex("inproceedings", key, fields)


def bibtex(kind: str, key: str, fields: dict) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def setup(app):
    app.add_directive("settings", Settings)
    app.add_directive("presets", Presets)
    app.add_directive("citations", Citations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
