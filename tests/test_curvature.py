"""The Hessian's ends, trace and density against PyTorch's exact Hessians of trained networks."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rsam_backends import Stream
from rsam_ref import models
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.sharpness import (
    Branch,
    Estimate,
    block,
    curvature_over_parts,
    extrapolated_product,
    hessian_eigenvalues,
    hessian_product,
    hutch_plus_plus,
    hutchinson,
    matched,
    plane_through,
    product_at,
    spectral_density,
)
from rsam_ref.sharpness.landscape import Landscape
from rsam_ref.sharpness.survey import Subject, SurveySettings, survey
from tests.helpers.curved import MAKE, curved, exact_hessian
from tests.helpers.held import Held

NETWORKS = list(MAKE)


def stream(seed=0):
    return Stream("test", seed)


class Quartic:
    """A quartic in 2 to 40 numbers, of any scale and skewness, far from its middle; its Hessian."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        size, scale = int(rng.integers(2, 40)), 10 ** rng.uniform(-3, 3)
        self.bend = scale * 10 ** rng.uniform(-3, 2)
        turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
        self.h = turn * (scale * rng.standard_normal(size)) @ turn.T
        self.a, self.b = rng.standard_normal((2, size, size)) / size**0.5
        self.slope = scale * 10 ** rng.uniform(-3, 3) * rng.standard_normal(size)
        self.middle = 10 ** rng.uniform(-2, 1) * rng.standard_normal(size)
        self.w = self.middle + 10 ** rng.uniform(-2, 0.5) * rng.standard_normal(size)

    def __call__(self, w):
        d = w - self.middle
        a, b = self.a @ d, self.b @ d
        value = d @ (self.slope + self.h @ d / 2) + self.bend * ((a**4).sum() + (b**3).sum())
        bent = self.bend * (4 * self.a.T @ a**3 + 3 * self.b.T @ b**2)
        return value, self.slope + self.h @ d + bent

    @property
    def hessian(self):
        d = self.w - self.middle
        a, b = self.a @ d, self.b @ d
        bent = 12 * self.a.T * a**2 @ self.a + 6 * self.b.T * b @ self.b
        return self.h + self.bend * (bent + bent.T) / 2


@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
def test_bounds_hold_to_the_last_digits(tolerance):
    """On 300 quartics whose Hessian is known no eigenvalue lies outside, and none is far."""
    widths = []
    for seed in range(300):
        loss = Quartic(seed)
        exact, size = np.linalg.eigvalsh(loss.hessian), len(loss.w)
        found = hessian_eigenvalues(
            loss,
            loss.w,
            min(2, size - 1),
            lowest=1,
            iterations=size,
            tolerance=tolerance,
            stream=stream(seed),
        )
        for value, bound in zip(
            found.values + found.lowest, found.bounds + found.lowest_bounds, strict=True
        ):
            assert np.abs(exact - value).min() <= bound, seed
            widths.append(bound / np.abs(exact).max())
    assert np.median(widths) < 1e-6
    assert max(widths) < 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_both_ends_against_double_backward(name):
    network, exact = curved(name), np.linalg.eigvalsh(exact_hessian(name))
    found = hessian_eigenvalues(
        network.loss, network.w, 5, lowest=2, iterations=150, tolerance=1e-6, stream=stream()
    )
    np.testing.assert_allclose(found.values, exact[::-1][:5], rtol=1e-8)
    np.testing.assert_allclose(found.lowest, exact[:2], rtol=1e-8)
    assert found.lowest[0] < 0
    for value, bound in zip(found.values + found.lowest, found.bounds + found.lowest_bounds):
        assert np.abs(exact - value).min() <= bound < 1e-5 * exact[-1]
    for value, q in zip(found.values + found.lowest, found.vectors, strict=True):
        assert q @ q == pytest.approx(1)
        assert q @ exact_hessian(name) @ q == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_extrapolated_product_has_more_digits_than_a_difference(name):
    network = curved(name)
    loss = network.loss
    branch, v = Branch(loss, network.w), np.random.default_rng(0).standard_normal(network.w.size)
    exact = exact_hessian(name) @ v
    found, error = extrapolated_product(branch, network.w, v)
    assert np.linalg.norm(found - exact) <= error < 1e-8 * np.linalg.norm(exact)
    plain = np.linalg.norm(hessian_product(branch, network.w, v) - exact)
    assert np.linalg.norm(found - exact) < plain / 30


