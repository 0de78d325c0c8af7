"""One step of SAM or R-SAM on one page, to hand out: as PDF (A4), or as one HTML file.

The numbers are the step's own, the code is read from sam.py, the mistakes are the checker's.
"""

from __future__ import annotations

import ast
import html
import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

import rsam_ref
from rsam_backends import use_backend
from rsam_ref.algorithms import sam
from rsam_ref.conformance import CATALOGUE
from rsam_ref.figures import Figure, save, svg
from rsam_ref.files import write_whole
from rsam_ref.teaching.labels import wrapped
from rsam_ref.teaching.picture import LOOK, in_words, picture_step
from rsam_ref.teaching.stages import NO_BREAK, Equation, stages_of, typeset
from rsam_ref.teaching.step import (
    ALGORITHMS,
    HANDED_OUT,
    WorkedStep,
    as_text,
    first_place,
    name_of,
    quantities,
    settings_text,
)

KINDS = (".pdf", ".html")

WHAT = {
    "rsam": [
        "R-SAM (random sharpness-aware minimization) looks for weights whose whole neighbourhood "
        "has a low loss.",
        "A step first goes uphill: it takes the gradient at a random draw D around the weights w, "
        "adds the draw to it, and brings the sum to the length rho.",
        "The gradient at the end of this perturbation then moves the weights, from w itself: two "
        "gradients a step, as in SAM.",
    ],
    "sam": [
        "SAM (sharpness-aware minimization) looks for weights whose whole neighbourhood has a low "
        "loss.",
        "A step first goes uphill: from the weights w it follows the gradient as far as the radius "
        "rho.",
        "The gradient found there then moves the weights, from w itself: two gradients a step, "
        "where gradient descent takes one.",
    ],
}
SYMBOLS = {
    "rsam": "w: all weights, one vector. L: the mean loss on one mini-batch, the same for both "
    "gradients. || ||: the Euclidean norm over all weights together. s: for each weight the norm "
    "of its filter (a row of a linear layer, an output channel of a convolution). z: a standard "
    "normal draw. Here the base step is gradient descent with the learning rate lr.",
    "sam": "w: all weights, one vector. L: the mean loss on one mini-batch, the same for both "
    "gradients. || ||: the Euclidean norm over all weights together. Here the base step is "
    "gradient descent with the learning rate lr.",
}
LIMITS = {
    "rsam": [
        "rho = 0 is the base optimizer, bit for bit.",
        "sigma = 0 and lam = 1 is SAM, bit for bit; with another lam, to rounding.",
        "||eps|| = rho to rounding, unless a is 0: then eps is 0, and never NaN.",
        "The loss times c > 0: the gradient weighs c times more against the draw.",
    ],
    "sam": [
        "rho = 0 is the base optimizer, bit for bit.",
        "||eps|| = rho to rounding, unless g0 is 0: then eps is 0, and never NaN.",
        "The loss times c > 0: eps stays as it is, to rounding.",
    ],
}
MISTAKES = {
    "rsam": [
        "direction.measured-from-noise",
        "direction.fresh-draw",
        "noise.unscaled",
        "ascent.norm-per-tensor",
        "restore.not-undone",
        "update.gradients-added",
        "batch-norm.moved-twice",
    ],
    "sam": [
        "ascent.norm-per-tensor",
        "ascent.not-normalised",
        "restore.not-undone",
        "update.uses-first-gradient",
        "update.gradients-added",
        "update.other-batch",
        "batch-norm.moved-twice",
    ],
}
READ_ON = {
    "rsam": [
        "The source: `rsam_ref/algorithms/sam.py` and `noise.py` beside it. Every detail: "
        "`docs/algorithms/rsam.md`.",
        "Is my implementation R-SAM? `rsam-ref check FILE.py:NAME --algorithm rsam`",
        "Liu, Mai, Cheng, Chen, Hsieh, You: Random Sharpness-Aware Minimization. NeurIPS 2022.",
    ],
    "sam": [
        "The source: `rsam_ref/algorithms/sam.py`. Every detail: `docs/algorithms/sam.md`.",
        "Is my implementation SAM? `rsam-ref check FILE.py:NAME --algorithm sam`",
        "Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization for Efficiently Improving "
        "Generalization. ICLR 2021.",
    ],
}
CAPTION = "The darker, the higher the loss. Numbers as at the equations."


