"""Flatness: known answers on quadratic losses, PyTorch's exact Hessian, and nothing is changed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, eigsh

from rsam_backends import Stream, use_backend
from rsam_backends.switch import in_force
from rsam_ref import models, objective, rsam_gradient, sam_gradient
from rsam_ref.algorithms.noise import filter_noise, filter_scale
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.data import Samples
from rsam_ref.data.feed import batches as training_batches
from rsam_ref.models.resnet import Bottleneck
from rsam_ref.sharpness import (
    Branch,
    Estimate,
    Landscape,
    ModelOutputs,
    average_sharpness,
    block,
    exact_traces,
    filter_normalised_direction,
    fisher_trace,
    gauss_newton_eigenvalues,
    gauss_newton_trace,
    gradient_stability,
    hessian_eigenvalues,
    hessian_product,
    hutch_plus_plus,
    inner_maximum,
    kinks,
    loss_along,
    loss_over_plane,
    matched,
    plane_of_trajectory,
    product_at,
    rho_sharpness,
    spectral_density,
)
from rsam_ref.sharpness.gauss_newton import softmax
from rsam_ref.sharpness.survey import Subject, SurveySettings
from tests.helpers.curved import curved
from tests.helpers.problems import net


class Quadratic:
    """g . w + w . H w / 2 around 0, which counts what it is asked."""

    def __init__(self, eigenvalues, slope=1.0, seed=0):
        rng = np.random.default_rng(seed)
        self.eigenvalues = np.array(eigenvalues, float)
        size = len(eigenvalues)
        turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
        self.H = turn * self.eigenvalues @ turn.T
        self.g = slope * rng.standard_normal(size)
        self.w = np.zeros(size)
        self.asked = 0

    def __call__(self, w):
        self.asked += 1
        return self.g @ w + w @ self.H @ w / 2, self.g + self.H @ w

    def loss(self, w):
        return self(w)[0]

    def inner_maximum(self, rho):
        """The trust region's solution: (mu - H) eps = g, mu above every eigenvalue, ||eps|| = rho.

        Where the quadratic has its peak inside the ball, mu = 0 there.
        """
        eps = lambda mu: np.linalg.solve(mu * np.eye(len(self.g)) - self.H, self.g)
        top = self.eigenvalues.max()
        if top < 0 and np.linalg.norm(eps(0)) <= rho:
            return self.loss(eps(0))
        high = max(top, 0) + np.linalg.norm(self.g) / rho + 1
        mu = brentq(lambda mu: np.linalg.norm(eps(mu)) - rho, top + 1e-9, high, xtol=1e-14)
        assert mu > 0  # the slope points out of the ball
        return self.loss(eps(mu))


def stream(seed=0):
    return Stream("test", seed)


# The largest rise


@pytest.mark.parametrize("rho", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("eigenvalues", [[1, 2, 3, 4], [-2, -1, 0.5, 3], [-3, -3, -2, -1]])
def test_projected_ascent_finds_the_maximum_of_a_quadratic(eigenvalues, rho):
    loss = Quadratic(eigenvalues, slope=3.0)
    found = rho_sharpness(loss, loss.w, rho=rho, steps=300, restarts=2, stream=stream())
    assert found.rise == pytest.approx(loss.inner_maximum(rho), rel=1e-5)
    assert np.linalg.norm(found.perturbation) <= rho * (1 + 1e-12)
    assert loss.loss(found.perturbation) == pytest.approx(found.rise, abs=1e-12)


def test_a_maximum_inside_the_ball_is_found_there():
    loss = Quadratic([-3, -2, -1, -4])
    inside = np.linalg.solve(-loss.H, loss.g)
    found = rho_sharpness(loss, loss.w, rho=10.0, steps=200, restarts=1, stream=stream())
    np.testing.assert_allclose(found.perturbation, inside, atol=1e-3)


def test_the_ascent_leaves_a_saddle():
    loss = Quadratic([-1, 0.5, 2], slope=0.0)
    found = rho_sharpness(loss, loss.w, rho=0.5, steps=100, restarts=1, stream=stream())
    assert found.rise == pytest.approx(0.5**2 / 2 * 2, rel=1e-6)
    alone = rho_sharpness(loss, loss.w, rho=0.5, steps=100, restarts=0, stream=stream())
    assert alone.rise == 0


def test_the_history_is_what_that_many_gradients_reach():
    loss = Quadratic([1, 2, 30, 4, -5])
    found = rho_sharpness(loss, loss.w, rho=0.3, steps=20, restarts=3, stream=stream())
    assert loss.asked == found.gradients
    assert [len(history) for history in found.histories] == [21] * 4
    for history in found.histories:
        assert history == sorted(history)
    first = found.histories[0]
    assert first[0] == 0
    sam = sam_gradient(loss, loss.w, rho=0.3)
    assert first[1] == pytest.approx(sam.adversarial_loss, rel=1e-12)
    assert found.rise == max(history[-1] for history in found.histories)


def test_a_start_is_used_and_kept_within_the_radius():
    loss = Quadratic([1, 1, 50], slope=0.0)
    top = np.linalg.eigh(loss.H)[1][:, -1]
    found = rho_sharpness(
        loss, loss.w, rho=0.1, steps=1, restarts=0, stream=stream(), starts=[7 * top]
    )
    assert found.rise == pytest.approx(0.1**2 / 2 * 50, rel=1e-9)


def test_values_that_are_not_finite_are_no_maximum():
    def wall(w):
        return (math.inf if w[0] > 0.01 else float(w[0])), np.array([1.0, 0.0])

    found = rho_sharpness(wall, np.zeros(2), rho=1.0, steps=30, restarts=2, stream=stream())
    assert found.rise == pytest.approx(0.01, rel=0.5)
    with pytest.raises(ArithmeticError, match="the loss at the weights themselves is inf"):
        rho_sharpness(wall, np.ones(2), rho=1.0, stream=stream())


# How much of it one step reaches


def test_shares_of_the_inner_maximum():
    loss = Quadratic([0.1, 0.2, 40, 5, 1])
    rho, sigma, lam = 0.2, 0.3, 1.5
    found = inner_maximum(
        loss,
        loss.w + 0.1,
        [(5, 1)],
        rho=rho,
        sigmas=[sigma],
        lam=lam,
        ascent_steps=(1, 3),
        draws=2,
        steps=200,
        stream=stream(7),
    )
    shares = {(r.method, r.gradients): found.share(r) for r in found.reached}
    w = loss.w + 0.1
    draw = stream(7)
    noises = [filter_noise(w, [(5, 1)], sigma=sigma, stream=draw) for _ in range(2)]
    rises = [
        rsam_gradient(loss, w, noise, rho=rho, lam=lam).adversarial_loss - loss.loss(w)
        for noise in noises
    ]
    random = [loss.loss(w + rho * n / np.linalg.norm(n)) - loss.loss(w) for n in noises]
    one, three = (sam_gradient(loss, w, rho=rho, ascent_steps=k) for k in (1, 3))
    assert shares["rsam", 1] == pytest.approx(np.mean(rises) / found.rise)
    assert shares["random", 0] == pytest.approx(np.mean(random) / found.rise)
    assert shares["sam", 1] == pytest.approx((one.adversarial_loss - loss.loss(w)) / found.rise)
    assert shares["sam", 3] == pytest.approx((three.adversarial_loss - loss.loss(w)) / found.rise)
    assert shares["ascent", 1] == pytest.approx(shares["sam", 1])
    assert shares["sam", 1] < shares["ascent", 3] <= 1
    assert {r.sigma for r in found.reached if r.method in ("sam", "ascent")} == {None}
    shifted = Quadratic([0.1, 0.2, 40, 5, 1])
    shifted.g = shifted.g + shifted.H @ w
    assert found.rise == pytest.approx(shifted.inner_maximum(rho), rel=1e-6)


def test_no_method_exceeds_the_maximum():
    """A steep well near w hides a peak from a short ascent: the best method is a start too."""

    def loss(w):
        return float(np.sin(3 * w).sum() + 2 * w.sum()), 3 * np.cos(3 * w) + 2

    for seed in range(10):
        found = inner_maximum(
            loss,
            np.full(4, 0.3 * seed),
            [(2, 2)],
            rho=2.0,
            sigmas=[0.5],
            ascent_steps=(1, 2),
            steps=2,
            restarts=0,
            stream=stream(seed),
        )
        assert max(found.share(r) for r in found.reached if r.method != "random") <= 1


def test_a_flat_loss_has_no_shares():
    flat = lambda w: (np.float64(1), 0 * w)
    found = inner_maximum(flat, np.ones(4), [(2, 2)], rho=0.1, stream=stream())
    assert found.rise == 0
    assert all(math.isnan(found.share(r)) for r in found.reached)


# Under noise


def test_average_sharpness_of_a_quadratic():
    loss = Quadratic(np.linspace(-1, 5, 12), slope=20.0)
    w, shapes = np.random.default_rng(1).standard_normal(12), [(2, 3), (6,)]
    expected = 0.3**2 / 2 * (filter_scale(w, shapes) ** 2 @ np.diag(loss.H))
    loss.asked = 0
    found = average_sharpness(loss.loss, w, shapes, sigma=0.3, draws=2000, stream=stream())
    assert loss.asked == 2 * 2000 + 1
    assert abs(found.mean - expected) < 4 * found.standard_error
    assert found.standard_error < 0.05 * expected  # a slope of 20 drops out of every pair
    low, high = found.interval
    assert low < expected < high


def test_gradient_stability():
    steep = Quadratic([0.0] * 6, slope=2.0)
    shapes = [(2, 3)]
    w = np.ones(6)
    assert gradient_stability(
        steep, w, shapes, sigma=1.0, draws=3, stream=stream()
    ).mean == pytest.approx(1)
    bowl = lambda w: (w @ w / 2, w)
    noise = filter_noise(w, shapes, sigma=0.5, stream=stream(3))
    cosine = w @ (w + noise) / np.linalg.norm(w) / np.linalg.norm(w + noise)
    found = gradient_stability(bowl, w, shapes, sigma=0.5, draws=1, stream=stream(3))
    assert found.mean == pytest.approx(cosine, rel=1e-9)
    assert math.isnan(found.interval[0])
    falling = [
        gradient_stability(bowl, w, shapes, sigma=s, draws=200, stream=stream()).mean
        for s in (0.1, 0.5, 2.0)
    ]
    assert falling == sorted(falling, reverse=True)


def test_kinks_are_what_the_quadratic_form_leaves():
    """A quadratic has none; of |w| all is beyond; and a network's rise tends to its form."""
    loss = Quadratic([1.0, 2, 3, -4])
    w, shapes = np.ones(4), [(2, 2)]
    product = lambda v: loss.H @ v
    found = kinks(loss.loss, product, w, shapes, sigma=0.3, draws=5, stream=stream())
    assert found.beyond.mean == pytest.approx(0, abs=1e-12)
    assert found.rise == average_sharpness(
        loss.loss, w, shapes, sigma=0.3, draws=5, stream=stream()
    )
    all_kinks = kinks(
        lambda w: np.abs(w - 1).sum(), lambda v: 0 * v, w, shapes, sigma=0.3, stream=stream()
    )
    assert all_kinks.beyond == all_kinks.rise
    rises = {}
    for name in ("bn", "tanh"):
        network = curved(name)
        product = product_at(network.loss, network.w)
        for sigma in (1e-6, 1e-4, 1e-3):
            rises[name, sigma] = kinks(
                network.loss.loss,
                product,
                network.w,
                network.shapes,
                sigma=sigma,
                draws=20,
                stream=stream(),
            )
    for key in (("bn", 1e-6), ("tanh", 1e-6), ("tanh", 1e-4)):
        assert rises[key].rise.mean == pytest.approx(rises[key].quadratic.mean, rel=1e-4)
    smooth = rises["tanh", 1e-3]
    assert smooth.rise.mean == pytest.approx(smooth.quadratic.mean, rel=1e-3)
    bent = rises["bn", 1e-4]
    assert bent.beyond.interval[0] > 0.5 * bent.quadratic.mean


