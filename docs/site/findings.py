"""The directive `findings`: an entry for every code of the checker's catalogue, under its anchor.

What a code means comes from the catalogue. How it shows comes from docs/findings.json: what a check
observed of a mistake that the tests plant (`python -m tests.conformance.evidence` writes it anew).
Wherever another page names a code as code, the name becomes a link to its entry.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from rsam_ref.conformance import CATALOGUE

PAGE = "docs/findings"
EVIDENCE = Path(__file__).resolve().parents[1] / "findings.json"

GROUPS = {
    "algorithm": (
        "Other algorithms",
        "Seen in the points of a step and in where the weights land: another known algorithm "
        "explains both.",
    ),
    "noise": (
        "The draw",
        "Seen in q1 - w, where q1 is the first place at which the gradient is taken: its size in "
        "every filter, its distribution, and what it has to do with the draws of other steps and "
        "tensors.",
    ),
    "direction": (
        "The direction of R-SAM's ascent",
        "Seen in q2 - w, the way from the weights to the second place, against the observed draw "
        "and the gradient at the first place.",
    ),
    "ascent": (
        "The ascent",
        "Seen in q2 - w, the way from the weights to the second place: its direction, its length, "
        "and the norm that explains its length.",
    ),
    "restore": (
        "The way back",
        "Seen in where the weights land: a part of the perturbation is still in them.",
    ),
    "update": (
        "The base step",
        "Seen in where the weights land over some steps, against the base step with the gradient "
        "at the second place.",
    ),
    "resume": (
        "Saving and resuming",
        "Seen when a run that was saved and loaded half-way goes on beside one that was not.",
    ),
    "batch-norm": (
        "Batch norm",
        "Seen in the running statistics before and after each pass.",
    ),
    "limits": (
        "Limits and odd inputs",
        "Seen in a step of its own, with the setting or the input that the limit is about.",
    ),
    "precision": (
        "Precision",
        "Seen in differences too large for the weights' type, and in weights of other types.",
    ),
    "cost": ("Cost", "Seen in the number of gradients that are asked for."),
    "dropout": (
        "Dropout",
        "Seen in the masks of both passes, and in the generator between them.",
    ),
    "scaler": (
        "Gradient scalers",
        "Seen in where the weights end after a step in which one pass has an infinite gradient, "
        "and in how often the scaler is updated.",
    ),
    "processes": (
        "Several processes",
        "Seen in where each of two workers takes its gradients and where its weights land, against "
        "gradients averaged over both.",
    ),
    "contract": ("How it is called", "Seen when the same optimizer is driven in two ways."),
}
"""The first part of a code: its heading, and where what it names is seen."""

NOT_SHOWN = {
    "noise.last-axis": "The draws of a JAX step have in every column of a matrix (out, in) the "
    "size that sigma s has in every row",
    "resume.lr-lost": "The run that was saved and loaded goes on with another learning rate than "
    "the one that was not",
    "precision.float16-overflow": "With float16 weights and a gradient of length 1,000, ||eps|| "
    "is not rho but 0, or not finite",
    "processes.synchronised": "The averages of both gradients explain eps and the base step",
    "processes.per-worker": "Each worker's own gradient explains its eps, and the average of the "
    "second ones the base step",
    "processes.not-averaged": "The worker's own second gradient explains its base step",
    "processes.replicas-drift": "After a step the workers' weights differ",
    "processes.own-draws": "The first places of the workers differ",
    "processes.same-draw": "The first places of the workers are equal, though their generators "
    "were seeded differently",
}
"""How it shows where no planted mistake shows it."""

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
    def run(self):
        self.env.note_dependency(str(EVIDENCE))
        shown = json.loads(EVIDENCE.read_text(encoding="utf-8"))
        return [self.group(name, shown) for name in GROUPS]

    def group(self, name: str, shown: dict) -> nodes.section:
        title, where = GROUPS[name]
        section = nodes.section(ids=[name], names=[name])
        section += [nodes.title("", title), nodes.paragraph("", where)]
        for code, entry in CATALOGUE.items():
            if code.split(".")[0] == name:
                section += self.entry(code, entry, shown)
        return section

    def entry(self, code: str, entry, shown: dict) -> nodes.section:
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
        section = nodes.section(ids=[code], names=[code])
        section += [nodes.title("", "", nodes.literal(code, code)), fields]
        return section


def capital(text: str) -> str:
    """A sentence: but an equation, or a name that is written small, stays as it is."""
    word = text.split()[0]
    return text[0].upper() + text[1:] if word.isalpha() and len(word) > 1 else text


def link_codes(app, doctree, docname):
    """Make every code that is written as code on another page a link to its entry."""
    if docname == PAGE or PAGE not in app.env.found_docs:
        return
    page = app.builder.get_relative_uri(docname, PAGE)
    for node in list(doctree.findall(nodes.literal)):
        inside = isinstance(node.parent, nodes.reference | nodes.title)
        if node.astext() in CATALOGUE and not inside:
            uri = f"{page}#{node.astext()}"
            node.replace_self(nodes.reference("", "", node.deepcopy(), internal=True, refuri=uri))


def setup(app):
    app.add_directive("findings", Findings)
    app.connect("doctree-resolved", link_codes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
