"""The verdict to look at: the observed step beside the right one, and a page that holds it all."""

from __future__ import annotations

import html
import io
import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import rsam_ref
from rsam_ref.conformance.report.report import NAMES, Finding, Report
from rsam_ref.figures import DESCENT, DRAW, EPS, GRADIENT, STYLE
from rsam_ref.files import write_whole


def step_figure(report: Report) -> Figure:
    """The first step from w, in the plane of the first gradient and the draw.

    Without a draw the second axis is what the observed perturbation has across the gradient.
    """
    points = report.picture
    if not points:
        raise ValueError("there is no picture: no step made two gradients")
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(5.6, 5.4), layout="constrained")
        axes = figure.subplots()
        rho, observed = points["rho"], points["observed w + eps"]
        reach = 1.3 * max(rho, math.hypot(*observed))
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.add_patch(Circle((0, 0), rho, fill=False, ls=":", color="0.5"))
        asam = report.algorithm_asked == "asam"
        label = "length of ASAM's eps" if asam else "||eps|| = rho"
        axes.text(0, -1.03 * rho, label, ha="center", va="top", color="0.4", fontsize=9)
        axes.annotate("", (0.85 * reach, 0), (0, 0), arrowprops=_arrow(GRADIENT, "--", 1.2))
        axes.text(0.87 * reach, 0, "g0", color=GRADIENT, va="center")
        draw = points["w + D"]
        length = math.hypot(*draw)
        if length > 1e-6 * rho:  # a longer one ends at the edge
            shown = min(1, 0.88 * reach / length)
            end = draw[0] * shown, draw[1] * shown
            axes.annotate("", end, (0, 0), arrowprops=_arrow(DRAW, "-", 1.6))
            label = "w + D" if shown == 1 else f"to w + D, {length:.2g} away"
            axes.annotate(label, end, (6, 4), textcoords="offset points", color=DRAW)
        for name, colour, size in (
            ("expected w + eps", DESCENT, 11),
            ("observed w + eps", EPS, 6),
        ):
            axes.annotate("", points[name], (0, 0), arrowprops=_arrow(colour, "-", 1.8))
            axes.plot(*points[name], "o", color=colour, ms=size, label=name, zorder=3)
        axes.plot(0, 0, "ko", label="w")
        across = "along the draw D, across g0" if length > 1e-6 * rho else "across g0"
        axes.set(xlabel="along the first gradient g0", ylabel=across)
        title = f"The first step of what should be {NAMES[report.algorithm_asked]}"
        if points["out of the plane"] > 1e-6 * rho:
            title += f"\n(observed eps leaves this plane by {points['out of the plane']:.3g})"
        axes.set_title(title)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _arrow(colour: str, style: str, width: float) -> dict[str, Any]:
    return {
        "arrowstyle": "->",
        "color": colour,
        "ls": style,
        "lw": width,
        "shrinkA": 0,
        "shrinkB": 0,
    }


def write_page(report: Report, target: str, path: Path) -> None:
    """A self-contained HTML page: verdict, picture, findings with evidence, what was tried."""
    write_whole(path, page(report, target).encode())


def page(report: Report, target: str) -> str:
    verdict = report.verdict
    recognised = NAMES.get(report.algorithm or "", report.algorithm or "nothing known")
    picture = ""
    if report.picture:
        drawn = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Type", "Format"))
        step_figure(report).savefig(drawn, format="svg", bbox_inches="tight", metadata=nothing)
        svg = drawn.getvalue()
        picture = f"<figure>{svg[svg.index('<svg') :]}</figure>"
    findings = "\n".join(_finding(f) for f in report.findings) or "<p>No findings.</p>"
    tried = "\n".join(
        f"<tr><td>{html.escape(probe)}</td><td>{html.escape(end)}</td></tr>"
        for probe, end in report.probes.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(target)} {verdict}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
svg {{ max-width: 100%; height: auto; }}
figure {{ margin: 1rem 0; }}
section {{ border-left: 4px solid #D55E00; padding: .1rem 1rem; margin: 1rem 0; }}
section.note {{ border-color: #999; }}
table {{ border-collapse: collapse; }} td {{ padding: .2rem .8rem .2rem 0; vertical-align: top; }}
code {{ font-size: .95em; overflow-wrap: anywhere; }}
</style></head><body>
<h1><code>{html.escape(target)}</code> {verdict}</h1>
<p>Recognised as: {html.escape(recognised)}. Form: {report.form}. Checked from outside by rsam-ref
{rsam_ref.__version__}: only the places where gradients are taken and the weights after each step
were looked at.</p>
{picture}
<h2>Findings</h2>
{findings}
<h2>What was tried</h2>
<table>{tried}</table>
</body></html>
"""


def _finding(finding: Finding) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(_shown(v))}</td></tr>"
        for k, v in finding.evidence.items()
    )
    kind = "divergence" if finding.diverges else "note"
    told = "may come from a setting not passed" if finding.conditional else kind
    return f"""<section class="{kind}">
<h3><code>{finding.code}</code> ({told}, {finding.stage})</h3>
<p>{html.escape(_sentence(finding.what))} Effect: {html.escape(finding.effect)}.
To mend it: {html.escape(finding.remedy)}.</p>
<table>{rows}</table></section>"""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
