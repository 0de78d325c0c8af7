"""The verdict to look at: the observed step beside the right one, and a page that holds it all."""

from __future__ import annotations

import html
import io
import math
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.patches import Circle

import rsam_ref
from rsam_ref.conformance.report.report import NAMES, Finding, Report
from rsam_ref.figures import DESCENT, DRAW, EPS, GRADIENT, STYLE, Figure
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
        taken = [points["expected w + eps"], observed, (0.87 * reach, 0.0), points["w + D"]]
        x, y = _free_place(rho + 0.07 * reach, taken)
        axes.text(x, y, label, ha="center", va="center", color="0.4", fontsize=9, zorder=4)
        axes.annotate("", (0.85 * reach, 0), (0, 0), arrowprops=_arrow(GRADIENT, "--", 1.2))
        axes.text(0.87 * reach, 0.03 * reach, "g0", color=GRADIENT, va="bottom", zorder=4)
        draw = points["w + D"]
        length = math.hypot(*draw)
        if length > 1e-6 * rho:  # a longer one ends at the edge
            shown = min(1, 0.88 * reach / length)
            end = draw[0] * shown, draw[1] * shown
            axes.annotate("", end, (0, 0), arrowprops=_arrow(DRAW, "-", 1.6))
            label = "w + D" if shown == 1 else f"to w + D, {length:.2g} away"
            axes.annotate(label, end, (6, 4), textcoords="offset points", color=DRAW, zorder=4)
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


def _free_place(radius: float, taken: list[Any]) -> tuple[float, float]:
    """The place above or below on a circle that is farthest from points that are taken."""
    angles = [math.radians(degrees) for degrees in (-90, 90, -60, -120, 60, 120)]
    places = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    return max(places, key=lambda place: min(math.dist(place, point) for point in taken))


def _arrow(colour: str, style: str, width: float) -> dict[str, Any]:
    return {
        "arrowstyle": "->",
        "color": colour,
        "ls": style,
        "lw": width,
        "shrinkA": 0,
        "shrinkB": 0,
    }


def write_page(
    report: Report, target: str, path: Path, circumstances: dict[str, str] | None = None
) -> None:
    """A self-contained HTML page: verdict, picture, findings with evidence, what was tried.

    ``circumstances`` are told at its end, beside the versions: the command, the seed, the date.
    """
    write_whole(path, page(report, target, circumstances).encode())


FRAMEWORKS = {
    "function": (),
    "optimizer": ("torch",),
    "loop": ("torch", "accelerate"),
    "lightning": ("torch", "lightning"),
    "optax": ("jax", "optax"),
    "jax": ("jax", "optax", "flax"),
    "keras": ("keras", "torch", "jax"),
    "mlx": ("mlx",),
}
"""The packages of a form whose versions matter."""


def versions(form: str) -> dict[str, str]:
    """What a check of a form ran with, as far as it is installed."""
    found = {"rsam-ref": rsam_ref.__version__, "Python": platform.python_version()}
    for name in ("numpy", *FRAMEWORKS[form]):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found | {"system": f"{platform.system()} {platform.machine()}"}


def page(report: Report, target: str, circumstances: dict[str, str] | None = None) -> str:
    """The page's HTML."""
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
    told = ", ".join(f"{name} {value}" for name, value in versions(report.form).items())
    circumstances = {**(circumstances or {}), "versions": told}
    circumstance_rows = "\n".join(
        f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>"
        for name, value in circumstances.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(target)} {verdict}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
p, section {{ max-width: 60rem; }}
@media (min-width: 64rem) {{ main {{ display: grid; gap: 0 3rem;
  grid-template-columns: minmax(22rem, 2fr) 3fr; }} main > .alone {{ grid-column: 1 / -1; }} }}
svg {{ max-width: 100%; height: auto; }}
figure {{ margin: 1rem 0; }}
section {{ border-left: 4px solid #D55E00; padding: .1rem 1rem; margin: 1rem 0; }}
section.note {{ border-color: #999; }}
table {{ border-collapse: collapse; }} td {{ padding: .2rem .8rem .2rem 0; vertical-align: top; }}
td:first-child {{ white-space: nowrap; }} td + td {{ overflow-wrap: anywhere; }}
code {{ font-size: .95em; overflow-wrap: anywhere; }}
</style></head><body>
<h1><code>{html.escape(target)}</code> {verdict}</h1>
<p>Recognised as: {html.escape(recognised)}. Form: {report.form}. Checked from outside: only the
places where gradients are taken and the weights after each step were looked at.</p>
<main>
{picture}
<div{"" if picture else ' class="alone"'}><h2>Findings</h2>
{findings}</div>
<div><h2>What was tried</h2>
<table>{tried}</table></div>
<div><h2>How</h2>
<table>{circumstance_rows}</table></div>
</main>
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
