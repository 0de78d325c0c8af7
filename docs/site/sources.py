"""Links to files and folders of the repository that are no pages of the site.

On GitHub, `[sam.py](../rsam_ref/algorithms/sam.py)` opens the file. Here it opens the file's
highlighted source, and a link to a folder opens a list of what is in it. Other files (tables,
numbers) are downloads. The API's links to sources go there too, to the line. A link to nothing is
an error.
"""

from __future__ import annotations

import html
import inspect
import os
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.highlighting import PygmentsBridge

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("rsam_ref", "backends", "benchmarks", "docs", "tests", "tutorials")
LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".toml": "toml",
    ".cpp": "cpp",
    ".cu": "cuda",
    ".cff": "yaml",
    ".md": "text",
    ".txt": "text",
    "Makefile": "make",
    "LICENSE": "text",
}


def language(path: Path) -> str | None:
    return LANGUAGES.get(path.suffix or path.name)


def page_of(path: Path) -> str | None:
    """The name of the page that shows this file or folder, if one does."""
    if not path.exists() or not path.is_relative_to(ROOT):
        return None
    inner = path.relative_to(ROOT)
    shown = len(inner.parts) == 1 or inner.parts[0] in SHOWN
    if not shown or any(part.startswith((".", "__pycache__")) for part in inner.parts):
        return None
    if path.is_dir():
        return f"source/{inner.as_posix()}/index"
    return f"source/{inner.as_posix()}" if language(path) else None


def shown_paths() -> list[Path]:
    folders = [ROOT / name for name in SHOWN]
    paths = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    return sorted({path for path in [*folders, *paths] if page_of(path)})


def pages(app):
    """Every source page: (name, what the theme's page is filled with, template)."""
    pygments = PygmentsBridge("html", app.config.pygments_style or "default")
    for path in shown_paths():
        title = html.escape(path.relative_to(ROOT).as_posix())
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if page_of(p)]
            links = [
                f'<li><a href="{p.name}{"/index" if p.is_dir() else ""}.html">{p.name}</a></li>'
                for p in inside
            ]
            body = f"<ul>{''.join(links)}</ul>"
        else:
            text = path.read_text(encoding="utf-8")
            body = pygments.highlight_block(
                text, language(path), opts={"stripnl": False}, linenos="inline", lineanchors="L"
            )
        context = {"title": title, "body": f"<h1>{title}</h1>{body}"}
        yield page_of(path), context, "page.html"


def relink(app, doctree):
    """Turn myst's links to files that are no pages into links to their source pages."""
    docname = app.env.docname
    for node in list(doctree.findall(addnodes.pending_xref)) + list(
        doctree.findall(addnodes.download_reference)
    ):
        target = node.get("reftarget", "")
        if node.get("reftype") != "myst" or target in app.env.found_docs or not target:
            continue
        if node.get("refdomain") == "doc":  # myst has cut the suffix off
            candidates = [ROOT / f"{target}{suffix}" for suffix in app.config.source_suffix]
        else:
            candidates = [Path(app.env.relfn2path(target.partition("#")[0], docname)[1])]
        for path in candidates:
            page = page_of(Path(os.path.normpath(path)))
            if page and target.partition("#")[0]:
                uri = app.builder.get_relative_uri(docname, page)
                link = nodes.reference("", "", *node.children, internal=True, refuri=uri)
                node.replace_self(link)
                break


def link_to_code(domain: str, info: dict[str, str]) -> str | None:
    """For sphinx.ext.linkcode: from a page of docs/api to the line of a definition."""
    thing = sys.modules.get(info["module"])
    for name in info["fullname"].split("."):
        thing = getattr(thing, name, None)
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(thing)))
        line = inspect.getsourcelines(inspect.unwrap(thing))[1]
    except (TypeError, OSError):
        return None
    page = page_of(path)
    return f"../../{page}.html#L-{line}" if page else None


def setup(app):
    app.connect("html-collect-pages", pages)
    app.connect("doctree-read", relink, priority=400)  # before Sphinx collects downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}
