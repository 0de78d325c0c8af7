"""What shows in how an implementation must be called."""

from __future__ import annotations

from rsam_ref.conformance.report.entry import Entry

FINDINGS: dict[str, Entry] = {
    "contract.backward-first": Entry(
        "step(closure) expects backward() to have been called before; without it, it makes another "
        "step, silently, or raises",
        "whoever calls it as torch's documentation shows trains without SAM",
        "call the closure twice, or refuse to go without a gradient",
        note=True,
    ),
    "contract.closure-without-gradients": Entry(
        "step(closure) calls the closure where gradients are off, so that its backward() raises",
        "the first step fails for everybody whose closure does not turn them on",
        "call the closure within torch.enable_grad()",
        note=True,
    ),
    "contract.other-way": Entry(
        "it can be called in two ways, and the other one makes another step",
        "what it computes depends on how it is called",
        "let one way call the other, or refuse it",
    ),
}
