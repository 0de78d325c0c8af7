"""What a reader does on the page, in a browser: drag, slide, type, step, follow a link."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from rsam_ref.teaching import against
from rsam_ref.teaching.interactive.grounds import NAMES
from rsam_ref.teaching.interactive.state import METHODS
from rsam_ref.teaching.step import two_weights
from tests.helpers import steps
from tests.helpers.documents import state_links

pytestmark = pytest.mark.browser
CHECK = Path(__file__).with_name("check_steps.js")
ROOT = Path(__file__).parents[2]
LOOKS = [(size, scheme) for size in ("wide", "narrow") for scheme in ("light", "dark")]


def weights(page):
    return page.evaluate("state.w")


def middle(page, selector):
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def settled(page):
    """After what was asked for has been drawn, and the address has followed."""
    page.wait_for_timeout(450)


def test_the_page_takes_the_recorded_steps(opened):
    page = opened()
    page.add_script_tag(content=CHECK.read_text(encoding="utf-8"))
    recorded = json.loads(steps.TABLE.read_text(encoding="utf-8"))
    found = page.evaluate(f"checkSteps({json.dumps(recorded)})")
    assert found == {"cases": len(recorded), "wrong": []}
    assert found["cases"] >= 200


@pytest.mark.parametrize("surface", ["ripples", "narrow", "wide", "ridge", "saddle"])
def test_the_inner_maximum_is_at_least_that_of_all_places(opened, surface):
    page = opened(f"surface={surface}&rho=0.5&w=0.3,0.8")
    found = page.evaluate("innerMaximum(surfaceNow(), 0, state.w, state.rho)")
    highest = against.highest(two_weights(algorithm="sam", surface=surface))
    assert highest - 1e-9 <= found["loss"] <= highest + 0.01
    assert math.hypot(*found["eps"]) <= 0.5 + 1e-9


def test_draws_are_counted_as_in_the_reference(opened):
    page = opened("surface=ripples&draws=1")
    sam = two_weights(algorithm="sam")
    reached = against.draws_of(two_weights()).reached
    above = int((reached > float(sam.trace.adversarial_loss)).sum())
    told = page.locator("#cloud").inner_text()
    assert f"climbs higher than SAM in {above};" in told
    assert f"to {reached.mean():.3f}," in told


@pytest.mark.parametrize("method", ["rsam", "ball"])
def test_what_is_equal_but_for_rounding_is_not_higher(opened, method):
    page = opened(f"surface=ripples&method={method}&draws=1&sigma=0")
    assert "climbs higher than SAM in 0;" in page.locator("#cloud").inner_text()
    page = opened("surface=ripples&draws=1&rho=0")
    told = page.locator("#cloud").inner_text()
    assert "in 0;" in told
    assert "not a number" not in told


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_nothing_is_inaccessible_and_nothing_runs_over(opened, size, scheme):
    told = "axe-playwright-python is not installed: make test-browser does so"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=told)
    page = opened("surface=digits&ends=1&draws=1", size, scheme)
    for summary in page.locator("summary").all():
        summary.click()
    violations = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("surface", NAMES)
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_every_method_is_drawn_on_every_surface_and_labels_stay_inside(opened, surface, size):
    page = opened(f"surface={surface}", size)
    for radio in page.locator("#methods input:enabled").all():
        radio.check()
        page.wait_for_function("!pending")
        outside = page.evaluate(
            """() => {
              const frame = at("ground").getBoundingClientRect();
              const out = (b) => b.left < frame.left - 3 || b.right > frame.right + 3
                || b.top < frame.top - 6 || b.bottom > frame.bottom + 6;
              return [...document.querySelectorAll("#arrows .label")]
                .filter((label) => out(label.getBoundingClientRect()))
                .map((label) => label.textContent);
            }"""
        )
        assert outside == [], radio.get_attribute("value")
        assert page.locator("#arrows .label").count() >= 2


@pytest.mark.parametrize("size", ["projector", "wide", "large", "narrow"])
def test_every_vector_of_the_first_picture_has_its_label_and_none_lies_on_another(opened, size):
    page = opened("", size)
    page.wait_for_function("!pending")
    told = page.locator("#arrows .label").all_text_contents()
    vectors = {"D", "λ g₀", "a", "ε", "\N{MINUS SIGN}lr g"}
    assert {"w", "w + D", "w + ε", "w\N{PRIME}", "max", *vectors} == set(told)
    over = page.evaluate(
        """() => {
          const boxes = [...document.querySelectorAll("#arrows .label")].map((label) => {
            const { x, y, width, height } = label.getBBox();
            return { text: label.textContent, x, y: y + 0.2 * height, width, height: 0.6 * height };
          });
          const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width
            && a.y < b.y + b.height && b.y < a.y + a.height;
          return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => meet(a, b))
            .map((b) => [a.text, b.text]));
        }"""
    )
    assert over == []


@pytest.mark.parametrize("surface", ["ripples", "batches"])
@pytest.mark.parametrize("method", ["rsam", "stacked", "gradient", "ball"])
def test_a_projector_shows_the_buttons_in_a_row_and_the_last_line(opened, surface, method):
    page = opened(f"surface={surface}&method={method}&draws=1&lock=1&seed=100", "projector")
    page.wait_for_function("!pending && at('cloud').textContent !== ''")
    tops = page.evaluate(
        """() => [...document.querySelectorAll(".buttons > :not(.gap), .losses > :not([hidden])")]
          .map((e) => { const b = e.getBoundingClientRect(); return (b.top + b.bottom) / 2; })"""
    )
    middles = sorted({round(top / 4) for top in tops})
    assert middles[-1] - middles[0] > 50
    assert len([a for a, b in pairwise(middles) if b - a > 1]) == 1, middles
    lowest = "e => e.getBoundingClientRect().bottom <= innerHeight"
    assert page.locator("#cloud").evaluate(lowest)
    assert page.locator(".buttons").evaluate(lowest)


def test_a_mouse_drags_w_and_everything_follows(opened, record_property):
    page = opened("surface=ripples")
    before = page.locator("#equations").inner_text()
    x, y = middle(page, "#handle")
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("trace.times.length = 0")
    page.evaluate(
        "window.frames_ = []; (function next(t) { frames_.push(t);"
        " requestAnimationFrame(next); })(performance.now())"
    )
    for i in range(1, 61):
        page.mouse.move(x + i, y - i)
    page.mouse.up()
    settled(page)
    unit = page.evaluate("size / (2 * state.view[2])")
    assert weights(page) == pytest.approx([0.3 + 60 / unit, 0.8 + 60 / unit], abs=0.02)
    assert page.locator("#equations").inner_text() != before
    assert middle(page, "#handle") == pytest.approx((x + 60, y - 60), abs=4)
    times = sorted(page.evaluate("trace.times"))
    frames = page.evaluate("frames_.slice(1).map((t, i) => t - frames_[i])")
    note = {
        "redraws": len(times),
        "median ms": round(times[len(times) // 2], 1),
        "longest ms": round(times[-1], 1),
        "median ms between frames": round(sorted(frames)[len(frames) // 2], 1),
    }
    record_property("drag", note)
    print(f"A drag: {note}")


def test_a_mouse_puts_w_where_it_clicks(opened):
    page = opened("surface=wide")
    x, y = middle(page, "#ground")
    page.mouse.click(x, y)
    assert weights(page) == pytest.approx([0.6, 0.6], abs=0.02)


def test_a_finger_drags_the_handle_and_taps_the_picture(opened):
    page = opened("surface=wide", "narrow", has_touch=True, is_mobile=True)
    page.touchscreen.tap(*middle(page, "#ground"))
    page.wait_for_function("Math.abs(state.w[0] - 0.6) < 0.03")
    x, y = middle(page, "#handle")
    touch = page.context.new_cdp_session(page)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x + 30, "y": y}]),
        ("touchMove", [{"x": x + 60, "y": y}]),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    unit = page.evaluate("size / (2 * state.view[2])")
    page.wait_for_function(f"Math.abs(state.w[0] - {0.6 + 60 / unit}) < 0.05")
    assert page.evaluate("scrollX === 0 && scrollY === 0")


def test_a_keyboard_moves_w_and_the_sliders(opened):
    page = opened("surface=ripples&w=0.3,0.8")
    page.locator("#handle").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    unit = page.evaluate("rounded(state.view[2] / 50, state.view[2])")
    assert weights(page) == pytest.approx([0.3 + unit, 0.8 + 5 * unit])
    ring = page.locator("#arrows .ring")
    before = float(ring.get_attribute("rx"))
    page.locator("#slide-rho").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("!pending")
    assert page.evaluate("state.rho") == pytest.approx(0.52)
    assert float(ring.get_attribute("rx")) == pytest.approx(before * 0.52 / 0.5)
    for name in ("sigma", "lam", "lr", "k", "w₁", "w₂"):
        was = page.evaluate(f"valueOf('{name}')")
        page.locator(f"[id='slide-{name}']").focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate(f"valueOf('{name}')") > was, name


def test_a_keyboard_keeps_w_where_it_leaves_the_picture(opened):
    page = opened("surface=ripples&w=0.3,2.5")
    page.locator("#handle").focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    page.wait_for_function("!pending")
    assert weights(page)[1] > 2.6
    assert page.evaluate("document.activeElement.id") == "handle"
    assert page.locator("#handle").is_visible()
    assert middle(page, "#handle")[1] == pytest.approx(
        page.locator("#ground").bounding_box()["y"], abs=3
    )
    assert "Fit shows it" in page.locator("#told").inner_text()
    assert "outside" in page.locator("#handle").get_attribute("aria-valuetext")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowDown")
    page.wait_for_function("!pending")
    assert weights(page) == [0.3, 2.5]
    assert page.locator("#told").inner_text() == ""


def test_a_keyboard_moves_w_however_near_one_looks(opened):
    page = opened("surface=ripples&w=0.3,0.8&view=0.3,0.8,0.02")
    page.locator("#handle").focus()
    page.keyboard.press("ArrowRight")
    assert 0.3 < weights(page)[0] < 0.301


def test_w_stays_in_the_slice(opened):
    page = opened("surface=digits&w=1.9,0&view=2,0,1")
    page.locator("#handle").focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    assert weights(page) == [2, 0]
    page.mouse.click(*middle(page, "#ground"))
    box = page.locator("[data-name='w₁'] input[type=number]")
    box.fill("3")
    box.press("Enter")
    assert page.locator("#told").inner_text() == "first weight: a number from \N{MINUS SIGN}2 to 2"
    assert weights(page)[0] == pytest.approx(2, abs=0.02)
    page.evaluate("location.hash = '#surface=digits&w=9,9&rho=0.3'")
    page.wait_for_function("state.rho === 0.3")
    told = page.locator("#told").inner_text()
    assert told.endswith("left out: w=9,9 (two numbers, each from \N{MINUS SIGN}2 to 2)")
    assert weights(page) == [0, 0]


@pytest.mark.parametrize("surface", NAMES)
def test_no_state_breaks_the_page(opened, surface):
    """The fixture fails on anything that the page raises or says."""
    page = opened(f"surface={surface}")
    edge = 2 if surface == "digits" else 100
    for method in METHODS:
        for w in ("0,0", f"{edge},{edge}", f"-{edge},{edge}", f"{edge},0", "-1e-9,1e-9"):
            for more in ("rho=0&sigma=0", "rho=2&sigma=1&lam=10&lr=1&k=10", "view=50,-50,0.01"):
                state = f"surface={surface}&method={method}&w={w}&ends=1&draws=1&{more}"
                page.evaluate("hash => { follow(hash); draw(); takeSteps(); }", f"#{state}")
                page.evaluate("fit(); zoom(0.5); draw()")
                again = "readAddress(writeAddress(state), firstState('ripples'))[1]"
                assert page.evaluate(again) == [], state


def test_a_number_is_typed_and_a_wrong_one_is_told(opened):
    page = opened("surface=ripples")
    box = page.locator("[data-name=rho] input[type=number]")
    box.fill("0.731")
    box.press("Enter")
    assert page.evaluate("state.rho") == 0.731
    box.fill("7")
    box.press("Enter")
    assert page.evaluate("state.rho") == 0.731
    assert page.locator("#told").inner_text() == "radius: a number from 0 to 2"
    box.blur()
    page.wait_for_function(
        "document.querySelector('[data-name=rho] [type=number]').value === '0.731'"
    )


@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_tab_reaches_everything_and_shows_where_it_is(opened, size):
    page = opened("surface=batches", size)
    wanted = page.evaluate(
        """() => [...document.querySelectorAll(
            "button, select, input:enabled, summary, [tabindex='0']")]
          .filter((e) => e.checkVisibility() && (e.type !== "radio" || e.checked))
          .map((e, i) => (e.dataset.order = i))"""
    )
    seen = []
    for _ in wanted:
        page.keyboard.press("Tab")
        here, shown = page.evaluate(
            """() => {
              const e = document.activeElement;
              const by = (x) => getComputedStyle(x).outlineStyle !== "none"
                && parseFloat(getComputedStyle(x).outlineWidth) >= 2;
              return [Number(e.dataset.order), by(e) || by(e.closest("label") ?? e)];
            }"""
        )
        assert shown, here
        seen.append(here)
    assert seen == wanted


def test_a_step_lands_where_the_reference_does(opened):
    page = opened("surface=ripples&method=rsam&lock=1", reduced_motion="reduce")
    page.locator("#step").click()
    page.wait_for_function("state.w[0] !== 0.3")
    after = two_weights().after
    assert weights(page) == pytest.approx(after.tolist(), abs=1e-12)
    assert page.evaluate("state.seed") == 14
    page.locator("#methods [value=sam]").check()
    assert weights(page) == pytest.approx(two_weights(algorithm="sam").after.tolist(), abs=1e-12)
    page.locator("#back").click()
    assert weights(page) == [0.3, 0.8]


def test_it_runs_until_it_is_stopped_and_draws_anew(opened):
    page = opened("surface=batches&method=sam")
    page.locator("#run").click()
    page.wait_for_function("paths.sgd.length > 3")
    page.locator("#run").click()
    assert page.evaluate("running") is None
    count = page.evaluate("paths.sam.length")
    settled(page)
    assert page.evaluate("paths.sam.length") == count
    assert page.evaluate("state.seed") == 14 + count - 1
    assert page.evaluate("state.batch") == count
    assert page.locator("#beside figcaption", has_text=f"{count - 1} steps").count() == 8


def test_what_leaves_the_picture_is_told_and_stops(opened):
    page = opened("surface=digits&method=sam&lr=1&w=1.2,1.2")
    page.locator("#run").click()
    page.wait_for_function("at('told').textContent !== ''")
    told = page.locator("#told").inner_text()
    assert told.startswith("SAM has left what the picture knows: Back ")
    assert "Fit " in told
    assert page.evaluate("running") is None


def test_what_is_pointed_at_lights_up(opened):
    page = opened("surface=ripples")
    assert page.locator(".formula .lit").count() == 0
    page.locator("#equations [data-row='4'] .value").hover()
    page.wait_for_function("lit === 'eps'")
    assert page.locator(".formula .lit").count() >= 2
    assert page.locator("#arrows .arrow.lit").count() == 1
    assert "perturbation" in page.locator("#meaning").inner_text()
    page.mouse.move(2, 2)
    page.wait_for_function("lit === null")
    place = page.evaluate(
        """() => {
          const found = document.querySelector("#arrows .arrow.draw .shaft");
          const shaft = found.getBoundingClientRect();
          return [shaft.x + shaft.width / 2, shaft.y + shaft.height / 2];
        }"""
    )
    page.mouse.move(*place)
    page.wait_for_function("lit === 'D'")
    assert page.locator("#equations .equation.lit").get_attribute("data-q") == "D"


def test_its_policy_forbids_nothing_that_it_does(opened):
    page = opened("surface=batches", bypass_csp=False)
    for button in ("#step", "#draw", "#fit", "#copy", "#theme"):
        page.locator(button).click()
    assert page.evaluate(
        "eval.name && document.querySelector('meta[http-equiv]').content"
    ).startswith("default-src 'none'")


STATE = "surface=ridge&method=k-step&w=0.1,0.9&rho=0.62&sigma=0.3&lr=0.15&k=4&seed=3&ends=1"


def test_a_link_opens_exactly_the_picture_it_was_made_of(opened):
    page = opened(STATE)
    picture = "[at('arrows').innerHTML, at('equations').innerHTML, at('rim').innerHTML]"
    first = page.evaluate(picture)
    assert weights(page) == [0.1, 0.9]
    assert page.evaluate("[state.method, state.rho, state.k]") == ["k-step", 0.62, 4]
    settled(page)
    address = page.evaluate("location.hash.slice(1)")
    assert opened(address).evaluate(picture) == first
    page.locator("#slide-lr").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert "lr=0.16" in page.evaluate("location.hash")
    page.evaluate("location.hash = '#surface=wide&method=sgd'")
    page.wait_for_function("state.surface === 'wide' && state.method === 'sgd'")


def test_a_link_keeps_every_digit(opened):
    page = opened("surface=ripples&w=0.123456789,0.1&rho=0.1234567", reduced_motion="reduce")
    for button in ("#step", "#step", "#zoom-in", "#fit"):
        page.locator(button).click()
        page.wait_for_function("!pending")
    page.locator("#copy").click()
    kept = "[state.w, state.rho, state.seed, state.view]"
    numbers = "[at('equations').innerHTML, at('rim').innerHTML]"
    address, state, shown = (
        page.evaluate(what) for what in ("location.hash.slice(1)", kept, numbers)
    )
    assert len(str(state[0][0])) > 10
    again = opened(address)
    assert again.evaluate(kept) == state
    assert again.evaluate(numbers) == shown


@pytest.mark.parametrize(
    "bad",
    [
        *("surface=hill", "surface=digits&method=asam", "method=toString", "view=0,0,0"),
        *("surface=digits&w=9,9", "surface=digits&w=2.01,0"),
        *("rho=9", "rho=x", "w=1", "w=101,0", "seed=200", "batch=1", "lock=2", "speed=3"),
    ],
)
def test_a_bad_state_is_told_and_left_out(opened, bad):
    page = opened(f"{bad}&lr=0.33")
    told = page.locator("#told").inner_text()
    assert told.partition(" (")[0].endswith(f"left out: {bad.rpartition('&')[2]}")
    assert page.evaluate("state.lr") == 0.33
    assert page.evaluate("state.method") == "rsam"


def test_every_link_of_the_documents_is_understood(opened):
    page = opened()
    for name, address in state_links():
        page.evaluate("hash => (location.hash = hash)", f"#{address}")
        page.wait_for_function("hash => readAddress(hash, state)[1].length === 0", arg=address)
        settled(page)
        assert page.locator("#told").inner_text() == "", name
        given = dict(part.split("=") for part in address.split("&"))
        assert page.evaluate("state.surface") == given["surface"]
        assert page.locator("#arrows .arrow").count() >= 1


def test_the_lecture_tells_what_its_three_links_show(opened):
    text = (ROOT / "docs/teaching.md").read_text(encoding="utf-8")
    lecture = " ".join(text[text.index("## Ten minutes") :].partition("\n## ")[0].split())
    parts = re.split(r" \d\. \*\*", lecture)[1:]
    assert len(parts) == 3
    for part in parts:
        [address] = re.findall(r"interactive\.md#(\S*=\S*)\)", part)
        page = opened(address)
        shares = dict(
            zip(*(page.locator(f"#methods .{c}").all_inner_texts() for c in ("name", "share")))
        )
        assert shares["SAM"] in part or "draws climb" in part
        if "3-step" in part:
            assert shares["3-step SAM"] in part
        if told := page.locator("#cloud").inner_text():
            [above, share] = re.findall(r"in (\d+);.*?, (\d+ %) of", told)[0]
            assert f"{above} of" in part
            assert f"to {share}" in part


def test_a_link_is_made_and_the_theme_is_changed(opened):
    page = opened("surface=wide&w=0.5,0.5")
    page.locator("#copy").click()
    page.wait_for_function("at('told').textContent !== ''")
    assert re.search(r"w=0\.5,0\.5", page.evaluate("location.hash"))
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.evaluate(paper) != light
