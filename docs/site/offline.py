"""Looks through a built site: it fetches nothing, and its own links lead somewhere.

A link that a reader may follow (`a href`) may lead to the network. Whatever a page loads by itself
(scripts, styles, pictures, fonts, frames) may not.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "track": ("src",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
# What a `link` is for that makes a browser load it, or connect.
LOADING = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "manifest"}
REMOTE = re.compile(r"^(https?:)?//", re.IGNORECASE)
IN_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""", re.IGNORECASE)
IN_SCRIPT = re.compile(
    r"""(?:fetch|import|importScripts|Worker|\.open|\.src\s*=|\.href\s*=)\s*\(?\s*['"`]"""
    r"""((?:https?:)?//[^'"`]+)"""
)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()
        self.css = ""
        self.script = ""
        self.inside = ""

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.inside = tag
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name in LOADED.get(tag, ()):
            if name in given:
                parts = given[name].split(",") if name == "srcset" else [given[name]]
                self.loaded += [part.split()[0] for part in parts if part.strip()]
        if tag == "link" and LOADING & set(given.get("rel", "").lower().split()):
            self.loaded.append(given.get("href", ""))
        if tag == "a" and "href" in given:
            self.linked.append(given["href"])
        self.css += given.get("style", "")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "style":
            self.css += data
        if self.inside == "script":
            self.script += data


def look_through(site: Path) -> list[str]:
    """A line for everything that is wrong; none where the site is whole and by itself."""
    wrong, pages = [], {}
    for path in sorted(site.rglob("*.html")):
        page = pages[path] = Page()
        page.feed(path.read_text(encoding="utf-8"))
        wrong += [f"{path}: loads {url}" for url in page.loaded if REMOTE.match(url)]
        wrong += [f"{path}: loads {url}" for url in in_css(page.css) + in_script(page.script)]
    for path in sorted(site.rglob("*.css")):
        wrong += [f"{path}: loads {url}" for url in in_css(path.read_text(encoding="utf-8"))]
    for path in sorted(site.rglob("*.js")):
        wrong += [f"{path}: loads {url}" for url in in_script(path.read_text(encoding="utf-8"))]
    for path, page in pages.items():
        for url in page.loaded + page.linked:
            if told := broken(path, url, pages):
                wrong.append(f"{path}: {told}")
    return wrong


def in_css(text: str) -> list[str]:
    return [url for found in IN_CSS.findall(text) for url in found if REMOTE.match(url)]


def in_script(text: str) -> list[str]:
    return IN_SCRIPT.findall(text)


def broken(path: Path, url: str, pages: dict[Path, Page]) -> str | None:
    """Why a link of a page leads nowhere in the site; None where it leads somewhere, or outside."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return f"links to {url}, which is not there"
    if target.is_dir():
        return f"links to the folder {url}, which file:// shows as a list of files"
    anchor = unquote(parts.fragment)
    state = "=" in anchor  # of the interactive page, which reads it itself
    if anchor and not state and target in pages and anchor not in pages[target].anchors:
        return f"links to {url}, where there is no such anchor"
    return None


if __name__ == "__main__":
    found = look_through(Path(sys.argv[1]).resolve())
    print("\n".join(found))
    sys.exit(bool(found))
