"""A longer run: does a step go on taking as many gradients as in the main run?"""

from __future__ import annotations

from rsam_ref.conformance.observe.observer import Step, watch
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting
from rsam_ref.conformance.report.report import Finding

STEPS = 24


def longer_run(s: Setting) -> list[Finding]:
    """An ascent that is left out now and then, with a period longer than the main run, shows here.

    Where the main run has found one that is made now and then, its period is told from these steps.
    """
    hyper = s.hyper.but(lr=0.25 * s.hyper.lr, rho=0.25 * s.hyper.rho)
    steps = watch(s.maker(Problem(s.seed), hyper), [hyper] * STEPS)
    counts = [_places(step) for step in steps]
    most = max(counts)
    with_ascent = [i for i, count in enumerate(counts) if count == most]
    look = next((f for f in s.main.findings if f.code == "algorithm.looksam"), None)
    if look is not None:
        if len(with_ascent) > 1:
            look.evidence["period"] = with_ascent[1] - with_ascent[0]
        else:
            look.evidence["period"] = f"at least {STEPS}"
    if s.conforms and min(counts) < most:
        first = next(i for i, count in enumerate(counts) if count < most)
        evidence = {
            "gradients in most steps": most,
            "fewer from step": first + 1,
            "steps with fewer": f"{sum(count < most for count in counts)} of {STEPS}",
        }
        return [Finding("ascent.skipped", evidence)]
    return []


def _places(step: Step) -> int:
    """At how many places gradients were taken, looks at where it ends left out."""
    places = {e.at.tobytes() for e in step.evaluations}
    if len(places) > 2:
        places -= {step.after.tobytes()}
    return len(places)
