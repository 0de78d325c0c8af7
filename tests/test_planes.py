"""Planes through models, barriers between them, and the rise of every part of a batch."""

import numpy as np
import pytest
import torch

from rsam_backends import Stream
from rsam_ref import models
from rsam_ref.data import digits
from rsam_ref.sharpness import (
    Landscape,
    loss_barrier,
    loss_over_plane,
    m_sharpness,
    matched,
    plane_along,
    plane_of_trajectory,
    plane_through,
    rho_sharpness,
)
from tests.helpers.curved import curved


def stream(seed=0):
    return Stream("test", seed)


def vectors(n, size=30, seed=0):
    return list(np.random.default_rng(seed).standard_normal((n, size)))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_plane_goes_through_three_models(kind):
    points = [kind(v) for v in vectors(3)]
    plane = plane_through(*points)
    assert float(plane.across @ plane.up) == pytest.approx(0, abs=1e-14)
    assert float(plane.up @ plane.up) == pytest.approx(1)
    for point, (x, y), apart in zip(points, plane.places, plane.apart, strict=True):
        np.testing.assert_allclose(plane.origin + x * plane.across + y * plane.up, point)
        assert apart < 1e-13
    assert plane.places[0] == (0, 0)
    assert plane.places[1][1] == pytest.approx(0, abs=1e-13)
    loss = lambda w: np.sin(np.asarray(w)).sum()
    losses = loss_over_plane(
        loss, points[0], plane.across, plane.up, plane.places[2][:1], plane.places[2][1:]
    )
    np.testing.assert_allclose(losses, loss(points[2]))


def test_models_on_one_line_make_no_plane():
    a, d = vectors(2)
    for points in ([a, a + d, a + 2 * d], [a, a, d], [a, d, a]):
        with pytest.raises(ValueError, match="on one line make no plane"):
            plane_through(*points)
    with pytest.raises(ValueError, match="on one line make no plane"):
        plane_of_trajectory([a, a + d, a + 2 * d])
    with pytest.raises(ValueError, match="at least 3 checkpoints, not 2"):
        plane_of_trajectory([a, d])


def test_a_plane_along_two_directions():
    w, q, r = vectors(3)
    r -= (q @ r) / (q @ q) * q
    plane = plane_along(w, q, r)
    np.testing.assert_allclose(plane.across, q / np.linalg.norm(q))
    np.testing.assert_allclose(plane.up, r / np.linalg.norm(r))
    assert plane.origin is w


def test_a_trajectory_s_principal_axes_are_those_of_the_svd():
    checkpoints = np.cumsum(vectors(8), axis=0)
    plane, shares = plane_of_trajectory(list(checkpoints))
    _, values, axes = np.linalg.svd(checkpoints[:-1] - checkpoints[-1], full_matrices=False)
    np.testing.assert_allclose(shares, values**2 / (values**2).sum())
    assert abs(plane.across @ axes[0]) == pytest.approx(1)
    assert abs(plane.up @ axes[1]) == pytest.approx(1)
    assert plane.places[-1] == (0, 0)
    squares = np.array(plane.places[:-1]) ** 2
    np.testing.assert_allclose(squares.sum(0) / (values**2).sum(), shares[:2])
    assert plane.apart[0] > 1


# Barriers


def test_a_barrier_is_the_rise_above_the_line():
    double_well = lambda w: (w[0] ** 2 - 1) ** 2 + w[0] / 10
    found = loss_barrier(double_well, np.array([-1.0]), np.array([1.0]), points=21)
    assert found.height == pytest.approx(1)
    assert found.steps[10] == 0.5
    assert found.losses[0] == double_well([-1.0])
    bowl = loss_barrier(lambda w: w @ w, np.array([-1.0]), np.array([2.0]))
    assert bowl.height == 0


def problem(sizes=(64, 16, 12, 10)):
    x, y = digits()[:2]
    model = models.mlp(sizes, seed=0, dtype="float64")
    return model, Landscape(model, x[:100].reshape(100, 64), y[:100])


def shuffled(model, w, seed=3):
    """The same function with hidden units in another order."""
    views = [view.copy() for view in model.weights.views(w)]
    rng = np.random.default_rng(seed)
    for i in range(0, len(views) - 2, 2):
        order = rng.permutation(len(views[i]))
        views[i], views[i + 1] = views[i][order], views[i + 1][order]
        views[i + 2] = views[i + 2][:, order]
    return np.concatenate([view.ravel() for view in views])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_matching_undoes_a_permutation(kind):
    """With a little noise, so that no agreement is perfect."""
    model, landscape = curved("relu").model, curved("relu").loss
    w = model.weights.flat.copy()
    near = w + 1e-3 * np.random.default_rng(1).standard_normal(w.size)
    other = shuffled(model, near)
    assert landscape.loss(other) == pytest.approx(float(landscape.loss(near)))
    found = matched(kind(w), kind(other), model.weights.shapes, stream=stream())
    np.testing.assert_array_equal(found, near)
    assert loss_barrier(landscape.loss, w, other).height > 0.1
    assert loss_barrier(landscape.loss, w, near).height < 1e-3


def test_a_matched_model_computes_the_same_and_lies_nearer():
    model, landscape = problem()
    w = model.weights.flat.copy()
    other = models.mlp((64, 16, 12, 10), seed=5, dtype="float64").weights.flat
    found = matched(w, other, model.weights.shapes, stream=stream())
    assert landscape.loss(found) == pytest.approx(float(landscape.loss(other)), rel=1e-12)
    assert np.linalg.norm(found - w) < np.linalg.norm(other - w)
    assert sorted(found) == sorted(other)


def test_only_mlps_are_matched():
    w = np.zeros(12)
    with pytest.raises(ValueError, match="units are matched for MLPs"):
        matched(w, w, [(2, 1, 2, 3)], stream=stream())
    with pytest.raises(ValueError, match="points >= 3, not 2"):
        loss_barrier(lambda w: w @ w, w, w, points=2)


# Parts


def test_m_sharpness_is_the_mean_of_the_parts_own_rises():
    model, whole = problem()
    w = model.weights.flat
    parts = [
        Landscape(model, whole._parts[0].x._data[i::5], whole._parts[0].y._data[i::5])
        for i in range(5)
    ]
    options = {"rho": 0.3, "steps": 10, "restarts": 0}
    found = m_sharpness(parts, w, **options, stream=stream())
    rises = [rho_sharpness(part, w, **options, stream=stream()).rise for part in parts]
    assert found.mean == pytest.approx(np.mean(rises))
    assert found.n == 5
    together = rho_sharpness(whole, w, **options, stream=stream())
    assert found.mean > together.rise * 1.01
    assert m_sharpness([whole], w, **options, stream=stream()).mean == together.rise