def test_products_with_nothing_are_nothing():
    found, error = extrapolated_product(lambda w: (w @ w, 2 * w), np.ones(3), np.zeros(3))
    assert not found.any()
    assert error == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_one_layer_s_spectrum(name):
    network, h = curved(name), exact_hessian(name)
    part = network.slices[-2]
    size = part.stop - part.start
    product = block(product_at(network.loss, network.w), network.w, part)
    v = np.random.default_rng(0).standard_normal(size)
    np.testing.assert_allclose(product(v), h[part, part] @ v, rtol=1e-4, atol=1e-5)
    found = hessian_eigenvalues(
        network.loss, network.w, 2, part=part, tolerance=1e-6, stream=stream()
    )
    exact = np.linalg.eigvalsh(h[part, part])
    np.testing.assert_allclose(found.values, exact[::-1][:2], rtol=1e-8)
    assert np.abs(exact - found.values[0]).min() <= found.bounds[0]
    assert found.vectors[0].shape == (size,)


class InTorch:
    """A network's loss on vectors of PyTorch, which multiplies with its Hessian itself."""

    def __init__(self, network):
        self.network = network

    def __call__(self, w):
        gradient, loss = torch.func.grad_and_value(self.network.torch_loss)(w)
        return loss, gradient

    def hessian_product(self, w, v):
        return torch.func.vjp(torch.func.grad(self.network.torch_loss), w)[1](v)[0]


def test_a_loss_that_multiplies_itself_is_asked():
    network, exact = curved("relu"), np.linalg.eigvalsh(exact_hessian("relu"))
    loss, w = InTorch(network), network.torch_w
    found = hessian_eigenvalues(
        loss, w, 3, lowest=1, iterations=80, tolerance=1e-9, stream=stream()
    )
    np.testing.assert_allclose(found.values, exact[::-1][:3], rtol=1e-12)
    np.testing.assert_allclose(found.lowest, exact[:1], rtol=1e-12)
    assert all(isinstance(q, torch.Tensor) for q in found.vectors)
    for value, bound in zip(found.values, found.bounds):
        assert np.abs(exact - value).min() <= bound < 1e-8


def test_estimates_on_vectors_of_torch():
    network = curved("relu")
    w, options = network.torch_w, {"parts": network.slices, "stream": stream()}
    ours = hutchinson(product_at(network.loss, network.w), network.w, probes=4, **options)
    theirs = hutchinson(product_at(InTorch(network), w), w, probes=4, **options)
    assert theirs.total.mean != ours.total.mean  # one stream goes on
    options["stream"] = stream()
    theirs = hutchinson(product_at(InTorch(network), w), w, probes=4, **options)
    assert theirs.total.mean == pytest.approx(ours.total.mean, rel=1e-5)
    density = spectral_density(
        product_at(InTorch(network), w), w, probes=2, steps=5, stream=stream()
    )
    same = spectral_density(
        product_at(network.loss, network.w), network.w, probes=2, steps=5, stream=stream()
    )
    np.testing.assert_allclose(density.nodes, same.nodes, rtol=1e-4, atol=1e-4)
    part = block(product_at(InTorch(network), w), w, network.slices[0])
    assert part(w[network.slices[0]]).shape == (1024,)


