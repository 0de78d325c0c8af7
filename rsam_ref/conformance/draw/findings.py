"""What can be found of the draw D around w (R-SAM)."""

from __future__ import annotations

from rsam_ref.conformance.report.entry import Entry

FINDINGS: dict[str, Entry] = {
    "noise.missing": Entry(
        "no draw is made, in some of the steps or in all of them, although sigma > 0",
        "the gradient is taken at w there: nothing is smoothed, whatever sigma is",
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
    "noise.last-axis": Entry(
        "what shares an index of the last axis is taken for a filter: right for weights (in, out) "
        "and (h, w, in, out), as Flax and Keras have them, and judged with such weights",
        "in weights (out, in), as PyTorch and Equinox have them, these are columns, not filters",
        "nothing, with Flax's weights; else the norm over every axis but the first",
        note=True,
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
    "noise.other-norm": Entry(
        "the draw is scaled by another measure of the filter than its norm (largest or mean |w|, "
        "standard deviation)",
        "the noise is smaller, by a factor that depends on the filter",
        "use the norm: the root of the sum of squares",
    ),
    "noise.norm-power": Entry(
        "the draw is scaled by a power of the filter's norm (its root, its square)",
        "small and large filters get noise of another relative size",
        "multiply z by the norm itself",
    ),
    "noise.unknown-scale": Entry(
        "the size of the draw follows no rule that this check knows",
        "another smoothing of the loss than the paper's",
        "D = sigma s z: z times the norm of the filter that each weight belongs to, times sigma",
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
        "several steps, or all of them, get the same draw (a seed set inside the step)",
        "w + D takes a few fixed offsets: no smoothing",
        "keep one generator for the run, or make the seed depend on the step",
    ),
    "noise.correlated": Entry(
        "the draws of different steps are correlated, or each other's negative",
        "a smoothing that lags behind, or pairs that cancel",
        "draw independently in every step",
    ),
    "noise.same-for-equal-shapes": Entry(
        "tensors get the same random numbers (one key or seed for all of them)",
        "their noises are correlated; the public JAX code does this to tensors of equal shape",
        "split the key, or go on with the generator, from tensor to tensor",
    ),
    "noise.repeated-in-tensor": Entry(
        "the random numbers of a tensor begin again within it",
        "weights are perturbed alike, not independently",
        "draw in the shape of the whole parameter",
    ),
    "noise.low-precision": Entry(
        "the draw was made in float16 or bfloat16",
        "its numbers have 11 or 8 bits: a coarser Gaussian",
        "draw in float32, or in the weights' own type",
        note=True,
    ),
    "noise.not-removed": Entry(
        "the draw, or what is left of it where another is taken away, stays in the weights",
        "the weights take a random walk, or the second gradient is taken elsewhere",
        "put the saved weights back after the first pass, and before the base step",
    ),
    "noise.added-after-ascent": Entry(
        "the draw is added after the ascent: it is not in the first gradient",
        "the ascent is SAM's, and the second gradient is taken off its end",
        "take the first gradient at w + D; the second at w + eps, without D",
    ),
    "algorithm.noise-only": Entry(
        "this is random smoothing: one gradient a step, at w + D",
        "no ascent at all",
        "take a second gradient at w + eps and step with it",
    ),
    "algorithm.rsam-ball": Entry(
        "this is the variant `ball` of R-SAM: the draw has length sigma over all weights",
        "the noise does not follow the filters",
        "D = sigma s z, filter by filter",
    ),
}
