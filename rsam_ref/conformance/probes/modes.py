"""A run on a network with batch norm, dropout, layer norm and shared weights: 24 steps.

What an optimizer's own `step(closure)` or halves are driven with is the check's own loop: its
passes' modes are not the optimizer's doing. There only what the optimizer itself does to the model
can be a finding. A training step owns both passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.observe.forms import OWN_PASSES
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.problem import Hyper
from rsam_ref.conformance.probes.modes_tensors import judge_tensors, norms_alone
from rsam_ref.conformance.probes.setting import Setting, SkippedError
from rsam_ref.conformance.report.report import Finding

STEPS = 24
CLOSE = 1e-3
NO_ASCENT = ("algorithm.base-optimizer", "ascent.missing")
"""What the main run calls a step that does not leave w: its network has no norm layers."""


def modes(s: Setting) -> list[Finding]:
    """Modes, statistics and masks in every step and at its end; every tensor in the first steps."""
    from rsam_ref.conformance.observe.modes import Modes

    hyper = s.hyper.but(lr=0.25 * s.hyper.lr, rho=0.25 * s.hyper.rho)
    try:
        run = Modes(s.maker, s.seed, hyper)
        seen = [run.step(number, hyper) for number in range(STEPS)]
    except BrokenError as error:
        raise SkippedError(f"not run on the network with batch norm: {error}") from None
    owns = s.maker.form in OWN_PASSES
    found = [*_left(seen), *_eval(seen)]
    found += _statistics(seen, owns, {f.code for f in found})
    found += _masks(seen, owns)
    if s.conforms and not found_eval(found):
        found += judge_tensors(run, seen, s)
    without = any(f.code in NO_ASCENT for f in s.main.findings)
    if without and norms_alone(run, seen):
        found.append(Finding("ascent.norm-layers-only", {"perturbed in": "norm layers"}))
    return found


def perturbs_norms_alone(maker: Any, seed: int, hyper: Hyper) -> bool:
    """Whether what cannot run on the main run's network runs on this one, and why."""
    from rsam_ref.conformance.observe.modes import Modes

    try:
        run = Modes(maker, seed, hyper)
        return norms_alone(run, [run.step(0, hyper)])
    except Exception:  # whatever the implementation raises here as well
        return False


def found_eval(found: list[Finding]) -> bool:
    return any(f.code in ("contract.eval-in-pass", "contract.eval-left-on") for f in found)


def _left(seen: list[Any]) -> list[Finding]:
    """What a step leaves behind in the model: eval mode, another momentum."""
    found = []
    for a in seen:
        if a.ends_in_eval and not a.begins_in_eval:
            evidence = {"in eval mode": " and ".join(a.ends_in_eval), "after step": a.number + 1}
            found.append(Finding("contract.eval-left-on", evidence))
            break
    for a in seen:
        if a.momentum_after != a.momentum_before:
            if a.momentum_after:  # 0 is told by the statistics that stand still
                evidence = {"before": a.momentum_before, "after": a.momentum_after}
                found.append(Finding("batch-norm.momentum-left", evidence))
            break
    return found


def _eval(seen: list[Any]) -> list[Finding]:
    """Gradients that are taken in eval mode, in steps that began in training mode."""
    names = ["first", "second", "third"]
    for a in seen:
        if a.begins_in_eval:
            return []
        which = [(names[i] if i < 3 else "last", p) for i, p in enumerate(a.passes) if p.in_eval]
        if which:
            evidence = {
                "pass": " and ".join(name for name, _ in which),
                "in eval mode": " and ".join(which[0][1].in_eval),
                "in step": a.number + 1,
            }
            return [Finding("contract.eval-in-pass", evidence)]
    return []


def _statistics(seen: list[Any], owns: bool, told: set[str]) -> list[Finding]:
    """Which passes move the running mean, step by step."""
    codes = {"none": "batch-norm.frozen", "second": "batch-norm.moved-by-second-pass"}
    if owns:
        codes |= {"both": "batch-norm.moved-twice", "other": "batch-norm.moved-twice"}
    for a in seen:
        if a.begins_in_eval or not a.passes or all(p.in_eval for p in a.passes):
            return []
        by = _moved_by(a)
        if by not in codes or (by == "both" and len(a.passes) < 2):
            continue
        words = {"none": "no pass", "second": "second", "both": "first and second"}
        evidence = {"moved by": words.get(by, "passes that cannot be told")}
        if a.number:
            evidence["from step"] = a.number + 1
        if by == "none" and a.momentum_before == 0:
            evidence["batch norm's momentum"] = "left at 0 by the step before"
        return [Finding(codes[by], evidence)]
    return []


def _moved_by(a: Any) -> str:
    """The passes that explain where the running mean went: "first", "second", "both", "none"."""
    from rsam_ref.conformance.observe.modes import RATE

    rate = a.momentum_before or RATE

    def moved(looks: list[Any]) -> np.ndarray:
        mean = a.mean_before
        for look in looks:
            if look.training["batch norm"]:
                mean = (1 - rate) * mean + rate * look.mean.double().numpy()
        return mean

    # where each part of the mini-batch has its own ascent, several passes are at the first place
    start = a.passes[0].at
    first = [look for p in a.passes if np.array_equal(p.at, start) for look in p.looks]
    others = [look for p in a.passes if not np.array_equal(p.at, start) for look in p.looks]
    passes = [look for p in a.passes for look in p.looks]
    ends = {"first": moved(first), "none": a.mean_before}
    if len(a.passes) > 1:
        ends |= {
            "second": moved(a.passes[-1].looks),
            "seconds": moved(others),
            "both": moved(passes),
        }
    size = float(np.linalg.norm(rate * (first[0].mean.double().numpy() - a.mean_before)))
    errors = {name: float(np.linalg.norm(a.mean_after - end)) for name, end in ends.items()}
    best = min(errors, key=lambda name: errors[name])
    return best.removesuffix("s") if errors[best] < CLOSE * size else "other"


def _masks(seen: list[Any], owns: bool) -> list[Finding]:
    """Whether a row of the mini-batch has one mask of dropout in all passes of a step."""
    for a in seen:
        if len(a.passes) < 2 or any(p.in_eval for p in a.passes):
            continue
        first, last = a.passes[0], a.passes[-1]
        rows = sorted({row for look in first.looks for row in look.rows})
        pairs = [(first.mask_of(row), last.mask_of(row)) for row in rows]
        differ = [bool((x != y).any()) for x, y in pairs if x is not None and y is not None]
        if not any(differ):
            continue
        evidence = {"rows with another mask in the second pass": f"{sum(differ)} of {len(differ)}"}
        if last.looks[0].generator_set > first.looks[-1].generator_set:
            return [Finding("dropout.restored-wrongly", evidence)]
        return [Finding("dropout.masks-differ", evidence)] if owns else []
    return []
