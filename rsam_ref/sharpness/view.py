"""A view to turn: the loss over the plane of the ascents as a surface, in one file for a browser.

The file asks for nothing from a network. The library that draws is plotly, the extra ``view``.
"""

from __future__ import annotations

import math
from typing import Any

from rsam_ref.figures import COLOURS

Row = dict[str, Any]

NAMES = {"sam": "SAM", "k-step": "k-step SAM", "rsam": "R-SAM"}
LOOKS = {
    "sam": (COLOURS["sam"], "circle", "solid"),
    "k-step": (COLOURS["sam2"], "square", "dot"),
    "rsam": (COLOURS["rsam"], "diamond", "dash"),
}

QUIET = {"displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud"]}
"""No button that would ask for something from a network."""


def grid_of(rows: list[Row]) -> tuple[list[float], list[float], list[list[float]]]:
    """The coordinates along both axes, and the losses (len(ys), len(xs)); nan where none is."""
    losses = {(r["x"], r["y"]): r["value"] for r in rows if r["method"] is None}
    xs, ys = (sorted({key[i] for key in losses}) for i in range(2))
    values = [[losses.get((x, y)) for x in xs] for y in ys]
    return xs, ys, [[math.nan if v is None else v for v in line] for line in values]


def path_of(rows: list[Row], method: str) -> list[Row]:
    """A method's places in their order."""
    return sorted((r for r in rows if r["method"] == method), key=lambda r: r["draw"])


def ascents_view(rows: list[Row], title: str) -> str:
    """One model's rows of the measure ``ascents`` as a page of HTML, with all that it needs.

    On the left the surface, which a mouse turns, on the right its contours; on both the paths of
    SAM, k-step SAM and R-SAM. A place's text says its loss, and how far from the plane it is.
    """
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    xs, ys, grid = grid_of(rows)
    figure = make_subplots(
        1,
        2,
        specs=[[{"type": "surface"}, {"type": "xy"}]],
        column_widths=[0.6, 0.4],
        horizontal_spacing=0.08,
    )
    shared = {"x": xs, "y": ys, "z": grid, "colorscale": "Cividis"}
    surface = go.Surface(**shared, opacity=0.8, colorbar={"title": "loss (nats)", "x": 1.02})
    figure.add_trace(surface, 1, 1)
    figure.add_trace(go.Contour(**shared, showscale=False), 1, 2)
    for method, (colour, symbol, dash) in LOOKS.items():
        places = path_of(rows, method)
        text = [_told(NAMES[method], place) for place in places]
        x, y, z = ([p[name] for p in places] for name in ("x", "y", "value"))
        common = {"x": x, "y": y, "text": text, "hoverinfo": "text", "name": NAMES[method]}
        common |= {"mode": "lines+markers", "legendgroup": method}
        line = {"color": colour, "width": 6}
        mark = {"color": colour, "size": 5, "symbol": symbol}
        figure.add_trace(go.Scatter3d(**common, z=z, line=line, marker=mark), 1, 1)
        flat = {"color": colour, "width": 2.5, "dash": dash}
        marks = {
            "color": colour,
            "size": 9,
            "symbol": symbol,
            "line": {"color": "white", "width": 1},
        }
        figure.add_trace(go.Scatter(**common, line=flat, marker=marks, showlegend=False), 1, 2)
    axes = ("along SAM's eps (rho)", "towards R-SAM's eps (rho)")
    spans = [[along[0], along[-1]] for along in (xs, ys)]  # a draw may lead far out
    figure.update_xaxes(title=axes[0], range=spans[0], constrain="domain")
    figure.update_yaxes(title=axes[1], range=spans[1], scaleanchor="x", constrain="domain")
    figure.update_layout(
        title=title,
        scene={
            "xaxis": {"title": axes[0], "range": spans[0]},
            "yaxis": {"title": axes[1], "range": spans[1]},
            "zaxis": {"title": "loss (nats)"},
            "camera": {"eye": {"x": 1.1, "y": -2.0, "z": 1.3}},
        },
        legend={"orientation": "h", "y": -0.05},
        template="plotly_white",
    )
    page: str = figure.to_html(
        include_plotlyjs=True, full_html=True, div_id="ascents", config=QUIET
    )
    return page


def _told(name: str, place: Row) -> str:
    where = "w" if place["draw"] == 0 else f"place {place['draw']}"
    return (
        f"{name}, {where}<br>loss {place['value']:.5g}<br>"
        f"{place['rise']:.2g} rho outside of the plane"
    )
