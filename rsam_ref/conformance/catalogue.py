"""Everything that a check can find: one entry a code.

A *divergence* makes an implementation another algorithm than the one it is held against. A *note*
is precision, style or cost: it does not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Entry:
    """What a code means: what is done, what that does to training, how to mend it."""

    what: str
    effect: str
    remedy: str
    note: bool = False


def check_codes(codes: Collection[str]) -> None:
    """Raise `ValueError` for what is no code, with the codes that look like it."""
    for code in [codes] if isinstance(codes, str) else codes:
        if code not in CATALOGUE:
            near = get_close_matches(code, CATALOGUE)
            there = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"unknown code {code!r}{there} (rsam-ref check --codes lists all)")


CATALOGUE: dict[str, Entry] = {
    # The draw D around w (R-SAM).
    "noise.missing": Entry(
        "no draw is made although sigma > 0",
        "the gradient is taken at w: this is SAM, whatever sigma is",
        "draw D = sigma s z anew in every step and take the first gradient at w + D",
    ),
    "noise.whole-tensor": Entry(
        "the draw is scaled by the norm of the whole tensor, not of each filter",
        "small filters get far more noise than their own size, large ones less",
        "take the norm over all axes but the first (the output axis): one number a filter",
    ),
    "noise.wrong-axis": Entry(
        "the draw is scaled by norms over the wrong axis (inputs for outputs, or single kernels)",
        "the noise no longer follows the size of the filters",
        "a filter is what makes one output: norm over every axis but the first",
    ),
    "noise.unscaled": Entry(
        "the draw has the same size everywhere, whatever the size of the weights",
        "small filters are drowned in noise, large ones hardly notice it",
        "multiply z by the norm of the filter that each weight belongs to",
    ),
    "noise.elementwise": Entry(
        "the draw is scaled by |w| of each single weight",
        "weights near 0 are never perturbed",
        "multiply z by the norm of the filter, the same for all of its weights",
    ),
    "noise.rms-scale": Entry(
        "the draw is scaled by the root mean square of the filter, not by its norm",
        "the noise is smaller by the root of the filter's size",
        "use the norm: the root of the sum of squares",
    ),
    "noise.global-norm": Entry(
        "the draw is scaled by the norm of all weights together",
        "every weight gets noise of the size of the whole network",
        "multiply z by the norm of the filter that each weight belongs to",
    ),
    "noise.bias-elementwise": Entry(
        "biases and other 1-D parameters are scaled element by element",
        "their entries near 0 are never perturbed",
        "a 1-D parameter is one filter: use the norm of the whole vector",
    ),
    "noise.bias-unscaled": Entry(
        "biases and other 1-D parameters get noise that does not follow their size",
        "small biases are drowned in noise",
        "a 1-D parameter is one filter: use the norm of the whole vector",
    ),
    "noise.bias-rms-scale": Entry(
        "1-D parameters are scaled by their root mean square, not by their norm",
        "their noise is smaller by the root of their size",
        "a 1-D parameter is one filter: use the norm of the whole vector",
    ),
    "noise.biases-left-out": Entry(
        "biases and other 1-D parameters get no noise",
        "the loss is smoothed in some directions only",
        "draw for every parameter; a 1-D parameter is one filter",
    ),
    "noise.tensor-left-out": Entry(
        "some weights get no noise",
        "the loss is smoothed in some directions only",
        "draw for every parameter",
    ),
    "noise.sigma-squared": Entry(
        "the noise has sigma squared for its scale (a variance taken for a standard deviation)",
        "far less noise than sigma says",
        "multiply z by sigma once",
    ),
    "noise.sigma-root": Entry(
        "the noise has the root of sigma for its scale",
        "far more noise than sigma says",
        "multiply z by sigma itself",
    ),
    "noise.sigma-times-lr": Entry(
        "the noise is multiplied by the learning rate",
        "the noise dies with the learning rate's schedule",
        "D = sigma s z; the learning rate belongs to the base step",
    ),
    "noise.sigma-ignored": Entry(
        "the noise does not change when sigma does",
        "a schedule of sigma has no effect",
        "read sigma in every step",
    ),
    "noise.wrong-size": Entry(
        "the noise follows the filters, but is larger or smaller than sigma says",
        "the smoothing is not the one that was asked for",
        "D = sigma s z with z ~ N(0, 1) and nothing else",
    ),
    "noise.fixed-length": Entry(
        "each filter's (or tensor's) draw is brought to an exact length, as in pictures of loss "
        "landscapes",
        "the draw is not Gaussian, and smaller by the root of the filter's size",
        "multiply z by the filter's norm; do not divide z by its own",
    ),
    "noise.not-gaussian": Entry(
        "the draw is not Gaussian",
        "another smoothing of the loss than the paper's",
        "draw from the standard normal distribution",
    ),
    "noise.not-centred": Entry(
        "the draw's mean is not 0",
        "every step is pushed in a fixed direction",
        "draw from the standard normal distribution, mean 0",
    ),
    "noise.one-number-per-filter": Entry(
        "all weights of a filter (or a tensor) get the same random number",
        "filters are scaled up and down as a whole; their shape is never smoothed",
        "draw a number for every weight",
    ),
    "noise.same-for-every-filter": Entry(
        "all filters of a tensor get the same random numbers (a draw of one filter's shape)",
        "the outputs of a layer are perturbed alike, not independently",
        "draw in the shape of the whole parameter",
    ),
    "noise.same-draw": Entry(
        "every step gets the same draw (a seed set inside the step)",
        "w + D is a fixed offset, not a smoothing",
        "keep one generator for the run, or make the seed depend on the step",
    ),
    "noise.correlated": Entry(
        "the draws of neighbouring steps are correlated",
        "a smoothing that lags behind",
        "draw independently in every step",
    ),
    "noise.same-for-equal-shapes": Entry(
        "tensors get the same random numbers (one key or seed for all of them)",
        "their noises are correlated; the public JAX code does this to tensors of equal shape",
        "split the key, or go on with the generator, from tensor to tensor",
    ),
    "noise.not-removed": Entry(
        "the draw stays in the weights after the step",
        "the weights take a random walk",
        "restore the saved weights before the base step",
    ),
    "noise.added-after-ascent": Entry(
        "the draw is added after the ascent: it is not in the first gradient",
        "the ascent is SAM's, and the second gradient is taken off its end",
        "take the first gradient at w + D; the second at w + eps, without D",
    ),
    # What eps points along (R-SAM).
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
        "gradient or draw are brought to length 1 before they are added",
        "their balance no longer follows the gradient's size",
        "a = lam g0 + D, then one norm of the sum",
    ),
    "direction.unscaled-noise": Entry(
        "a holds the draw before it was scaled (z, s z or sigma z) instead of D",
        "the ascent is mostly noise",
        "use the D that was added to the weights",
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
    # The ascent (SAM and its relatives).
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
        "another norm than the Euclidean one divides the gradient (maximum, sum, mean)",
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
        "the ascent uses the momentum buffer instead of the gradient",
        "another method (momentum-SAM)",
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
    "ascent.relative-radius": Entry(
        "the radius is rho times the norm of the weights",
        "the radius grows with the weights",
        "||eps|| = rho",
    ),
    "ascent.one-rho-for-all-groups": Entry(
        "all parameter groups get the first group's rho",
        "a group's own rho has no effect",
        "multiply each group by its own rho",
    ),
    "ascent.epsilon-too-large": Entry(
        "a constant added to the norm shortens the perturbation",
        "the radius shrinks as the gradient does",
        "add 1e-12 or so",
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
    # From the perturbed point back to w.
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
    # The base step.
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
    "update.scaled-gradient": Entry(
        "the gradient is multiplied by a constant (a sum over the batch instead of a mean, say)",
        "another learning rate than the one that was set",
        "use the mean loss, and its gradient as it is",
    ),
    "update.normalised-gradient": Entry(
        "the gradient is brought to length 1 before the base step",
        "every step is equally long",
        "leave the gradient as it is, or clip it only if clipping was asked for",
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
        "let the wrapper's param_groups be the base optimizer's own",
    ),
    "update.adam": Entry(
        "the base step is Adam's although SGD was asked for",
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
    # Saving and resuming.
    "resume.momentum-lost": Entry(
        "after saving and loading the momentum starts from 0",
        "every resume is a jolt",
        "put the base optimizer's state into state_dict",
    ),
    "resume.hidden-state": Entry(
        "a run that is gone on with from its saved state differs from one that never stopped",
        "results depend on interruptions",
        "put everything that the next step needs into the state",
    ),
    "resume.fails": Entry(
        "the saved state cannot be loaded",
        "runs cannot be gone on with",
        "make load_state_dict take what state_dict gives",
    ),
    # Batch norm (where the implementation owns the training loop).
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
    # Limits and odd inputs.
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
    # Precision and cost: notes.
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
    "cost.extra-evaluations": Entry(
        "more gradients are computed than are used",
        "time",
        "two gradients a step are enough",
        note=True,
    ),
    "contract.backward-first": Entry(
        "step(closure) expects backward() to have been called before; without it, it is its base "
        "optimizer, silently",
        "whoever calls it as torch's documentation shows trains without SAM",
        "call the closure twice, or refuse to go without a gradient",
        note=True,
    ),
    # Other algorithms, by their names.
    "algorithm.base-optimizer": Entry(
        "this is the base optimizer: one gradient a step, at w",
        "no ascent at all",
        "take a second gradient at w + eps and step with it",
    ),
    "algorithm.noise-only": Entry(
        "this is random smoothing: one gradient a step, at w + D",
        "no ascent at all",
        "take a second gradient at w + eps and step with it",
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
    "algorithm.rsam-ball": Entry(
        "this is the variant `ball` of R-SAM: the draw has length sigma over all weights",
        "the noise does not follow the filters",
        "D = sigma s z, filter by filter",
    ),
}
