"""Other types than float64: kept, and not overflowing in half precision."""

from __future__ import annotations

import math

import numpy as np

from rsam_ref.conformance.observe.observer import BrokenError, Seen, Step, watch
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting, SkippedError
from rsam_ref.conformance.report.report import Finding


def kept_types(s: Setting) -> list[Finding]:
    """The weights keep their type, float32 or float64."""
    for dtype in ("float32", "float64"):
        subject = s.maker(Problem(s.seed), s.hyper, dtype=dtype)
        subject.step(0, s.hyper, Step(0, s.hyper, subject.weights()))
        parts = getattr(subject, "parts", None)
        if isinstance(parts, list) and any(part.dtype != dtype for part in parts):
            evidence = {"given": dtype, "got": str(parts[0].dtype)}
            return [Finding("precision.type-changed", evidence)]
    return []


def half_precision(s: Setting) -> list[Finding]:
    """In float16 a gradient of length 1,000 has a square that float16 cannot hold."""
    s.need_conformance()
    problem = Problem(s.seed, 400.0)
    try:
        step = watch(s.maker(problem, s.hyper, dtype="float16"), [s.hyper])[0]
    except BrokenError:
        raise
    except Exception as error:
        raise SkippedError(f"float16 is not taken: {type(error).__name__}: {error}") from None
    seen = Seen(problem, step)
    seen.forget_looks()
    eps = seen.last - step.before
    length = float(np.linalg.norm(eps))
    wanted = s.hyper.rho
    if s.algorithm == "asam":
        wanted = wanted * float(np.median(np.abs(step.before)))  # of that order
    low, high = (0.05, 100.0) if s.algorithm == "asam" else (0.7, 1.4)
    if not math.isfinite(length) or not low < length / wanted < high:
        return [Finding("precision.float16-overflow", {"||eps|| / rho": length / s.hyper.rho})]
    return []