def test_everything_on_vectors_of_jax():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        numbers = np.random.default_rng(0).standard_normal((20, 20))
        a = jax.numpy.asarray(numbers @ numbers.T)
        w = jax.numpy.asarray(numbers[0])
        loss = jax.value_and_grad(lambda w: w @ a @ w / 2 + jax.numpy.sin(w).sum())
        h = np.array(a) - np.diag(np.sin(numbers[0]))
        exact = np.linalg.eigvalsh(h)
        found = hessian_eigenvalues(loss, w, 2, lowest=1, tolerance=1e-9, stream=stream())
        np.testing.assert_allclose(found.values, exact[::-1][:2], rtol=1e-10)
        np.testing.assert_allclose(found.lowest, exact[:1], atol=1e-10)
        product = product_at(loss, w)
        total = hutch_plus_plus(product, w, products=12, stream=stream()).total
        assert abs(total.mean - np.trace(h)) < 4 * total.standard_error
        assert len(spectral_density(product, w, probes=2, steps=5, stream=stream()).nodes[0]) == 5
        np.testing.assert_allclose(
            block(product, w, slice(2, 5))(w[:3]), h[2:5, 2:5] @ w[:3], rtol=1e-7
        )
        shapes = [(2, 6), (2,), (2, 2), (2,)]
        np.testing.assert_array_equal(matched(w, w, shapes, stream=stream()), w)
        assert plane_through(w, 2 * w + 1, 3 * w).places[0] == (0, 0)


# The samples' spread


@pytest.mark.parametrize("name", NETWORKS)
def test_the_curvature_s_spread_over_parts_of_the_samples(name):
    """Along an eigenvector the parts' curvatures have the eigenvalue as their mean."""
    network = curved(name)
    found = hessian_eigenvalues(network.loss, network.w, 1, tolerance=1e-6, stream=stream())
    parts = [
        Landscape(network.model, network.x[i::5], network.y[i::5]) for i in range(5)
    ]  # 40 samples each
    spread = curvature_over_parts(parts, network.w, found.vectors[0])
    assert spread.mean == pytest.approx(found.values[0], rel=1e-5)
    assert spread.n == 5
    low, high = spread.interval
    assert low < found.values[0] < high
    assert found.bounds[0] < (high - low) / 1000  # the digits are not what is uncertain


