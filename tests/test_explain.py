"""`rsam-ref explain` tells a true step: its numbers satisfy the paper's equations."""

from pathlib import Path

import numpy as np
import pytest

from rsam_ref import figures
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.teaching import against, picture
from rsam_ref.teaching.step import (
    angle,
    digits_network,
    quantities,
    settings_text,
    two_weights,
)
from rsam_ref.teaching.surfaces import SURFACES
from rsam_ref.training.comparison import summarise
from rsam_ref.training.figures import compare_figure


@pytest.mark.parametrize(
    "make",
    [
        two_weights,
        lambda: digits_network().step,
        lambda: two_weights(surface="saddle", at=(-0.2, 1.5), lr=0.1, lam=3.0, seed=3),
    ],
)
def test_the_numbers_satisfy_the_equations(make):
    step = make()
    trace = step.trace
    a = step.lam * trace.ascent_gradient + trace.noise
    close = {"rtol": 1e-4, "atol": 1e-7}
    np.testing.assert_allclose(step.ascent, a, **close)
    np.testing.assert_allclose(trace.perturbation, step.rho * a / np.linalg.norm(a), **close)
    np.testing.assert_allclose(step.after, step.w - step.lr * trace.gradient, **close)


@pytest.mark.parametrize("make", [two_weights, lambda **given: digits_network(**given).step])
def test_sam_has_no_draw(make):
    step = make(algorithm="sam")
    g0, eps = step.trace.ascent_gradient, step.trace.perturbation
    assert step.algorithm == "sam"
    assert step.trace.noise is None
    np.testing.assert_allclose(eps, step.rho * g0 / np.linalg.norm(g0), rtol=1e-5)
    np.testing.assert_array_equal(step.ascent, g0)
    told = [symbol for symbol, _, _ in quantities(step)]
    assert told == ["w", "g0", "eps", "g", "w'"]
    assert "sigma" not in settings_text(step)


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_has_the_gradient_it_claims(name):
    step = two_weights(surface=name)
    point = step.w + step.trace.noise
    numeric = np.zeros(2)
    for i in range(2):
        h = np.eye(2)[i] * 1e-6
        up, down = (SURFACES[name](Tensor(point + s * h)).item() for s in (1, -1))
        numeric[i] = (up - down) / 2e-6
    np.testing.assert_allclose(step.trace.ascent_gradient, numeric, rtol=1e-6)


def test_the_surfaces_are_what_they_are_called():
    """By the second derivatives along the second weight, across the valleys and the ridge."""
    curvature, x = {}, 0.2
    for name, y in (("narrow", 0.6), ("wide", 0.6), ("ridge", 1.0), ("saddle", 0.5)):
        at = [SURFACES[name](Tensor(np.array([x, y + h]))).item() for h in (-1e-3, 0, 1e-3)]
        curvature[name] = (at[0] - 2 * at[1] + at[2]) / 1e-6
        slope = (at[2] - at[0]) / 2e-3
        assert slope == pytest.approx(0, abs=1e-9)
    assert curvature["narrow"] == pytest.approx(4, rel=1e-3)
    assert curvature["wide"] == pytest.approx(0.6, rel=1e-3)
    assert curvature["ridge"] < 0 < curvature["saddle"]
    left, middle, right = (
        SURFACES["saddle"](Tensor(np.array([v, 0.5]))).item() for v in (0, 0.2, 0.4)
    )
    assert left < middle > right


def test_lam_is_2_unless_something_else_is_said():
    step = two_weights()
    assert step.lam == digits_network.__kwdefaults__["lam"] == 2
    np.testing.assert_allclose(step.ascent, 2 * step.g0 + step.noise)


@pytest.mark.parametrize("make", [two_weights, lambda **given: digits_network(**given).step])
def test_asam_and_k_step_sam_are_those_of_the_algorithms(make):
    step = make(algorithm="asam", eta=0.02)
    scale = abs(step.w) + 0.02
    ascent = scale**2 * step.g0
    eps = step.rho * ascent / np.linalg.norm(scale * step.g0)
    np.testing.assert_allclose(step.eps, eps, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(step.ascent, ascent, rtol=1e-4, atol=1e-7)
    climbed = make(algorithm="sam", ascent_steps=3)
    assert not np.allclose(climbed.eps, make(algorithm="sam").eps)
    assert 0.5 * climbed.rho < np.linalg.norm(climbed.eps) <= climbed.rho * (1 + 1e-6)
    for i, (place, _) in enumerate(climbed.asked[1:]):
        before, gradient = climbed.asked[i]
        if i < 3:
            way = climbed.rho / 3 * gradient / np.linalg.norm(gradient)
            np.testing.assert_allclose(place - before, way)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"surface": "hill"}, "unknown surface 'hill'; there are ripples, narrow"),
        ({"at": (0.0, np.nan)}, "starts at two finite weights"),
        ({"lr": -1.0}, "lr is a learning rate"),
    ],
)
def test_what_a_step_cannot_start_from_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        two_weights(**given)


