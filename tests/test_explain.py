"""`rsam-ref explain` tells a true step: its numbers satisfy the paper's equations."""

import numpy as np
import pytest

from rsam_ref import figures
from rsam_ref.teaching import picture
from rsam_ref.teaching.step import (
    Tensor,
    angle,
    digits_network,
    quantities,
    settings_text,
    two_weights,
    valley,
)
from rsam_ref.training.comparison import summarise
from rsam_ref.training.figures import compare_figure


@pytest.mark.parametrize("make", [two_weights, lambda: digits_network().step])
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


def test_the_valley_has_the_gradient_it_claims():
    step = two_weights()
    point = step.w + step.trace.noise
    numeric = np.zeros(2)
    for i in range(2):
        h = np.eye(2)[i] * 1e-6
        up, down = (valley(Tensor(point + s * h)).item() for s in (1, -1))
        numeric[i] = (up - down) / 2e-6
    np.testing.assert_allclose(step.trace.ascent_gradient, numeric, rtol=1e-6)


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
