"""The published vectors for download, made with the site.

The directive `vectors` of a page stands for links to the files, which lie in a folder of the page's
name, written when the site is finished.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from rsam_ref.vectors.write import files, write

PAGE = "docs/vectors"


class Vectors(SphinxDirective):
    """A list of the files with their sizes, each a download."""

    def run(self):
        sizes = {name: max(1, len(made) // 1000) for name, made in sorted(files().items())}
        rows = [
            f'<li><a href="vectors/{name}" download>{name}</a> ({size} kB)</li>'
            for name, size in sizes.items()
        ]
        return [nodes.raw("", f"<ul>{''.join(rows)}</ul>", format="html")]


def write_files(app, error):
    if not error and app.builder.name == "html" and PAGE in app.env.found_docs:
        write(Path(app.outdir) / PAGE)


def setup(app):
    app.add_directive("vectors", Vectors)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
