"""SAM's relatives as PyTorch optimizers that a stranger wrote by the relatives' pages alone.

The checker, asked for SAM, must say which each of them is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rsam_ref.algorithms.relatives import RELATIVES
from rsam_ref.conformance import check, family

HERE = Path(__file__).parent / "relatives"
CLASSES = {
    "arwp": "ARWP",
    "bayesian-sam": "BayesianSAM",
    "cr-sam": "CRSAM",
    "esam": "ESAMPerturbation",
    "fisher-sam": "FisherSAM",
    "friendly-sam": "FriendlySAM",
    "gsam": "GSAM",
    "le-sam": "LESAM",
    "looksam": "LookSAM",
    "looksam-by-tensor": "TensorwiseLookSAM",
    "m-rwp": "MixedRWP",
    "m-sam": "train_step",
    "momentum-sam": "MomentumSAM",
    "rst": "RST",
    "rwp": "RWP",
    "sparse-sam": "train_step",
    "unified-sam": "UnifiedSAM",
    "usam": "USAM",
    "vasso": "VaSSO",
    "wsam": "WSAM",
    "wsam-coupled": "CoupledWSAM",
}
CALLED = {"arwp": "rwp", "rwp": "rwp"}
"""What cannot be told apart: a draw may have any size."""


def test_there_is_one_of_every_relative():
    assert CLASSES.keys() == RELATIVES.keys()


@pytest.mark.strangers
@pytest.mark.parametrize("name", CLASSES)
def test_a_strangers_relative_is_known(name):
    file = HERE / f"{name.replace('-', '_')}.py"
    report = check(f"{file}:{CLASSES[name]}", "sam", timeout=300)
    assert not report.conforms
    assert report.algorithm == CALLED.get(name, family.CODES.get(name, name))
