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
    "processes.synchronised": Entry(
        "in several processes, the gradients of both passes are averaged over the workers",
        "it is the algorithm of the whole mini-batch: every worker makes the same ascent",
        "nothing; the other published way averages in the second pass alone (m-sharpness)",
        note=True,
    ),
    "processes.per-worker": Entry(
        "in several processes, each worker climbs along the gradient of its own part of the "
        "mini-batch, and only the second gradients are averaged",
        "it is m-sharpness, with m the samples of a worker: another number of workers is another "
        "algorithm",
        "nothing, if that is meant; otherwise leave out no_sync in the first pass",
        note=True,
    ),
    "processes.not-averaged": Entry(
        "in several processes, the gradient that a worker steps with is its own",
        "the replicas drift apart: each trains on its part of the data",
        "run the second pass through the wrapped model, outside no_sync",
    ),
    "processes.replicas-drift": Entry(
        "the gradients are averaged, and yet the replicas differ after a step",
        "every worker trains another network; what is saved is that of one of them",
        "put the weights back from a copy in every worker, and step by nothing but averaged "
        "gradients",
    ),
    "processes.own-draws": Entry(
        "every worker has its own draw",
        "the second gradients are averaged over as many draws as there are workers",
        "nothing; for one draw, give the workers' generators one seed",
        note=True,
    ),
    "processes.same-draw": Entry(
        "all workers have the same draw, whatever their generators are seeded with",
        "a step has one draw, however many workers there are",
        "nothing, if that is meant; otherwise seed by the rank",
        note=True,
    ),
    "contract.other-way": Entry(
        "it can be called in two ways, and the other one makes another step",
        "what it computes depends on how it is called",
        "let one way call the other, or refuse it",
    ),
}