def test_a_trace_s_spread_is_that_of_the_parts_traces():
    """With so many products Hutch++ has the traces exactly, so the parts alone differ."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    trained = SimpleNamespace(
        model=models.mlp([3, 2, 2], dtype="float64"),
        data=SimpleNamespace(train=Held(x, y)),
        loss=cross_entropy,
    )
    subject = Subject(trained, SurveySettings(samples=40, parts=4, probes=20))
    rows = {row["part"]: row for row in survey("trace", subject)}
    identity, w = np.eye(subject.w.size), subject.w
    diagonals = [
        np.array([v @ product_at(part, w)(v) for v in identity]) for part in subject.parts()
    ]
    for name, part in {None: slice(None), **subject.layers()}.items():
        exact = Estimate.of(diagonal[part].sum() for diagonal in diagonals)
        found = rows[name]["sample_low"], rows[name]["sample_high"]
        assert found == pytest.approx(exact.interval, rel=1e-4)


# The trace


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("estimate", ["hutchinson", "hutch++"])
def test_the_trace_and_every_layer_s_share(name, estimate):
    network, exact = curved(name), np.diag(exact_hessian(name))
    product = product_at(network.loss, network.w)
    options = {"parts": network.slices, "stream": stream(1)}
    if estimate == "hutchinson":
        found = hutchinson(product, network.w, probes=40, **options)
    else:
        found = hutch_plus_plus(product, network.w, products=60, **options)
    assert found.products == (40 if estimate == "hutchinson" else 60)
    for part, share in zip(
        [slice(None), *network.slices], [found.total, *found.shares], strict=True
    ):
        assert abs(share.mean - exact[part].sum()) < 4 * share.standard_error
    assert sum(share.mean for share in found.shares) == pytest.approx(found.total.mean)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_interval_of_the_trace_holds_in_95_of_100_seeds(name):
    """The network's largest eigenvalue, a third of its trace, is no matter of chance in Hutch++.

    Hutchinson's estimate has it in every probe, which its lengths know better than its few values.
    """
    h = exact_hessian(name)
    product, w, part = (lambda v: h @ v), curved(name).w, curved(name).slices[:1]
    exact = [np.trace(h), np.trace(h[part[0], part[0]])]
    held = np.zeros((2, 2), int)
    for seed in range(100):
        for i, found in enumerate(
            [
                hutch_plus_plus(product, w, products=30, parts=part, stream=stream(seed)),
                hutchinson(product, w, probes=30, parts=part, stream=stream(seed)),
            ]
        ):
            for j, one in enumerate([found.total, *found.shares]):
                low, high = one.interval
                held[i, j] += low < exact[j] < high
    assert (held >= 91).all(), held  # 95, which chance moves by 2.2


def test_samples_parts_share_the_vectors_of_the_whole():
    """The estimate is the mean of theirs by shares, and that of the whole's own products."""
    rng = np.random.default_rng(2)
    matrices = [a + a.T for a in rng.standard_normal((3, 30, 30))]
    shares = [0.5, 0.3, 0.2]
    whole = sum(share * h for share, h in zip(shares, matrices))
    options = {"products": 12, "parts": [slice(0, 9), slice(9, 30)]}
    samples = [(share, partial(np.matmul, h)) for share, h in zip(shares, matrices)]
    asked = {"w": np.zeros(30), **options}
    found = hutch_plus_plus(samples, stream=stream(), **asked)
    alone = hutch_plus_plus(partial(np.matmul, whole), stream=stream(), **asked)
    for one, other in zip([found.total, *found.shares], [alone.total, *alone.shares], strict=True):
        assert one.mean == pytest.approx(other.mean)
        assert one.standard_error == pytest.approx(other.standard_error)
    means = [sum(s * x for s, x in zip(shares, of)) for of in zip(*found.of_samples, strict=True)]
    assert means == pytest.approx([one.mean for one in [found.total, *found.shares]])
    for h, own in zip(matrices, found.of_samples):
        assert abs(own[0] - np.trace(h)) < 4 * np.sqrt(2 / 4) * np.linalg.norm(h)


def test_a_trace_s_error_is_made_of_the_lengths_of_its_images():
    """2 ||M||^2 / n, whatever the few values say: here of M = H, and of M = H's first rows."""
    a = np.random.default_rng(5).standard_normal((40, 40))
    h = a + a.T
    errors = []
    for seed in range(200):
        found = hutchinson(
            partial(np.matmul, h), np.zeros(40), probes=8, parts=[slice(0, 10)], stream=stream(seed)
        )
        errors.append([one.standard_error**2 for one in [found.total, *found.shares]])
    exact = [2 * (h**2).sum() / 8, 2 * (h[:10] ** 2).sum() / 8]
    np.testing.assert_allclose(np.mean(errors, axis=0), exact, rtol=0.03)


def test_hutch_plus_plus_has_the_large_eigenvalues_exactly():
    """A matrix of rank 3 leaves nothing to estimate, and its probes agree."""
    u = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 3)))[0]
    h = u * [5.0, -2.0, 100.0] @ u.T
    found = hutch_plus_plus(lambda v: h @ v, np.zeros(50), products=12, stream=stream())
    assert found.total.mean == pytest.approx(103, rel=1e-9)
    assert found.total.standard_error < 1e-9
    assert found.products <= 12
    plain = hutchinson(lambda v: h @ v, np.zeros(50), probes=12, stream=stream())
    assert plain.total.standard_error > 1


