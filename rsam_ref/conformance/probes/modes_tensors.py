"""Every tensor of the network with norm layers and shared weights: drawn, perturbed, put back?

The step is right on the main run's network. So what departs here departs in some tensors, and they
are named.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.base_step.replay import replayed
from rsam_ref.conformance.probes.setting import Setting
from rsam_ref.conformance.report.report import Finding

NO_GRADIENT = 1e-6
LOOKED_AT = 4
"""So many steps are judged: a shared weight that is stepped twice shows in the first."""


def judge_tensors(run: Any, seen: list[Any], s: Setting) -> list[Finding]:
    steps = [a for a in seen[:LOOKED_AT] if len(a.passes) == 2]
    if len(steps) < LOOKED_AT or any(f.code == "ascent.asam-reading" for f in s.main.findings):
        return []
    limit = max(1e-6, 10 * s.main.tolerance)
    first = [run.gradient(a.passes[0], a.number) for a in steps]
    last = [run.gradient(a.passes[1], a.number) for a in steps]
    return [
        *_draws(run, steps, s),
        *_ascent(run, steps, first, s, limit),
        *(_base_step(run, steps, last, limit) if _plain(s) else []),
    ]


def norms_alone(run: Any, seen: list[Any]) -> bool:
    """Whether nothing but norm layers is perturbed, in every step."""
    steps = [a for a in seen if len(a.passes) == 2]
    offsets = [a.passes[1].at - a.w for a in steps]
    perturbed = [name for name, at in run.per_tensor() if any(eps[at].any() for eps in offsets)]
    norms = [name for name in perturbed if _of_a_norm_layer(name)]
    return bool(perturbed) and perturbed == norms and len(steps) == len(seen)


def _of_a_norm_layer(name: str) -> bool:
    return name.partition(".")[0] in ("norm", "layer_norm")


def _plain(s: Setting) -> bool:
    """Whether the main run's base step is the usual one: its own base or SGD, nothing besides."""
    update = s.main.update
    return update is not None and update.best is not None and not update.best.codes


def _named(names: list[str]) -> str:
    """Tensors in words."""
    kinds = {"norm": "batch norm's", "layer_norm": "layer norm's", "one": "the shared layer's"}
    words = []
    for name in names:
        layer, _, part = name.partition(".")
        words.append(f"{kinds[layer]} {part}" if layer in kinds else name)
    return ", ".join(words)


def _draws(run: Any, steps: list[Any], s: Setting) -> list[Finding]:
    """R-SAM: tensors that get no noise, where others get some."""
    if s.algorithm != "rsam":
        return []
    a = steps[0]
    draw = a.passes[0].at - a.w
    without = [name for name, at in run.per_tensor() if not draw[at].any()]
    if draw.any() and without:
        return [Finding("noise.tensor-left-out", {"without noise": _named(without)})]
    return []


def _ascent(
    run: Any, steps: list[Any], first: list[np.ndarray], s: Setting, limit: float
) -> list[Finding]:
    """Tensors whose eps is not the algorithm's."""
    wrong: set[str] = set()
    none: set[str] = set()
    shares: dict[str, float] = {}
    twice: list[bool] = []
    for a, g in zip(steps, first):
        draw, eps = a.passes[0].at - a.w, a.passes[1].at - a.w
        along = measured = g
        if s.algorithm == "rsam":
            along = measured = a.hyper.lam * g + draw
        elif s.algorithm == "asam":
            reach = np.abs(a.w) + a.hyper.eta
            along, measured = reach**2 * g, reach * g
        wanted = a.hyper.rho * along / (np.linalg.norm(measured) + 1e-12)
        factor = _shared_factor(run, eps, wanted)
        twice.append(_norm_counts_twice(run, measured, factor, limit))
        wanted = wanted * factor
        for name, at in run.per_tensor():
            size = float(np.linalg.norm(wanted[at]))
            if size < 1e-6 * float(np.linalg.norm(wanted)):
                continue
            if np.linalg.norm(eps[at]) < 1e-9 * size:
                none.add(name)
            elif np.linalg.norm(eps[at] - wanted[at]) > limit * size:
                wrong.add(name)
                shares.setdefault(name, float(eps[at] @ wanted[at]) / size**2)
    if none:
        norms = all(_of_a_norm_layer(name) for name in none)
        code = "ascent.norm-layers-left-out" if norms else "ascent.tensor-left-out"
        return [Finding(code, {"not perturbed": _named(sorted(none))})]
    if wrong == {SHARED} and abs(shares[SHARED] - 2) < limit:
        return [Finding("ascent.shared-twice", {"eps / the algorithm's there": shares[SHARED]})]
    if not wrong and all(twice):
        return [Finding("ascent.shared-twice", {"it is counted twice in": "the norm"})]
    if wrong:
        evidence: dict[str, Any] = {"eps departs in": _named(sorted(wrong))}
        if len(wrong) < len(run.names):
            evidence["eps / the algorithm's there"] = [round(v, 4) for v in shares.values()]
        return [Finding("ascent.unknown", evidence)]
    return []