def test_an_estimate_has_student_s_interval():
    found = Estimate.of([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.standard_error == pytest.approx(np.std([1, 2, 4], ddof=1) / 3**0.5)
    half = 4.302652729911275 * found.standard_error
    np.testing.assert_allclose(found.interval, [7 / 3 - half, 7 / 3 + half])


# Curvature


@pytest.mark.parametrize("eigenvalues", [[5, 4, 3, 2, 1], [-9, 1, 2, 7, 7], [0, 0, 0, 0, 6]])
def test_eigenvalues_of_a_quadratic(eigenvalues):
    loss = Quadratic(eigenvalues)
    found = hessian_eigenvalues(loss, loss.w + 1, 5, tolerance=1e-8, stream=stream())
    expected = sorted(eigenvalues, reverse=True)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert max(found.bounds) < 1e-5
    assert loss.asked == found.gradients


def test_lanczos_stays_orthogonal():
    """Without re-orthogonalisation copies of the largest eigenvalue push out the others."""
    eigenvalues = np.concatenate([np.linspace(0, 1, 116), [10, 30, 100, 1000]])
    loss = Quadratic(eigenvalues)
    found = hessian_eigenvalues(loss, loss.w, 6, iterations=90, tolerance=1e-9, stream=stream())
    np.testing.assert_allclose(found.values[:4], [1000, 100, 30, 10], rtol=1e-6)
    assert found.values[4] < 1.001


def test_bounds_hold_before_the_end():
    eigenvalues = np.linspace(-3, 10, 60)
    loss = Quadratic(eigenvalues)
    found = hessian_eigenvalues(loss, loss.w, 3, iterations=9, tolerance=0, stream=stream())
    assert found.gradients == loss.asked
    for value, bound in zip(found.values, found.bounds):
        assert bound > 1e-3
        assert np.abs(eigenvalues - value).min() <= bound * 1.001


def torch_loss(model, x, y):
    """The loss of an mlp as a function of its flat weights, in PyTorch."""
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def loss(w):
        values = x
        views = [w[at].reshape(s) for at, s in zip(model.weights.slices, model.weights.shapes)]
        for i, (weight, bias) in enumerate(zip(views[::2], views[1::2])):
            values = values.relu() if i else values
            values = values @ weight.T + bias
        return torch.nn.functional.cross_entropy(values, y)

    return loss


def test_it_ends_where_the_bounds_are_met():
    eigenvalues = np.concatenate([np.linspace(-1, 1, 118), [50, 100]])
    loss = Quadratic(eigenvalues)
    found = hessian_eigenvalues(loss, loss.w, 2, iterations=120, tolerance=1e-6, stream=stream())
    assert found.gradients < 60
    for value, bound, exact in zip(found.values, found.bounds, (100, 50)):
        assert abs(value - exact) < bound <= 1e-6 * 100


def test_against_torch_s_exact_hessian():
    model = models.mlp([6, 5, 4], seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 6)), rng.integers(0, 4, 30)
    landscape, w = Landscape(model, x, y), model.weights.flat
    exact = torch.autograd.functional.hessian(
        torch_loss(model, x, y), torch.from_numpy(w.copy())
    ).numpy()
    v = rng.standard_normal(w.size)
    np.testing.assert_allclose(hessian_product(landscape, w, v), exact @ v, rtol=1e-6, atol=1e-8)
    found = hessian_eigenvalues(landscape, w, 5, tolerance=1e-6, stream=stream())
    expected = np.linalg.eigvalsh(exact)[::-1][:5]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)


