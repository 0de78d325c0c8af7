"""The paths of SAM, k-step SAM and R-SAM on the plane that they span, and the views of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsam_backends import Stream
from rsam_ref.sharpness.figures import ascents_figure
from rsam_ref.sharpness.paths import ascent_paths
from rsam_ref.sharpness.view import ascents_view, grid_of

SHAPES = [(3, 4), (3,)]


def bowl(seed):
    """A quadratic loss with a drawn Hessian, and weights."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(15, 15))
    h = half @ half.T
    return (lambda w: (w @ h @ w / 2, h @ w)), rng.normal(size=15)


def paths(seed, **settings):
    f, w = bowl(seed)
    settings = {"rho": 0.3, "sigma": 0.05, "ascent_steps": 4} | settings
    return ascent_paths(f, w, SHAPES, **settings, stream=Stream("ascents", seed)), f, w


@given(seed=st.integers(0, 1000))
def test_the_axes_are_at_right_angles_and_the_ends_lie_on_the_plane(seed):
    found, _, _ = paths(seed)
    assert abs(found.across @ found.across - 1) < 1e-9
    assert abs(found.up @ found.up - 1) < 1e-9
    assert abs(found.across @ found.up) < 1e-12
    sam, rsam = found.paths["sam"][-1], found.paths["rsam"][-1]
    assert (round(sam.x, 10), round(sam.y, 10)) == (1, 0)
    assert abs(np.hypot(rsam.x, rsam.y) - 1) < 1e-9
    assert sam.outside < 1e-9
    assert rsam.outside < 1e-9


@given(seed=st.integers(0, 1000))
def test_a_place_on_the_plane_has_the_loss_that_the_plane_has_there(seed):
    found, f, w = paths(seed)
    for name in ("sam", "rsam"):
        end = found.paths[name][-1]
        there = w + 0.3 * (end.x * found.across + end.y * found.up)
        assert f(there)[0] == pytest.approx(end.loss, rel=1e-9)


def test_places_are_those_of_the_gradients():
    found, f, w = paths(3)
    assert {name: len(places) for name, places in found.paths.items()} == {
        "sam": 2,
        "k-step": 5,
        "rsam": 3,
    }
    for places in found.paths.values():
        assert (places[0].x, places[0].y, places[0].outside) == (0, 0, 0)
        assert places[0].loss == float(f(w)[0])
    lengths = [np.sqrt(p.x**2 + p.y**2 + p.outside**2) for p in found.paths["k-step"]]
    assert lengths == sorted(lengths)
    assert lengths[1] == pytest.approx(1 / 4)


def test_a_draw_far_out_of_the_plane_is_told():
    found, _, _ = paths(5, sigma=1.0)
    assert found.paths["rsam"][1].outside > 1


def test_without_noise_the_plane_has_one_axis_only():
    found, _, _ = paths(5, sigma=0.0)
    assert abs(found.up).max() < 1e-3
    assert found.paths["rsam"][-1].x == pytest.approx(1)


def test_paths_of_no_length_are_refused():
    with pytest.raises(ValueError, match=r"rho must be > 0, not 0\.0"):
        paths(1, rho=0.0)


# The views


def rows(seed=2, points=5):
    """Rows as the survey gives them, of one model."""
    found, f, w = paths(seed)
    empty = {"measure": "ascents", "model": "bowl", "method": None, "draw": None}
    made = []
    for method, places in found.paths.items():
        for i, p in enumerate(places):
            here = {"method": method, "draw": i, "x": p.x, "y": p.y}
            made.append(empty | here | {"value": p.loss, "rise": p.outside})
    steps = np.linspace(-1.5, 1.5, points).tolist()
    for y in steps:
        for x in steps:
            loss = float(f(w + 0.3 * (x * found.across + y * found.up))[0])
            made.append(empty | {"x": x, "y": y, "value": loss, "rise": None})
    return made


def test_the_grid_lies_as_it_was_measured():
    xs, ys, grid = grid_of(rows())
    assert xs == ys == [-1.5, -0.75, 0.0, 0.75, 1.5]
    by_place = {(r["x"], r["y"]): r["value"] for r in rows() if r["method"] is None}
    assert grid[1][4] == by_place[1.5, -0.75]


def test_the_picture_shows_all_three_paths():
    figure = ascents_figure(rows())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SAM", "k-step SAM", "R-SAM"]


def test_the_view_is_one_file_that_asks_for_nothing():
    pytest.importorskip("plotly")
    page = ascents_view(rows(), "a bowl")
    assert page.count("<script") >= 1
    loaded = re.findall(
        r"""<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=\s*["']([^"']+)""", page
    )
    assert [each for each in loaded if not each.startswith("data:")] == []
    assert "a bowl" in page
    assert '"modeBarButtonsToRemove":["sendChartToCloud"]' in page.replace(": ", ":")
    for name in ("SAM", "k-step SAM", "R-SAM"):
        assert f'"name":"{name}"' in page
