"""What a teacher takes along: the slides and the handouts of a step, made with the site.

The directives `handouts` and `slides` of a page stand for links to them and for the slides in a
row; the files themselves lie in a folder of the page's name, written when the site is finished.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from rsam_ref import figures as plot
from rsam_ref.teaching import picture
from rsam_ref.teaching.handout import KINDS, write
from rsam_ref.teaching.stages import slide_names
from rsam_ref.teaching.step import ALGORITHMS, HANDED_OUT, two_weights

PAGE = "docs/teaching"


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


def setup(app):
    app.add_directive("handouts", Handouts)
    app.add_directive("slides", Slides)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
