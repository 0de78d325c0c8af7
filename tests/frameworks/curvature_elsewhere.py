"""Our products and traces beside curvlinops' on small networks; prints a line of JSON.

By network and matrix, how far apart they are, relative to the larger: of products the length of the
difference, of traces the difference.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import torch
from torch import nn

from rsam_ref.pytorch.scores import Scores
from rsam_ref.sharpness import exact_traces
from rsam_ref.sharpness.gauss_newton import GaussNewton
from tests.test_pytorch_curvature import NETWORKS, data, loss_of, twin


def compared(name: str) -> dict[str, float]:
    """The two, on one network, on its samples in batches of unequal size."""
    package = import_module("curvlinops")
    model, loss, (x, y) = twin(name), loss_of(name), data(name)
    of = model, nn.CrossEntropyLoss(), list(model.parameters())
    batches = [(x[:90], y[:90]), (x[90:], y[90:])]
    kinds = ("HessianLinearOperator", "GGNLinearOperator", "EFLinearOperator")
    hessian, ggn, fisher = (getattr(package, kind)(*of, batches) for kind in kinds)
    w, scores = loss.w, Scores(loss)
    draws = torch.Generator().manual_seed(0)
    vectors = torch.randn(len(w), 3, generator=draws, dtype=w.dtype)
    product = GaussNewton(scores, w)
    ours = {
        "hessian": torch.stack(loss.hessian_products(w, list(vectors.T)), dim=1),
        "gauss-newton": torch.stack([product(v) for v in vectors.T], dim=1),
    }
    theirs = {"hessian": hessian @ vectors, "gauss-newton": ggn @ vectors}
    found = {f"product with {kind}": _apart(ours[kind], theirs[kind]) for kind in ours}
    of_g, of_f = exact_traces(scores.samples(), scores.targets(w), w)
    unit = torch.eye(len(w), dtype=w.dtype)
    own = torch.tensor(
        [float(v @ image) for v, image in zip(unit, loss.hessian_products(w, list(unit)))],
        dtype=w.dtype,
    )
    for kind, value, operator in (
        ("hessian", float(own.sum()), hessian),
        ("gauss-newton", of_g.mean, ggn),
        ("fisher", of_f.mean, fisher),
    ):
        blocks = unit.split(64, dim=1)
        trace = sum((block * (operator @ block)).sum() for block in blocks)
        found[f"trace of {kind}"] = _apart(
            torch.tensor(value, dtype=w.dtype), torch.as_tensor(trace)
        )
    return found


def _apart(a: Any, b: Any) -> float:
    return float((a - b).norm() / torch.maximum(a.norm(), b.norm()))


if __name__ == "__main__":
    print(json.dumps({name: compared(name) for name in NETWORKS}))