def test_kinks_are_not_taken_for_curvature():
    """Of 400,000 ReLUs some are so near to theirs that a difference of gradients steps over it."""
    model = models.mlp([20, 200, 200, 5], seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    x, y = 3 * rng.standard_normal((1000, 20)), rng.integers(0, 5, 1000)
    landscape, w = Landscape(model, x, y), model.weights.flat
    v = torch.from_numpy(w.copy()).requires_grad_()
    (gradient,) = torch.autograd.grad(torch_loss(model, x, y)(v), v, create_graph=True)

    def exact(u):
        u = torch.from_numpy(np.array(u).ravel())
        return torch.autograd.grad(gradient, v, u, retain_graph=True)[0].numpy()

    u = rng.standard_normal(w.size)
    error = hessian_product(Branch(landscape, w), w, u) - exact(u)
    assert np.linalg.norm(error) < 1e-6 * np.linalg.norm(exact(u))
    wrong = hessian_product(landscape, w, u) - exact(u)
    assert np.linalg.norm(wrong) > np.linalg.norm(exact(u))
    operator = LinearOperator((w.size, w.size), exact, dtype=float)
    expected = eigsh(operator, 2, which="LA", tol=1e-6, return_eigenvectors=False)[::-1]
    found = hessian_eigenvalues(landscape, w, 2, stream=stream())
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)
    assert max(found.bounds) < 2e-4 * found.values[0]


