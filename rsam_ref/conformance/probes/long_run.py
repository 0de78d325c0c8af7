"""A longer run: is each of its steps the one that was found in the main run?"""

from __future__ import annotations

from rsam_ref.conformance.diagnosis import diagnose
from rsam_ref.conformance.observe.observer import Step, watch
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.probes.setting import Setting
from rsam_ref.conformance.report.report import Finding

STEPS = 24
SMALLER = 0.25
"""What the learning rate and the radius are multiplied by."""


def longer_run(s: Setting) -> list[Finding]:
    """What is done wrong now and then, or from a step on that the main run does not reach.

    All of a step is judged as in the main run. Where that one has found an ascent that is made now
    and then, its period is told from these steps.
    """
    hyper = _smaller(s)
    problem = Problem(s.seed)
    subject = s.maker(problem, hyper)
    steps = watch(subject, [hyper] * STEPS)
    counts = [_places(step) for step in steps]
    most = max(counts)
    with_ascent = [i for i, count in enumerate(counts) if count == most]
    look = next((f for f in s.main.findings if f.code == "algorithm.looksam"), None)
    if look is not None:
        if len(with_ascent) > 1:
            look.evidence["period"] = with_ascent[1] - with_ascent[0]
        else:
            look.evidence["period"] = f"at least {STEPS}"
    if not s.conforms:
        return []
    if min(counts) < most:
        first = next(i for i, count in enumerate(counts) if count < most)
        evidence = {
            "gradients in most steps": most,
            "fewer from step": first + 1,
            "steps with fewer": f"{sum(count < most for count in counts)} of {STEPS}",
        }
        return [Finding("ascent.skipped", evidence)]
    found = diagnose(problem, steps, s.algorithm, like=s.main).findings
    its_own = [code for setting in subject.missing for code in FOLLOWS.get(setting, ())]
    return [f for f in found if f.diverges and f.code not in its_own]


FOLLOWS = {
    "rho": ("ascent.radius-scheduled", "ascent.radius-ignored", "ascent.wrong-radius"),
    "sigma": ("noise.wrong-size", "noise.sigma-ignored", "noise.missing"),
    "lam": ("direction.lam-ignored", "direction.wrong-weights"),
    "lr": ("update.lr-changed", "update.lr-ignored", "update.unknown"),
    "momentum": ("update.momentum-changed", "update.unknown"),
    "weight_decay": ("update.decay-missing", "update.decay-changed", "update.unknown"),
}
"""What is no fault where a setting is the implementation's own, which may follow a schedule."""


def _smaller(s: Setting) -> Hyper:
    """Settings with which a run may last longer; what could not be passed stays as it seems."""
    missing = s.maker(Problem(s.seed), s.hyper).missing
    return s.hyper.but(
        **{x: SMALLER * getattr(s.hyper, x) for x in ("lr", "rho") if x not in missing}
    )


def _places(step: Step) -> int:
    """At how many places gradients were taken, looks at where it ends left out."""
    places = {e.at.tobytes() for e in step.evaluations}
    if len(places) > 2:
        places -= {step.after.tobytes()}
    return len(places)
