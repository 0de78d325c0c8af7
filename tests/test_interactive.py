"""The page in which a reader takes the step: it is true. `make test-browser` opens it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rsam_ref.teaching import against
from rsam_ref.teaching.interactive import page
from rsam_ref.teaching.interactive.grounds import NAMES, digits_slice, ground
from rsam_ref.teaching.interactive.state import METHODS, check_state
from rsam_ref.teaching.step import two_weights
from tests.helpers import slice as digits
from tests.helpers import steps
from tests.helpers.commands import called
from tests.helpers.documents import state_links

RECORDED = json.loads(steps.TABLE.read_text(encoding="utf-8"))
CHECK = Path(__file__).parent / "browser" / "check_steps.js"


def test_the_recorded_steps_are_those_of_the_reference():
    assert [one["case"] for one in RECORDED] == steps.cases()
    assert len(RECORDED) >= 200
    seen = {(one["case"]["surface"], one["case"]["method"]) for one in RECORDED}
    assert seen == {(s, m) for s in NAMES for m in METHODS} - {("digits", "asam")}
    for one in RECORDED:
        found = steps.result(one["case"])
        assert found.keys() == one["gives"].keys()
        for name, value in one["gives"].items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12)


def test_the_script_takes_the_recorded_steps_in_node(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("there is no node; make test-browser runs the same in a browser")
    text = page.script(names=("steps", "surfaces", "inner"))
    told = f"console.log(JSON.stringify(checkSteps({json.dumps(RECORDED)})));"
    program = tmp_path / "steps.js"
    program.write_text("\n".join([text, CHECK.read_text(encoding="utf-8"), told]), encoding="utf-8")
    done = subprocess.run(["node", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"cases": len(RECORDED), "wrong": []}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [0, 2])
def test_a_ground_has_the_gradient_it_claims(name, batch):
    f = ground(name, batch).loss_and_grad
    for w in np.array([(0.31, 0.27), (-0.4, 0.9)]):
        ways = 1e-6 * np.eye(2)
        numeric = [(f(w + way)[0] - f(w - way)[0]) / 2e-6 for way in ways]
        np.testing.assert_allclose(f(w)[1], numeric, rtol=1e-5, atol=1e-7)


def test_a_ground_draws_as_explain_does():
    step = two_weights(seed=7, sigma=0.3)
    noise = ground("ripples").noise(step.w, sigma=0.3, seed=7)
    np.testing.assert_array_equal(noise, step.noise)


def test_a_mini_batch_is_a_part_of_the_samples():
    w = np.array([0.6, 0.4])
    parts = [ground("batches", batch).loss_and_grad(w) for batch in range(1, 7)]
    loss, gradient = ground("batches").loss_and_grad(w)
    assert np.mean([part[0] for part in parts]) == pytest.approx(float(loss))
    np.testing.assert_allclose(np.mean([part[1] for part in parts], axis=0), gradient)


def test_the_slice_is_that_of_the_trained_network():
    made, told = digits.made(points=5), digits_slice()
    every = (digits.POINTS - 1) // 4
    kept = [row[::every] for row in told["losses"][::every]]
    np.testing.assert_allclose(kept, made["losses"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(told["scale"], made["scale"], rtol=1e-3)
    f = ground("digits").loss_and_grad
    apart = 2 * told["reach"] / (digits.POINTS - 1)
    for i, j in ((32, 32), (0, 64), (40, 28)):
        place = np.array([i, j]) * apart - told["reach"]
        assert f(place)[0] == pytest.approx(told["losses"][j][i], abs=1e-6)
    assert np.isnan(f(np.array([0.0, told["reach"] + 0.01]))[0])


def test_the_page_is_one_small_file_that_asks_for_nothing():
    text = page.page()
    assert len(text.encode()) < 400_000
    assert not re.search(
        r"https?://|//\w+\.\w+/|@import|url\(|\bfetch\(|XMLHttp|\bimport\b *[({'\"]", text
    )
    assert not re.search(r"<(link|script|img|iframe)[^>]*\b(src|href)=(?!\"data:,\")", text)
    assert "default-src 'none'" in text
    assert "/* style */" not in text
    assert "/* script */" not in text


def test_every_script_is_a_part_of_the_page_and_short():
    files = {path.stem: path for path in page.FOLDER.glob("*.js")}
    assert set(page.SCRIPTS) == files.keys()
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        assert text.startswith("// "), f"{name}.js says what it is"
        assert name == "page" or len(text.splitlines()) <= 250, name


def test_the_steps_know_no_page():
    text = (page.FOLDER / "steps.js").read_text(encoding="utf-8")
    for word in ("document", "window", "DATA", "Math.random"):
        assert word not in text


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("surface=hill", "unknown surface 'hill'; the page has ripples"),
        ("method=adam", "unknown method 'adam'; the page has sgd"),
        ("surface=digits&method=asam", "no ASAM on digits"),
        ("rho=3", "rho is a number from 0 to 2 on the page, not 3"),
        ("w=1", "w is two numbers from -100 to 100"),
        ("surface=digits&w=3,0", "w is two numbers from -2 to 2 on the page, not 3,0"),
        ("seed=1.5", "seed is a number from 0 to 199"),
        ("lock=yes", "lock is 0 or 1"),
        ("speed=3", "the page has no 'speed'"),
    ],
)
def test_a_state_that_the_page_has_not_is_refused(address, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        page.page(address)


def test_the_states_that_documents_link_to_are_right():
    links = state_links()
    assert len(links) >= 6
    for path, address in links:
        check_state(address)
        assert "surface=" in address, path


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ((), "surface=ripples&method=rsam&w=0.3,0.8&rho=0.5&lr=0.4&sigma=0.25&lam=2.0&seed=14"),
        (
            ("--algorithm", "sam", "--ascent-steps", "3", "--at", "+1, 2", "--surface", "saddle"),
            "surface=saddle&method=k-step&w=1,2&rho=0.5&lr=0.4&k=3",
        ),
    ],
)
def test_explain_writes_the_page_that_starts_with_its_step(options, start, tmp_path):
    done = called("explain", *options, "--interactive", "move.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Wrote move.html\n")
    assert (tmp_path / "move.html").read_text(encoding="utf-8") == page.page(start)


def test_without_a_draw_no_draw_is_higher():
    """R-SAM's step is then SAM's, but for rounding."""
    steps = [two_weights(sigma=0), two_weights(algorithm="sam")]
    told = against.verdict(steps)
    assert "climbs higher than SAM in 0, " in told
    assert "lands lower in 0, " in told
    losses = np.array([1 + 1e-15, 1 + 1e-9, 0.9])
    assert against.count_higher(losses, 1.0) == 1


def test_the_lecture_tells_the_numbers_of_its_three_pictures():
    """Those of docs/teaching.md, computed anew by the reference."""
    text = (Path(__file__).parent.parent / "docs/teaching.md").read_text(encoding="utf-8")
    lecture = " ".join(text[text.index("## Ten minutes") :].partition("\n## ")[0].split())
    sam = two_weights(algorithm="sam")
    rise = float(sam.trace.adversarial_loss) - against.losses_of(sam)["w"]
    share = rise / (against.highest(sam) - against.losses_of(sam)["w"])
    assert f"{100 * share:.0f} %" in lecture
    draws = against.draws_of(two_weights())
    above = int((draws.reached > float(sam.trace.adversarial_loss)).sum())
    assert f"{above} of the 200 draws" in lecture
