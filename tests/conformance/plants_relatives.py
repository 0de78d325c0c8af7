"""SAM's relatives as training steps in NumPy, around plain SGD: each must be called by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rsam_ref.algorithms.relatives import RELATIVES, ApartTrace


def step_of(name: str, **settings: float) -> Callable[..., Any]:
    """A training step that takes a relative's step; settings that are left out have their defaults.

    The draws are made here, so that nothing of the package's optimizer is in it.
    """
    relative = RELATIVES[name]
    values = {key: setting.default for key, setting in relative.settings.items()} | settings

    def train_step(weights: list[Any], loss_and_grad: Any, state: Any, hyper: Any) -> Any:
        shapes, sizes = [w.shape for w in weights], [w.size for w in weights]
        ends = np.cumsum(sizes)

        def flat(arrays: list[Any]) -> Any:
            return np.concatenate([np.asarray(a).reshape(-1) for a in arrays])

        def parts(v: Any) -> list[Any]:
            return [p.reshape(shape) for p, shape in zip(np.split(v, ends[:-1]), shapes)]

        def at(v: Any) -> Any:
            loss, gradients = loss_and_grad(parts(v))
            return loss, flat(gradients)

        w, t = flat(weights), state.get("t", 0)
        rng = np.random.default_rng((t, 5))
        velocity = state.get("velocity", np.zeros_like(w))
        z = rng.standard_normal(w.size)
        given = {
            "state": state.get("kept", {}),
            "step": t,
            "z": z,
            "noise": hyper.sigma * flat([np.broadcast_to(_size(a), a.shape) for a in weights]) * z,
            "mask": (rng.random(w.size) < values.get("beta", 1)).astype(float),
            "coin": (0.1, 0.9, 0.7, 0.2, 0.3, 0.8)[t % 6],
            "velocity": velocity,
            "tensors": [slice(end - size, end) for end, size in zip(ends, sizes)],
        }
        needs = {need: given[need] for need in relative.needs}
        now = {k: v for k, v in values.items() if k != "sigma" or "noise" not in relative.needs}
        now |= {"rho": hyper.rho} if "rho" in now else {}
        found = relative.rule(at, w, **needs, **now)
        trace, kept = found if "state" in relative.needs else (found, {})
        velocity = hyper.momentum * velocity + trace.gradient + hyper.weight_decay * w
        w = w - hyper.lr * velocity
        if isinstance(trace, ApartTrace):
            w = w - hyper.lr * trace.apart
        return parts(w), {"t": t + 1, "velocity": velocity, "kept": kept}

    return train_step


def _size(a: Any) -> Any:
    """The norm of every filter of a parameter, spread over it."""
    if a.ndim == 1:
        return np.linalg.norm(a)
    return np.sqrt((a * a).sum(axis=tuple(range(1, a.ndim)), keepdims=True))


KNOWN: list[tuple[str, Mapping[str, float], str]] = [
    ("usam", {}, "ascent.not-normalised"),
    ("unified-sam", {"share": 0.3}, "ascent.partly-normalised"),
    ("gsam", {}, "algorithm.gsam"),
    ("gsam", {"alpha": 0.37}, "algorithm.gsam"),
    ("wsam", {}, "algorithm.wsam"),
    ("wsam-coupled", {"gamma": 0.83}, "algorithm.wsam"),
    ("looksam", {"k": 2, "alpha": 0.41}, "algorithm.looksam"),
    ("looksam-by-tensor", {"k": 3}, "algorithm.looksam"),
    ("rst", {}, "ascent.skipped"),
    ("esam", {"beta": 0.5}, "ascent.masked"),
    ("fisher-sam", {"eta": 1.37}, "algorithm.fisher-sam"),
    ("friendly-sam", {"lam": 0.6}, "algorithm.friendly-sam"),
    ("friendly-sam", {"sigma": 0.77}, "algorithm.friendly-sam"),
    ("vasso", {"theta": 0.33}, "algorithm.vasso"),
    ("momentum-sam", {}, "algorithm.momentum-sam"),
    ("cr-sam", {}, "algorithm.cr-sam"),
    ("le-sam", {"sigma": 0.1}, "ascent.radius-scheduled"),
    ("rwp", {}, "algorithm.noise-only"),
    ("m-rwp", {"lam": 0.4}, "algorithm.rwp"),
]
"""Name, settings, and the finding that comes first."""
