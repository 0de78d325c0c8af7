"""Two parameter groups, each with settings of its own; and one that is added later.

One norm is over all groups; rho, sigma, lam, lr and weight decay are each group's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step.replay import replayed
from rsam_ref.conformance.hypotheses import Hypothesis, choose
from rsam_ref.conformance.observe.observer import BrokenError, Step, watch
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting, SkippedError, cases_of, is_finite
from rsam_ref.conformance.report.report import Finding

STEPS = 4
SECOND = {"rho": 0.4, "sigma": 2.5, "lam": 0.3, "lr": 0.5, "weight_decay": 3.0}
"""What the second group's settings are, in those of the first."""

Vector = np.ndarray


@dataclass
class Groups:
    """Each weight's settings."""

    of: Vector
    """Each weight's group (P,): 0 or 1."""
    values: dict[str, tuple[float, float]]
    """Each setting in both groups; those that its groups do not have are alike."""

    def own(self, name: str) -> Vector:
        return np.array(self.values[name])[self.of]

    def readings(self, name: str, code: str) -> Iterator[tuple[str, tuple[str, ...], Any]]:
        """A setting as each group has it, or one group's for all."""
        yield f"own {name}", (), self.own(name)
        if self.values[name][0] != self.values[name][1]:
            for i, which in enumerate(("first", "last")):
                yield f"the {which} group's {name} for all", (code,), self.values[name][i]


def parameter_groups(s: Setting) -> list[Finding]:
    """Two groups that differ in every setting that its groups have."""
    from rsam_ref.conformance.observe.torch_forms import group_of

    problem = Problem(s.seed)
    names = _names_in_groups(s, problem)
    first, second = _settings_of_both(s, names)
    try:
        subject = s.maker(problem, s.hyper, grouped=[first, second])
    except BrokenError as error:
        raise SkippedError(f"groups are not taken: {error}") from None
    values = {
        name: (
            getattr(s.hyper, name),
            getattr(s.hyper, name) * (SECOND[name] if name in names else 1),
        )
        for name in SECOND
    }
    groups = Groups(group_of(problem), values)
    steps = watch(subject, [s.hyper] * STEPS)
    if not all(map(is_finite, steps)):
        return [Finding("ascent.unknown", {"not finite": "with two parameter groups"})]
    if missing := _missing(steps, groups.of == 1):
        s.one_group = True
        s.need_conformance()
        return [Finding("limits.one-group", {"the second group is never": missing})]
    cases = cases_of(problem, steps)
    if any(len(a.seen.points) != 2 for a in cases):
        raise SkippedError("a step takes another number of gradients than two")
    known = {f.code for f in s.main.findings}
    ascent = any(
        not f.note and f.stage in ("ascent", "algorithm", "noise") for f in s.main.findings
    )
    found = _draws(cases, groups) if s.algorithm == "rsam" and not ascent else []
    found += _ascent(cases, groups, s)
    if s.conforms:
        found += _base_step(subject, cases, groups, s)
    return [f for f in found if f.code not in known]


def _names_in_groups(s: Setting, problem: Problem) -> dict[str, str]:
    """The settings that its groups have, and by which names."""
    from rsam_ref.conformance.observe.construct import ALIASES

    own = getattr(s.maker(problem, s.hyper).optimizer, "param_groups", [])
    names = {
        setting: name
        for setting in SECOND
        for name in ALIASES[setting]
        if any(isinstance(group.get(name), float | int) for group in own)
    }
    if s.algorithm != "rsam":
        names.pop("sigma", None)
        names.pop("lam", None)
    if not names:
        raise SkippedError("its groups have no settings")
    return names