@dataclass(frozen=True)
class Sheet:
    """What is on the page."""

    title: str
    what: str
    equations: list[Equation]
    symbols: str
    settings: str
    rows: list[tuple[str, str, str, str]]
    """Of the step: symbol, what it is, value, length."""
    losses: str
    code: str
    limits: list[str]
    mistakes: list[tuple[str, str, str]]
    """What, its effect, and how to mend it."""
    read_on: list[str]


def sheet(step: WorkedStep) -> Sheet:
    """The page for a step on two weights."""
    name, trace = step.algorithm, step.trace
    if name not in HANDED_OUT or step.ascent_steps > 1:
        raise ValueError(f"{name_of(step)} has no page to hand out; R-SAM and SAM have one")
    rows = [
        (typeset(symbol), typeset(text), signed(as_text(v)), f"{float(sam.norm(v)):.3f}")
        for symbol, text, v in quantities(step)
    ]
    losses = (
        f"The loss is {float(trace.loss):.3f} at {first_place(step)} (first gradient: the loss "
        f"that is reported) and {float(trace.adversarial_loss):.3f} at w + eps (second)."
    )
    mistakes = [CATALOGUE[code] for code in MISTAKES[name]]
    return Sheet(
        f"One step of {ALGORITHMS[name]}",
        typeset(" ".join(WHAT[name])),
        [equation for stage in stages_of(step) for equation in stage.equations],
        typeset(SYMBOLS[name].replace("|| ||", "‖·‖")),
        typeset(settings_text(step)),
        rows,
        typeset(signed(losses)),
        source(name),
        [typeset(text) for text in LIMITS[name]],
        [(sentence(m.what), sentence(m.effect), sentence(m.remedy)) for m in mistakes],
        READ_ON[name],
    )


def source(name: str) -> str:
    """The function of sam.py without its docstring, what it returns in as few lines as it takes."""
    function: Any = {"rsam": sam.rsam_gradient, "sam": sam.sam_gradient}[name]
    text = inspect.getsource(function)
    [node] = ast.parse(text).body
    assert isinstance(node, ast.FunctionDef)
    told, end, lines = node.body[0], node.body[-1], text.splitlines()
    code = lines[: told.lineno - 1] + lines[told.end_lineno : end.lineno - 1]
    opening, *fields, _ = lines[end.lineno - 1 :]  # return Trace(  a field a line  )
    call = opening + " ".join(field.strip() for field in fields).rstrip(",") + ")"
    return "\n".join([*code, *textwrap.wrap(call, 100, subsequent_indent=" " * len(opening))])


def signed(text: str) -> str:
    """Hyphens as minus signs."""
    return text.replace("-", "−")


def sentence(text: str) -> str:
    """A phrase as a sentence, typeset; nothing stays nothing."""
    return typeset(text[:1].upper() + text[1:] + ".") if text else ""


def write(step: WorkedStep, path: str | Path) -> None:
    """The handout as the file's ending says, .pdf or .html; never half of it."""
    path = Path(path)
    if path.suffix.lower() == ".pdf":
        save(page_figure(step), path, trim=False)
    elif path.suffix.lower() == ".html":
        write_whole(path, page(step).encode())
    else:
        raise ValueError(f"{path}: a handout is a file ending in {' or '.join(KINDS)}")


# --- PDF ------------------------------------------------------------------------------------------

A4 = (595.28, 841.89)  # points
MARGIN = 42.0
SMALL, TEXT, HEAD = 7.4, 8.4, 10.5


