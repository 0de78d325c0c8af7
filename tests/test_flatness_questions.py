"""What users of loss landscapes ask: every question on the page has its behaviour here.

The page is docs/flatness.md, whose section of questions has one entry for each; `QUESTIONS` says
which tests hold it.
"""

import math
import re
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rsam_backends import Stream
from rsam_ref import models, objective
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.commands.sharpness import TABLES, _value
from rsam_ref.pytorch import flatness
from rsam_ref.sharpness import (
    Landscape,
    average_sharpness,
    filter_normalised_direction,
    gradient_stability,
    hessian_eigenvalues,
    hutch_plus_plus,
    loss_along,
    product_at,
    rho_sharpness,
    spectral_density,
)
from rsam_ref.sharpness.survey import Subject, SurveySettings, survey
from tests.helpers.curved import curved
from tests.helpers.held import Held
from tests.helpers.problems import net

PAGE = Path(__file__).parent.parent / "docs" / "flatness.md"

QUESTIONS = {
    "Do biases and norm layers move?": {
        "test_sharpness.test_every_filter_of_a_direction_is_as_long_as_that_of_w",
        "test_flatness_questions.test_biases_and_norm_layers_stay_along_lines_and_move_under_noise",
        "test_flatness_questions.test_so_they_do_in_a_network_of_pytorch",
    },
    "Is a negative eigenvalue a mistake?": {
        "test_curvature.test_both_ends_against_double_backward",
        "test_flatness_questions.test_the_largest_is_by_sign_and_the_lowest_is_asked_for",
        "test_flatness_questions.test_a_bound_tells_whether_a_sign_is_sure",
    },
    "What does batch norm do in the plane?": {
        "test_sharpness.test_directions_do_not_see_the_scale_of_filters",
        "test_flatness_questions.test_a_plane_has_the_running_statistics_of_w_everywhere",
        "test_flatness_questions.test_with_the_batchs_statistics_the_scale_of_filters_is_nothing",
    },
    "How much memory does it take?": {
        "test_flatness_questions.test_lanczos_keeps_as_many_vectors_as_iterations",
        "test_flatness_questions.test_hutch_plus_plus_keeps_a_third_of_its_products",
        "test_flatness_questions.test_points_draws_and_steps_take_no_memory_and_starts_take_two_vectors_each",
        "test_flatness_questions.test_more_samples_take_no_more_than_themselves",
    },
    "How sure is a number?": {
        "test_curvature.test_bounds_hold_to_the_last_digits",
        "test_curvature.test_the_curvature_s_spread_over_parts_of_the_samples",
        "test_curvature.test_a_trace_s_spread_is_that_of_the_parts_traces",
        "test_gauss_newton.test_an_eigenvalue_s_spread_over_samples",
        "test_flatness_questions.test_a_value_stands_between_both_of_its_errors",
    },
}


def test_every_question_has_its_entry_and_its_tests():
    section = PAGE.read_text().split("\n## Questions\n")[1].split("\n## ")[0]
    assert re.findall(r"^### (.*)$", section, re.MULTILINE) == list(QUESTIONS)
    for name in set().union(*QUESTIONS.values()):
        file, test = name.split(".")
        assert f"\ndef {test}(" in (Path(__file__).parent / f"{file}.py").read_text(), name


def stream(seed=0):
    return Stream("test", seed)


def subject(model, batch_size=12, **settings):
    """A network of tests/helpers as a trained model, on samples that are drawn."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((40, 2, 4, 4)), rng.integers(0, 4, 40)
    trained = SimpleNamespace(
        model=model,
        data=SimpleNamespace(train=Held(x, y)),
        recipe=SimpleNamespace(batch_size=batch_size, loss="cross-entropy", label_smoothing=0.0),
        loss=cross_entropy,
    )
    return Subject(trained, SurveySettings(**settings))


# Biases and norm layers


@pytest.fixture
def places(monkeypatch):
    """The weights that a loss is asked at."""
    asked = []
    for name in ("loss", "__call__"):
        own = getattr(Landscape, name)
        monkeypatch.setattr(
            Landscape, name, lambda self, w, own=own: asked.append(w.copy()) or own(self, w)
        )
    return asked


def test_biases_and_norm_layers_stay_along_lines_and_move_under_noise(places):
    model = net()
    views = model.weights.views
    own = views(model.weights.flat.copy())

    def moved(measure):
        places.clear()
        list(survey(measure, subject(model, points=3, directions=1, sigmas=(0.1,), draws=2)))
        return {
            name: any((view != mine).any() for view in part)
            for name, mine, part in zip(model.weights.names, own, zip(*map(views, places)))
        }

    one_axis = {name for name, part in zip(model.weights.names, own) if part.ndim == 1}
    assert len(one_axis) == 5  # three biases and batch norm's two
    for measure in ("line", "plane"):
        assert {name for name, yes in moved(measure).items() if not yes} == one_axis
    for measure in ("average", "stability"):
        still = {name for name, yes in moved(measure).items() if not yes}
        assert not still  # each bias, each scale is one filter of R-SAM's noise


def test_so_they_do_in_a_network_of_pytorch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    model = model.double()
    asked = []

    class Telling(nn.Module):
        """Passes its input on, and keeps what batch norm's scale and the biases are."""

        def forward(self, x):
            own = [p.detach().clone() for p in model.parameters()]
            asked.append(own)
            return x

    model.append(Telling())
    start = [p.detach().clone() for p in model.parameters()]
    batch = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    settings = SurveySettings(points=3, directions=1)
    flatness(model, nn.functional.cross_entropy, [batch], measures=["line"], settings=settings)
    same = [all(torch.equal(p, one[i]) for one in asked) for i, p in enumerate(start)]
    assert same == [p.ndim == 1 for p in start]


