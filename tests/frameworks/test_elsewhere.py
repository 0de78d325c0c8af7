"""The models of torchvision and timm: the lines that `rsam-ref export` tells make the same ones."""

from __future__ import annotations

import pytest

from tests.frameworks.models_elsewhere import CASES
from tests.helpers.elsewhere import FOLDER, answer_of, there

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def found():
    if not there():
        pytest.skip(f"torchvision and timm are not in {FOLDER}; make frameworks puts them there")
    return answer_of("tests.frameworks.models_elsewhere")


@pytest.mark.parametrize("case", CASES)
def test_the_lines_make_the_same_model(case, found):
    assert found[case] < 1e-11
