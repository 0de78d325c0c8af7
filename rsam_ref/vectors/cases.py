"""The cases of the vectors: nine algorithms, each around three base optimizers.

No setting is a default, so that a port which does not read one is noticed; all are short binary
fractions, the same numbers in float32 and float64.
"""

from __future__ import annotations

from typing import Any

from rsam_ref.algorithms.base import SGD, AdamW
from rsam_ref.algorithms.noise import ball_noise, filter_noise
from rsam_ref.algorithms.sam import LossAndGrad, Trace, rsam_gradient, sam_gradient
from rsam_ref.algorithms.variants import (
    asam_gradient,
    gradient_rsam_gradient,
    noise_gradient,
    stacked_rsam_gradient,
)
from rsam_ref.vectors.problem import PARAMETERS

ALGORITHMS: dict[str, dict[str, Any]] = {
    "base": {},
    "sam": {"rho": 0.25},
    "k-step-sam": {"rho": 0.25, "ascent_steps": 2},
    "asam": {"rho": 0.375, "eta": 0.125},
    "rsam": {"rho": 0.25, "sigma": 0.125, "lam": 1.5},
    "rsam-stacked": {"rho": 0.25, "sigma": 0.125},
    "rsam-gradient": {"rho": 0.25, "sigma": 0.125},
    "rsam-ball": {"rho": 0.25, "sigma": 0.5, "lam": 1.5},
    "noise-only": {"sigma": 0.125},
}

BASES: dict[str, dict[str, Any]] = {
    "sgd": {
        "optimizer": "SGD",
        "lr": 0.125,
        "momentum": 0.75,
        "nesterov": False,
        "weight_decay": 0.0625,
    },
    "nesterov": {
        "optimizer": "SGD",
        "lr": 0.125,
        "momentum": 0.75,
        "nesterov": True,
        "weight_decay": 0.0625,
    },
    "adamw": {
        "optimizer": "AdamW",
        "lr": 0.125,
        "beta1": 0.875,
        "beta2": 0.9140625,
        "eps": 0.0078125,
        "weight_decay": 0.5,
    },
}


class Given:
    """A stream of random numbers that gives one draw, the vectors' z."""

    def __init__(self, z: Any) -> None:
        self.z = z

    def normal(self, shape: int, dtype: Any) -> Any:
        """The draw z, (shape,)."""
        return self.z


def find(algorithm: str, loss_and_grad: LossAndGrad, w: Any, z: Any) -> Trace:
    """The gradient to move by at w (P,), with the draw z (P,), and how it was found."""
    settings = dict(ALGORITHMS[algorithm])
    if algorithm == "base":
        loss, gradient = loss_and_grad(w)
        return Trace(loss=loss, gradient=gradient)
    if algorithm in ("sam", "k-step-sam"):
        return sam_gradient(loss_and_grad, w, **settings)
    if algorithm == "asam":
        return asam_gradient(loss_and_grad, w, **settings)
    noise = draw(algorithm, w, z, settings.pop("sigma"))
    rules: dict[str, Any] = {
        "rsam": rsam_gradient,
        "rsam-ball": rsam_gradient,
        "rsam-stacked": stacked_rsam_gradient,
        "rsam-gradient": gradient_rsam_gradient,
        "noise-only": noise_gradient,
    }
    return rules[algorithm](loss_and_grad, w, noise, **settings)


def draw(algorithm: str, w: Any, z: Any, sigma: float) -> Any:
    """The noise D (P,) around w (P,) that a draw z (P,) makes."""
    stream: Any = Given(z)
    if algorithm == "rsam-ball":
        return ball_noise(w, sigma=sigma, stream=stream)
    return filter_noise(w, list(PARAMETERS.values()), sigma=sigma, stream=stream)


def make_base(name: str) -> SGD | AdamW:
    """The base optimizer of a case, before its first step."""
    settings = dict(BASES[name])
    if settings.pop("optimizer") == "SGD":
        return SGD(**settings)
    betas = settings.pop("beta1"), settings.pop("beta2")
    return AdamW(betas=betas, **settings)