class _Page:
    """A figure as a page: places in points from the upper left corner."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(A4[0] / 72, A4[1] / 72))

    def line(self, x: float, y: float, text: str, size: float = TEXT, **options: object) -> None:
        """A line of text whose letters stand at y."""
        at = x / A4[0], 1 - y / A4[1]
        self.figure.text(*at, text, size=size, va="baseline", **options)  # type: ignore[arg-type]

    def text(self, x: float, y: float, text: str, width: float, size: float = TEXT) -> float:
        """A paragraph from y downwards; returns where it ends."""
        for line in wrapped(text, width, size):
            y += 1.35 * size
            self.line(x, y, line, size)
        return y

    def head(self, x: float, y: float, text: str) -> float:
        self.line(x, y + 21, text, HEAD, weight="bold")
        return y + 24


def page_figure(step: WorkedStep) -> Figure:
    """The handout as a figure of the size of A4."""
    told = sheet(step)
    with matplotlib.rc_context(LOOK), use_backend("numpy"):
        page = _Page()
        page.figure.title, page.figure.description = told.title, told.what
        width = A4[0] - 2 * MARGIN
        page.line(MARGIN, 48, told.title, 18, weight="bold")
        y = page.text(MARGIN, 52, told.what, width, 9)

        top, side = y + 14, 216.0  # the picture, on the right
        x = A4[0] - MARGIN - side
        corner = x / A4[0], 1 - (top + side) / A4[1]
        axes = page.figure.add_axes((*corner, side / A4[0], side / A4[1]))
        picture_step(axes, step, {stage.name for stage in stages_of(step)}, size=8.5, bar=None)
        page.text(x - 20, top + side + 25, CAPTION, side + 20, SMALL)

        column = width - side - 44  # the equations, on the left
        y = page.head(MARGIN, y, "The equations")
        for number, equation in enumerate(told.equations, 1):
            tall = "frac" in equation.tex
            y += 27 if tall else 21
            page.line(MARGIN, y, str(number), 9, color="#555555")
            page.line(MARGIN + 16, y, f"${equation.tex}$", 12.5)
            y += 6 if tall else 0
        y = page.text(MARGIN, y + 7, told.symbols, column, SMALL)

        y = page.head(MARGIN, max(y, top + side + 32), f"The numbers of this step: {told.settings}")
        for row in told.rows:
            y += 12.6
            for at, text in zip((0, 26, 262, 380), row):
                page.line(MARGIN + at, y, text)
        page.line(MARGIN + 380, y - 12.6 * len(told.rows), "length", SMALL, color="#555555")
        y = page.text(MARGIN, y + 2, told.losses, width)

        y = page.head(MARGIN, y, "The code: rsam_ref/algorithms/sam.py")
        for code in told.code.splitlines():
            y += 9.6
            page.line(MARGIN, y, code.replace(" ", NO_BREAK), 7, family="DejaVu Sans Mono")

        top, left = y, 0.43 * width
        y = page.head(MARGIN, top, "Exact limits")
        for limit in told.limits:
            page.line(MARGIN, y + 1.35 * SMALL, "•", SMALL)
            y = page.text(MARGIN + 9, y, limit, left - 9, SMALL)
        y = page.head(MARGIN, y, "Where to read on")
        for text in told.read_on:
            page.line(MARGIN, y + 1.35 * SMALL, "•", SMALL)
            y = page.text(MARGIN + 9, y, text.replace("`", ""), left - 9, SMALL)
        x = MARGIN + left + 18
        y = page.head(x, top, "Common mistakes")
        for what, _, remedy in told.mistakes:
            page.line(x, y + 1.35 * SMALL, "•", SMALL)
            y = page.text(x + 9, y, f"{what} Instead: {remedy}", width - left - 27, SMALL)
        page.line(MARGIN, A4[1] - 26, f"rsam-ref {rsam_ref.__version__}", 6.5, color="#555555")
        return page.figure


# --- HTML -----------------------------------------------------------------------------------------

CSS = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 60rem;
  margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 1.3rem 0 .3rem; }
p, ul, ol { margin: .3rem 0; } ul { padding-left: 1.2rem; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; align-items: start; }
ol.equations { padding-left: 1.6rem; } ol.equations li { margin: .35rem 0; }
ol.equations li::marker { color: #555; font-size: .85em; }
math { font-size: 1.2rem; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
figcaption, .small, .two ul { font-size: .88rem; }
.wide { overflow-x: auto; } li code { overflow-wrap: anywhere; }
@media (min-width: 45rem) { li code { white-space: nowrap; } }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .12rem 1.2rem .12rem 0; text-align: left; vertical-align: top; }
th { font-size: .85em; color: #444; } td.n { white-space: nowrap; }
pre { font-size: .82rem; line-height: 1.35; margin: .3rem 0; padding: .6rem; background: #f4f4f4; }
footer { margin-top: 1rem; font-size: .8rem; color: #555; }
@media (max-width: 45rem) { .two { grid-template-columns: minmax(0, 1fr); } }
@page { size: A4; margin: 12mm; }
@media print {
  body { font-size: 8.6pt; line-height: 1.25; margin: 0; padding: 0; max-width: none; }
  .two { grid-template-columns: 1fr 1fr; gap: 0 1.2rem; }
  .last { grid-template-columns: 5fr 7fr; } figure { width: 78mm; justify-self: end; }
  h1 { font-size: 15pt; }
  h2 { font-size: 10.5pt; margin: 5pt 0 1pt; break-after: avoid; }
  math { font-size: 11.5pt; } ol.equations li { margin: 1pt 0; } p { margin: 1pt 0; }
  figcaption, .small, .two ul { font-size: 7.6pt; }
  pre { font-size: 7.2pt; white-space: pre-wrap; background: none; padding: 0; }
  footer { margin: 0; font-size: 6pt; } table { font-size: 8.4pt; }
  td, th { padding-top: 0; padding-bottom: 0; }
}
"""


