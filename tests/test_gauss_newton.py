"""Gauss-Newton and the empirical Fisher against PyTorch's, whole and exact."""

from functools import cache

import numpy as np
import pytest
import torch

from rsam_backends import Stream
from rsam_ref.sharpness import (
    ModelOutputs,
    exact_traces,
    fisher_trace,
    gauss_newton_eigenvalues,
    gauss_newton_trace,
)
from rsam_ref.sharpness.gauss_newton import GaussNewton
from tests.helpers.curved import MAKE, curved, exact_hessian

NETWORKS = list(MAKE)
SAMPLES = 60


def stream(seed=0):
    return Stream("test", seed)


def outputs(name):
    return ModelOutputs(curved(name).model, curved(name).x[:SAMPLES], chunk=25)


def targets(name):
    return np.eye(10)[curved(name).y[:SAMPLES]]


@cache
def exact(name):
    """G and F (P, P), of whole Jacobians by torch.func."""
    network = curved(name)
    x = network.x[:SAMPLES]
    scores = lambda w: network.scores(w, x)
    jacobian = torch.func.jacrev(scores, chunk_size=64)(network.torch_w).detach().numpy()
    p = torch.softmax(scores(network.torch_w), 1).detach().numpy()
    a = np.einsum("nk,kl->nkl", p, np.eye(10)) - np.einsum("nk,nl->nkl", p, p)
    g = np.einsum("nkp,nkl,nlq->pq", jacobian, a, jacobian, optimize=True) / SAMPLES
    gradients = np.einsum("nkp,nk->np", jacobian, p - targets(name))
    return g, gradients.T @ gradients / SAMPLES


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_traces(name):
    g, f = exact(name)
    of_g, of_f = exact_traces(outputs(name).samples(), targets(name), curved(name).w)
    assert of_g.mean == pytest.approx(np.trace(g), rel=1e-10)
    assert of_f.mean == pytest.approx(np.trace(f), rel=1e-10)
    assert of_g.n == SAMPLES


@pytest.mark.parametrize("name", NETWORKS)
def test_estimated_traces_hold_the_exact_ones(name):
    """In about 95 of 100 seeds; here in 34 of 40 and more."""
    g, f = exact(name)
    w, held = curved(name).w, np.zeros(2, int)
    for seed in range(40):
        found = [
            gauss_newton_trace(outputs(name), w, probes=30, stream=stream(seed)),
            fisher_trace(outputs(name), targets(name), w, probes=30, stream=stream(seed)),
        ]
        for i, (one, matrix) in enumerate(zip(found, (g, f))):
            low, high = one.interval
            held[i] += low < np.trace(matrix) < high
    assert (held >= 34).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_products_and_largest_eigenvalues(name):
    g, w = exact(name)[0], curved(name).w
    v = np.random.default_rng(0).standard_normal(w.size)
    found = GaussNewton(outputs(name), w)(v)
    assert np.linalg.norm(found - g @ v) < 1e-6 * np.linalg.norm(g @ v)
    values = np.linalg.eigvalsh(g)
    largest = gauss_newton_eigenvalues(outputs(name), w, 3, tolerance=1e-6, stream=stream())
    np.testing.assert_allclose(largest.values, values[::-1][:3], rtol=1e-6)
    for value, bound in zip(largest.values, largest.bounds):
        assert np.abs(values - value).min() <= bound < 1e-4 * value


@pytest.mark.parametrize("name", NETWORKS)
def test_an_eigenvalue_s_spread_over_samples(name):
    """Its own quadratic form for every sample: their mean is the eigenvalue."""
    network, w = curved(name), curved(name).w
    largest = gauss_newton_eigenvalues(outputs(name), w, 2, tolerance=1e-6, stream=stream())
    x = network.x[:SAMPLES]
    p = torch.softmax(network.scores(network.torch_w, x), 1).detach().numpy()
    for value, q in zip(largest.values, largest.vectors):
        found = GaussNewton(outputs(name), w).over_samples(q)
        scores = lambda at: network.scores(at, x)
        forward = torch.autograd.functional.jvp(scores, network.torch_w, torch.from_numpy(q))[1]
        forward = forward.detach().numpy()
        exact = (p * forward**2).sum(1) - (p * forward).sum(1) ** 2
        assert found.mean == pytest.approx(value, rel=1e-6)
        assert found.mean == pytest.approx(exact.mean(), rel=1e-6)
        expected = exact.std(ddof=1) / SAMPLES**0.5
        assert found.standard_error == pytest.approx(expected, rel=1e-6)


def test_with_relu_every_weight_is_in_a_line():
    """The scores bend along no single weight, so H and G have one diagonal; with tanh they do."""
    for name, same in (("relu", True), ("tanh", False)):
        network = curved(name)
        every = ModelOutputs(network.model, network.x)
        of_g, _ = exact_traces(every.samples(), np.eye(10)[network.y], network.w)
        trace = np.trace(exact_hessian(name))
        assert (of_g.mean == pytest.approx(trace, rel=1e-10)) == same


class InTorch:
    """A network's scores on vectors of PyTorch."""

    def __init__(self, name):
        self.network = curved(name)

    def __call__(self, w):
        return self.network.scores(w, self.network.x[:SAMPLES])

    def pull(self, w, r):
        return torch.func.vjp(self, w)[1](r)[0]


def test_on_vectors_of_torch():
    w = curved("tanh").torch_w
    ours = gauss_newton_trace(outputs("tanh"), curved("tanh").w, probes=3, stream=stream())
    theirs = gauss_newton_trace(InTorch("tanh"), w, probes=3, stream=stream())
    assert theirs.mean == pytest.approx(ours.mean, rel=1e-10)
    v = torch.ones_like(w)
    found, expected = GaussNewton(InTorch("tanh"), w)(v), exact("tanh")[0].sum(1)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-6)


def test_nothing_moves_and_nothing_is_measured_of_nothing():
    network = curved("bn")
    before, w = network.model.state_dict(), network.w.copy()
    network.model.train()
    outputs("bn").pull(network.w + 1, np.ones((SAMPLES, 10)))
    outputs("bn")(network.w + 1)
    assert network.model.training
    for key, value in network.model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    np.testing.assert_array_equal(network.w, w)
    with pytest.raises(ValueError, match="at least one sample"):
        ModelOutputs(network.model, network.x[:0])
