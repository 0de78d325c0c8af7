"""The models of torchvision and timm: the lines that `rsam-ref export` tells make the same ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks.models_elsewhere import CASES

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).parents[2]
FOLDER = Path(sys.prefix) / "elsewhere"
"""Where `make frameworks` puts both packages: away from all others, which would look for them."""


@pytest.fixture(scope="module")
def found():
    if not (FOLDER / "torchvision").is_dir():
        pytest.skip(f"torchvision and timm are not in {FOLDER}; make frameworks puts them there")
    done = subprocess.run(
        [sys.executable, "-m", "tests.frameworks.models_elsewhere"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_the_lines_make_the_same_model(case, found):
    assert found[case] < 1e-11
