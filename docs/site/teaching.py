"""What a teacher takes along: the slides and the handouts of a step, made with the site.

The directives `handouts`, `slides` and `interactive` of a page stand for links to them and for the
slides in a row; the files themselves lie in a folder of the page's name, written when the site is
finished. A link to docs/interactive.md with a state opens the page itself in that state.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from rsam_ref import figures as plot
from rsam_ref.teaching import picture
from rsam_ref.teaching.handout import KINDS, write
from rsam_ref.teaching.interactive.page import write as write_interactive
from rsam_ref.teaching.stages import slide_names
from rsam_ref.teaching.step import ALGORITHMS, HANDED_OUT, two_weights

PAGE = "docs/teaching"
ABOUT = "docs/interactive"
MOVING = f"{PAGE}/interactive"


class Handouts(SphinxDirective):
    """A list: for each algorithm its page as PDF and as HTML."""

    def run(self):
        rows = [
            f"<li>One step of {label}: "
            + ", ".join(f'<a href="teaching/{name}{k}">{k[1:].upper()}</a>' for k in KINDS)
            + "</li>"
            for name, label in ((name, ALGORITHMS[name]) for name in HANDED_OUT)
        ]
        return [nodes.raw("", f"<ul>{''.join(rows)}</ul>", format="html")]


class Slides(SphinxDirective):
    """The slides of the algorithm that is named, small, each a link to itself."""

    required_arguments = 1

    def run(self):
        algorithm = self.arguments[0]
        pictures = [
            f'<a href="teaching/{name}"><img src="teaching/{name}" loading="lazy" '
            f'alt="{ALGORITHMS[algorithm]}, slide {number}"></a>'
            for number, name in enumerate(slide_names(two_weights(algorithm=algorithm)), 1)
        ]
        return [nodes.raw("", f'<div class="slides">{"".join(pictures)}</div>', format="html")]


class Interactive(SphinxDirective):
    """A link to the page."""

    def run(self):
        link = '<p><a href="teaching/interactive.html"><strong>Open the page</strong></a></p>'
        return [nodes.raw("", link, format="html")]


def open_in_state(app, doctree):
    """Turn links to docs/interactive.md#surface=... into links to the page in that state."""
    here = app.env.docname
    for node in list(doctree.findall(addnodes.pending_xref)):
        state = node.get("reftargetid") or ""
        if node.get("reftarget", "").strip("/") == ABOUT and "=" in state:
            address = f"{app.builder.get_relative_uri(here, MOVING)}#{state}"
            link = nodes.reference("", "", *node.children, internal=True, refuri=address)
            node.replace_self(link)


def write_files(app, error):
    if error or app.builder.name != "html" or PAGE not in app.env.found_docs:
        return
    folder = Path(app.outdir) / PAGE
    folder.mkdir(exist_ok=True)
    steps = {name: two_weights(algorithm=name) for name in HANDED_OUT}
    frame = picture.frame_of(list(steps.values()))
    for name, step in steps.items():
        for file, figure in zip(slide_names(step), picture.stage_figures(step, frame), strict=True):
            plot.save(figure, folder / file, trim=False)
        for kind in KINDS:
            write(step, folder / f"{name}{kind}")
    write_interactive(folder / "interactive.html")


def setup(app):
    app.add_directive("handouts", Handouts)
    app.add_directive("slides", Slides)
    app.add_directive("interactive", Interactive)
    app.connect("doctree-read", open_in_state, priority=390)  # before links to sources are made
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
