"""What can be found of the way back and of the base step."""

from __future__ import annotations

from rsam_ref.conformance.report.entry import Entry

FINDINGS: dict[str, Entry] = {
    "restore.not-undone": Entry(
        "the perturbation stays in the weights (often an alias: saving a tensor does not copy it)",
        "every step moves the weights by eps as well: uphill by rho",
        "save a copy of the weights before the ascent, and put it back before the base step",
    ),
    "restore.undone-twice": Entry(
        "the perturbation is subtracted twice",
        "every step moves the weights by -eps as well",
        "restore once, from a saved copy",
    ),
    "restore.recomputed": Entry(
        "the perturbation that is undone was computed anew, from the second gradient",
        "every step leaves the difference of two perturbations in the weights",
        "restore from a saved copy, or keep eps",
    ),
    "restore.before-backward": Entry(
        "the weights are put back before the second gradient's backward pass",
        "it is the gradient of nothing: activations at w + eps, derivatives at w",
        "put the weights back after backward()",
    ),
    "restore.by-subtraction": Entry(
        "the weights come back by subtracting eps: w + eps - eps is not w",
        "rounding moves the weights, in float32 by about 1e-8 of their size a step",
        "restore from a saved copy",
        note=True,
    ),
    "restore.skipped-without-gradient": Entry(
        "a parameter without gradient in the second pass stays perturbed",
        "parts of the network that are used now and then drift",
        "restore every parameter that was perturbed, whether it has a gradient or not",
    ),
    "update.uses-first-gradient": Entry(
        "the base step uses the first gradient",
        "the perturbed gradient is computed and thrown away: the base optimizer at twice the cost",
        "step with the gradient taken at w + eps",
    ),
    "update.gradients-added": Entry(
        "the base step uses the sum of both gradients (they were not zeroed in between)",
        "a mixture of the base optimizer and SAM, at twice the learning rate",
        "set the gradients to zero before the second pass",
    ),
    "update.gradients-averaged": Entry(
        "the base step uses the mean of both gradients",
        "a mixture of the base optimizer and SAM",
        "step with the second gradient alone",
    ),
    "update.gradients-mixed": Entry(
        "the base step uses a combination of both gradients",
        "another algorithm",
        "step with the second gradient alone",
    ),
    "restore.partly": Entry(
        "some tensors are not restored, others are",
        "those keep the perturbation, step after step",
        "restore every tensor that was perturbed, whatever its gradient in the second pass",
    ),
    "restore.older-weights": Entry(
        "the base step starts from the weights of an earlier step",
        "every step undoes the one before",
        "save the weights anew in every step, before the perturbation",
    ),
    "update.tensor-left-out": Entry(
        "some tensors are never moved",
        "they stay as they were initialised",
        "give all parameters to the base optimizer",
    ),
    "update.clipped": Entry(
        "the second gradient is cut to a length (or entry by entry) before the base step",
        "none on SAM itself: clipping belongs between the second pass and the base step",
        "nothing, if it is meant",
        note=True,
    ),
    "update.own-base": Entry(
        "the base step, with g at w, is that of another optimizer than SGD",
        "none on the ascent; the base optimizer is the implementation's own",
        "nothing, if it is meant (`--base sgd` holds it to SGD)",
        note=True,
    ),
    "update.own-step-size": Entry(
        "the step goes down g from w, by a length of its own that follows no learning rate",
        "none on the ascent; schedules of the learning rate have no effect",
        "nothing, if it is meant",
        note=True,
    ),
    "update.not-judged": Entry(
        "the base step was not judged: its optimizer is not known and fits none that is",
        "whether the second gradient is used rightly is open",
        "let the base optimizer be an attribute of the implementation, so that it can be replayed",
        note=True,
    ),
    "update.scaled-gradient": Entry(
        "the gradient is multiplied by a constant (a sum over the batch instead of a mean, say)",
        "another learning rate than the one that was set",
        "use the mean loss, and its gradient as it is",
    ),
    "update.scaled-by-first": Entry(
        "the second gradient is scaled by the first one's length (its norm, its clip coefficient)",
        "steps are long or short for reasons that are not their own gradient's",
        "clip the second gradient, if any, by its own length",
    ),
    "update.normalised-gradient": Entry(
        "the gradient is brought to length 1 before the base step",
        "every step is equally long",
        "leave the gradient as it is, or clip it only if clipping was asked for",
    ),
    "update.second-order": Entry(
        "the second-order term is kept: the gradient is taken through the perturbation "
        "(create_graph, eps not detached, or no stop_gradient in JAX)",
        "another algorithm than the paper's, which leaves that term out; and it costs a third pass",
        "detach eps (jax.lax.stop_gradient): the gradient at w + eps, with eps as a constant",
    ),
    "update.stale-gradient": Entry(
        "the base step uses the gradient of the step before",
        "the weights move by another batch at another point",
        "step with the gradient taken at w + eps in this step",
    ),
    "update.other-batch": Entry(
        "the passes of a step see different batches",
        "the perturbation raises one batch's loss, the gradient is another's",
        "use the same mini-batch in both passes",
    ),
    "update.decay-missing": Entry(
        "weight decay has no effect",
        "the weights are not decayed",
        "give the base optimizer its weight decay",
    ),
    "update.decay-at-perturbed": Entry(
        "weight decay acts at the perturbed weights",
        "decay is off by eps (or D)",
        "restore first; the base step acts at w",
    ),
    "update.decay-decoupled": Entry(
        "weight decay is decoupled (as in AdamW) although the base optimizer is SGD",
        "decay does not go through the momentum",
        "add weight_decay w to the gradient, as torch.optim.SGD does",
    ),
    "update.decay-twice": Entry(
        "weight decay acts twice a step",
        "twice the decay that was asked for",
        "leave decay to the base step alone",
    ),
    "update.momentum-missing": Entry(
        "momentum has no effect",
        "steps are shorter by 1 / (1 - momentum)",
        "keep the velocity from step to step",
    ),
    "update.momentum-dampened": Entry(
        "the gradient is multiplied by 1 - momentum on its way into the velocity",
        "another learning rate than with torch.optim.SGD",
        "v = momentum v + g",
    ),
    "update.momentum-changed": Entry(
        "momentum is used with another value than the one that was set, or not as SGD uses it",
        "another base optimizer than the one that was asked for",
        "v = momentum v + g, with momentum as it was given",
    ),
    "update.decay-changed": Entry(
        "weight decay is used with another value than the one that was set, or not as SGD uses it",
        "another decay than the one that was asked for",
        "add weight_decay w to the gradient, with weight_decay as it was given",
    ),
    "update.nesterov": Entry(
        "the momentum is Nesterov's",
        "another base optimizer than the one that was asked for",
        "w = w - lr v",
    ),
    "update.momentum-twice": Entry(
        "the velocity takes in both gradients (the base optimizer is stepped in both passes)",
        "the velocity remembers the ascent",
        "step the base optimizer once a step, with the second gradient",
    ),
    "update.two-steps": Entry(
        "both passes make a full base step",
        "the weights move by the first gradient as well",
        "step the base optimizer once a step, with the second gradient",
    ),
    "update.lr-in-velocity": Entry(
        "the velocity holds lr g: w = w - v, v = momentum v + lr g",
        "the same at a constant learning rate; a changed one reaches old gradients late",
        "nothing, if it is meant; torch.optim.SGD keeps lr outside",
        note=True,
    ),
    "update.lr-ignored": Entry(
        "a changed learning rate has no effect",
        "schedulers do not reach the base optimizer (its parameter groups are other objects)",
        "step with the lr that is set; in PyTorch, the wrapper's param_groups are the base's own",
    ),
    "update.lr-changed": Entry(
        "the step is made with another learning rate than the one that was set",
        "schedules and results do not carry over from other implementations",
        "w = w - lr v, with lr as it was given",
    ),
    "update.other-base": Entry(
        "the base step is that of another optimizer than the one that was asked for or given",
        "another base optimizer",
        "give the wrapper the base optimizer that was asked for",
    ),
    "update.no-step": Entry(
        "the weights do not move",
        "no training",
        "apply the base step, and return the new weights",
    ),
    "update.ascends": Entry(
        "the base step goes up the gradient",
        "the loss is maximised",
        "subtract lr times the gradient",
    ),
    "update.unknown": Entry(
        "the base step fits nothing that this check knows",
        "another algorithm",
        "compare the observed step with w - lr v, v = momentum v + g + weight_decay w",
    ),
    "algorithm.base-optimizer": Entry(
        "this is the base optimizer: one gradient a step, at w",
        "no ascent at all",
        "take a second gradient at w + eps and step with it",
    ),
    "algorithm.gsam": Entry(
        "this is GSAM: a part of the first gradient is taken from the second",
        "it also lowers the gap between the two losses",
        "step with the second gradient alone",
    ),
    "algorithm.wsam": Entry(
        "this is WSAM: both gradients are weighed",
        "sharpness is weighed as a regulariser",
        "step with the second gradient alone",
    ),
    "algorithm.looksam": Entry(
        "this is LookSAM: the ascent is made every few steps and reused",
        "cheaper; another step in between",
        "perturb in every step",
    ),
}