@pytest.mark.parametrize("kernels", ["fast", "plain"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: models.cnn(size=8, width=2, seed=0, dtype="float64"),
        lambda: models.cifar_resnet(8, channels=1, seed=0, dtype="float64"),
        lambda: models.imagenet_resnet(
            Bottleneck, (1, 1, 1, 1), classes=10, channels=1, width=2, seed=0, dtype="float64"
        ),
    ],
    ids=["cnn", "cifar resnet", "imagenet resnet"],
)
def test_a_branch_is_the_loss_up_to_the_next_kink_and_smooth_beyond(make, kernels):
    with use_backend("numpy", kernels=kernels):
        model = make()
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((5, 1, 8, 8)), rng.integers(0, 10, 5)
        landscape, w = Landscape(model, x, y, chunk=3), model.weights.flat
        branch = Branch(landscape, w)
        for place in (w, w * (1 + 1e-12)):
            (loss, gradient), (expected, expected_gradient) = branch(place), landscape(place)
            assert loss == pytest.approx(expected, rel=1e-12)
            np.testing.assert_allclose(gradient, expected_gradient, atol=1e-12)
        d = 0.1 * rng.standard_normal(w.size) * np.abs(w).mean()
        losses = [branch(w + t * d) for t in (-1e-3, 0, 1e-3)]
        slopes = [gradient @ d for _, gradient in losses]
        assert (losses[2][0] - losses[0][0]) / 2e-3 == pytest.approx(slopes[1], rel=1e-5)
        assert slopes[0] + slopes[2] - 2 * slopes[1] == pytest.approx(0, abs=1e-4)
        assert not np.isclose(branch(w + 30 * d)[0], landscape(w + 30 * d)[0], rtol=1e-3)