def _settings_of_both(
    s: Setting, names: dict[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    first = {name: getattr(s.hyper, setting) for setting, name in names.items()}
    second = {name: SECOND[setting] * first[name] for setting, name in names.items()}
    return first, second


def _draws(cases: list[Case], groups: Groups) -> list[Finding]:
    """Whether the size of the noise is each group's."""
    own = groups.values["sigma"]
    if own[0] == own[1]:
        return []
    sizes = []
    for group in (0, 1):
        at = groups.of == group
        z = np.concatenate([(a.draw / (a.scale + 1e-300))[at] for a in cases])
        sizes.append(float(np.sqrt(np.mean(z**2))))
    for i, which in enumerate(("first", "last")):
        if all(abs(size / own[i] - 1) < 0.1 for size in sizes):
            evidence = {"sigma seen in each group": [round(v, 4) for v in sizes]}
            evidence |= {"as in": f"the {which} group", "set to": list(own)}  # type: ignore[dict-item]
            return [Finding("noise.one-sigma-for-all-groups", evidence)]
    return []


Norm = Callable[[Vector], Any]


def _norms(groups: Groups) -> Iterator[tuple[str, tuple[str, ...], Norm]]:
    """What a direction is divided by: its length over both groups, or over one."""

    def within(v: Vector, group: int) -> float:
        return float(np.linalg.norm(v[groups.of == group]))

    yield "||all||", (), lambda v: float(np.linalg.norm(v))
    code = ("ascent.norm-per-group",)
    yield "||each group||", code, lambda v: np.array([within(v, 0), within(v, 1)])[groups.of]
    yield "||first group||", code, lambda v: within(v, 0)
    yield "||last group||", code, lambda v: within(v, 1)
    yield (
        "the sum of the groups' norms",
        ("ascent.sum-of-norms",),
        lambda v: within(v, 0) + within(v, 1),
    )


def _ascent(cases: list[Case], groups: Groups, s: Setting) -> list[Finding]:
    """Which reading of rho, lam and the norm gives the eps of all steps."""
    lams: list[tuple[str, tuple[str, ...], Any]] = [("", (), 1.0)]
    if s.algorithm == "rsam":
        lams = list(groups.readings("lam", "direction.one-lam-for-all-groups"))
    hypotheses = []
    for lam_label, lam_codes, lam in lams:
        for norm_label, norm_codes, norm in _norms(groups):
            for rho_label, rho_codes, rho in groups.readings(
                "rho", "ascent.one-rho-for-all-groups"
            ):

                def predict(a: Case, lam: Any = lam, norm: Norm = norm, rho: Any = rho) -> Vector:
                    if s.algorithm == "asam":
                        return rho * a.reach**2 * a.first / (norm(a.reach * a.first) + 1e-12)
                    along = lam * a.first + (a.draw if s.algorithm == "rsam" else 0.0)
                    return rho * along / (norm(along) + 1e-12)

                codes = (*lam_codes, *norm_codes, *rho_codes)
                label = ", ".join(x for x in (lam_label, norm_label, rho_label) if x)
                hypotheses.append(Hypothesis(codes, predict, label))
    verdict = choose(
        hypotheses,
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        s.ascent_tolerance,
    )
    if verdict.best is not None:
        return [
            Finding(code, {"explanation": verdict.best.label, **verdict.evidence()})
            for code in verdict.best.codes
        ]
    reading = any(f.code == "ascent.asam-reading" for f in s.main.findings)
    if reading or not s.conforms:
        return []
    return [Finding("ascent.unknown", {"with": "two parameter groups", **verdict.evidence()})]


def _base_step(subject: Any, cases: list[Case], groups: Groups, s: Setting) -> list[Finding]:
    """Which reading of lr and weight decay tells where the weights went."""
    rates = list(groups.readings("lr", "update.one-lr-for-all-groups"))
    decays = list(groups.readings("weight_decay", "update.one-decay-for-all-groups"))
    hypotheses = []
    for lr_label, lr_codes, lr in rates:
        for wd_label, wd_codes, wd in decays:
            ends = _sgd(cases, lr, wd, s.hyper.momentum)
            hypotheses.append(
                _landing((*lr_codes, *wd_codes), f"{lr_label}, {wd_label}", ends, cases)
            )
    base = cases[0].seen.base.base
    if base is not None:
        settings = [a.seen.base.settings for a in cases]
        codes = _settings_codes(subject, groups, rates, decays)
        try:
            gradients = [a.seen.gradient(-1) for a in cases]
            ends = replayed(base, [a.w for a in cases], gradients, settings)
        except Exception:  # a base that wants more than gradients
            ends = []
        if ends:
            hypotheses.append(_landing(codes, "its base", ends, cases))
    verdict = choose(
        hypotheses,
        cases,
        lambda a: a.seen.after,
        lambda a: float(np.linalg.norm(a.seen.after - a.w)),
        s.main.tolerance,
    )
    if verdict.best is not None:
        evidence = {"explanation": verdict.best.label, **verdict.evidence()}
        return [Finding(code, evidence) for code in verdict.best.codes]
    plain = s.main.update is not None and s.main.update.best is not None
    if plain and not s.main.update.best.codes and base is None:  # type: ignore[union-attr]
        return [Finding("update.unknown", {"with": "two parameter groups", **verdict.evidence()})]
    return []


def _landing(
    codes: tuple[str, ...], label: str, ends: list[Vector], cases: list[Case]
) -> Hypothesis:
    number = {id(a): t for t, a in enumerate(cases)}
    return Hypothesis(codes, lambda a: ends[number[id(a)]], label)


def _sgd(cases: list[Case], lr: Any, decay: Any, momentum: float) -> list[Vector]:
    """Where SGD ends in every step."""
    velocity = np.zeros_like(cases[0].w)
    ends = []
    for a in cases:
        velocity = momentum * velocity + a.seen.gradient(-1) + decay * a.w
        ends.append(a.w - lr * velocity)
    return ends


def _settings_codes(subject: Any, groups: Groups, rates: Any, decays: Any) -> tuple[str, ...]:
    """What is wrong with the settings that the base's own groups have."""
    own = {id(p): i for i, members in enumerate(subject.members()) for p in members}
    codes = []
    for name, readings in (("lr", rates), ("weight_decay", decays)):
        if len(readings) < 2:
            continue
        seen = [set(), set()]  # type: list[set[float]]
        for group in subject.base_seen.optimizer.param_groups:
            for p in group["params"]:
                if id(p) in own and name in group:
                    seen[own[id(p)]].add(float(group[name]))
        if seen[0] and seen[0] == seen[1]:
            codes.append(readings[1][1][0])
    return tuple(codes)


def added_group(s: Setting) -> list[Finding]:
    """A group that is added between two steps is perturbed and stepped like the others."""
    from rsam_ref.conformance.observe.torch_forms import group_of

    s.need_conformance()
    if s.one_group:
        raise SkippedError("only the first group is treated")
    problem = Problem(s.seed)
    names = _names_in_groups(s, problem)
    first, second = _settings_of_both(s, names)
    try:
        subject = s.maker(problem, s.hyper, grouped=[first])
        watch(subject, [s.hyper])
        subject.optimizer.add_param_group({"params": subject.members()[1], **second})
        steps = watch(subject, [s.hyper] * 2, 1)
    except BrokenError as error:
        raise SkippedError(f"a group cannot be added: {error}") from None
    except Exception as error:
        raise SkippedError(f"a group cannot be added: {type(error).__name__}: {error}") from None
    if not all(map(is_finite, steps)):
        return [Finding("limits.added-group", {"not finite": "after a group was added"})]
    missing = _missing(steps, group_of(problem) == 1)
    return [Finding("limits.added-group", {"it is never": missing})] if missing else []


def _missing(steps: list[Step], group: Vector) -> str:
    """What is never done to a group's weights: "perturbed", "stepped", or both."""
    missing = []
    if all(
        np.array_equal(e.at[group], step.before[group]) for step in steps for e in step.evaluations
    ):
        missing.append("perturbed")
    if all(np.array_equal(step.after[group], step.before[group]) for step in steps):
        missing.append("stepped")
    return " nor ".join(missing)
