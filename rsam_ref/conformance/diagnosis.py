"""From what was seen of a run to findings, stage by stage.

Each stage is judged with what was observed of the stages before it, not with what they should have
given: so two mistakes are two findings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent import judge as perturbation
from rsam_ref.conformance.ascent import relatives
from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.ascent.hidden import DIMENSIONS
from rsam_ref.conformance.ascent.in_steps import judge_by_step as ascent_by_step
from rsam_ref.conformance.ascent.masks import describe_tensors
from rsam_ref.conformance.ascent.others import judge_others
from rsam_ref.conformance.ascent.several import several_steps
from rsam_ref.conformance.base_step import judge as base_step
from rsam_ref.conformance.base_step.in_steps import UNKNOWN, judge_by_step
from rsam_ref.conformance.family import CODES, SLIPS, Known, explained, recognise
from rsam_ref.conformance.family import EXACT as RULE_EXACT
from rsam_ref.conformance.hypotheses import EXACT, Verdict
from rsam_ref.conformance.observe.observer import AT_W, BrokenError, Seen, Step, resolution
from rsam_ref.conformance.observe.problem import BATCH, Problem
from rsam_ref.conformance.report.report import Finding


@dataclass
class Diagnosis:
    """What a run was recognised as, and what is wrong with it."""

    algorithm: str | None
    findings: list[Finding]
    cases: list[Case] = field(default_factory=list)
    update: Verdict | None = None
    single: bool = False
    """Whether the weights are kept in float32."""
    tolerance: float = EXACT
    known: Known | None = None
    """The relative of SAM that explains the run, where one does."""


def diagnose(
    problem: Problem, steps: list[Step], asked: str, like: Diagnosis | None = None
) -> Diagnosis:
    """Judge the steps of a run as ``asked`` ("sam", "asam" or "rsam").

    ``like`` is another run, found right, that this one should be like.
    """
    return _Diagnosing(problem, steps, asked, like).carry_out()


class _Diagnosing:
    def __init__(
        self, problem: Problem, steps: list[Step], asked: str, like: Diagnosis | None = None
    ) -> None:
        for step in steps:
            _check_finite(step)
        self.problem = problem
        self.asked = asked
        self.like = like
        self.seen = [Seen(problem, step) for step in steps]
        self.single = resolution(steps) > 2.0**-40
        self.tolerance = 1e-3 if self.single else EXACT
        self.findings: list[Finding] = []
        self.algorithm: str | None = asked
        self.known: Known | None = None
        self.relatives: list[Known] | None = None
        """Those whose rules ask where the run did, once they have been looked for."""
        self.update: Verdict | None = None

    def add(self, code: str, evidence: dict[str, Any] | None = None) -> None:
        if all(f.code != code for f in self.findings):
            self.findings.append(Finding(code, evidence or {}))

    def add_verdict(self, verdict: Verdict) -> None:
        if verdict.best is not None:
            for code in verdict.best.codes:
                self.add(code, verdict.evidence())
            if verdict.low_precision and not self.single:
                self.add("precision.low", {"error": verdict.error})

    def carry_out(self) -> Diagnosis:
        parted = self._parts()
        self._evaluations(parted)
        counts = [len(seen.points) for seen in self.seen]
        cases: list[Case] = []
        for seen in self.seen:
            cases.append(Case(self.problem, seen, cases[-1] if cases else None))
        noisy = any(a.draw.any() for a in cases)
        if parted or (self.like is None and self._is_relative(cases)):
            pass
        elif min(counts) < max(counts):
            self._now_and_then(counts, cases)
        elif max(counts) == 1:
            self._one_gradient(cases)
        elif max(counts) > 2:
            self._many_gradients(cases, noisy)
        elif self._no_ascent(cases) or self._older_weights(cases):
            pass
        else:
            if noisy:
                self._draws(cases)
            self._ascent(cases, noisy)
        update = self._update(cases) if self.update is None else self.update
        if self.asked == "rsam" and not noisy and min(counts) > 1:
            self._undrawn()
        if not parted and self.known is None and self.like is None and self._diverges():
            update = self._as_relative(cases) or update
        self._name()
        return Diagnosis(
            self.algorithm,
            self.findings,
            cases,
            update,
            self.single,
            self.tolerance,
            self.known,
        )

    def _diverges(self) -> bool:
        return any(not f.note for f in self.findings)

    def _parts(self) -> bool:
        """Whether each part of the mini-batch has its own ascent: their mean is the gradient."""
        parts = relatives.take_parts_together(self.seen) if self.asked != "rsam" else None
        if parts is not None:
            self.add("algorithm.m-sam", {"parts of the mini-batch": parts})
        return parts is not None

    def _evaluations(self, parted: bool) -> None:
        if any(not seen.points for seen in self.seen):
            number = next(seen.number for seen in self.seen if not seen.points)
            raise BrokenError(f"step {number + 1} never asked for a gradient")
        most = max(len(seen.points) for seen in self.seen)  # the others may need fewer
        repeated = sum(seen.repeated for seen in self.seen if len(seen.points) == most)
        if repeated:
            self.add("cost.extra-evaluations", {"repeated evaluations": repeated})
        looks: dict[str, int] = {}
        for seen in self.seen:
            for kind, count in seen.forget_looks().items():
                looks[kind] = looks.get(kind, 0) + count
        for seen in [] if parted else self.seen:
            others = [batch for batch, _ in seen.batches if batch != seen.number]
            parts = [rows for _, rows in seen.batches]
            if others:
                evidence = {"step": seen.number + 1, "the batch of step": others[0] + 1}
                self.add("update.other-batch", evidence)
            elif len(set(parts)) > 1:
                samples = [BATCH if rows is None else len(rows) for rows in parts]
                self.add("update.other-batch", {"samples in each pass": samples})
        if self.asked == "rsam" and (count := sum(seen.forget_looks_at_w() for seen in self.seen)):
            looks[AT_W] = looks.get(AT_W, 0) + count
        if looks:
            self.add("cost.extra-evaluations", looks)

    def _no_ascent(self, cases: list[Case]) -> bool:
        """Whether both points are one and the same place up to rounding: no ascent."""
        if all(np.linalg.norm(a.eps) < 1e-9 * np.linalg.norm(a.w) for a in cases):
            if any(a.draw.any() for a in cases):
                self.add("algorithm.rwp", {"the gradients are taken": "at w + D, then at w"})
                return True
            self.add("ascent.missing", {"||eps||": 0.0})
            return True
        return False

    def _older_weights(self, cases: list[Case]) -> bool:
        """Whether the first gradient is taken at the weights of the step before."""
        if len(cases) < 3 or not all(
            a.before is not None and a.draw.any() and np.array_equal(a.seen.points[0], a.before.w)
            for a in cases[1:]
        ):
            return False
        self.algorithm = None
        self.add("ascent.stale-weights", {"the first gradient is taken at": "the last step's w"})
        return True

    def _now_and_then(self, counts: list[int], cases: list[Case]) -> None:
        if found := relatives.memory_alone(cases):
            self.algorithm = None
            self.add(*found)
            return
        evidence: dict[str, Any] = {"gradients in each step": ", ".join(map(str, counts))}
        again = max(counts) in counts[1:]
        period = counts[1:].index(max(counts)) + 1 if again else len(counts)
        regular = all((count == max(counts)) == (t % period == 0) for t, count in enumerate(counts))
        evidence["period"] = period if again else f"at least {period}: so many steps were seen"
        self.algorithm = None
        if not regular:
            del evidence["period"]
        elif (look := self._reuses_the_ascent(cases)) is not None:
            self.algorithm = "looksam"
            self.add("algorithm.looksam", {**evidence, "form": look})
            return
        self.add("ascent.skipped", evidence)

    def _reuses_the_ascent(self, cases: list[Case]) -> str | None:
        """The form of LookSAM by which steps with one gradient use more than that gradient.

        None where they use that gradient alone.
        """
        plain = base_step.judge(cases, self.tolerance).best
        look = base_step.judge_relatives(cases, relatives.looksam, self.tolerance).best
        if look is not None and (plain is None or plain.codes):
            return look.label
        return "not known" if plain is None else None

    def _one_gradient(self, cases: list[Case]) -> None:
        draws = [a.eps for a in cases]
        if not any(d.any() for d in draws):
            self.algorithm = "base-optimizer"
            self.add("algorithm.base-optimizer", {"gradients a step": 1})
            return
        known = relatives.memory_alone(cases)
        if not known and (cases[0].eps.any() or self._random(draws, cases)):
            self.algorithm = "noise-only"
            self.add("algorithm.noise-only", {"gradients a step": 1})
            if self.asked == "rsam":
                self._judge_draws(draws)
            return
        self.algorithm = None
        self.add(*(known or ("ascent.stale-gradient", {"gradients a step": 1})))

    def _random(self, draws: list[np.ndarray], cases: list[Case]) -> bool:
        """Whether the offsets are unrelated to the gradients of the step before."""
        cosines = []
        for a in cases[1:]:
            assert a.before is not None
            g = a.before.first
            cosines.append(abs(float(a.eps @ g)) / (np.linalg.norm(a.eps) * np.linalg.norm(g)))
        return bool(max(cosines, default=0.0) < 0.5)

    def _many_gradients(self, cases: list[Case], noisy: bool) -> None:
        found = several_steps(cases, self.tolerance)
        if isinstance(found, list) and not noisy:
            for code, evidence in found:
                self.add(code, evidence)
        elif not self._ends_like_two(cases, noisy) and not self._drawn_after_a_look(cases):
            self.algorithm = None
            self.add("ascent.unknown", found if isinstance(found, dict) else {})

    def _drawn_after_a_look(self, cases: list[Case]) -> bool:
        """Whether a gradient at w comes before a random draw, which owes it nothing, and two more.

        Then the step is judged without that gradient.
        """
        if self.asked == "rsam" or any(len(a.seen.points) != 3 for a in cases):
            return False
        if not all(np.array_equal(a.seen.points[0], a.w) for a in cases):
            return False
        draws = [a.seen.points[1] - a.w for a in cases]
        if not all(d.any() and _unrelated(d, a.first) for d, a in zip(draws, cases)):
            return False
        for a in cases:
            a.seen.forget(0)
        before: Case | None = None
        for i, a in enumerate(cases):
            cases[i] = before = Case(self.problem, a.seen, before)
        self.relatives = None  # they were held against that gradient as well
        self.add("cost.extra-evaluations", {AT_W: len(cases)})
        self._draws(cases)
        self._ascent(cases, noisy=True)
        return True

    def _ends_like_two(self, cases: list[Case], noisy: bool) -> bool:
        """Whether a pair of the points is an ascent, the others being left unused."""
        if noisy:
            self._draws(cases)
        verdict = perturbation.judge_ascent(cases, self.asked, noisy, self.tolerance)
        if verdict.best is None:
            return False
        self.add("cost.extra-evaluations", {"gradients a step": len(self.seen[0].points)})
        self.add_verdict(verdict)
        return True

    def _draws(self, cases: list[Case]) -> None:
        draws = [a.draw for a in cases]
        if self.asked != "rsam":
            self.algorithm = "rsam"
            return
        lengths = np.array([np.linalg.norm(d) / a.hyper.sigma for d, a in zip(draws, cases)])
        if np.ptp(lengths) < 1e-4 * lengths[0] and abs(lengths[0] - 1) < 1e-3:
            self.algorithm = "rsam-ball"
            self.add("algorithm.rsam-ball", {"||D|| / sigma": float(lengths[0])})
            return
        self._judge_draws(draws)

    def _judge_draws(self, draws: list[np.ndarray]) -> None:
        from rsam_ref.conformance.draw.judge import judge_draw  # with it comes SciPy, which is slow

        for code, evidence in judge_draw(self.problem, self.seen, draws):
            self.add(code, evidence)

    def _ascent(self, cases: list[Case], noisy: bool) -> None:
        verdict = perturbation.judge_ascent(cases, self.asked, noisy, self.tolerance)
        if verdict.best is not None:
            codes = verdict.best.codes
            low = verdict.low_precision and not self.single
            inside = perturbation.constant_in_norm(cases, self.asked, noisy, codes) if low else None
            if inside is not None:
                self.add(codes[0] if codes else "precision.epsilon", inside[1])
                return
            self.add_verdict(verdict)
            if "ascent.masked" in verdict.best.codes:
                which = describe_tensors(cases) or relatives.describe_mask(cases)
                self._first("ascent.masked", which)
            if "noise.not-removed" in verdict.best.codes:
                again = "the same draw, scaled by the filters' norms of w + D"
                self._first("noise.not-removed", {"what is taken away": again})
            return
        if self._after_a_base_step(cases):
            return
        if slips := ascent_by_step(cases, self.asked, noisy, self.tolerance):
            for code, evidence in slips:
                self.add(code, evidence)
            return
        along, found = perturbation.judge_direction(cases, self.asked, noisy, self.tolerance)
        if along.best is not None:
            for code, evidence in found:
                self.add(code, evidence)
            return
        each = ("ascent.norm-per-tensor",)
        limit = self.tolerance if self.single else 0.0
        if shared := perturbation.constant_in_norm(cases, self.asked, noisy, each, limit):
            self.add(*shared)
            return
        others = judge_others(cases, self.asked, noisy, self.tolerance)
        if others is not None:
            for code, evidence in others:
                self.add(code, evidence)
            return
        self.algorithm = None
        cosine = [
            float(a.eps @ a.first / (np.linalg.norm(a.eps) * np.linalg.norm(a.first) + 1e-300))
            for a in cases
        ]
        self.add(
            "ascent.unknown",
            {
                **verdict.evidence(),
                "cos(eps, g0)": [round(c, 4) for c in cosine],
                "||eps|| / rho": [
                    round(float(np.linalg.norm(a.eps)) / a.hyper.rho, 4) for a in cases
                ],
            },
        )

    def _after_a_base_step(self, cases: list[Case]) -> bool:
        """Whether the ascent starts from where a base step with g0 ends."""
        a = cases[0]
        climb = a.rho * a.first / np.linalg.norm(a.first)
        start = a.eps - a.draw - climb
        size = np.linalg.norm(start)
        decays = {0.0, a.hyper.weight_decay}
        steps = [-a.hyper.lr * (a.first + decay * a.seen.points[0]) for decay in decays]
        if size < FAR * a.rho or all(np.linalg.norm(start - s) > 1e-3 * size for s in steps):
            return False
        self.add("update.two-steps", {"the ascent starts": "after a base step with g0"})
        return True

    def _update(self, cases: list[Case]) -> Verdict | None:
        moved = [not np.array_equal(a.seen.after, a.w) for a in cases]
        if not any(moved):
            self.add("update.no-step")
            return None
        if self.algorithm == "looksam":
            return None
        told: dict[str, Any] = {}
        if self.like is not None and self._as_like(cases):
            return None
        verdict = base_step.judge(cases, self.tolerance)
        if base_step.may_be_slips(verdict) and (slips := judge_by_step(cases, self.tolerance)):
            if UNKNOWN not in slips:
                for code, evidence in slips.items():
                    self.add(code, evidence)
                return None
            told = slips[UNKNOWN]
        if verdict.best is None:
            self.add("update.unknown", {**verdict.evidence(), **told})
            return None
        evidence = {"explanation": verdict.best.label, **verdict.evidence(), **told}
        for code in verdict.best.codes:
            self.add(code, evidence)
        if verdict.low_precision and not self.single:
            self.add("precision.low", {"error": verdict.error})
        return verdict

    def _as_like(self, cases: list[Case]) -> bool:
        """Whether the base step is that of the run that this one should be like, but for slips."""
        best = self.like.update.best if self.like and self.like.update else None
        slips = judge_by_step(cases, self.tolerance, best.label if best else "")
        if slips is None:
            return bool(best and base_step.still_fits(best.codes, cases, self.tolerance))
        for code, evidence in slips.items():
            self.add(code, evidence)
        return True

    def _is_relative(self, cases: list[Case]) -> bool:
        """Whether a relative explains all of the run exactly, and the algorithm itself does not."""
        if explained(cases, self.asked):
            return False
        self.relatives = recognise(cases, self.tolerance)
        for known in self.relatives:
            exact = known.error <= max(RULE_EXACT, self.tolerance)
            if known.relative.name in SLIPS or not exact:
                continue
            verdict = base_step.judge_given(cases, known.since(0), self.tolerance)
            if verdict.best is not None and not verdict.best.codes:
                self._known_as(known, verdict)
                self.update = verdict
                return True
        return False

    def _as_relative(self, cases: list[Case]) -> Verdict | None:
        """The base step of one of SAM's relatives, if one explains the run better than slips do."""
        slips = [f.code for f in self.findings if not f.note]
        if self.relatives is None:
            self.relatives = recognise(cases, self.tolerance)
        for known in self.relatives:
            if known.relative.name in SLIPS and not slips[0].startswith("ascent."):
                continue  # it has no code of its own, and another ascent is not what was found
            verdict = base_step.judge_given(cases, known.since(0), self.tolerance)
            if verdict.best is not None and len(verdict.best.codes) <= len(slips):
                self._known_as(known, verdict)
                return verdict
        return None

    def _known_as(self, known: Known, verdict: Verdict) -> None:
        """What was found becomes the relative's name, and what its base step does besides."""
        assert verdict.best is not None
        name = known.relative.name
        stages = ("noise", "direction", "ascent", "algorithm", "restore", "update", "cost")
        slips = [f for f in self.findings if not f.note]
        self.known = known
        if name in SLIPS and slips[0].code.startswith("ascent."):
            self._first(slips[0].code, {**slips[0].evidence, "known as": known.label})
            return
        self.findings = [f for f in self.findings if f.note or f.code.split(".")[0] not in stages]
        self.add(f"algorithm.{CODES.get(name, name)}", {"form": known.label})
        for code in verdict.best.codes:
            self.add(code, verdict.evidence())

    def _undrawn(self) -> None:
        """R-SAM without a draw at the first gradient: SAM, if nothing else is wrong with it."""
        wrong = [f.code for f in self.findings if not f.note]
        if not wrong:
            self._first("algorithm.sam", {"||D||": 0.0})
        elif not any(code.startswith(("algorithm.", "noise.", "direction.")) for code in wrong):
            self._first("noise.missing", {"||D||": 0.0})

    def _first(self, code: str, evidence: dict[str, Any]) -> None:
        self.findings = [f for f in self.findings if f.code != code]
        self.findings.insert(0, Finding(code, evidence))

    def _name(self) -> None:
        """Another algorithm's name comes first; what belongs to it is no finding of its own."""
        if self.single:
            self.add("precision.float32", {"smallest step seen": "24 bits"})
        named = [f for f in self.findings if f.code.startswith("algorithm.")]
        if self.algorithm == "rsam" and self.asked != "rsam" and not named:
            self._first("algorithm.rsam", {"first gradient": "at w + D, not at w"})
        elif named:
            self.algorithm = named[0].code.removeprefix("algorithm.")
            self._first(named[0].code, named[0].evidence)
        elif any(not f.note for f in self.findings):
            self.algorithm = self.known.relative.name if self.known else None
        self.findings.sort(key=_order)


