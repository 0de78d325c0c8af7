"""Holding the base step to one that was asked for, where its own would do otherwise."""

from __future__ import annotations

from rsam_ref.conformance.report.report import Finding

SAME = {"adamw": "adam", "nadamw": "nadam"}
"""Rules that differ in nothing but where weight decay acts."""


def held_to(base: str | None, findings: list[Finding]) -> list[Finding]:
    """The findings, with a divergence where the base step is not that of ``base``.

    ``base`` is a name such as "sgd" or "adamw"; None takes every base for its own affair.
    """
    if base is None:
        return findings
    name = SAME.get(base.lower(), base.lower())
    own = next((f for f in findings if f.code == "update.own-base"), None)
    if own is None:
        stepped = not any(f.code.startswith("update.") for f in findings)
        if name == "sgd" or not stepped:
            return findings
        return [*findings, Finding("update.other-base", {"asked for": base, "it is": "SGD"})]
    if name in str(own.evidence.get("explanation", "")).lower() and name != "sgd":
        return findings
    wrong = Finding("update.other-base", {"asked for": base, **own.evidence}, own.where)
    return [wrong if f is own else f for f in findings]
