"""The NumPy kernels on the flat vector: in pieces, on threads, what the definitions say."""

import numpy as np
import pytest

from rsam_backends import Stream, threads, use_backend
from rsam_backends.numpy_kernels import KERNELS, flat
from rsam_ref import SGD, AdamW
from rsam_ref.algorithms.noise import filter_noise

BASES = {
    "sgd": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9, weight_decay=0.01),
    "dampening": lambda: SGD(0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda: SGD(0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "clipped": lambda: SGD(lambda step: 0.1 / (step + 1), momentum=0.9, clip_norm=0.5),
    "adamw": lambda: AdamW(0.1, weight_decay=0.01),
}
SHAPES = [(20, 5, 3), (20,), (7, 20), (7,), (1, 30), (3, 0), (2, 1)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces so small that a short vector has several, on two threads."""
    monkeypatch.setattr(flat, "PIECE", 300)
    monkeypatch.setattr(flat, "MANY", 100)
    monkeypatch.setattr(flat, "FEW", 99)
    threads.set_threads(2)
    yield
    threads.set_threads(None)


def vector(n, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def moved(base, dtype, kernels):
    """The weights after each of four steps."""
    w, target, optimizer = vector(1001, dtype), vector(1001, dtype, 1), base()
    found = []
    with use_backend("numpy", kernels=kernels):
        for _ in range(4):
            optimizer.step(lambda w: ((w - target) @ (w - target), 2 * (w - target)), w)
            found.append(w.tobytes())
    return found


@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_in_pieces_has_the_bits_of_the_whole(base, dtype):
    assert moved(base, dtype, "fast") == moved(base, dtype, "plain")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_noise_is_that_of_the_definition_on_any_number_of_threads(dtype):
    w = vector(sum(map(np.prod, SHAPES)), dtype)
    w[:15] = 0  # a filter of zeros
    w.setflags(write=False)
    found = []
    for count in (1, 2, 3):
        threads.set_threads(count)
        found.append(filter_noise(w, SHAPES, sigma=0.1, stream=Stream(1)))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    with use_backend("numpy", kernels="plain"):
        plain = filter_noise(w, SHAPES, sigma=0.1, stream=Stream(1))
    assert found[0].dtype == plain.dtype == dtype
    np.testing.assert_allclose(found[0], plain, rtol=4 * np.finfo(dtype).eps)


def test_every_weight_is_worked_on_once():
    count = np.zeros(1001)
    assert KERNELS["piecewise"](lambda v: v.__iadd__(1), count) is None
    assert count.tolist() == [1] * 1001


def test_short_vectors_and_unequal_ones_are_left_to_the_definition():
    def never(*vectors):
        raise AssertionError

    assert KERNELS["piecewise"](never, np.ones(99)) is NotImplemented
    assert KERNELS["piecewise"](never, np.ones(200), np.ones(201)) is NotImplemented
    draw = {"sigma": 1.0, "tiny": 0.0}
    assert KERNELS["scaled_draw"](np.ones(99), [(99,)], np.ones(99), **draw) is NotImplemented
    assert KERNELS["scaled_draw"](np.ones(200), [(199,)], np.ones(200), **draw) is NotImplemented
