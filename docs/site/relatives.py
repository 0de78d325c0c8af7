"""The pages of SAM's relatives, made from the files of their rules, so that nothing is said twice.

A page holds its title and the line `<!-- relatives: FILE -->`, which becomes the fixed headings:
the file's docstring, and what its entries of the registry say. `<!-- relatives: table -->` becomes
the table of all, `<!-- relatives: against R-SAM -->` how each differs from R-SAM.
"""

from __future__ import annotations

import importlib
import inspect
import re

from rsam_ref.algorithms.relatives import RELATIVES, Relative

RULES = "rsam_ref.algorithms.relatives"
MADE = re.compile(r"^<!-- relatives: (.*?) -->$", re.MULTILINE)

COMMON = (
    "As with every rule here: eps as SAM is rho g0 / (||g0|| + 1e-12), and 1e-12 stands beside "
    "every norm that divides; norms are over all weights together; all passes see the same "
    "mini-batch and dropout masks, batch norm's statistics move in the first; momentum and weight "
    "decay are the base's, at w; the loss that is told is the first pass's."
)
RESULTS = (
    "None of ours: what is tested is that the step is right, against a separate version in "
    "PyTorch, and that its limits hold. `rsam-ref compare` trains any of them beside SAM."
)


def expanded(text: str) -> str:
    """A page's text with what its comments ask for."""
    return MADE.sub(lambda asked: made(asked[1]), text)


def made(what: str) -> str:
    """Markdown for what a comment asks for."""
    if what == "table":
        return table()
    if what == "against R-SAM":
        rows = [f"| {link(r)} | {plain(r.against_rsam)} |" for r in RELATIVES.values()]
        return "\n".join(["| | how it differs from R-SAM |", "|---|---|", *rows])
    return page(what)


def page(name: str) -> str:
    """The page of one file, under the headings that every algorithm has."""
    module = importlib.import_module(f"{RULES}.{name}")
    here = [r for r in RELATIVES.values() if r.rule.__module__ == module.__name__]
    lead, *sections = re.split(r"^(.+)\n-{3,}\n", inspect.getdoc(module), flags=re.MULTILINE)
    told = dict(zip(sections[::2], sections[1::2]))
    source = f"../../../rsam_ref/algorithms/relatives/{name}.py"
    parts = {
        "What it is": lead,
        "Update rule": "\n\n".join([*map(rule, here), COMMON]),
        "Usage": usage(here[0]),
        "Implementation details": told["Implementation details"],
        "Other readings": told["Other readings"],
        "Results": RESULTS,
        "References": f"{told['References'].rstrip()}\n- The source: [{name}.py]({source}).",
    }
    return "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in parts.items()) + "\n"


def rule(relative: Relative) -> str:
    """The step of one entry, its settings and what it costs."""
    lines = "\n".join(relative.update.split("; "))
    rows = [
        f"| `{name}` | {setting.default:g} | {plain(setting.told)} |"
        for name, setting in relative.settings.items()
    ]
    facts = [
        f"Gradients a step: {relative.gradients}",
        f"a checkpoint holds {relative.keeps} besides the base's state",
        f"it is SAM for {relative.is_sam}" if relative.is_sam else "it is SAM for no setting",
    ]
    return "\n".join(
        [
            f"**{relative.title}** (`{relative.name}`):\n",
            f"```text\n{lines}\n```\n",
            "; ".join(facts) + ".\n",
            "| setting | default | |",
            "|---|---|---|",
            *rows,
        ]
    )


def usage(relative: Relative) -> str:
    """A snippet that runs, and the commands."""
    parts = "parts" in relative.needs
    given = [f"{k}={v.default!r}" for k, v in relative.settings.items()]
    batch = "Accumulated(model, x, y, cross_entropy, seeds=[0, 1])" if parts else None
    imports = (
        "from rsam_ref.autograd.ops_nn import cross_entropy\n"
        "from rsam_ref.nn.batch_parts import Accumulated\n"
        if parts
        else ""
    )
    momentum = "" if "z" in relative.needs else ", momentum=0.9"  # bSAM has its own
    names = "SGD, models" if parts else "SGD, models, objective"
    options = [f"--optimizer-option {k}={v.default:g}" for k, v in relative.settings.items()]
    options = [option for option in options if " rho=" not in option][:1]
    more = [f"--optimizer {relative.name}", *(["--accumulate 4"] if parts else []), *options]
    return f"""```python
from rsam_ref import {names}
from rsam_ref.algorithms.relatives import make
{imports}from rsam_ref.data import digits_split

data = digits_split(seed=0)
model = models.mlp([64, 32, 10], seed=0)
optimizer = make("{relative.name}", SGD(lr=0.1{momentum}), {", ".join(given)})

for start in range(0, 896, 64):
    x, y = data.x_train[start : start + 64], data.y_train[start : start + 64]
    trace = optimizer.step({batch or "objective(model, x, y)"}, model.weights.flat)

assert optimizer.steps == 14 and abs(trace.gradient).max() < 1e3
```

The pure function is `{relative.rule.__name__}`. From the shell: `rsam-ref train {" ".join(more)}`,
`rsam-ref compare --method sam --method {relative.name}`, and for a picture of a step
`rsam-ref explain --algorithm {relative.name} --save step.png`."""


def table() -> str:
    """All relatives in one table."""
    rows = [
        "| | the step | source | gradients | is SAM for | packages |",
        "|---|---|---|---|---|---|",
    ]
    for r in RELATIVES.values():
        cells = (r.source, r.gradients, r.is_sam or "none", r.packages or "none")
        rows.append(f"| {link(r)} | {plain(r.update)} | {' | '.join(map(plain, cells))} |")
    return "\n".join(rows)


def link(relative: Relative) -> str:
    """The title, leading to its page."""
    file = relative.rule.__module__.rpartition(".")[2]
    return f"[{relative.title}](/docs/algorithms/relatives/{file.replace('_', '-')}.md)"


def plain(text: str) -> str:
    """Prose in a table's cell."""
    return re.sub(r"([*_|<>\[\]^])", r"\\\1", text)


def setup(app):
    app.connect("source-read", lambda app, name, text: text.__setitem__(0, expanded(text[0])))
    return {"parallel_read_safe": True}
