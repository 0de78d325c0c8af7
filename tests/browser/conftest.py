"""The page in Chromium, without a screen. Anything that it says or asks for fails the test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rsam_ref.teaching.interactive.page import write

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = {
    "wide": (1366, 768),
    "narrow": (390, 844),
    "projector": (1280, 720),
    "large": (2560, 1440),
}


def chromium() -> str | None:
    """Where the browser is; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser():
    told = "playwright is not installed: make test-browser does so"
    sync_api = pytest.importorskip("playwright.sync_api", reason=told)
    if chromium() is None:
        pytest.skip("there is no Chromium; install one: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory) -> Path:
    """The page, as a reader has it."""
    path = tmp_path_factory.mktemp("page") / "move.html"
    write(path)
    return path


@pytest.fixture
def opened(browser, file):
    """Opens the page in a state, and says in the end that it was quiet."""
    contexts, heard = [], []

    def go(state="", size="wide", scheme="light", **options):
        width, height = SIZES[size]
        # Playwright waits by eval, which the page's own policy forbids.
        options = {"viewport": {"width": width, "height": height}, "bypass_csp": True, **options}
        context = browser.new_context(color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"said {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"raised {error}"))
        page.on("request", lambda request: heard.append(f"asked for {request.url}"))
        page.goto(f"{file.as_uri()}#{state}")
        page.wait_for_selector("#arrows .arrow")
        return page

    yield go
    for context in contexts:
        context.close()
    allowed = f"asked for {file.as_uri()}"
    assert [what for what in heard if not what.startswith(allowed)] == []
