"""Right implementations, each in another style: the checker must let all of them through.

They are written from the equations, not from each other, so that no habit of one is the habit of
all. Those in PyTorch are in right_torch.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rsam_ref.algorithms.sam import rsam_gradient, sam_gradient
from rsam_ref.algorithms.variants import asam_gradient


class Right(NamedTuple):
    name: str
    form: str
    algorithm: str
    subject: Any
    notes: tuple[str, ...] = ()
    """Notes that must be among the findings."""


# SAM ----------------------------------------------------------------------------------------------


def sam_copies(weights, loss_and_grad, state, hyper):
    """New arrays everywhere; the velocity is a list in the state."""
    _, first = loss_and_grad(weights)
    length = math.sqrt(sum(float((g * g).sum()) for g in first))
    perturbed = [w + hyper.rho * g / (length + 1e-12) for w, g in zip(weights, first)]
    _, second = loss_and_grad(perturbed)
    decayed = [g + hyper.weight_decay * w for w, g in zip(weights, second)]
    if "velocity" in state:
        velocity = [hyper.momentum * v + g for v, g in zip(state["velocity"], decayed)]
    else:
        velocity = decayed
    moved = [w - hyper.lr * v for w, v in zip(weights, velocity)]
    return moved, {"velocity": velocity}


def _flatten(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def _split(flat, like):
    parts, start = [], 0
    for a in like:
        parts.append(flat[start : start + a.size].reshape(a.shape))
        start += a.size
    return parts


def sam_flat(weights, loss_and_grad, state, hyper):
    """One flat vector, and a velocity that starts at 0 (the same as starting at g)."""
    w = _flatten(weights)
    g = _flatten(loss_and_grad(weights)[1])
    eps = hyper.rho * g / (np.linalg.norm(g) + 1e-12)
    g = _flatten(loss_and_grad(_split(w + eps, weights))[1]) + hyper.weight_decay * w
    v = hyper.momentum * state.get("v", np.zeros_like(w)) + g
    return _split(w - hyper.lr * v, weights), {"v": v}


def sam_on_a_vector(w, loss_and_grad, state, hyper):
    """The weights are one flat vector: a list it could not add to."""
    _, first = loss_and_grad(w)
    _, second = loss_and_grad(w + hyper.rho * first / (np.linalg.norm(first) + 1e-12))
    second = second + hyper.weight_decay * w
    velocity = hyper.momentum * state["velocity"] + second if state else second
    return w - hyper.lr * velocity, {"velocity": velocity}


def asam_on_a_vector(loss_and_grad, w, *, lr, rho, eta):
    """Settings by name, no state, the gradient's function first."""
    scale = np.abs(w) + eta
    first = scale * loss_and_grad(w)[1]
    eps = rho * scale * first / (np.linalg.norm(first) + 1e-12)
    return w - lr * loss_and_grad(w + eps)[1]


def sam_in_place(weights, loss_and_grad, state, hyper):
    """The given arrays are changed in place and given back; w itself is kept in copies."""
    saved = [w.copy() for w in weights]
    _, gradients = loss_and_grad(weights)
    total = 0.0
    for g in gradients:
        total += float(np.vdot(g, g))
    scale = hyper.rho / (total**0.5 + 1e-12)
    for w, g in zip(weights, gradients):
        w += scale * g
    _, gradients = loss_and_grad(weights)
    for i, (w, old, g) in enumerate(zip(weights, saved, gradients)):
        w[...] = old
        step = g + hyper.weight_decay * w
        if i in state:
            state[i] *= hyper.momentum
            state[i] += step
        else:
            state[i] = step.copy()
        w -= hyper.lr * state[i]
    return weights, state


def _on_flat(loss_and_grad, like):
    def flat_loss_and_grad(w):
        loss, gradients = loss_and_grad(_split(w, like))
        return loss, _flatten(gradients)

    return flat_loss_and_grad


def _flat_sgd(w, g, state, hyper):
    g = g + hyper.weight_decay * w
    state["v"] = g if state.get("v") is None else hyper.momentum * state["v"] + g
    return w - hyper.lr * state["v"]


def sam_reference(weights, loss_and_grad, state, hyper):
    """On the pure function of this package."""
    w = _flatten(weights)
    trace = sam_gradient(_on_flat(loss_and_grad, weights), w, rho=hyper.rho)
    return _split(_flat_sgd(w, trace.gradient, state, hyper), weights), state