SHARED = "one.weight"
"""The weight that two layers share."""


def _norm_counts_twice(run: Any, measured: np.ndarray, factor: float, limit: float) -> bool:
    """Whether the norm that divides, with the shared weight in it twice, explains the radius."""
    shared = next(at for name, at in run.per_tensor() if name == SHARED)
    size = float(np.linalg.norm(measured))
    too_large = float(np.hypot(size, np.linalg.norm(measured[shared]))) / (size + 1e-300)
    return abs(factor * too_large - 1) < limit < 0.1 * abs(factor - 1)


def _shared_factor(run: Any, eps: np.ndarray, wanted: np.ndarray) -> float:
    """What most tensors have in common: the radius is the main run's affair."""
    shares = [
        float(eps[at] @ wanted[at]) / float(wanted[at] @ wanted[at])
        for _, at in run.per_tensor()
        if wanted[at].any()
    ]
    return float(np.median(shares)) or 1.0


def _base_step(run: Any, steps: list[Any], last: list[np.ndarray], limit: float) -> list[Finding]:
    """Tensors that do not end where the base step from w with g ends; the others do."""
    ends = _ends(run, steps, last)
    kept: set[str] = set()
    left: set[str] = set()
    other: dict[str, float] = {}
    right: set[str] = set(run.names)
    flat = {  # a bias before batch norm: rounding, which RMSprop and sign steps make large
        name
        for g in last
        for name, at in run.per_tensor()
        if np.linalg.norm(g[at]) < NO_GRADIENT * np.linalg.norm(g)
    }
    for a, end in zip(steps, ends):
        eps = a.passes[1].at - a.w
        for name, at in run.per_tensor():
            if name in flat:
                continue
            size = float(np.linalg.norm(end[at] - a.w[at])) + 1e-12
            error = float(np.linalg.norm(a.after[at] - end[at]))
            if error <= limit * size:
                continue
            right.discard(name)
            if np.array_equal(a.after[at], a.w[at]):
                left.add(name)
            elif np.linalg.norm(a.after[at] - end[at] - eps[at]) < 0.05 * np.linalg.norm(eps[at]):
                kept.add(name)
            else:
                moved = a.after[at] - a.w[at]
                other.setdefault(name, float(moved @ (end[at] - a.w[at])) / size**2)
    if not right:
        return []  # no tensor is understood: its base step is not known here
    if kept:
        return [Finding("restore.partly", {"not restored": _named(sorted(kept))})]
    if left:
        return [Finding("update.tensor-left-out", {"never moved": _named(sorted(left))})]
    if other:
        evidence = {
            "departs in": _named(sorted(other)),
            "moves by that part of the base step": [round(v, 4) for v in other.values()],
        }
        return [Finding("update.unknown", evidence)]
    return []


def _ends(run: Any, steps: list[Any], last: list[np.ndarray]) -> list[np.ndarray]:
    """Where its own base, replayed, ends in every step; without one, SGD."""
    base = steps[0].base.base
    if base is not None:
        try:
            return replayed(base, [a.w for a in steps], last, [a.base.settings for a in steps])
        except Exception:  # a base that wants more than gradients
            return [np.full_like(a.w, np.nan) for a in steps]
    ends, velocity = [], np.zeros_like(steps[0].w)
    for a, g in zip(steps, last):
        velocity = a.hyper.momentum * velocity + g + a.hyper.weight_decay * a.w
        ends.append(a.w - a.hyper.lr * velocity)
    return ends