# Negative eigenvalues


class Diagonal:
    """w . h w / 2, for as many weights as one likes."""

    def __init__(self, h):
        self.h = np.asarray(h, float)

    def __call__(self, w):
        image = self.h * w
        return w @ image / 2, image


def test_the_largest_is_by_sign_and_the_lowest_is_asked_for():
    loss, w = Diagonal([-10, 1, 3, -2]), np.ones(4)
    found = hessian_eigenvalues(loss, w, 1, stream=stream())
    assert found.values == pytest.approx([3])
    assert found.lowest == []
    found = hessian_eigenvalues(loss, w, 2, lowest=2, stream=stream())
    assert found.values == pytest.approx([3, 1])
    assert found.lowest == pytest.approx([-10, -2])
    density = spectral_density(loss_product(loss), w, probes=400, steps=4, stream=stream())
    assert density.below(0).mean == pytest.approx(0.5)  # the share that bends down


def loss_product(loss):
    return lambda v: loss.h * v


def test_a_bound_tells_whether_a_sign_is_sure():
    network = curved("tanh")
    found = hessian_eigenvalues(
        network.loss, network.w, 1, lowest=1, tolerance=1e-6, stream=stream()
    )
    [value], [bound] = found.lowest, found.lowest_bounds
    assert value + bound < 0  # a trained network is no minimum of its samples' loss
    exactly = hessian_eigenvalues(Diagonal([2, 0, 0]), np.ones(3), 1, lowest=1, stream=stream())
    [value], [bound] = exactly.lowest, exactly.lowest_bounds
    assert value - bound <= 0 <= value + bound  # where it is 0, no sign is claimed


# Batch norm


def moved_statistics(model):
    """Running statistics far from any batch's, so that they are told apart."""
    norm = model.modules()["1"]
    norm.running_mean += 0.3
    norm.running_var *= 2.0
    return model


def test_a_plane_has_the_running_statistics_of_w_everywhere():
    model = moved_statistics(net())
    asked = subject(model, points=3, extent=0.5, samples=40)
    rows = list(survey("plane", asked))
    w, shapes = model.weights.flat, model.weights.shapes
    across, up = (
        filter_normalised_direction(w, shapes, Stream("direction", 0, draw)) for draw in range(2)
    )
    [x] = [asked.trained.data.train.take(asked._index)]
    y = asked.trained.data.train.labels[asked._index]
    before = model.state_dict()
    model.eval()
    for row in rows:
        at = w + row["x"] * across + row["y"] * up
        expected = float(objective(model, x, y)(at)[0])
        assert row["value"] == pytest.approx(expected, rel=1e-12)
    model.train()
    own = float(objective(model, x, y)(w + 0.5 * across)[0])
    assert next(r["value"] for r in rows if (r["x"], r["y"]) == (0.5, 0)) != pytest.approx(own)
    for name in ("1.running_mean", "1.running_var"):
        model.load_state_dict(before)
        np.testing.assert_array_equal(model.state_dict()[name], before[name])


def test_with_the_batchs_statistics_the_scale_of_filters_is_nothing():
    """A convolution before batch norm may be any multiple of itself; with w's statistics not."""
    model = moved_statistics(net())
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((20, 2, 4, 4)), rng.integers(0, 4, 20)
    w = model.weights.flat
    direction = 0 * w
    direction[model.weights.slices[0]] = w[model.weights.slices[0]]  # along itself
    steps = [-0.5, 0.0, 1.0, 4.0]
    of_batch = Landscape(model, x, y, batch_statistics=True)
    # up to the epsilon beside the variance
    found = loss_along(of_batch.loss, w, direction, steps)
    np.testing.assert_allclose(found, found[1], rtol=1e-3)
    of_w = loss_along(Landscape(model, x, y).loss, w, direction, steps)
    assert np.ptp(of_w) > 0.05