class SamObject:
    """An object that is called; the steps taken are counted, as people do for their logs."""

    def __call__(self, weights, loss_and_grad, state, hyper):
        count = state.get("count", 0)
        buffers = state.get("buffers") or [np.zeros_like(w) for w in weights]
        at_w = loss_and_grad([w.copy() for w in weights])[1]
        norm = np.sqrt(np.sum([np.sum(np.square(g)) for g in at_w]))
        direction = [g / (norm + 1e-12) for g in at_w]
        beyond = [np.add(w, hyper.rho * d) for w, d in zip(weights, direction)]
        at_beyond = loss_and_grad(beyond)[1]
        new_weights, new_buffers = [], []
        for w, g, b in zip(weights, at_beyond, buffers):
            b = b * hyper.momentum + (g + w * hyper.weight_decay)
            new_buffers.append(b)
            new_weights.append(w - b * hyper.lr)
        return new_weights, {"count": count + 1, "buffers": new_buffers}


def sam_scaled_norm(weights, loss_and_grad, state, hyper):
    """The norm by way of the largest entry, which neither over- nor underflows."""
    g0 = loss_and_grad(weights)[1]
    top = max(float(np.max(np.abs(g))) for g in g0) or 1.0
    norm = top * math.sqrt(sum(float(np.sum((g / top) ** 2)) for g in g0))
    factor = hyper.rho / (norm + 1e-12)
    g1 = loss_and_grad([w + factor * g for w, g in zip(weights, g0)])[1]
    v = [g + hyper.weight_decay * w for g, w in zip(g1, weights)]
    if state:
        v = [new + hyper.momentum * old for new, old in zip(v, state["v"])]
    return [w - hyper.lr * x for w, x in zip(weights, v)], {"v": tuple(v)}


# ASAM ---------------------------------------------------------------------------------------------


def asam_lists(weights, loss_and_grad, state, hyper):
    g0 = loss_and_grad(weights)[1]
    scale = [np.abs(w) + hyper.eta for w in weights]
    norm = math.sqrt(sum(float(np.sum((t * g) ** 2)) for t, g in zip(scale, g0)))
    eps = [hyper.rho * t**2 * g / (norm + 1e-12) for t, g in zip(scale, g0)]
    g = loss_and_grad([w + e for w, e in zip(weights, eps)])[1]
    v = [x + hyper.weight_decay * w for x, w in zip(g, weights)]
    if "v" in state:
        v = [hyper.momentum * old + new for old, new in zip(state["v"], v)]
    return [w - hyper.lr * x for w, x in zip(weights, v)], {"v": v}


def asam_reference(weights, loss_and_grad, state, hyper):
    w = _flatten(weights)
    trace = asam_gradient(_on_flat(loss_and_grad, weights), w, rho=hyper.rho, eta=hyper.eta)
    return _split(_flat_sgd(w, trace.gradient, state, hyper), weights), state


def asam_in_place(weights, loss_and_grad, state, hyper):
    """SAM in the stretched coordinates w = T u: eps_u = rho T g / ||T g||, eps_w = T eps_u."""
    saved = [w.copy() for w in weights]
    stretch = [np.abs(w) + hyper.eta for w in weights]
    inner = [t * g for t, g in zip(stretch, loss_and_grad(weights)[1])]
    norm = np.sqrt(sum(np.vdot(x, x) for x in inner)) + 1e-12
    for w, t, x in zip(weights, stretch, inner):
        w += t * (hyper.rho * x / norm)
    second = [g.copy() for g in loss_and_grad(weights)[1]]
    velocity = state.setdefault("velocity", [np.zeros_like(w) for w in weights])
    for w, old, g, v in zip(weights, saved, second, velocity):
        np.copyto(w, old)
        v *= hyper.momentum
        v += g + hyper.weight_decay * w
        w -= hyper.lr * v
    return weights, state


# R-SAM --------------------------------------------------------------------------------------------


def _row_norms(w):
    """||w_f||, in a shape that broadcasts against w."""
    if w.ndim == 1:
        return np.linalg.norm(w) + 1e-16
    norms = np.linalg.norm(w.reshape(len(w), -1), axis=1)
    return norms.reshape(-1, *[1] * (w.ndim - 1))