def test_a_branch_leaves_the_kernels_as_they_were():
    def failing(w):
        raise ZeroDivisionError

    before = in_force.kernels
    with pytest.raises(ZeroDivisionError):
        Branch(failing, np.zeros(2))
    assert in_force.kernels is before


def test_a_kink_that_is_not_frozen_shows_in_the_bound():
    """It lies between the places that the products look at and those that the bounds look at."""
    loss = Quadratic([1, 2, 3])
    kink = 4e-6

    def with_kink(w):
        value, gradient = loss(w)
        return value, gradient + (w - loss.w) * (np.linalg.norm(w - loss.w) > kink)

    smooth = hessian_eigenvalues(loss, loss.w, stream=stream())
    kinked = hessian_eigenvalues(with_kink, loss.w, stream=stream())
    assert kinked.values[0] == pytest.approx(smooth.values[0] + 1)
    assert smooth.bounds[0] < 1e-3 < 0.9 < kinked.bounds[0]


# Along random directions


def test_every_filter_of_a_direction_is_as_long_as_that_of_w():
    model = net()
    w, shapes = model.weights.flat, model.weights.shapes
    d = filter_normalised_direction(w, shapes, stream())
    moved = 0
    for part, own in zip(model.weights.views(d), model.weights.views(w)):
        if own.ndim < 2:
            assert not part.any()
            continue
        rows = part.reshape(len(part), -1), own.reshape(len(own), -1)
        np.testing.assert_allclose(*(np.linalg.norm(r, axis=1) for r in rows), rtol=1e-12)
        moved += len(own)
    assert moved == 3 + 5 + 4