# Memory


SIZE = 100_000


def peak(work):
    """The most memory that ``work()`` holds at a time, in vectors of SIZE numbers in float64."""
    work()
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / (8 * SIZE)


def large():
    """A network whose weights outweigh all else that its loss on 8 samples takes; SIZE of them."""
    model = models.mlp([494, 200, 4], dtype="float64")
    assert abs(model.weights.flat.size / SIZE - 1) < 0.01
    rng = np.random.default_rng(0)
    return Landscape(model, rng.standard_normal((8, 494)), np.arange(8) % 4), model.weights.flat


@pytest.mark.parametrize("iterations", [10, 30])
def test_lanczos_keeps_as_many_vectors_as_iterations(iterations):
    loss, w = large()

    def ends():
        options = {"iterations": iterations, "tolerance": 0.0}
        hessian_eigenvalues(loss, w, 1, **options, stream=stream())

    def density():
        product = product_at(loss, w)
        spectral_density(product, w, probes=2, steps=iterations, stream=stream())

    for work in (ends, density):
        assert iterations <= peak(work) <= iterations + 20


@pytest.mark.parametrize("products", [12, 30])
def test_hutch_plus_plus_keeps_a_third_of_its_products(products):
    loss, w = large()

    def work():
        hutch_plus_plus(product_at(loss, w), w, products=products, stream=stream())

    assert products / 3 <= peak(work) <= products / 3 + 18


def test_points_draws_and_steps_take_no_memory_and_starts_take_two_vectors_each():
    loss, w = large()
    shapes = loss.shapes

    def along(points):
        d = filter_normalised_direction(w, shapes, stream())
        loss_along(loss.loss, w, d, np.linspace(-1, 1, points))

    def noisy(draws):
        average_sharpness(loss.loss, w, shapes, sigma=0.1, draws=draws, stream=stream())
        gradient_stability(loss, w, shapes, sigma=0.1, draws=draws, stream=stream())

    for work in (along, noisy):
        few, many = (peak(lambda n=n, work=work: work(n)) for n in (3, 12))
        assert few <= many + 0.5 <= few + 1
        assert many < 7
    for steps in (2, 6):
        for restarts in (0, 2):
            options = {"rho": 0.1, "steps": steps, "restarts": restarts, "stream": stream()}
            assert peak(lambda o=options: rho_sharpness(loss, w, **o)) < 2 * (1 + restarts) + 8


def test_more_samples_take_no_more_than_themselves():
    model = models.mlp([16, 512, 4], dtype="float64")
    rng = np.random.default_rng(0)
    w = model.weights.flat

    def most(samples):
        x, y = rng.standard_normal((samples, 16)), rng.integers(0, 4, samples)
        landscape = Landscape(model, x, y)
        return peak(lambda: landscape(w))

    few, many = most(256), most(4096)  # sixteen times the values of the hidden layer
    assert many < 1.5 * few


# How sure


def test_a_value_stands_between_both_of_its_errors():
    """The bound, or the interval over draws, and the spread over samples: in rows and in print."""
    asked = subject(net(), points=2, sigmas=(0.1,), rhos=(0.1,), draws=3, steps=2, restarts=0,
                    lowest=1, probes=4, samples=40)  # fmt: skip
    both = {"hessian", "trace", "layers", "gauss-newton"}
    for measure in both:
        for row in survey(measure, asked):
            if row["sample_low"] is not None:
                assert row["low"] <= row["value"] <= row["high"]
                assert row["sample_low"] < row["sample_high"]
                text = _value(row)
                assert re.search(r"\([-\d.e+]+ to [-\d.e+]+\)$", text), text
        assert "samples" in TABLES[measure][1]
    [row] = survey("m-sharpness", asked)
    assert row["low"] is None
    assert row["sample_low"] < row["value"] < row["sample_high"]
    for measure in ("average", "stability"):  # over draws of the noise alone
        [row] = survey(measure, asked)
        assert row["low"] < row["value"] < row["high"]
        assert row["sample_low"] is None
    [row] = survey("worst", asked)  # what was found, which is at most the maximum
    assert row["low"] is None
    assert row["sample_low"] is None


def test_one_draw_has_no_interval():
    """None in rows, as whatever means nothing; never nan."""
    asked = subject(net(), sigmas=(0.1,), rhos=(0.1,), draws=1, samples=40)
    for measure in ("average", "stability", "kinks"):
        for row in survey(measure, asked):
            assert row["low"] is None
            assert row["high"] is None
            assert math.isfinite(row["value"])
            assert "±" not in _value(row)