@pytest.mark.parametrize("surface", SURFACES)
def test_two_steps_beside_each_other(surface):
    steps = [two_weights(algorithm=name, surface=surface) for name in ("sam", "rsam")]
    loss = SURFACES[surface]
    for step in steps:
        found = against.losses_of(step)
        assert found["w"] == pytest.approx(loss(Tensor(step.w)).item())
        assert found["w + eps"] == pytest.approx(loss(Tensor(step.w + step.eps)).item())
        assert found["w'"] == pytest.approx(loss(Tensor(step.after)).item())
        assert against.highest(step) >= found["w + eps"] - 1e-3
    told = against.verdict(steps)
    reached = [
        float(two_weights(seed=seed, surface=surface).trace.adversarial_loss)
        for seed in range(against.DRAWS)
    ]
    above = sum(r > float(steps[0].trace.adversarial_loss) for r in reached)
    assert f"higher than SAM in {above}, on the mean to {np.mean(reached):.3f} against" in told
    assert against.verdict(steps[::-1]) == told

    figure = against.against_figure(steps)
    left, right = (axes for axes in figure.axes if axes.get_xlabel())
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert told in figure.description


def test_the_page_tells_what_the_draws_reach():
    page = (Path(__file__).parent.parent / "docs/teaching.md").read_text(encoding="utf-8")
    for surface in SURFACES:
        sam, rsam = (two_weights(algorithm=name, surface=surface) for name in ("sam", "rsam"))
        losses, reached = against.losses_of(sam), against.draws_of(rsam).reached
        cells = [f"{losses['w']:.3f}", f"{losses['w + eps']:.3f}", f"{reached.mean():.3f}"]
        cells += [f"{(reached > losses['w + eps']).sum()} of {len(reached)}"]
        cells += [f"{against.highest(sam):.3f}"]
        assert f"| {surface} | {' | '.join(cells)} |" in page


def test_slides_of_two_algorithms_can_be_flipped_between():
    steps = [two_weights(algorithm=name) for name in ("sam", "rsam")]
    frame = picture.frame_of(steps)
    axes = [f.axes for step in steps for f in picture.stage_figures(step, frame)]
    limits = {(*ground.get_xlim(), *ground.get_ylim(), *bar.get_ylim()) for ground, bar in axes}
    assert len(axes) == 10
    assert len(limits) == 1
    alone = [picture.step_figure(step).axes[0].get_ylim() for step in steps]
    assert alone[0] != alone[1]


@pytest.mark.parametrize("given", [{}, {"at": (-3.17, 0.011)}, {"rho": 13.0}, {"lam": 0.1}])
def test_ticks_are_round_and_as_far_apart_on_both_axes(given):
    figure = picture.step_figure(two_weights(**given))
    figure.canvas.draw()
    ground, bar = figure.axes
    gaps = []
    for axis in (ground.xaxis, ground.yaxis, bar.yaxis):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
        assert 2 <= len(ticks) <= 7
        gap = ticks[1] - ticks[0]
        gaps.append(gap)
        assert f"{gap:.2e}"[:4] in ("1.00", "2.00", "5.00")
        np.testing.assert_allclose(
            np.array(ticks) / gap, np.round(np.array(ticks) / gap), atol=1e-6
        )
    assert gaps[0] == pytest.approx(gaps[1])


def test_angles():
    assert angle(np.array([1.0, 0]), np.array([0, 2.0])) == pytest.approx(90)
    assert np.isnan(angle(np.zeros(2), np.ones(2)))


def test_figures_show_what_they_are_given(tmp_path):
    runs = [
        {
            "method": method,
            "value": value,
            "seed": seed,
            "test_accuracy": 0.8 + value / 10,
            "val_accuracy": 0.8,
            "diverged": "",
            "val_curve": [0.1, 0.8],
        }
        for method in ("sgd", "sam", "rsam")
        for value in (0.1, 0.2)
        for seed in (0, 1)
    ]
    results = {"settings": {"label_noise": 0.4}, "runs": runs, "summary": summarise(runs)}
    left, right = compare_figure(results).axes
    assert left.get_xlabel() == "radius rho"
    assert len(right.get_lines()) == 3
    sam = next(line for line in left.get_lines() if line.get_label() == "SAM")
    np.testing.assert_allclose(sam.get_ydata(), [81, 82])

    figure = picture.step_figure(two_weights())
    with pytest.raises(ValueError, match=r"cannot write a picture of kind '.txt'"):
        figures.save(figure, tmp_path / "figure.txt")
    for kind in ("png", "svg", "pdf"):
        figures.save(figure, tmp_path / f"figure.{kind}")
    assert len(list(tmp_path.iterdir())) == 3
