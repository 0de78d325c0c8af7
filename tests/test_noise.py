"""R-SAM's draw: the scale of every filter, the distribution, the streams, the errors.

The statistical bounds are about five standard errors wide, for fixed seeds.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsam_backends import Stream
from rsam_ref import RSAM, SGD, NoiseOnly, models
from rsam_ref.algorithms.noise import ball_noise, filter_noise, filter_scale
from tests.helpers.problems import net, train

SHAPES = {
    "linear": [(4, 3)],
    "linear, one output": [(1, 5)],
    "linear, one input": [(5, 1)],
    "convolution": [(3, 2, 2, 3)],
    "tokens": [(1, 4, 3)],
    "bias": [(6,)],
    "bias of one": [(1,)],
    "net": [(3, 2, 3, 3), (3,), (2, 3), (2,)],
}

every_net = pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())


def size(shapes):
    return sum(math.prod(shape) for shape in shapes)


def weights(shapes, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(size(shapes)).astype(dtype)


def scale_by_hand(w, shapes):
    """Weight by weight: the root of the sum of squares over those of the same output.

    A parameter with one axis is one filter, and its norm is never quite 0.
    """
    scale, w = [], [float(value) for value in w]
    for shape in shapes:
        count = math.prod(shape)
        part, w = w[:count], w[count:]
        width = count // shape[0] if len(shape) > 1 else count
        for i in range(count):
            total = 0.0
            for j in range(count):
                if i // width == j // width:
                    total += part[j] ** 2
            scale.append(math.sqrt(total) + (1e-16 if len(shape) == 1 else 0.0))
    return scale


@every_net
def test_the_scale_is_the_norm_of_the_filter(shapes):
    w = weights(shapes)
    np.testing.assert_allclose(filter_scale(w, shapes), scale_by_hand(w, shapes), rtol=1e-14)


@given(
    shapes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), max_size=4),
    seed=st.integers(0, 10**6),
)
def test_the_scale_is_the_norm_of_the_filter_for_any_shapes(shapes, seed):
    w = weights(shapes, seed)
    np.testing.assert_allclose(filter_scale(w, shapes), scale_by_hand(w, shapes), rtol=1e-14)


@every_net
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_noise_is_sigma_times_scale_times_draw(shapes, dtype):
    w = weights(shapes, dtype=dtype)
    noise = filter_noise(w, shapes, sigma=0.25, stream=Stream(3, 1))
    z = Stream(3, 1).normal(w.size, dtype)
    assert noise.dtype == dtype
    assert noise.tobytes() == (0.25 * filter_scale(w, shapes) * z).tobytes()


def test_the_scale_does_not_touch_the_weights_and_takes_read_only_ones():
    shapes = SHAPES["net"]
    w = weights(shapes)
    before = w.tobytes()
    w.setflags(write=False)
    filter_noise(w, shapes, sigma=1.0, stream=Stream(0))
    assert w.tobytes() == before


@every_net
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_filters_get_no_noise_and_no_nan(shapes, dtype):
    zeros = np.zeros(size(shapes), dtype)
    noise = filter_noise(zeros, shapes, sigma=1.0, stream=Stream(0))
    assert np.abs(noise).max() < 1e-14  # a bias of zeros has the norm 1e-16
    matrices = [len(shape) > 1 for shape in shapes for _ in range(math.prod(shape))]
    assert not noise[matrices].any()


def test_one_zero_filter_among_others():
    w = np.array([0.0, 0.0, 3.0, 4.0])
    assert filter_scale(w, [(2, 2)]).tolist() == [0.0, 0.0, 5.0, 5.0]
    assert filter_scale(w, [(2,), (1, 2)]).tolist() == [1e-16, 1e-16, 5.0, 5.0]


# The distribution of z = D / (sigma s)

LAYERS = [(64, 100), (64,), (64, 100), (64,), (64, 10, 2, 5)]


def z_of(seed, step, layers=LAYERS, dtype="float64"):
    w = weights(layers, seed=9, dtype=dtype)
    noise = filter_noise(w, layers, sigma=0.01, stream=Stream(seed, step))
    return noise / (0.01 * filter_scale(w, layers))


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_draw_is_standard_normal(seed, dtype):
    z = z_of(seed, 0, dtype=dtype).astype("float64")
    n = z.size
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert abs(z).max() < 6


def test_tensors_of_equal_shape_draw_independently():
    parts = np.split(z_of(0, 0), np.cumsum([math.prod(shape) for shape in LAYERS])[:-1])
    for a, b in itertools.combinations(parts, 2):
        if a.size == b.size:
            assert abs(correlation(a, b)) < 5 / math.sqrt(a.size)


def test_filters_and_neighbours_draw_independently():
    rows = z_of(0, 0, [(64, 100)]).reshape(64, 100)
    assert abs(correlation(rows[:-1].ravel(), rows[1:].ravel())) < 5 / math.sqrt(6300)
    assert abs(correlation(rows[:, :-1].ravel(), rows[:, 1:].ravel())) < 5 / math.sqrt(6300)


def test_steps_and_seeds_draw_independently():
    draws = [z_of(seed, step) for seed in (0, 1, 2) for step in (0, 1, 2)]
    for a, b in itertools.combinations(draws, 2):
        assert abs(correlation(a, b)) < 5 / math.sqrt(a.size)


def test_the_same_seed_and_step_give_the_same_draw():
    assert z_of(4, 7).tobytes() == z_of(4, 7).tobytes()


# The optimizer's draws


def draws(model, optimizer, steps, first=0):
    return [t.noise.tobytes() for t in train(model, optimizer, steps, first)]


def test_the_optimizer_draws_from_the_stream_of_seed_and_step():
    model = net()
    optimizer = RSAM(SGD(0.1), sigma=lambda step: 0.01 * (step + 1), seed=5)
    for step in range(3):
        w = model.weights.flat.copy()
        stream = Stream("noise", 5, step)
        expected = filter_noise(w, model.weights.shapes, sigma=0.01 * (step + 1), stream=stream)
        assert draws(model, optimizer, 1, step) == [expected.tobytes()]


def test_a_steps_draw_does_not_depend_on_how_the_run_got_there():
    whole = draws(net(), RSAM(SGD(0.0), seed=5), 4)
    late = RSAM(SGD(0.0), seed=5)
    late.load_state_dict({**late.state_dict(), "steps": 2})
    assert draws(net(), late, 2, first=2) == whole[2:]
    assert len(set(whole)) == 4


def test_the_draw_at_step_0_is_not_made_of_the_numbers_of_the_initial_weights():
    """A model and its optimizer often share a seed."""
    for seed in range(3):
        model = models.mlp([64, 64], seed=seed)
        w, shapes = model.weights.flat.copy(), model.weights.shapes
        stream = Stream("noise", seed, 0)  # the optimizer's first
        z = filter_noise(w, shapes, sigma=1.0, stream=stream) / filter_scale(w, shapes)
        assert abs(np.corrcoef(z[:4096], w[:4096])[0, 1]) < 0.05


@pytest.mark.parametrize("method", [RSAM, NoiseOnly])
def test_a_function_that_does_not_say_its_filters_is_refused(method):
    """No draw by the norm of all weights together, unless it is asked for."""
    w = weights([(6,)])
    before = w.copy()
    with pytest.raises(TypeError, match=r"objective\(model, x, y\) itself, or .*=\[w.shape\]"):
        method(SGD(0.1), sigma=0.5).step(lambda w: (w @ w, 2 * w), w)
    assert w.tobytes() == before.tobytes()


def test_a_bare_vector_is_one_filter_where_that_is_asked_for():
    w = weights([(6,)])
    optimizer = RSAM(SGD(0.1), sigma=0.5, seed=2, shapes=[w.shape])
    trace = optimizer.step(lambda w: (w @ w, 2 * w), w.copy())
    expected = filter_noise(w, [(6,)], sigma=0.5, stream=Stream("noise", 2, 0))
    assert trace.noise.tobytes() == expected.tobytes()


def test_given_shapes_come_before_the_objectives():
    w = weights([(2, 3)])
    optimizer = RSAM(SGD(0.1), sigma=0.5, seed=2, shapes=[(2, 3)])
    trace = optimizer.step(lambda w: (w @ w, 2 * w), w.copy())
    expected = filter_noise(w, [(2, 3)], sigma=0.5, stream=Stream("noise", 2, 0))
    assert trace.noise.tobytes() == expected.tobytes()


# The ball


@pytest.mark.parametrize("sigma", [0.0, 1e-6, 0.5, 20.0])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_the_ball_noise_is_as_long_as_sigma(n, sigma):
    w = weights([(n,)])
    noise = ball_noise(w, sigma=sigma, stream=Stream(1))
    assert np.linalg.norm(noise) == pytest.approx(sigma, rel=1e-14)
    assert noise.tobytes() == ball_noise(100 * w, sigma=sigma, stream=Stream(1)).tobytes()


def test_the_ball_noise_points_where_the_draw_does():
    z = Stream(1).normal(50, "float64")
    noise = ball_noise(np.zeros(50), sigma=2.0, stream=Stream(1))
    assert correlation(z, noise) == pytest.approx(1)


# Errors


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("draw", [filter_noise, ball_noise])
def test_a_sigma_that_is_no_scale(draw, sigma):
    shapes = {"shapes": [(3,)]} if draw is filter_noise else {}
    with pytest.raises(ValueError, match=rf"sigma .* {sigma}"):
        draw(np.ones(3), **shapes, sigma=sigma, stream=Stream(0))


@pytest.mark.parametrize(
    "shapes", [[], [(5,)], [(2, 2)], [(7,)], [(2, 4)], [(2, 2), (3,)]], ids=str
)
def test_shapes_that_do_not_fill_the_vector(shapes):
    with pytest.raises(ValueError, match=rf"shapes .* {size(shapes)} weights, the vector 6"):
        filter_scale(np.ones(6), shapes)
