"""Losses over a plane of a trained digits network's weights; `python -m tests.helpers.slice`.

The network, the 256 images and the radius are the sixth tutorial's. The plane goes through the
weights, along SAM's perturbation and towards the highest place that a long ascent finds.
"""

from __future__ import annotations

import json
from typing import Any

from rsam_backends import Stream, use_backend
from rsam_ref import SGD, models, objective, sam_gradient
from rsam_ref.algorithms.noise import filter_scale
from rsam_ref.algorithms.sam import norm
from rsam_ref.data import digits_split
from rsam_ref.sharpness import rho_sharpness
from rsam_ref.sharpness.planes import plane_through
from rsam_ref.teaching.interactive.grounds import SLICE
from rsam_ref.training import train

POINTS, REACH, RHO = 65, 2.0, 0.4


def made(points: int = POINTS) -> dict[str, Any]:
    """The slice, with the losses at ``points`` x ``points`` places, a row for each height."""
    with use_backend("numpy"):
        data = digits_split(seed=0, dtype="float64")
        model = models.mlp([64, 64, 10], seed=0, dtype="float64")
        train(model, SGD(0.1), data.x_train, data.y_train, epochs=10)
        w, shapes = model.weights.flat.copy(), model.weights.shapes
        loss = objective(model, data.x_train[:256], data.y_train[:256])
        sam = sam_gradient(loss, w, rho=RHO).perturbation
        assert sam is not None
        top = rho_sharpness(loss, w, rho=RHO, stream=Stream("inner", 0)).perturbation
        plane = plane_through(w, w + sam, w + top)
        s = filter_scale(w, shapes)
        side = [REACH * (2 * i / (points - 1) - 1) for i in range(points)]
        losses = [[loss(w + x * plane.across + y * plane.up)[0] for x in side] for y in side]
    return {
        "reach": REACH,
        "scale": [round(float(norm(s * axis)), 4) for axis in (plane.across, plane.up)],
        "losses": [[round(float(value), 5) for value in row] for row in losses],
    }


if __name__ == "__main__":
    text = json.dumps(made(), separators=(",", ":")).replace("],[", "],\n[")
    SLICE.write_text(text + "\n", encoding="utf-8")