def test_directions_do_not_see_the_scale_of_filters():
    """Filters up, the next layer down: the same function, and the same losses along d."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.integers(0, 3, 20)
    steps = [-1.0, -0.3, 0.5, 1.0]
    losses = []
    for scale in (np.ones(8), rng.uniform(0.1, 10, 8)):
        model = models.mlp([6, 8, 3], seed=1, dtype="float64")
        first, bias, _, _ = model.weights.views(model.weights.flat)
        first *= scale[:, None]
        bias *= scale
        _, _, second, _ = model.weights.views(model.weights.flat)
        second /= scale
        landscape = Landscape(model, x, y)
        w = model.weights.flat
        d = filter_normalised_direction(w, model.weights.shapes, stream())
        first_only = d.copy()
        first_only[model.weights.slices[2]] = 0
        losses.append(loss_along(landscape.loss, w, first_only, steps))
    np.testing.assert_allclose(*losses, rtol=1e-12)


def test_a_bare_vector_has_no_filters_to_move():
    with pytest.raises(ValueError, match="move filters, the rows of parameters with two axes"):
        filter_normalised_direction(np.ones(3), [(3,)], stream())


def test_losses_along_lines_and_over_planes():
    loss = Quadratic([1, 2, 3])
    w, across, up = np.random.default_rng(0).standard_normal((3, 3))
    line = loss_along(loss.loss, w, across, [-1.0, 0.0, 2.0])
    np.testing.assert_allclose(line, [loss.loss(w + t * across) for t in (-1, 0, 2)])
    plane = loss_over_plane(loss.loss, w, across, up, xs=[0.0, 1.0, 2.0], ys=[0.0, 3.0])
    assert plane.shape == (2, 3)
    assert plane[1, 2] == pytest.approx(loss.loss(w + 2 * across + 3 * up))


# What is measured, and that it stays as it was


def batch(n=11):
    rng = np.random.default_rng(5)
    return rng.standard_normal((n, 2, 4, 4)), rng.integers(0, 4, n)


def test_the_evaluation_loss_is_a_mean_over_samples_however_they_are_shared_out():
    model = net()
    model.modules()["1"].running_mean += 0.3
    x, y = batch()
    w = model.weights.flat
    whole, parts = Landscape(model, x, y), Landscape(model, x, y, chunk=4)
    model.eval()
    loss, gradient = objective(model, x, y)(w)
    model.train()
    for landscape in (whole, parts):
        found = landscape(w)
        np.testing.assert_allclose(found[0], loss, rtol=1e-12)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(landscape.loss(w), loss, rtol=1e-12)


def test_the_training_loss_is_that_of_a_training_step():
    model = net()
    x, y = batch()
    w = model.weights.flat
    landscape = Landscape(model, x, y, batch_statistics=True, chunk=4, seed=3)
    step = objective(model, x, y, seed=3)
    loss, gradient = step(w)
    found = landscape(w)
    np.testing.assert_array_equal(found[0], loss)
    np.testing.assert_array_equal(found[1], gradient)
    np.testing.assert_array_equal(landscape.loss(w), loss)
    np.testing.assert_array_equal(landscape(w)[1], gradient)  # the same dropout masks again


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_measuring_changes_nothing(batch_statistics, training):
    model = net().train(training)
    model.modules()["4"].training = not training  # a layer in another mode than the rest
    x, y = batch()
    before, w = model.state_dict(), model.weights.flat
    copy, modes = w.copy(), [m.training for m in model.modules().values()]
    landscape = Landscape(model, x, y, batch_statistics=batch_statistics)
    shapes = landscape.shapes
    rho_sharpness(landscape, w, rho=0.1, steps=2, restarts=1, stream=stream())
    average_sharpness(landscape.loss, w, shapes, sigma=0.1, draws=2, stream=stream())
    gradient_stability(landscape, w, shapes, sigma=0.1, draws=2, stream=stream())
    hessian_eigenvalues(landscape, w, 1, iterations=2, stream=stream())
    inner_maximum(
        landscape, w, shapes, rho=0.1, ascent_steps=(1,), draws=1, steps=1, stream=stream()
    )
    d = filter_normalised_direction(w, shapes, stream())
    loss_along(landscape.loss, w, d, [0.5])
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    np.testing.assert_array_equal(w, copy)
    assert w is model.weights.flat
    assert all(np.shares_memory(p._data, w) for p in model.weights.parameters)
    assert [m.training for m in model.modules().values()] == modes


class Held(Samples):
    """Samples in memory, which may not be augmented."""

    def __init__(self, x, y):
        self.x, self.labels = x, y

    @property
    def normalisation(self):
        return [0.0], [1.0]

    def take(self, index, stream=None):
        assert stream is None
        return self.x[index]


def test_a_survey_measures_the_evaluation_loss_and_the_mini_batches_of_training():
    x, y = batch(30)
    trained = SimpleNamespace(
        model=net(),
        data=SimpleNamespace(train=Held(x, y)),
        recipe=SimpleNamespace(batch_size=12),
        loss=cross_entropy,
    )
    subject = Subject(trained, SurveySettings(samples=20, batches=3, seed=4))
    w, model = trained.model.weights.flat, trained.model

    model.eval()
    index = Stream("samples", 4).permutation(30)[:20]
    assert subject.evaluation().loss(w) == pytest.approx(
        float(objective(model, x[index], y[index])(w)[0]), rel=1e-12
    )
    model.train()
    order = list(training_batches(30, 12, 4, 0))
    losses = [float(landscape(w)[0]) for landscape in subject.mini_batches()]
    assert losses == [float(objective(model, x[index], y[index])(w)[0]) for index in order]


def test_an_error_while_measuring_changes_nothing_either():
    model = net().train()
    x, y = batch()

    def failing(scores, targets):
        raise ArithmeticError("out of order")

    landscape = Landscape(model, x, y, failing)
    for ask in (landscape, landscape.loss):
        with pytest.raises(ArithmeticError):
            ask(model.weights.flat + 1)
        assert model.training
        assert all(np.shares_memory(p._data, model.weights.flat) for p in model.weights.parameters)


def test_the_seed_decides_every_number():
    model = net()
    x, y = batch()
    landscape, w = Landscape(model, x, y), model.weights.flat

    def measured(seed):
        s = stream(seed)
        return [
            rho_sharpness(landscape, w, rho=0.1, steps=2, restarts=1, stream=s).histories,
            average_sharpness(landscape.loss, w, landscape.shapes, sigma=0.1, stream=s),
            gradient_stability(landscape, w, landscape.shapes, sigma=0.1, stream=s),
            hessian_eigenvalues(landscape, w, 2, iterations=4, stream=s),
            filter_normalised_direction(w, landscape.shapes, s).tolist(),
        ]

    first, again, other = measured(0), measured(0), measured(1)
    assert first == again
    assert all(a != b for a, b in zip(first, other))


@pytest.mark.parametrize("device", ["double", pytest.param("dpnp", marks=pytest.mark.intel)])
def test_the_measures_run_on_a_device(device, request):
    """Nothing but `xp` and operators: the device's double refuses host arrays, and so does dpnp."""
    if device == "double":
        request.getfixturevalue("double_backend")
    with use_backend(device):
        model = models.mlp([6, 5, 4], seed=0)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((8, 6)).astype("float32")
        landscape = Landscape(model, x, rng.integers(0, 4, 8), chunk=5)
        w = model.weights.flat
        shapes = landscape.shapes
        assert rho_sharpness(landscape, w, rho=0.1, steps=2, restarts=1, stream=stream()).rise > 0
        average_sharpness(landscape.loss, w, shapes, sigma=0.1, draws=2, stream=stream())
        gradient_stability(landscape, w, shapes, sigma=0.1, draws=2, stream=stream())
        assert len(hessian_eigenvalues(landscape, w, 2, iterations=5, stream=stream()).values) == 2
        product, part = product_at(landscape, w), model.weights.slices[0]
        assert block(product, w, part)(w[part]).shape == (30,)
        hutch_plus_plus(product, w, products=6, parts=[part], stream=stream())
        assert len(spectral_density(product, w, probes=2, steps=3, stream=stream()).nodes[0]) == 3
        kinks(landscape.loss, product, w, shapes, sigma=0.1, draws=2, stream=stream())
        outputs = ModelOutputs(model, x, chunk=5)
        p = softmax(outputs(w))
        gauss_newton_trace(outputs, w, probes=2, stream=stream())
        fisher_trace(outputs, 0 * p, w, probes=2, stream=stream())
        exact_traces(outputs.samples()[:2], 0 * p, w)
        gauss_newton_eigenvalues(outputs, w, 1, iterations=3, stream=stream())
        other = w[::-1].copy()
        matched(w, other, shapes, stream=stream())
        assert plane_of_trajectory([w, other, 2 * w])[0].apart[0] < 1e-5
        inner_maximum(landscape, w, shapes, rho=0.1, draws=1, steps=10, stream=stream())
        d = filter_normalised_direction(w, shapes, stream())
        assert loss_over_plane(landscape.loss, w, d, d, [0.0, 1.0], [0.0]).shape == (1, 2)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f, w: rho_sharpness(f, w, rho=-1, stream=stream()), "rho is a radius"),
        (lambda f, w: rho_sharpness(f, w, rho=1, steps=0, stream=stream()), "steps >= 1"),
        (lambda f, w: hessian_eigenvalues(f, w, 0, stream=stream()), "k counts eigenvalues, 1 to"),
        (lambda f, w: hessian_eigenvalues(f, w, 9, stream=stream()), "to the 4 weights, not 9"),
        (
            lambda f, w: hessian_eigenvalues(f, w, 3, iterations=2, stream=stream()),
            "3 eigenvalues need at least 3 iterations",
        ),
        (
            lambda f, w: average_sharpness(f.loss, w, [(2, 2)], sigma=-1, stream=stream()),
            "sigma scales the noise",
        ),
        (
            lambda f, w: average_sharpness(f.loss, w, [(2, 2)], sigma=1, draws=0, stream=stream()),
            "draws must be at least 1",
        ),
        (
            lambda f, w: gradient_stability(f, w, [(2, 3)], sigma=1, stream=stream()),
            "hold 6 weights, the vector 4",
        ),
        (
            lambda f, w: inner_maximum(f, w, [(2, 2)], rho=1, ascent_steps=[0], stream=stream()),
            "ascent_steps lie between 1 and",
        ),
        (
            lambda f, w: inner_maximum(f, w, [(2, 2)], rho=1, draws=0, stream=stream()),
            "draws must be at least 1",
        ),
        (lambda f, w: Landscape(net(), np.zeros((0, 2, 4, 4)), np.zeros(0)), "at least one sample"),
        (lambda f, w: Landscape(net(), *batch(), chunk=0), "chunk counts samples"),
        (lambda f, w: Estimate.of([]), "at least one value"),
    ],
)
def test_settings_that_make_no_sense(ask, message):
    loss = Quadratic([1, 2, 3, 4])
    with pytest.raises(ValueError, match=message):
        ask(loss, loss.w)
