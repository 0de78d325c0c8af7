"""Our models in torchvision and timm: a line of JSON, by case how far apart the outputs are."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch

from rsam_ref import models
from rsam_ref.models.elsewhere import in_pytorch
from rsam_ref.nn.layers import BatchNorm2d
from tests.helpers.elsewhere import declare_operators

CASES: dict[str, dict[str, Any]] = {
    "resnet18": {"shape": (3, 64, 64)},
    "resnet18, cifar": {"shape": (3, 32, 32), "stem": "cifar"},
    "resnet18, grey": {"shape": (1, 32, 32)},
    "resnet50": {"shape": (3, 64, 64)},
    "vit_tiny": {"shape": (3, 32, 32), "patch": 8, "depth": 2},
    "vit_tiny, mean": {"shape": (3, 32, 32), "patch": 8, "depth": 2, "pool": "mean"},
    "vit_small": {"shape": (1, 28, 28), "patch": 7, "depth": 1, "dropout": 0.1},
}


def apart(case: str) -> float:
    """The largest difference of the outputs, by their size; the weights are loaded strictly."""
    name, options = case.split(",")[0], dict(CASES[case])
    shape = options.pop("shape")
    ours = models.make_model(name, shape=shape, classes=7, seed=3, dtype="float64", **options)
    names: dict[str, Any] = {}
    exec("\n".join(in_pytorch(name, shape=shape, classes=7, options=options)), names)
    theirs = names["model"].double()
    state = {k: torch.tensor(v) for k, v in ours.state_dict().items()}
    for prefix, module in ours.modules().items():
        if isinstance(module, BatchNorm2d):
            state[f"{prefix}.num_batches_tracked"] = torch.tensor(0)
    theirs.load_state_dict(state)
    if [n for n, _ in theirs.named_parameters()] != list(ours.weights.names):
        raise AssertionError(f"{case}: the parameters are in another order")
    x = np.random.default_rng(0).normal(size=(4, *shape))
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        scores = theirs(torch.tensor(x)).numpy()
    return float(abs(ours(x).data - scores).max() / abs(scores).max())


if __name__ == "__main__":
    declare_operators()
    sys.stdout.write(json.dumps({case: apart(case) for case in CASES}) + "\n")