def test_a_layer_s_share_of_a_diagonal_matrix_is_exact():
    """v_i^2 = 1 whatever the signs: no spread at all, which the interval does not know."""
    diagonal = np.arange(1.0, 11.0)
    found = hutchinson(
        lambda v: diagonal * v,
        np.zeros(10),
        probes=2,
        parts=[slice(0, 4), slice(4, 10)],
        stream=stream(),
    )
    assert [share.mean for share in found.shares] == [10, 45]
    assert found.total.mean == 55
    assert found.total.standard_error == pytest.approx(math.sqrt(2 * (diagonal @ diagonal) / 2))


# The density


@pytest.mark.parametrize("name", NETWORKS)
def test_moments_of_the_density(name):
    network, exact = curved(name), np.linalg.eigvalsh(exact_hessian(name))
    found = spectral_density(
        product_at(network.loss, network.w), network.w, probes=20, steps=30, stream=stream()
    )
    scale = np.abs(exact).max()
    for power in range(4):
        moment, expected = found.moment(power), (exact**power).mean()
        assert moment.mean / scale**power == pytest.approx(expected / scale**power, abs=1e-3)
        assert abs(moment.mean - expected) <= 4 * moment.standard_error + 1e-9
    assert found.nodes[0][-1] == pytest.approx(exact[-1], rel=1e-3)


def test_the_density_over_a_whole_basis_is_the_spectrum_s():
    """Unit vectors in turn leave no chance: the moments are those of eigvalsh."""
    part = curved("tanh").slices[3]  # the second layer's bias
    h = exact_hessian("tanh")[part, part]
    exact = np.linalg.eigvalsh(h)
    found = spectral_density(
        lambda v: h @ v, np.zeros(len(h)), starts=np.eye(len(h)), steps=6, stream=stream()
    )
    for power in range(1, 9):
        assert found.moment(power).mean == pytest.approx((exact**power).mean(), rel=1e-3)
    fine = spectral_density(
        lambda v: h @ v, np.zeros(len(h)), starts=np.eye(len(h)), steps=16, stream=stream()
    )
    middle = (exact[10] + exact[11]) / 2
    assert fine.below(middle).mean == pytest.approx(11 / 16, abs=1e-9)
    places, width = [exact[0], 0.0, exact[-1]], 0.1 * exact[-1]
    bells = np.exp(-(((np.array(places)[:, None] - exact) / width) ** 2) / 2)
    expected = bells.mean(1) / width / np.sqrt(2 * np.pi)
    smoothed = [value.mean for value in fine.smoothed(places, width)]
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)


def test_a_start_in_a_small_invariant_space_ends_there():
    found = spectral_density(
        lambda v: np.arange(5.0) * v,
        np.zeros(5),
        starts=[np.array([1.0, 0, 0, 2, 0])],
        steps=5,
        stream=stream(),
    )
    np.testing.assert_allclose(found.nodes, [[0, 3]], atol=1e-12)
    np.testing.assert_allclose(found.weights, [[0.2, 0.8]])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p, w: hutchinson(p, w, probes=1, stream=stream()), "at least 2 probes, not 1"),
        (lambda p, w: hutch_plus_plus(p, w, products=5, stream=stream()), "at least 6 products"),
        (lambda p, w: spectral_density(p, w, probes=0, stream=stream()), "probes must be"),
        (lambda p, w: spectral_density(p, w, steps=0, stream=stream()), "steps must be"),
        (
            lambda p, w: spectral_density(p, w, stream=stream()).smoothed([0.0], 0),
            "the width of a Gaussian",
        ),
        (
            lambda p, w: hessian_eigenvalues(
                lambda w: (0.0, w), w, lowest=5, iterations=9, stream=stream()
            ),
            "lowest counts eigenvalues, 0 to the 4 weights, not 5",
        ),
        (
            lambda p, w: hessian_eigenvalues(
                lambda w: (0.0, w), w, 2, lowest=2, iterations=3, stream=stream()
            ),
            "4 eigenvalues need at least 4 iterations, not 3",
        ),
    ],
)
def test_settings_that_make_no_sense(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(lambda v: v, np.ones(4))