def rsam_generator_in_state(weights, loss_and_grad, state, hyper):
    rng = state.get("rng") or np.random.default_rng(11)
    noise = [
        hyper.sigma * _row_norms(w) * rng.standard_normal(w.shape).astype(w.dtype) for w in weights
    ]
    g0 = loss_and_grad([w + d for w, d in zip(weights, noise)])[1]
    ascent = [hyper.lam * g + d for g, d in zip(g0, noise)]
    norm = math.sqrt(sum(float(np.sum(a * a)) for a in ascent))
    eps = [hyper.rho * a / (norm + 1e-12) for a in ascent]
    g = loss_and_grad([w + e for w, e in zip(weights, eps)])[1]
    velocity = [x + hyper.weight_decay * w for x, w in zip(g, weights)]
    if "velocity" in state:
        velocity = [x + hyper.momentum * v for x, v in zip(velocity, state["velocity"])]
    moved = [w - hyper.lr * v for w, v in zip(weights, velocity)]
    return moved, {"rng": rng, "velocity": velocity}


_GENERATOR = np.random.default_rng(2022)


def rsam_global_generator(weights, loss_and_grad, state, hyper):
    """A generator of the module; in place; sums over all axes but the first."""
    saved = [w.copy() for w in weights]
    noise = []
    for w in weights:
        axes = tuple(range(1, w.ndim)) or None
        size = np.sqrt(np.sum(w**2, axis=axes, keepdims=True))
        noise.append(hyper.sigma * size * _GENERATOR.normal(size=w.shape).astype(w.dtype))
        w += noise[-1]
    g0 = [g.copy() for g in loss_and_grad(weights)[1]]
    ascent = [hyper.lam * g + d for g, d in zip(g0, noise)]
    radius = hyper.rho / (np.sqrt(sum(np.vdot(a, a) for a in ascent)) + 1e-12)
    for w, old, a in zip(weights, saved, ascent):
        w[...] = old + radius * a
    g = loss_and_grad(weights)[1]
    momentum = state.get("m", [0.0] * len(weights))
    for i, (w, old) in enumerate(zip(weights, saved)):
        w[...] = old
        momentum[i] = hyper.momentum * momentum[i] + g[i] + hyper.weight_decay * old
        w -= hyper.lr * momentum[i]
    return weights, {"m": momentum}


def rsam_reference(weights, loss_and_grad, state, hyper):
    """On the pure function of this package, with a draw of its own, laid out by np.repeat."""
    w = _flatten(weights)
    scale = []
    for x in weights:
        rows = x.reshape(len(x), -1) if x.ndim > 1 else x.reshape(1, -1)
        scale.append(np.repeat(np.sqrt((rows * rows).sum(1)), rows.shape[1]))
    step = state["step"] = state.get("step", -1) + 1
    z = np.random.default_rng([5, step]).standard_normal(w.size).astype(w.dtype)
    noise = hyper.sigma * np.concatenate(scale) * z
    f = _on_flat(loss_and_grad, weights)
    trace = rsam_gradient(f, w, noise, rho=hyper.rho, lam=hyper.lam)
    return _split(_flat_sgd(w, trace.gradient, state, hyper), weights), state


def rsam_seed_per_tensor(weights, loss_and_grad, state, hyper):
    """Seeds of (step, tensor), as JAX's split keys; the draw by Box and Muller."""
    step = state.get("step", 0)
    noise = []
    for i, w in enumerate(weights):
        u, v = np.random.default_rng((99, step, i)).random((2, *w.shape))
        z = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
        noise.append((hyper.sigma * _row_norms(w) * z).astype(w.dtype))
    g0 = loss_and_grad([w + d for w, d in zip(weights, noise)])[1]
    a = [hyper.lam * g + d for g, d in zip(g0, noise)]
    length = np.linalg.norm([np.linalg.norm(x) for x in a])
    g = loss_and_grad([w + hyper.rho / (length + 1e-12) * x for w, x in zip(weights, a)])[1]
    old = state.get("v")
    v = [x + hyper.weight_decay * w for x, w in zip(g, weights)]
    v = v if old is None else [hyper.momentum * o + x for o, x in zip(old, v)]
    return [w - hyper.lr * x for w, x in zip(weights, v)], {"step": step + 1, "v": v}


_LEGACY = np.random.RandomState(3)


