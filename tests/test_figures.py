"""A figure shows itself in a notebook, and its files say what it shows."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from rsam_ref import figures
from rsam_ref.conformance.report import picture as checked
from rsam_ref.sharpness import figures as flatness
from rsam_ref.teaching import picture
from rsam_ref.teaching.step import two_weights
from rsam_ref.training import figures as trained

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def figure():
    made = figures.Figure(figsize=(3, 2))
    made.add_subplot().plot([1, 2])
    made.title, made.description = "A line", "It rises from 1 to 2, where w < 3 & more."
    return made


def test_a_notebook_displays_a_figure(figure):
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
    shown, _ = formatters.DisplayFormatter().format(picture.step_figure(two_weights()))
    assert len(shown["image/png"]) > 10_000


@pytest.mark.parametrize("module", [checked, flatness, picture, trained])
def test_all_figures_are_of_the_kind_that_is_displayed(module):
    assert module.Figure is figures.Figure


def test_svg_has_title_and_description(figure, tmp_path):
    figures.save(figure, tmp_path / "line.svg")
    root = ET.parse(tmp_path / "line.svg").getroot()
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert [root[0].text, root[1].text] == [figure.title, figure.description]
    figures.save(figure, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "line.svg").read_bytes()


def test_pdf_and_png_have_title_and_description(figure, tmp_path):
    figures.save(figure, tmp_path / "line.pdf")
    pdf = (tmp_path / "line.pdf").read_bytes()
    told = dict(re.findall(rb"/(Title|Author|Subject) \((.*?)\)", pdf))
    assert told[b"Title"] == b"A line"
    assert told[b"Author"] == b"rsam-ref"
    assert told[b"Subject"] == figure.description.encode()
    figures.save(figure, tmp_path / "line.png")
    with Image.open(tmp_path / "line.png") as written:
        assert written.info["Title"] == figure.title
        assert written.info["Description"] == figure.description


def test_a_figure_without_words_is_written_as_it_is(tmp_path):
    figures.save(figures.Figure(figsize=(1, 1)), tmp_path / "empty.svg")
    root = ET.parse(tmp_path / "empty.svg").getroot()
    assert root.get("role") is None
    assert not root.findall(f"{SVG}title")
