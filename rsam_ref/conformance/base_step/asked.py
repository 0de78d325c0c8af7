"""Holding the base step to one that was asked for, where its own would do otherwise."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any

from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.report.report import Finding

SAME = {"adamw": "adam", "nadamw": "nadam"}
"""Rules that differ in nothing but where weight decay acts."""

UNKNOWN = ("update.not-judged", "update.own-step-size")
"""Base steps that fit no rule, as notes."""


BASES = (
    *("sgd", "adam", "adamw", "nadam", "nadamw", "radam", "adamax", "adagrad", "adadelta"),
    *("adafactor", "adabelief", "adan", "asgd", "rmsprop", "rprop", "lion", "signum", "nesterov"),
    *("lamb", "lars", "lbfgs", "muon", "sophia", "sparseadam", "yogi"),
)
"""Names of published base optimizers, as their classes have them."""


def refuse_unknown_base(base: str | None, subject: Any) -> None:
    """Raises BrokenError for a name that is neither known nor a class's where the subject is."""
    if base is None or base.lower() in BASES:
        return
    module = sys.modules.get(getattr(subject, "__module__", None) or "")
    own = (
        [name for name, value in vars(module).items() if isinstance(value, type)] if module else []
    )
    if base.lower() not in map(str.lower, own):
        raise BrokenError(f"unknown base {base!r}; there are {', '.join(BASES)}")


def held_to(base: str | None, findings: list[Finding]) -> list[Finding]:
    """The findings, with a divergence where the base step is not that of ``base``.

    ``base`` is a name such as "sgd" or "adamw"; None takes every base for its own affair.
    """
    if base is None:
        return findings
    name = base.lower()
    unknown = [f for f in findings if f.code in UNKNOWN]
    if unknown:
        told = {"asked for": base, "it is": "none that is known"}
        other = [Finding("update.other-base", {**told, **f.evidence}, f.where) for f in unknown]
        return [*other[:1], *(f for f in findings if f not in unknown)]
    own = next((f for f in findings if f.code == "update.own-base"), None)
    if own is None:
        stepped = not any(f.code.startswith("update.") for f in findings)
        if name == "sgd" or not stepped:
            return findings
        return [*findings, Finding("update.other-base", {"asked for": base, "it is": "SGD"})]
    explanation = str(own.evidence.get("explanation", ""))
    if NAMELESS in explanation:
        told = {"asked for": base, "whether it is that": "cannot be told", **own.evidence}
        return [replace(own, evidence=told) if f is own else f for f in findings]
    differs = _differs(name, explanation)
    if not differs:
        return [f for f in findings if f is not own]
    told = {"asked for": base, "it is": differs, **own.evidence}
    wrong = Finding("update.other-base", told, own.where)
    return [wrong if f is own else f for f in findings]


NAMELESS = "its optax transformation"


def _differs(name: str, explanation: str) -> str:
    """In what a base step, by its explanation, is not the one of that name; empty if in nothing."""
    rule = explanation.removeprefix("g, w, ").lower()
    called = rule.partition("(")[0]
    if name not in BASES:  # a class of its file
        return "" if name in called else "another"
    if name == "sgd" or _family(name) != _family(_named(called)):
        return "another"
    if "without the corrections" in rule:
        return "without the corrections of its means, which start at 0"
    if name not in (*SAME, *SAME.values()):
        return ""
    decay = _decay(rule)
    right = DECOUPLED if name in SAME else COUPLED
    if decay in ("", right) or (decay == "none" and name not in SAME):
        return ""
    told = {"none": "no weight decay", DECOUPLED: "weight decay that is decoupled (AdamW's)"}
    return f"with {told.get(decay, f'weight decay that is {decay}')}"


def _family(name: str) -> str:
    """The name without what tells of weight decay alone."""
    return SAME.get(name, name)


def _named(called: str) -> str:
    """The base that a rule or a class is: the longest name that is in what it is called."""
    if "velocity's sign" in called:
        return "signum"
    return max((name for name in BASES if name in called), key=len, default="")


DECOUPLED, COUPLED = "decoupled", "coupled: added to the gradient"


def _decay(rule: str) -> str:
    """How a rule decays the weights; nothing where it does not say so, having no weight decay."""
    _, by_formula, told = rule.partition(", weight decay ")
    if by_formula:
        kinds = {"coupled": COUPLED, "none": "none", "decoupled, not times lr": told}
        return kinds.get(told, DECOUPLED)
    if not re.search(r"\bweight_decay=", rule):
        return ""
    with_w = rule.partition("(")[0].endswith("w")
    return DECOUPLED if with_w or "decoupled_weight_decay=true" in rule else COUPLED


def without_hidden_nesterov(
    findings: list[Finding], made_by_check: bool, shown: bool, settings: list[dict[str, Any]]
) -> list[Finding]:
    """The findings, with a divergence where an SGD takes Nesterov's momentum that nobody asked for.

    Whoever makes it in a function of his own, or passes ``nesterov``, asks for it: then it is
    his base optimizer. A class that the check made was asked for momentum, and no more; unless its
    constructor has that choice (``shown``).
    """
    hidden = made_by_check and not shown and any(group.get("nesterov") for group in settings)
    if not hidden:
        return findings
    return [
        replace(f, code="update.nesterov") if f.code == "update.own-base" and _is_sgd(f) else f
        for f in findings
    ]


def _is_sgd(own: Finding) -> bool:
    return "SGD(" in str(own.evidence.get("explanation", ""))