def picture(step: WorkedStep) -> str:
    """The whole step as SVG, for a page: no declaration, no date, as wide as there is room."""
    with matplotlib.rc_context(LOOK), use_backend("numpy"):
        figure = Figure(figsize=(5.4, 5.1))
        axes = figure.add_axes((0.13, 0.11, 0.85, 0.85 * 5.4 / 5.1))
        picture_step(axes, step, {stage.name for stage in stages_of(step)}, size=13, bar=None)
    figure.title = f"One step of {ALGORITHMS[step.algorithm]} as arrows on contours of the loss"
    figure.description = in_words(step, stages_of(step))
    drawn = svg(figure)
    return drawn[drawn.index("<svg") :]


def _code(text: str) -> str:
    return re.sub(r"`(.*?)`", r"<code>\1</code>", text)


def page(step: WorkedStep) -> str:
    """The handout as one HTML file that needs nothing else."""
    told, e = sheet(step), html.escape
    equations = "\n".join(f"<li><math>{eq.mathml}</math></li>" for eq in told.equations)
    rows = "\n".join(
        f'<tr><td>{e(symbol)}</td><td>{e(text)}</td><td class="n">{e(value)}</td>'
        f'<td class="n">{e(length)}</td></tr>'
        for symbol, text, value, length in told.rows
    )
    mistakes = "\n".join(
        f"<li><strong>{e(what)}</strong> {e(effect)} Instead: {e(remedy)}</li>"
        for what, effect, remedy in told.mistakes
    )
    limits = "\n".join(f"<li>{e(text)}</li>" for text in told.limits)
    read_on = "\n".join(f"<li>{_code(e(text))}</li>" for text in told.read_on)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{told.title}</title>
<style>{CSS}</style></head><body>
<h1>{told.title}</h1>
<p>{e(told.what)}</p>
<div class="two">
<div><h2>The equations</h2>
<ol class="equations">
{equations}
</ol>
<p class="small">{e(told.symbols)}</p></div>
<figure>{picture(step)}
<figcaption>{CAPTION}</figcaption>
</figure></div>
<h2>The numbers of this step: {e(told.settings)}</h2>
<div class="wide"><table>
<tr><th></th><th>what it is</th><th>value</th><th>length</th></tr>
{rows}
</table></div>
<p>{e(told.losses)}</p>
<h2>The code: rsam_ref/algorithms/sam.py</h2>
<pre class="wide"><code>{e(told.code)}</code></pre>
<div class="two last">
<div><h2>Exact limits</h2>
<ul>
{limits}
</ul>
<h2>Where to read on</h2>
<ul>
{read_on}
</ul></div>
<div><h2>Common mistakes</h2>
<ul>
{mistakes}
</ul></div></div>
<footer>rsam-ref {rsam_ref.__version__}</footer>
</body></html>
"""
