"""Random numbers in eps that no gradient was taken at: a second draw, a late one, mere noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm

Found = tuple[str, dict[str, Any]]

DIMENSIONS = 8.0
"""A cosine times the root of the number of weights: that of independent vectors is below this."""


def hidden_draw(cases: list[Case], noisy: bool) -> Found | None:
    """Whether eps holds a draw of R-SAM's size that is not in the first gradient."""
    if all(_draw_inside(a) for a in cases):
        code = "direction.fresh-draw" if noisy else "direction.gradient-at-w"
        return code, {"the unseen draw": "as large as sigma s"}
    left = [a.eps - a.draw - a.hyper.rho * a.own / norm(a.own) for a in cases] if noisy else []
    if left and all(_is_noise(v / (a.hyper.sigma * a.scale)) for a, v in zip(cases, left)):
        return "noise.not-removed", {"what is taken away": "another draw than the one added"}
    after = [a.eps - a.hyper.rho * a.first / norm(a.first) for a in cases]
    if all(_is_noise(v / (a.hyper.sigma * a.scale)) for a, v in zip(cases, after)):
        ratios = [_rms(v / (a.hyper.sigma * a.scale)) for a, v in zip(cases, after)]
        mean = float(np.mean(ratios))
        return "noise.added-after-ascent", {"size of the unseen draw / (sigma s)": mean}
    return None


def _draw_inside(a: Case) -> bool:
    """Whether eps = c (lam g0 + D') with a draw D' of the size of sigma s.

    c is unknown: it may be one that gives D' that size, or one that leaves it across g0. Then D'
    must look like a draw otherwise.
    """
    if abs(norm(a.eps) / a.hyper.rho - 1) > 1e-4:
        return False
    size = a.hyper.sigma * a.scale
    e, g = a.eps / size, a.hyper.lam * a.first / size
    squared, both, rest = float(e @ e), float(e @ g), float(g @ g) - e.size
    root = np.sqrt(max(both * both - squared * rest, 0.0))
    for x in (float(g @ g) / (both or 1e-300), (both + root) / squared, (both - root) / squared):
        z = x * e - g
        if x > 0 and _is_noise(z) and abs(z @ g) < DIMENSIONS * norm(g):
            return True
    return False


def random_perturbation(cases: list[Case]) -> dict[str, Any] | None:
    """Whether eps is random, unrelated to the gradient: by filter, or of one size everywhere."""
    for a in cases:
        cosine = float(a.eps @ a.first) / (norm(a.eps) * norm(a.first))
        if abs(cosine) * np.sqrt(a.eps.size) > DIMENSIONS:
            return None
    for scaled, label in ((True, "times the filter's norm"), (False, "everywhere")):
        z = [a.eps / a.scale if scaled else a.eps for a in cases]
        if all(_is_noise(v / _rms(v)) for v in z):
            return {f"size of the noise, {label}": [round(_rms(v), 6) for v in z]}
    return None


def bayesian(cases: list[Case]) -> dict[str, Any] | None:
    """Whether eps = rho g0 / s weight by weight, and D is Gaussian with the variance 1 / s up to a
    constant: Bayesian SAM. Its eps may be added to w + D.
    """
    for from_noise, place in ((False, "w"), (True, "w + D")):
        sizes = [_as_bayesian(a, a.eps - a.draw if from_noise else a.eps) for a in cases]
        if all(sizes):
            return {
                "eps": "rho g0 / s for every weight",
                "it is added to": place,
                "root of s times the noise": sizes,
            }
    return None


def _as_bayesian(a: Case, eps: Vector) -> float | None:
    """The root of s times the noise, if this is Bayesian SAM's eps."""
    known = np.abs(a.first) > 1e-3 * np.abs(a.first).mean()
    precision = a.first[known] / np.where(eps[known] == 0, np.nan, eps[known])
    if not (precision > 0).all():
        return None
    z = a.draw[known] * np.sqrt(precision)
    middle = np.median(precision)
    parts = (
        [_rms(z[precision <= middle]), _rms(z[precision > middle])]
        if np.ptp(precision) > 1e-6 * middle
        else [1.0]
    )
    if not _is_noise(z / _rms(z)) or max(parts) > 1.15 * min(parts):
        return None
    return round(_rms(z), 6)


def noisy_gradient(cases: list[Case]) -> dict[str, Any] | None:
    """Whether eps points along g0 and noise of one size everywhere."""
    shares = []
    for a in cases:
        along = float(a.eps @ a.first) / float(a.first @ a.first)
        rest = a.eps - along * a.first
        if along <= 0 or not _is_noise(rest / _rms(rest)) or not _even(a, rest):
            return None
        shares.append(round(norm(rest) / (along * norm(a.first)), 4))
    return {"||noise|| / ||g0||": shares}


def _rms(v: Vector) -> float:
    return float(np.sqrt(np.mean(v * v))) + 1e-300


def _is_noise(z: Vector) -> bool:
    """Whether z may be many numbers from N(0, 1)."""
    kurtosis = float(np.mean(z**4) / np.mean(z**2) ** 2)
    return abs(np.log(_rms(z))) < 0.15 and abs(kurtosis - 3) < 0.7


def _even(a: Case, v: Vector) -> bool:
    """Whether v is about as large in all tensors of some size."""
    sizes = [_rms(v[at]) for at in a.problem.slices if at.stop - at.start > 100]
    return max(sizes) < 1.4 * min(sizes)
