"""What the probes can find, and what is told of precision, style and cost."""

from __future__ import annotations

from rsam_ref.conformance.report.entry import Entry

FINDINGS: dict[str, Entry] = {
    "resume.momentum-lost": Entry(
        "after saving and loading the momentum starts from 0",
        "every resume is a jolt",
        "put the base optimizer's state into state_dict",
    ),
    "resume.lr-lost": Entry(
        "after saving and loading, changes of lr no longer reach the base optimizer",
        "a schedule ends at the resume",
        "load into the groups that are there, which the base optimizer shares",
    ),
    "resume.hidden-state": Entry(
        "a run that is gone on with from its saved state differs from one that never stopped",
        "results depend on interruptions",
        "put everything that the next step needs into the state, and let nothing there be a view "
        "of something else: in a copy, as a file holds it, they are apart",
    ),
    "resume.fails": Entry(
        "the saved state cannot be loaded",
        "runs cannot be gone on with",
        "make load_state_dict take what state_dict gives",
    ),
    "batch-norm.moved-twice": Entry(
        "both passes move the running statistics",
        "they are averages over weights that the network never has",
        "let the first pass alone move them",
    ),
    "batch-norm.moved-by-second-pass": Entry(
        "the perturbed pass moves the running statistics",
        "they belong to w + eps, not to w",
        "let the first pass alone move them",
    ),
    "batch-norm.frozen": Entry(
        "no pass moves the running statistics",
        "the network is tested with the statistics it was made with",
        "let the first pass move them",
    ),
    "batch-norm.momentum-left": Entry(
        "after a step batch norm's momentum is another than before",
        "from then on the running statistics move at another pace",
        "put the momentum back as it was, in every layer",
    ),
    "dropout.masks-differ": Entry(
        "the second pass has other dropout masks than the first",
        "the gradients of both passes are those of two different networks",
        "keep the generator's state before the first pass, and set it before the second",
        note=True,
    ),
    "dropout.restored-wrongly": Entry(
        "the generator is set before the second pass, and yet that has other dropout masks",
        "the gradients of both passes are those of two different networks",
        "keep the generator's state before the first pass, not after it",
    ),
    "contract.eval-in-pass": Entry(
        "a gradient is taken in eval mode",
        "it is the gradient of another network: running statistics, no dropout",
        "run both passes in training mode; let batch norm's momentum be 0 in the second",
    ),
    "contract.eval-left-on": Entry(
        "a step leaves the network in eval mode",
        "from then on it is trained without dropout, with running statistics that stand still",
        "put the mode back as it was",
    ),
    "contract.reseeds-generator": Entry(
        "a step seeds a generator that others draw from, too",
        "dropout masks and the order of the data repeat",
        "draw from a generator of your own",
    ),
    "contract.perturbed-loss": Entry(
        "step(closure) returns the loss at the perturbed weights",
        "loss curves are those of w + eps, above those of the network that is trained",
        "return the first pass's loss",
    ),
    "contract.second-loss": Entry(
        "the loss that the training step returns is that at the perturbed weights",
        "if it is logged, the curve is that of w + eps, above that of the network that is trained",
        "return the first pass's loss",
        note=True,
    ),
    "update.one-lr-for-all-groups": Entry(
        "all parameter groups are stepped with one group's learning rate",
        "the learning rates of the other groups have no effect",
        "read lr from each group",
    ),
    "update.one-decay-for-all-groups": Entry(
        "all parameter groups decay by one group's weight decay",
        "what should not decay (biases, norm layers) does",
        "read weight_decay from each group",
    ),
    "noise.one-sigma-for-all-groups": Entry(
        "all parameter groups draw with one group's sigma",
        "the sigmas of the other groups have no effect",
        "read sigma from each group",
    ),
    "direction.one-lam-for-all-groups": Entry(
        "all parameter groups weigh the gradient with one group's lam",
        "the weights of the other groups have no effect",
        "read lam from each group",
    ),
    "limits.one-group": Entry(
        "only the first parameter group is treated",
        "the parameters of other groups are trained in another way, or not at all, silently",
        "go through all groups, or refuse more than one",
        note=True,
    ),
    "limits.added-group": Entry(
        "a parameter group that is added later is not trained like the others",
        "layers that are unfrozen later stay as they are, silently",
        "let the base optimizer have the same list of groups, or refuse to add one",
        note=True,
    ),
    "limits.rho-zero": Entry(
        "with rho = 0 a step is not the base optimizer's",
        "comparisons with the base optimizer are not fair",
        "let eps be 0 and step with the gradient at w",
    ),
    "limits.sigma-zero": Entry(
        "with sigma = 0 a step of R-SAM is not one of SAM (or is NaN)",
        "comparisons with SAM are not fair",
        "let D be 0; divide by nothing but ||a|| + 1e-12",
    ),
    "limits.missing-gradient": Entry(
        "a parameter without gradient in one of the passes ends in an error",
        "networks with branches cannot be trained",
        "skip what has no gradient in the ascent; restore everything",
    ),
    "limits.accumulation": Entry(
        "with a batch in two parts the step is another than with the whole batch",
        "gradient accumulation changes the algorithm",
        "perturb and restore once for all parts",
    ),
    "precision.low": Entry(
        "the right quantity, computed in a lower precision than the weights have",
        "small differences from one implementation to the next",
        "compute norms and steps in the weights' own type",
        note=True,
    ),
    "precision.epsilon": Entry(
        "the constant beside the norm is not 1e-12 (or there is none)",
        "seen at gradients near it only",
        "nothing, unless gradients get that small",
        note=True,
    ),
    "precision.float16-overflow": Entry(
        "in float16 the norm overflows, and the perturbation becomes 0 or NaN",
        "with half precision SAM is off, silently",
        "compute the norm in float32",
        note=True,
    ),
    "precision.overflow-stays": Entry(
        "an infinite first gradient, as a gradient scaler meets it, leaves weights that are NaN",
        "the scaler skips the step, and the weights are lost all the same",
        "put the weights back from a copy, not by subtraction",
        note=True,
    ),
    "precision.float32": Entry(
        "float64 weights are computed with in float32",
        "this check sees seven digits instead of sixteen",
        "nothing; to be checked closer, keep the weights' type (in JAX: jax_enable_x64)",
        note=True,
    ),
    "precision.type-changed": Entry(
        "the weights come back in another type than they were given in",
        "memory and speed",
        "keep the weights' type",
        note=True,
    ),
    "precision.autocast": Entry(
        "the passes are run under torch.autocast",
        "this check judges the step without the rounding of the lower type",
        "nothing; how far the rounding turns eps is told beside",
        note=True,
    ),
    "precision.passes-differ": Entry(
        "one pass of a step is run under torch.autocast, another is not",
        "eps and g are gradients of two networks, which differ by the lower type's rounding",
        "open torch.autocast around both passes, each in a block of its own",
        note=True,
    ),
    "scaler.overflow-left-perturbed": Entry(
        "a pass overflows, the gradient scaler skips the step, and the weights stay at w + eps",
        "each overflow adds an ascent to the weights",
        "put the weights back yourself before scaler.step: what stands in the optimizer's step, or "
        "in a hook of it, is skipped with it",
    ),
    "scaler.overflow-not-skipped": Entry(
        "a pass overflows, and the weights move all the same, or are not finite afterwards",
        "one overflow, as a gradient scaler makes them to find its scale, ends the training",
        "call scaler.step(optimizer), not optimizer.step(); put the weights back from a copy",
    ),
    "scaler.updated-twice": Entry(
        "the gradient scaler is updated more than once a step",
        "its scale grows after fewer steps than growth_interval says, and halves more than once",
        "nothing, if that is meant: unscale_ in both passes needs an update in between. Or divide "
        "the first gradient by scaler.get_scale(), and update once",
        note=True,
    ),
    "scaler.made-anew": Entry(
        "every step makes a new gradient scaler",
        "its scale never adapts: after an overflow the next step overflows, too",
        "make one scaler for the whole training, and keep its state_dict",
        note=True,
    ),
    "cost.extra-evaluations": Entry(
        "more gradients are computed than are used",
        "time",
        "two gradients a step are enough",
        note=True,
    ),
}
