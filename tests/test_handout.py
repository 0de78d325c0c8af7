"""A step told in stages, for slides, and on one page: the numbers are true, and nothing jumps."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rsam_backends import quiet
from rsam_ref import figures
from rsam_ref.algorithms import sam
from rsam_ref.teaching import handout, picture
from rsam_ref.teaching.stages import stages_of, typeset
from rsam_ref.teaching.step import ALGORITHMS, HANDED_OUT, quantities, two_weights

STEPS = {name: two_weights(algorithm=name) for name in ALGORITHMS}
STEPS["asam"] = two_weights(algorithm="asam", rho=1.0)
STEPS["3-step"] = two_weights(algorithm="sam", ascent_steps=3)
NAMES = {
    "rsam": ["weights", "draw", "gradient", "ascent", "radius", "descent"],
    "sam": ["weights", "gradient", "radius", "descent"],
    "asam": ["weights", "gradient", "ascent", "radius", "descent"],
    "3-step": ["weights", "gradient", "radius", "climb", "descent"],
}
named = pytest.mark.parametrize(("name", "step"), STEPS.items(), ids=STEPS)
every = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
both = pytest.mark.parametrize("step", [STEPS[name] for name in HANDED_OUT], ids=HANDED_OUT)


def labels(figure):
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


@named
def test_the_stages_tell_all_of_a_step_once(name, step):
    told = stages_of(step)
    assert [stage.name for stage in told] == NAMES[name]
    symbols = [symbol for stage in told for symbol in stage.symbols]
    assert symbols == [symbol for symbol, _, _ in quantities(step)]
    assert f"{float(step.trace.loss):.3f}" in next(s for s in told if s.name == "gradient").text
    assert f"{float(step.trace.adversarial_loss):.3f}" in told[-1].text


@every
def test_an_equation_is_the_same_as_tex_and_as_mathml(step):
    """Compared by their letters, in order; only a fraction is written the other way round."""
    names = {r"\varepsilon": "ε", r"\rho": "ρ", r"\sigma": "σ", r"\lambda": "λ", r"\nabla": "∇"}
    names |= {r"\eta": "η"}
    for stage in stages_of(step):
        for equation in stage.equations:
            page = ET.fromstring(f"<math>{equation.mathml}</math>")
            tex = equation.tex.replace(r"^\prime", "′").replace(r"\Vert", "‖").replace("-", "−")
            for name, symbol in names.items():
                tex = tex.replace(name, symbol)
            tex = re.sub(r"\\(frac|mathrm|,)|[\s{}_^]", "", tex)
            assert "".join(page.itertext()).replace(" ", "") == tex


@named
def test_a_slide_adds_to_the_one_before_and_moves_nothing(name, step):
    figures = picture.stage_figures(step)
    assert len(figures) == len(NAMES[name])
    before: dict[str, Any] = {}
    for figure in figures:
        now = labels(figure)
        assert before.items() <= now.items()
        assert len(now) > len(before)
        assert figure.axes[0].get_xlim() == figures[-1].axes[0].get_xlim()
        before = now
    assert {"w", "w + ε", "w′"} <= before.keys()
    assert ("w + D" in before) == (step.algorithm == "rsam")
    assert list(figures[0].get_size_inches()) == pytest.approx([40 / 3, 7.5])


@every
def test_arrows_are_where_the_numbers_are(step):
    figure = picture.step_figure(step)
    texts: Any = figure.axes[0].texts
    arrows = [(t.xy, t.xyann) for t in texts if getattr(t, "arrow_patch", None)]
    w, eps = step.w, step.trace.perturbation

    def drawn(start, end):
        return any(np.allclose(s, start) and np.allclose(e, end) for e, s in arrows)

    places = [w, *(place for place, _ in step.asked[1:])] if step.ascent_steps > 1 else [w, w + eps]
    assert all(drawn(start, end) for start, end in pairwise(places))
    np.testing.assert_allclose(places[-1], w + eps)
    assert drawn(w, step.after)
    assert drawn(w + eps, w + eps - step.lr * step.trace.gradient)
    if step.algorithm == "rsam":
        smoothed = w + step.trace.noise
        assert drawn(w, smoothed)
        assert drawn(smoothed, smoothed + step.lam * step.trace.ascent_gradient)
        assert drawn(w, w + step.ascent)
    else:
        assert drawn(w, w + step.trace.ascent_gradient)
    if step.algorithm == "asam":
        assert drawn(w, w + (abs(w) + step.eta) ** 2 * step.trace.ascent_gradient)


@pytest.mark.parametrize(
    "given", [{"rho": 0.0}, {"sigma": 0.0}, {"rho": 1e-9, "sigma": 1e-9}, {"lam": 1e8}]
)
def test_a_step_without_length_is_drawn_too(given):
    step = two_weights(**given)
    said = "".join(labels(picture.step_figure(step)))
    assert "w + ε" in said
    if given.get("rho", 1) < 1e-6:
        assert re.search(r"w =.* w \+ ε", said), "places that coincide share a label"


def test_a_step_that_left_the_range_is_refused():
    with quiet(), pytest.raises(ValueError, match="left the range of numbers"):
        picture.step_figure(two_weights(rho=1e300))


def test_names_become_symbols():
    assert typeset("eps = rho a / ||a||, lam g0 + D, w'") == "ε = ρ a / ‖a‖, λ g₀ + D, w′"
    assert typeset("lambda, steps, g01") == "lambda, steps, g01"


@both
def test_the_page_has_the_step_and_the_code(step):
    told = handout.sheet(step)
    for (symbol, _, vector), row in zip(quantities(step), told.rows, strict=True):
        assert row[0] == typeset(symbol)
        numbers = [float(n) for n in re.findall(r"[+-][\d.]+", row[2].replace("−", "-"))]
        np.testing.assert_allclose(numbers, vector, atol=5.1e-4)
        assert float(row[3]) == pytest.approx(np.linalg.norm(vector), abs=5.1e-4)
    namespace = {**vars(sam)}
    exec(told.code, namespace)
    function = namespace["sam_gradient" if step.algorithm == "sam" else "rsam_gradient"]
    noise = () if step.algorithm == "sam" else (np.array([0.1, 0.0]),)
    trace = function(lambda w: (w @ w, 2 * w), np.array([1.0, 2.0]), *noise, rho=0.5)
    assert np.linalg.norm(trace.perturbation) == pytest.approx(0.5)
    assert len(ast.parse(told.code).body) == 1
    assert len(told.mistakes) == 7


@both
def test_the_html_page_stands_alone_and_is_well_formed(step, tmp_path):
    path = tmp_path / "step.html"
    handout.write(step, path)
    text = path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["step.html"]
    body = text[text.index("<body>") : text.index("</body>") + 7]
    page = ET.fromstring(body)
    assert len(page.findall(".//math")) == sum(len(s.equations) for s in stages_of(step))
    assert not re.search(r'(src|href)="(?!#)', text)
    assert "url(" not in text.replace("url(#", "")
    handout.write(step, path)
    assert path.read_text(encoding="utf-8") == text, "the same page every time"


@both
def test_the_pdf_is_one_page_and_all_of_it_is_on_it(step, tmp_path):
    figure = handout.page_figure(step)
    width, height = figure.get_size_inches() * 72
    assert (width, height) == pytest.approx(handout.A4)
    figure.canvas.draw()
    pixels = figure.dpi / 72
    boxes = [text.get_window_extent() for text in figure.texts]
    assert min(box.x0 for box in boxes) >= 0.9 * handout.MARGIN * pixels
    assert max(box.x1 for box in boxes) <= (width - 0.6 * handout.MARGIN) * pixels
    assert min(box.y0 for box in boxes) > 0
    lowest = sorted(box.y0 for box in boxes)
    assert lowest[1] > boxes[-1].y1, "nothing reaches the foot of the page"
    handout.write(step, tmp_path / "step.pdf")
    written = (tmp_path / "step.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", written)) == 1


def test_a_handout_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.pdf or \.html"):
        handout.write(STEPS["sam"], tmp_path / "step.doc")


def test_a_picture_keeps_its_size_and_ground_as_asked(tmp_path):
    figure = picture.step_figure(STEPS["sam"])
    for name, transparent in (("a", False), ("b", True)):
        figures.save(figure, tmp_path / f"{name}.svg", trim=False, transparent=transparent)
    opaque, clear = ((tmp_path / f"{name}.svg").read_text() for name in "ab")
    assert 'width="960pt" height="540pt"' in opaque
    assert "fill: #ffffff" in opaque.partition("axes_1")[0]
    assert "fill: #ffffff" not in clear.partition("axes_1")[0]


@every
def test_no_text_of_a_slide_lies_on_another(step):
    for figure in picture.stage_figures(step):
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.texts]
        for i, box in enumerate(boxes):
            over = [other for other in boxes[:i] if box.overlaps(other)]
            beside = [other for other in over if other.x1 > box.x0 + 3 and box.x1 > other.x0 + 3]
            assert not [b for b in beside if min(box.y1, b.y1) - max(box.y0, b.y0) > 3]


def test_a_page_of_another_algorithm_is_refused():
    with pytest.raises(ValueError, match="3-step SAM has no page to hand out"):
        handout.sheet(STEPS["3-step"])


@every
def test_the_foot_of_a_slide_tells_how_to_make_it_again(step):
    texts = [text.get_text() for text in picture.step_figure(step).texts]
    foot = next(text for text in texts if "lr 0.4" in text)
    assert ("seed 14" in foot) == (step.algorithm == "rsam")
    assert ("k 3" in foot) == (step.ascent_steps == 3)
    assert "a bent valley with ripples, from (0.3, 0.8)" in texts


def test_the_words_of_a_picture_have_its_numbers():
    figure = picture.step_figure(STEPS["sam"])
    assert figure.title == "SAM: Carried back to w"
    assert f"{float(STEPS['sam'].trace.adversarial_loss):.3f}" in figure.description
