"""Long normal draws: their distribution, and what they are the same under.

`python -m benchmarks.draw` looks at 10^8 numbers in the same way. The seeds are fixed.
"""

import numpy as np
import pytest

from benchmarks.draw import Tally
from rsam_backends import Stream, box_muller, random, to_host, use_backend

LONG = random.FEW + 1


@pytest.fixture(scope="module")
def tally():
    found = Tally()
    for step in range(4):
        found.add(Stream("test", step).normal(1 << 20))
    return found


def test_moments_tails_and_correlations_are_those_of_normal_numbers(tally):
    lines = tally.lines()
    assert {line.name for line in lines if abs(line.errors) > 4} == set()
    assert next(line.found for line in lines if line.name == "beyond 4") > 100


def test_the_distribution_is_the_normal_one(tally):
    _, p = tally.distance()
    assert p > 0.001


@pytest.mark.parametrize(
    "wrong",
    [lambda z: z * 1.02, lambda z: z + 0.01, lambda z: np.round(z, 1), lambda z: abs(z)],
    ids=["too wide", "shifted", "rounded", "of one sign"],
)
def test_numbers_that_are_not_normal_are_seen(wrong):
    tally = Tally()
    tally.add(wrong(Stream("test", 0).normal(1 << 20)))
    _, p = tally.distance()
    assert p < 0.001


def test_pairs_that_depend_on_each_other_are_seen():
    z = Stream("test", 0).normal(1 << 20)
    blocks = z.reshape(-1, 2, random.BLOCK // 2)
    blocks[:, 1] = abs(blocks[:, 1]) * np.sign(blocks[:, 0])
    tally = Tally()
    tally.add(z)
    found = {line.name: line.errors for line in tally.lines()}
    assert found["correlation of pairs"] > 100


@pytest.mark.parametrize("word", [0, 2**32 - 1, 2**31, 2**31 - 1])
def test_the_outermost_words_give_numbers(monkeypatch, word):
    """u is never 0, of which there is no logarithm, and never above 1."""

    class Words:
        def __init__(self, seeds):
            pass

        def random_raw(self, n):
            return np.full(2 * n, word, np.uint32).view(np.uint64)

    monkeypatch.setattr(np.random, "SFC64", Words)
    z = np.empty(9, np.float32)
    box_muller.box_muller(np.random.SeedSequence(0), z)
    assert np.isfinite(z).all()
    assert abs(z).max() < box_muller.LONGEST


@pytest.mark.parametrize("n", [LONG, LONG + 1, 3 * random.BLOCK, 3 * random.BLOCK + 1])
def test_every_place_of_a_draw_is_filled(n):
    z = Stream("test", n).normal(n)
    assert z.shape == (n,)
    assert z.dtype == np.float32
    assert abs(z[-1000:]).max() > 2
    assert np.unique(z).size > 0.95 * n


def test_a_long_draw_is_the_same_without_kernels():
    here = Stream("test").normal(LONG).tobytes()
    with use_backend("numpy", kernels="plain"):
        assert to_host(Stream("test").normal(LONG)).tobytes() == here


def test_a_stream_goes_on_after_a_long_draw():
    stream = Stream("test")
    assert stream.normal(LONG).tobytes() != stream.normal(LONG).tobytes()
    assert stream.normal(5).tobytes() == Stream("test").normal(5).tobytes()


def test_few_numbers_and_double_ones_are_numpys_own():
    """So numbers of small networks are the same on every processor."""
    few = np.random.default_rng(Stream("test")._number)
    drawn = few.standard_normal(random.BLOCK, np.float32)
    assert Stream("test").normal(random.FEW)[: random.BLOCK].tobytes() == drawn.tobytes()
    double = np.random.default_rng(Stream("test")._number).standard_normal(random.BLOCK)
    assert Stream("test").normal(LONG, "float64")[: random.BLOCK].tobytes() == double.tobytes()