def rsam_legacy_convex(weights, loss_and_grad, state, hyper):
    """RandomState; the direction as a mean with weights lam and 1, which is as long or short."""
    draws = [_LEGACY.randn(*w.shape).astype(w.dtype) for w in weights]
    noise = [z * _row_norms(w) * hyper.sigma for z, w in zip(draws, weights)]
    g0 = loss_and_grad([w + d for w, d in zip(weights, noise)])[1]
    part = hyper.lam / (1 + hyper.lam)
    mean = [part * g + (1 - part) * d for g, d in zip(g0, noise)]
    # ||a|| = (1 + lam) ||mean||: the constant is scaled with it.
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in mean)) + 1e-12 / (1 + hyper.lam)
    g = loss_and_grad([w + hyper.rho * x / norm for w, x in zip(weights, mean)])[1]
    v = state.get("v", [np.zeros_like(w) for w in weights])
    v = [hyper.momentum * o + x + hyper.weight_decay * w for o, x, w in zip(v, g, weights)]
    return [w - hyper.lr * x for w, x in zip(weights, v)], {"v": v}


# Right, with something to note --------------------------------------------------------------------


def sam_subtracts(weights, loss_and_grad, state, hyper):
    g0 = loss_and_grad(weights)[1]
    norm = math.sqrt(sum(float(np.sum(g * g)) for g in g0))
    eps = [hyper.rho * g / (norm + 1e-12) for g in g0]
    climbed = [w + e for w, e in zip(weights, eps)]
    g = loss_and_grad(climbed)[1]
    back = [w - e for w, e in zip(climbed, eps)]
    v = [x + hyper.weight_decay * w for x, w in zip(g, back)]
    if "v" in state:
        v = [hyper.momentum * old + x for old, x in zip(state["v"], v)]
    return [w - hyper.lr * x for w, x in zip(back, v)], {"v": v}


def _sam_with(*, epsilon=1e-12, compute=None, norm_type=None, extra=0, out=None, lr_inside=False):
    """SAM with one harmless habit."""

    def train_step(weights, loss_and_grad, state, hyper):
        given = [w.dtype for w in weights]
        if compute is not None:
            weights = [w.astype(compute) for w in weights]
        for _ in range(extra):
            loss_and_grad(weights)  # "to log the loss"
        g0 = [g.astype(w.dtype) for g, w in zip(loss_and_grad(weights)[1], weights)]
        squares = [np.sum((g if norm_type is None else g.astype(norm_type)) ** 2) for g in g0]
        norm = np.sqrt(sum(squares))
        if epsilon is None:
            factor = hyper.rho / norm if norm > 0 else 0.0
        else:
            factor = hyper.rho / (norm + epsilon)
        factor = float(factor)
        g = loss_and_grad([w + factor * x for w, x in zip(weights, g0)])[1]
        g = [x.astype(w.dtype) + hyper.weight_decay * w for x, w in zip(g, weights)]
        if lr_inside:
            g = [hyper.lr * x for x in g]
        v = [hyper.momentum * o + x for o, x in zip(state["v"], g)] if state else g
        moved = [w - (x if lr_inside else hyper.lr * x) for w, x in zip(weights, v)]
        moved = [w.astype(out or kind) for w, kind in zip(moved, given)]
        return moved, {"v": v}

    return train_step


def rsam_subtracts(weights, loss_and_grad, state, hyper):
    rng = state.get("rng") or np.random.default_rng(4)
    noise = [
        hyper.sigma * _row_norms(w) * rng.standard_normal(w.shape).astype(w.dtype) for w in weights
    ]
    for w, d in zip(weights, noise):
        w += d
    g0 = [g.copy() for g in loss_and_grad(weights)[1]]
    for w, d in zip(weights, noise):
        w -= d
    a = [hyper.lam * g + d for g, d in zip(g0, noise)]
    norm = np.sqrt(sum(np.vdot(x, x) for x in a)) + 1e-12
    eps = [hyper.rho * x / norm for x in a]
    for w, e in zip(weights, eps):
        w += e
    g = loss_and_grad(weights)[1]
    v = state.get("v", [np.zeros_like(w) for w in weights])
    for w, e in zip(weights, eps):
        w -= e
    v = [hyper.momentum * o + x + hyper.weight_decay * w for o, x, w in zip(v, g, weights)]
    for w, x in zip(weights, v):
        w -= hyper.lr * x
    return weights, {"rng": rng, "v": v}


