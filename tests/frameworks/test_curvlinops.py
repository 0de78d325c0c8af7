"""Hessian, Gauss-Newton and Fisher of small networks: ours are curvlinops', to rounding."""

from __future__ import annotations

import pytest

from tests.helpers.curved import MAKE
from tests.helpers.elsewhere import FOLDER, answer_of

pytestmark = pytest.mark.frameworks

MATRICES = [
    "product with hessian",
    "product with gauss-newton",
    "trace of hessian",
    "trace of gauss-newton",
    "trace of fisher",
]


@pytest.fixture(scope="module")
def found():
    if not (FOLDER / "curvlinops").is_dir():
        pytest.skip(f"curvlinops is not in {FOLDER}; make frameworks puts it there")
    return answer_of("tests.frameworks.curvature_elsewhere")


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("network", MAKE)
def test_they_are_the_same(network, matrix, found):
    assert found[network][matrix] < 1e-10