FAR = 0.01
"""A base step is told from rounding where it is so large a share of the radius."""

ORDER = ("algorithm", "noise", "direction", "ascent", "restore", "update")
LATE = ("noise.not-removed",)


def _order(finding: Finding) -> tuple[bool, int]:
    """Divergences before notes, in the order of a step."""
    stage = "restore" if finding.code in LATE else finding.code.split(".")[0]
    return finding.note, ORDER.index(stage) if stage in ORDER else len(ORDER)


def _unrelated(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether vectors are no more alike than independent ones."""
    cosine = abs(float(a @ b)) / (np.linalg.norm(a) * np.linalg.norm(b))
    return bool(cosine * np.sqrt(a.size) < DIMENSIONS)


def _along(eps: np.ndarray, before: Case) -> bool:
    """Whether eps points along one of the gradients of the step before."""
    if not eps.any():
        return False
    for g in (before.first, before.seen.gradient(-1)):
        if abs(float(eps @ g)) > 0.999 * np.linalg.norm(eps) * np.linalg.norm(g):
            return True
    return False


def _check_finite(step: Step) -> None:
    for i, evaluation in enumerate(step.evaluations):
        if not np.isfinite(evaluation.at).all():
            raise BrokenError(
                f"in step {step.number + 1} the gradient is asked for at weights that are "
                f"{_kind(evaluation.at)} (evaluation {i + 1} of the step)"
            )
    if not np.isfinite(step.after).all():
        raise BrokenError(f"the weights are {_kind(step.after)} after step {step.number + 1}")


def _kind(weights: np.ndarray) -> str:
    return "NaN" if np.isnan(weights).any() else "infinite"