RIGHT = [
    Right("sam-copies", "function", "sam", sam_copies),
    Right("sam-flat", "function", "sam", sam_flat),
    Right("sam-on-a-vector", "function", "sam", sam_on_a_vector),
    Right("sam-in-place", "function", "sam", sam_in_place),
    Right("sam-reference", "function", "sam", sam_reference),
    Right("sam-object", "function", "sam", SamObject()),
    Right("sam-scaled-norm", "function", "sam", sam_scaled_norm),
    Right("asam-lists", "function", "asam", asam_lists),
    Right("asam-on-a-vector", "function", "asam", asam_on_a_vector),
    Right("asam-reference", "function", "asam", asam_reference),
    Right("asam-in-place", "function", "asam", asam_in_place),
    Right("rsam-generator-in-state", "function", "rsam", rsam_generator_in_state),
    Right("rsam-global-generator", "function", "rsam", rsam_global_generator),
    Right("rsam-reference", "function", "rsam", rsam_reference),
    Right("rsam-seed-per-tensor", "function", "rsam", rsam_seed_per_tensor),
    Right("rsam-legacy-convex", "function", "rsam", rsam_legacy_convex),
]

NOTED = [
    Right("sam-subtracts", "function", "sam", sam_subtracts, ("restore.by-subtraction",)),
    Right("rsam-subtracts", "function", "rsam", rsam_subtracts, ("restore.by-subtraction",)),
    Right("sam-epsilon-1e-8", "function", "sam", _sam_with(epsilon=1e-8), ("precision.epsilon",)),
    Right(
        "sam-no-epsilon-but-guarded",
        "function",
        "sam",
        _sam_with(epsilon=None),
        ("precision.epsilon",),
    ),
    Right(
        "sam-norm-in-float32",
        "function",
        "sam",
        _sam_with(norm_type=np.float32),
        ("precision.low",),
    ),
    Right(
        "sam-in-float32", "function", "sam", _sam_with(compute=np.float32), ("precision.float32",)
    ),
    Right(
        "sam-gives-back-float32",
        "function",
        "sam",
        _sam_with(out=np.float32),
        ("precision.type-changed",),
    ),
    Right(
        "sam-evaluates-once-more",
        "function",
        "sam",
        _sam_with(extra=1),
        ("cost.extra-evaluations",),
    ),
    Right(
        "sam-lr-in-velocity",
        "function",
        "sam",
        _sam_with(lr_inside=True),
        ("update.lr-in-velocity",),
    ),
]

from . import right_arrays, right_handed  # noqa: E402  (after Right)
from .plants import (  # noqa: E402  (on the plants' right step)
    plants_misread,
    plants_more,
    plants_settings,
)

RIGHT += [Right(*row) for row in (*right_arrays.RIGHT, *right_handed.RIGHT)]
RIGHT += [Right(*row) for row in plants_misread.RIGHT_MISREAD]
NOTED += [Right(*row) for row in plants_more.NOTED_MORE]
NOTED += [Right(*row) for row in plants_misread.NOTED_MISREAD]
NOTED += [Right(*row) for row in plants_settings.NOTED_SETTINGS]

try:
    from .plants_loaders import RIGHT as _RIGHT_LOADERS
    from .plants_misread_torch import NOTED as _NOTED_MISREAD
    from .plants_misread_torch import RIGHT as _RIGHT_MISREAD
    from .plants_modes import NOTED as _NOTED_MODES
    from .plants_modes import RIGHT as _RIGHT_MODES
    from .plants_precision import NOTED as _NOTED_PRECISION
    from .plants_precision import RIGHT as _RIGHT_PRECISION
    from .right_torch import NOTED as _NOTED
    from .right_torch import RIGHT as _RIGHT
except ModuleNotFoundError as missing:  # without PyTorch there are the NumPy forms
    if missing.name != "torch":
        raise
else:
    _ROWS = [*_RIGHT, *_RIGHT_MODES, *_RIGHT_MISREAD, *_RIGHT_PRECISION, *_RIGHT_LOADERS]
    RIGHT += [Right(*row) for row in _ROWS]
    _ROWS = [*_NOTED, *_NOTED_MODES, *_NOTED_MISREAD, *_NOTED_PRECISION]
    NOTED += [Right(*row) for row in _ROWS]
