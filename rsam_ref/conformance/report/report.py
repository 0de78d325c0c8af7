"""What a check ends in: findings, in words, as JSON, and as a page to attach to an issue."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from rsam_ref.conformance.report.catalogue import CATALOGUE

STAGES = {
    "algorithm": "algorithm",
    "noise": "noise",
    "direction": "ascent",
    "ascent": "ascent",
    "restore": "restore",
    "update": "update",
    "resume": "save and resume",
    "batch-norm": "batch norm",
    "dropout": "dropout",
    "limits": "limits",
    "precision": "precision",
    "scaler": "gradient scaler",
    "processes": "several processes",
    "cost": "cost",
    "contract": "contract",
}


NAMES = {"sam": "SAM", "asam": "ASAM", "rsam": "R-SAM"}

AROUND = (
    "restore.skipped-without-gradient",
    "resume.momentum-lost",
    "resume.lr-lost",
    "resume.hidden-state",
    "resume.fails",
    "limits.missing-gradient",
    "limits.accumulation",
    "ascent.nan-at-zero-gradient",
    "batch-norm.moved-twice",
    "batch-norm.moved-by-second-pass",
    "batch-norm.frozen",
    "batch-norm.momentum-left",
    "dropout.restored-wrongly",
    "contract.eval-left-on",
    "contract.reseeds-generator",
    "contract.perturbed-loss",
    "scaler.overflow-left-perturbed",
    "scaler.overflow-not-skipped",
)
"""Divergences that leave the step itself, with usual inputs, as it should be."""

OWN_STEPS = {
    "update.own-step-size": "with a step size of its own",
    "update.not-judged": "with a base step that was not judged",
}
"""Notes after which the ascent alone is the algorithm's, as far as is known."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found: a stable code, and what was observed."""

    code: str
    evidence: dict[str, Any] = field(default_factory=dict)
    where: str = "training"
    """The probe in which it showed."""
    conditional: bool = False
    """Whether it may come from a setting that was not passed; then it alone is no divergence."""

    @property
    def stage(self) -> str:
        return STAGES[self.code.split(".")[0]]

    @property
    def note(self) -> bool:
        """Whether it is precision, style or cost, and no divergence."""
        return CATALOGUE[self.code].note

    @property
    def diverges(self) -> bool:
        """Whether it makes an implementation another algorithm, whatever it could not be told."""
        return not (self.note or self.conditional)

    @property
    def what(self) -> str:
        return CATALOGUE[self.code].what

    @property
    def effect(self) -> str:
        return CATALOGUE[self.code].effect

    @property
    def remedy(self) -> str:
        return CATALOGUE[self.code].remedy

    def __str__(self) -> str:
        evidence = "; ".join(f"{name}: {_number(value)}" for name, value in self.evidence.items())
        return f"{self.code}: {self.what}" + (f" ({evidence})" if evidence else "")


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    ``findings`` begins with the divergences, in the order in which a step goes; notes follow.
    """

    algorithm_asked: str
    algorithm: str | None
    """What it was recognised as: "sam", "asam", "rsam", another's name, or None."""
    form: str
    findings: list[Finding]
    probes: dict[str, str]
    """What was tried, and how it ended: "passed", "findings", or why it was not done."""
    picture: dict[str, Any] = field(default_factory=dict)
    """The first step in the plane of draw and gradient: named points (x, y)."""

    @property
    def conforms(self) -> bool:
        """Whether nothing was found but notes, and what may come from settings not passed."""
        return not any(finding.diverges for finding in self.findings)

    @property
    def verdict(self) -> str:
        """In a few words: conforms, diverges, or makes the right step with faults around it.

        What was not judged, or may come from what was not passed, is not called right.
        """
        name = NAMES[self.algorithm_asked]
        own = next((OWN_STEPS[f.code] for f in self.findings if f.code in OWN_STEPS), "")
        if self.conforms:
            if any(f.conditional and not f.note for f in self.findings):
                return f"conforms to {name}, but for what may come from settings that are not known"
            return f"conforms to {name}'s ascent, {own}" if own else f"conforms to {name}"
        if all(f.code in AROUND for f in self.findings if f.diverges):
            if own:
                return f"makes {name}'s ascent, {own}, and has faults around it"
            return f"makes {name}'s step, but has faults around it"
        return f"diverges from {name}"

    def as_dict(self) -> dict[str, Any]:
        findings = [
            {
                "code": f.code,
                "stage": f.stage,
                "note": f.note,
                "conditional": f.conditional,
                "what": f.what,
                "effect": f.effect,
                "remedy": f.remedy,
                "evidence": f.evidence,
                "where": f.where,
            }
            for f in self.findings
        ]
        return {
            **asdict(self),
            "conforms": self.conforms,
            "verdict": self.verdict,
            "findings": findings,
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1, default=float)

    @classmethod
    def from_json(cls, text: str) -> Report:
        data = json.loads(text)
        findings = [
            Finding(f["code"], f["evidence"], f["where"], f.get("conditional", False))
            for f in data.pop("findings")
        ]
        del data["conforms"], data["verdict"]
        return cls(findings=findings, **data)

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [f"{kind(f)}{': ' if kind(f) else ''}{f}" for f in self.findings]
        return "\n".join(lines)


def kind(finding: Finding) -> str:
    """ "note", "perhaps" for what may come from a setting that was not passed, or ""."""
    return "note" if finding.note else "perhaps" if finding.conditional else ""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
