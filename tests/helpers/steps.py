"""Steps that rsam_ref takes, for the page's script to take too; `python -m tests.helpers.steps`.

A case is a surface, a method and drawn settings; what it must give are the vectors and losses of
the step by their names in the script.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rsam_backends import use_backend
from rsam_ref.algorithms.sam import Trace, rsam_gradient, sam_gradient
from rsam_ref.algorithms.variants import (
    asam_gradient,
    gradient_rsam_gradient,
    stacked_rsam_gradient,
)
from rsam_ref.teaching.interactive.grounds import NAMES, Ground, ground
from rsam_ref.teaching.interactive.state import DRAWS, METHODS

TABLE = Path(__file__).with_suffix(".json")
EACH = 3
"""Cases for each surface and method."""
ETA = 0.01
MIDDLES = {"ravine": (1.5, 1.0), "cosines": (0.0, 0.0), "digits": (0.0, 0.0)}


def trace_of(case: dict[str, Any], on: Ground) -> Trace:
    """The step's trace, by the reference."""
    f, w = on.loss_and_grad, np.array(case["w"])
    rho, lam, method = case["rho"], case["lam"], case["method"]
    noise = on.noise(w, sigma=case["sigma"], seed=case["seed"], ball=method == "ball")
    if method == "sgd":
        loss, gradient = f(w)
        return Trace(loss=loss, gradient=gradient)
    if method in ("sam", "k-step"):
        return sam_gradient(f, w, rho=rho, ascent_steps=case["k"] if method == "k-step" else 1)
    if method == "asam":
        return asam_gradient(f, w, rho=rho, eta=ETA)
    if method == "stacked":
        return stacked_rsam_gradient(f, w, noise, rho=rho)
    if method == "gradient":
        return gradient_rsam_gradient(f, w, noise, rho=rho)
    return rsam_gradient(f, w, noise, rho=rho, lam=lam)


def result(case: dict[str, Any]) -> dict[str, Any]:
    """What the script must give for a case."""
    with use_backend("numpy"):
        trace = trace_of(case, ground(case["surface"], case["batch"]))
        found = {
            "loss": trace.loss,
            "D": trace.noise,
            "g0": trace.ascent_gradient,
            "eps": trace.perturbation,
            "adversarialLoss": trace.adversarial_loss,
            "g": trace.gradient,
            "after": np.array(case["w"]) - case["lr"] * np.asarray(trace.gradient),
        }
    return {name: np.asarray(v).tolist() for name, v in found.items() if v is not None}


def cases() -> list[dict[str, Any]]:
    """Surfaces, methods and settings, without what they give."""
    draw, made = np.random.default_rng(25), []
    for surface in NAMES:
        for method in METHODS:
            if (surface, method) == ("digits", "asam"):
                continue
            for _ in range(EACH):
                w = np.array(MIDDLES.get(surface, (0.5, 0.8))) + draw.uniform(-0.7, 0.7, 2)
                sizes = {"rho": 0.8, "sigma": 0.3, "lam": 4, "lr": 1}
                case = {"surface": surface, "method": method, "w": w.round(3).tolist()}
                case |= {name: round(float(draw.uniform(0, top)), 3) for name, top in sizes.items()}
                case |= {"k": int(draw.integers(2, 6)), "seed": int(draw.integers(0, DRAWS))}
                case["batch"] = int(draw.integers(0, 7)) if surface == "batches" else 0
                made.append(case)
    return made


if __name__ == "__main__":
    told = [{"case": case, "gives": result(case)} for case in cases()]
    lines = ",\n".join(json.dumps(one, allow_nan=False) for one in told)
    TABLE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
