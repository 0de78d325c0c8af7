"""What can be found of the ascent: its direction, its length, and whose ascent it is."""

from __future__ import annotations

from rsam_ref.conformance.report.entry import Entry

FINDINGS: dict[str, Entry] = {
    "ascent.cached-weights": Entry(
        "both passes are in one torch.autocast block, which keeps the lowered weights of the first",
        "the second gradient is the first one again: SAM is off as soon as autocast is on",
        "open torch.autocast anew for each pass, with backward outside; or cache_enabled=False",
    ),
    "direction.lam-ignored": Entry(
        "lam does not weigh the gradient (1, or a fixed number, in its place, or it weighs both)",
        "lam has no effect",
        "a = lam g0 + D",
    ),
    "direction.lam-on-noise": Entry(
        "lam weighs the draw, or divides the gradient, instead of weighing it: a = g0 + lam D",
        "the ascent follows the noise more, the larger lam is: the opposite",
        "a = lam g0 + D",
    ),
    "direction.noise-subtracted": Entry(
        "the draw is subtracted: a = lam g0 - D",
        "the ascent goes away from the place where the gradient was taken",
        "a = lam g0 + D",
    ),
    "direction.gradient-subtracted": Entry(
        "the gradient is subtracted from the draw: a = D - lam g0",
        "the perturbation lowers the loss instead of raising it",
        "a = lam g0 + D",
    ),
    "direction.noise-only": Entry(
        "the perturbation is the draw alone, brought to the radius",
        "no ascent: random smoothing",
        "a = lam g0 + D",
    ),
    "direction.noise-only-in-norm": Entry(
        "the draw is in the norm of a, but not in its direction",
        "the perturbation is shorter than rho",
        "use the same a above and below the fraction bar",
    ),
    "direction.noise-not-in-norm": Entry(
        "the draw is in the direction, but not in the norm that divides it",
        "the perturbation is longer than rho",
        "use the same a above and below the fraction bar",
    ),
    "direction.normalised-first": Entry(
        "gradient or draw are brought to a length of their own before they are added",
        "their balance no longer follows the gradient's size",
        "a = lam g0 + D, then one norm of the sum",
    ),
    "direction.clipped-first": Entry(
        "the gradient is cut to a length before the draw is added",
        "in steps with a long gradient the ascent follows the draw more than lam says",
        "a = lam g0 + D with g0 as it is; clip the second gradient, if any",
    ),
    "direction.unscaled-noise": Entry(
        "a holds the draw before it was scaled (z, s z or sigma z) instead of D",
        "the ascent is mostly noise",
        "use the D that was added to the weights",
    ),
    "direction.scaled-gradient": Entry(
        "the gradient in a = lam g0 + D is that of the loss times a gradient scaler's factor",
        "beside it the draw is as good as nothing, and how much changes with the scaler",
        "scaler.unscale_(optimizer) before the direction is made",
    ),
    "direction.wrong-weights": Entry(
        "gradient and draw are added in another proportion than lam",
        "the ascent follows one of them too much",
        "a = lam g0 + D",
    ),
    "direction.fresh-draw": Entry(
        "the direction holds another draw than the one the gradient was taken at",
        "a second random direction, unrelated to the gradient",
        "draw once a step and use it in both places",
    ),
    "direction.gradient-at-w": Entry(
        "the first gradient is taken at w, and the draw comes in with the direction only",
        "nothing is smoothed: the gradient is SAM's",
        "take the first gradient at w + D",
    ),
    "direction.measured-from-noise": Entry(
        "the perturbation is added to w + D instead of w",
        "the second gradient is taken up to ||D|| too far away",
        "restore w first, then add eps",
    ),
    "ascent.missing": Entry(
        "the gradient is never taken at a perturbed point",
        "the method is its base optimizer (or random smoothing)",
        "take a second gradient at w + eps and step with it",
    ),
    "ascent.descends": Entry(
        "the perturbation goes down the gradient",
        "it seeks the lowest loss nearby instead of the highest",
        "add rho g0 / ||g0||; do not subtract it",
    ),
    "ascent.not-normalised": Entry(
        "the gradient is not divided by its norm",
        "the radius shrinks with the gradient and vanishes as training ends",
        "divide by the norm over all parameters",
    ),
    "ascent.partly-normalised": Entry(
        "the gradient is divided by its norm in part: eps = rho (a + b / norm) v",
        "between SAM and unnormalised SAM: the radius shrinks with the gradient, but not to 0",
        "divide by the norm over all parameters",
    ),
    "ascent.bounded-radius": Entry(
        "the perturbation's length has a floor or a cap: max(norm, c), min(rho, c) and the like",
        "the radius is another one in the steps where the bound bites",
        "||eps|| = rho in every step; a constant of 1e-12 or so is enough against a norm of 0",
    ),
    "ascent.squared-norm": Entry(
        "the gradient is divided by its squared norm",
        "the radius grows as the gradient shrinks, and training breaks near its end",
        "take the root of the sum of squares",
    ),
    "ascent.norm-per-tensor": Entry(
        "each tensor's gradient is divided by its own norm",
        "the radius is rho times the root of the number of tensors, shared out alike",
        "one norm over all parameters together",
    ),
    "ascent.norm-per-module": Entry(
        "each module's gradient (weight and bias together) is divided by its own norm",
        "the radius is rho times the root of the number of modules, shared out alike",
        "one norm over all parameters together",
    ),
    "ascent.norm-per-filter": Entry(
        "each filter's gradient is divided by its own norm",
        "the radius is rho times the root of the number of filters, shared out alike",
        "one norm over all parameters together",
    ),
    "ascent.norm-per-group": Entry(
        "each parameter group's gradient is divided by its own norm",
        "the radius grows with the number of groups",
        "one norm over all groups together; rho alone may differ between them",
    ),
    "ascent.sum-of-norms": Entry(
        "the tensors' norms are added up instead of their squares",
        "the radius is too small, the more so the more tensors there are",
        "the root of the sum of the squared norms",
    ),
    "ascent.norm-of-one-tensor": Entry(
        "the norm of a single tensor (often the last) divides all of them",
        "the radius is too large by an arbitrary factor",
        "add up the squares over all parameters before taking the root",
    ),
    "ascent.other-norm": Entry(
        "another norm divides than the direction's Euclidean one of all tensors (largest entry, "
        "sum, mean; of g0 and D apart; of another vector)",
        "the radius depends on the number of weights",
        "the root of the sum of squares over all parameters",
    ),
    "ascent.sign": Entry(
        "the perturbation is rho times the gradient's sign",
        "the maximum-norm ball: the length grows with the root of the number of weights",
        "divide the gradient by its Euclidean norm",
    ),
    "ascent.wrong-scaling": Entry(
        "ASAM's |w| comes in once where it belongs twice, or is missing in the norm",
        "the radius is not measured relative to the weights",
        "eps = rho T^2 g0 / ||T g0||, T = |w| + eta",
    ),
    "ascent.asam-reading": Entry(
        "ASAM's T is |w| without eta, or 1 for biases, as some public code has it",
        "weights at 0 cannot move in the ascent; biases are perturbed as in SAM",
        "nothing, if it is meant; T = |w| + eta for every weight otherwise",
        note=True,
    ),
    "ascent.norm-skips-biases": Entry(
        "1-D parameters are left out of the norm",
        "the radius is slightly larger than rho",
        "one norm over all parameters together",
    ),
    "ascent.biases-left-out": Entry(
        "1-D parameters are not perturbed",
        "the ascent is in a subspace; some call this a feature, the paper does not do it",
        "perturb all parameters",
    ),
    "ascent.norm-layers-left-out": Entry(
        "the norm layers' scales and shifts are not perturbed",
        "the ascent is in a subspace; some call this a feature, the paper does not do it",
        "perturb all parameters",
    ),
    "ascent.norm-layers-only": Entry(
        "the norm layers' scales and shifts alone are perturbed (as SAM-ON does)",
        "the ascent is in a small subspace; in a network without such layers there is none",
        "perturb all parameters",
    ),
    "ascent.tensor-left-out": Entry(
        "some tensors are not perturbed",
        "the ascent is in a subspace",
        "perturb all parameters",
    ),
    "ascent.masked": Entry(
        "only some of the weights are perturbed (as in sparse or efficient SAM)",
        "the ascent is in a subspace",
        "perturb all parameters",
    ),
    "ascent.centred-gradient": Entry(
        "the direction is the centred gradient (gradient centralisation)",
        "the ascent leaves out the filters' means",
        "use the gradient as it is in the ascent",
    ),
    "ascent.clipped-gradient": Entry(
        "the ascent's gradient is clipped entry by entry, or filter by filter",
        "the perturbation points elsewhere: its largest parts are cut",
        "clip nothing before the ascent (its length does not matter), or the base step's gradient",
    ),
    "ascent.rescaled-gradient": Entry(
        "tensors, filters or entries of the ascent's gradient are scaled against each other",
        "the perturbation points elsewhere",
        "eps = rho g0 / ||g0||: one factor for all",
    ),
    "ascent.noisy-gradient": Entry(
        "random numbers are added to the ascent's gradient",
        "the perturbation points elsewhere, at random",
        "use the gradient as it is in the ascent",
    ),
    "ascent.kept-perturbation": Entry(
        "the perturbation holds a share of the last step's",
        "perturbations add up from step to step",
        "eps = rho g0 / ||g0||, from w, in every step",
    ),
    "ascent.stale-weights": Entry(
        "a gradient is taken around the weights of an earlier step",
        "the step is taken with the gradient of another place",
        "copy the weights into the perturbed network after the step, not before it",
    ),
    "ascent.decay-inside": Entry(
        "weight decay is part of the ascent's gradient",
        "the perturbation grows the weights besides raising the loss",
        "L has no weight decay inside; decay belongs to the base step",
    ),
    "ascent.stale-gradient": Entry(
        "the ascent uses the gradient of the step before",
        "the perturbation does not raise this batch's loss",
        "take the ascent gradient on the same batch, in the same step",
    ),
    "ascent.momentum-direction": Entry(
        "the ascent uses the momentum buffer, or a running mean, instead of the gradient",
        "another method: the ascent goes where the weights came from",
        "perturb along the gradient",
    ),
    "ascent.radius-times-lr": Entry(
        "rho is multiplied by the learning rate",
        "the radius dies with the learning rate's schedule",
        "eps = rho g0 / ||g0||; the learning rate belongs to the base step",
    ),
    "ascent.radius-power": Entry(
        "the radius is rho squared, or the root of rho",
        "the radius is not the one that was asked for",
        "||eps|| = rho",
    ),
    "ascent.radius-ignored": Entry(
        "the radius does not change when rho does",
        "a schedule of rho has no effect, or a default is used for it",
        "read rho in every step",
    ),
    "ascent.wrong-radius": Entry(
        "the perturbation's length is rho times a constant",
        "the radius is not the one that was asked for",
        "||eps|| = rho",
    ),
    "ascent.radius-scheduled": Entry(
        "the perturbation's length is rho times a number that changes from step to step",
        "the radius follows a schedule that was not asked for",
        "||eps|| = rho; a schedule belongs to whoever sets rho",
    ),
    "ascent.relative-radius": Entry(
        "the radius is rho times the norm of the weights",
        "the radius grows with the weights",
        "||eps|| = rho",
    ),
    "ascent.shared-twice": Entry(
        "a weight that two layers share is perturbed, or counted in the norm, once for each",
        "it goes twice as far as the others, or all go less far than rho",
        "go through model.parameters(), which gives every tensor once, instead of the layers",
    ),
    "ascent.one-rho-for-all-groups": Entry(
        "all parameter groups get the rho of one of them",
        "a group's own rho has no effect",
        "multiply each group by its own rho",
    ),
    "ascent.epsilon-too-large": Entry(
        "a constant in the norm (beside it, under the root) shortens the perturbation",
        "the radius shrinks as the gradient does",
        "add 1e-12 or so to the norm; under the root it counts for its own root",
    ),
    "ascent.radius-each-step": Entry(
        "each of k ascent steps has the full radius rho",
        "the perturbation is up to k times rho",
        "k steps of rho / k each",
    ),
    "ascent.skipped": Entry(
        "some steps make no ascent",
        "a part of the training is the base optimizer's (as in LookSAM or randomized training)",
        "perturb in every step",
    ),
    "ascent.nan-at-zero-gradient": Entry(
        "a gradient of 0 gives NaN",
        "one batch without gradient destroys the weights",
        "add a small constant to the norm",
    ),
    "ascent.unknown": Entry(
        "the perturbation fits nothing that this check knows",
        "another algorithm",
        "compare the observed perturbation with rho g0 / ||g0|| (SAM) or rho a / ||a|| (R-SAM)",
    ),
    "algorithm.sam": Entry(
        "this is SAM",
        "nothing is smoothed: sigma and lam have no effect",
        "take the first gradient at w + D, and D into the direction",
    ),
    "algorithm.k-step-sam": Entry(
        "this is SAM with several ascent steps",
        "k + 1 gradients a step instead of two",
        "one ascent step",
    ),
    "algorithm.asam": Entry(
        "this is ASAM: the radius is measured relative to |w|",
        "its radii are about ten times SAM's",
        "leave out the scaling by |w|",
    ),
    "algorithm.m-sam": Entry(
        "this is m-SAM (m-sharpness): each part of the mini-batch has its own perturbation",
        "a perturbation of fewer samples; as with several devices that do not share g0",
        "add up the parts' first gradients before the ascent",
    ),
    "algorithm.momentum-sam": Entry(
        "this is momentum SAM: the perturbation goes along the velocity, with one gradient a step",
        "half the cost; the perturbation does not raise this batch's loss",
        "take the ascent's gradient on the same batch, in the same step",
    ),
    "algorithm.bayesian-sam": Entry(
        "this is Bayesian SAM: noise and perturbation are scaled by a running second moment",
        "nothing is normalised; the scales follow the gradients, not the weights",
        "D = sigma s z with the filters' norms, eps = rho a / ||a||",
    ),
    "algorithm.vasso": Entry(
        "this is VaSSO: the ascent goes along a running mean of the first gradients",
        "the perturbation depends less on the mini-batch",
        "perturb along the gradient itself",
    ),
    "algorithm.rwp": Entry(
        "this is random weight perturbation: one gradient at w, one at w plus noise; no ascent",
        "random smoothing, mixed with the base optimizer",
        "take the second gradient at w + eps, eps along the first one",
    ),
    "algorithm.friendly-sam": Entry(
        "this is Friendly SAM: a running mean is taken from the ascent gradient",
        "the ascent follows the batch's own part of the gradient",
        "perturb along the gradient itself",
    ),
    "algorithm.rsam": Entry(
        "this is R-SAM",
        "the gradient is taken around w, and the draw is part of the ascent",
        "take the first gradient at w",
    ),
    "algorithm.rsam-stacked": Entry(
        "this is the variant `stacked` of R-SAM: the draw stays in both passes",
        "the second gradient is up to ||D|| further away",
        "measure eps from w",
    ),
    "algorithm.rsam-gradient": Entry(
        "this is the variant `gradient` of R-SAM: the draw is left out of the direction",
        "the limit of R-SAM for large lam",
        "a = lam g0 + D",
    ),
}
