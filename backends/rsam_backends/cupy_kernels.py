"""The CuPy backend's faster ops: the Python around the kernels in ``kernels.cu``.

Each function has the signature and the meaning of the definition that it stands for. They need two
things only, a namespace and a ``launch``, so that tests can run them where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rsam_backends.base import Array, Kernel, Result
from rsam_backends.windows import Pair, fit, pair

SOURCE = Path(__file__).with_name("kernels.cu")
THREADS = 128  # of a block; filter_norms counts on a power of two, at most 128

Launch = Callable[..., None]
"""``launch(kernel, blocks, *arguments)``: run a kernel of kernels.cu in blocks of THREADS threads.

Arguments are arrays, whole numbers (Python's, for int), `Long` and `Real` values.
"""


class Long(int):
    """A kernel argument of the C type long long."""


class Real(float):
    """A kernel argument of the arrays' own type."""


def make_kernels(xp: Any, launch: Launch) -> dict[str, Kernel]:
    """The table of kernels, by the names of the ops, for a namespace and a way to launch.

    A kernel that cannot do what it is asked for returns NotImplemented: then the definition is run,
    which also says what is wrong with arguments that do not fit.
    """

    def over(kernel: str, size: int, *arguments: Any) -> None:
        """One thread for each of ``size`` elements."""
        if size:
            launch(kernel, -(-size // THREADS), *arguments)

    def contiguous(*arrays: Array) -> list[Array]:
        """The arrays as the kernels read them: C order, all of the type of the first."""
        return [xp.ascontiguousarray(a, arrays[0].dtype) for a in arrays]

    def conv2d(
        x: Array,
        weight: Array,
        bias: Array | None = None,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
    ) -> Result:
        if not _fits(x, weight, bias, stride, padding, groups):
            return NotImplemented
        (x,) = contiguous(x)
        n, channels, h, w = x.shape
        o, c, kh, kw = weight.shape
        (sh, sw), (ph, pw) = pair(stride), pair(padding)
        ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        geometry = (n, channels, h, w, ho, wo, kh, kw, sh, sw, ph, pw, groups)
        filters = weight.reshape(groups, o // groups, c * kh * kw)

        def rows() -> Array:  # (G, N*Ho*Wo, C*kH*kW)
            matrix = xp.empty((groups, n * ho * wo, c * kh * kw), dtype=x.dtype)
            over("im2col", matrix.size, x, matrix, Long(matrix.size), *geometry)
            return matrix

        def columns(g: Array) -> Array:  # (N, O, Ho, Wo) -> (G, N*Ho*Wo, O/G)
            grouped = xp.asarray(g, x.dtype).reshape(n, groups, o // groups, ho, wo)
            return grouped.transpose(1, 0, 3, 4, 2).reshape(groups, n * ho * wo, o // groups)

        value = rows() @ filters.swapaxes(1, 2)  # (G, N*Ho*Wo, O/G)
        if bias is not None:
            value += bias.reshape(groups, 1, o // groups)
        value = value.reshape(groups, n, ho, wo, o // groups).transpose(1, 0, 4, 2, 3)
        value = xp.ascontiguousarray(value).reshape(n, o, ho, wo)

        def vjp_x(g: Array) -> Array:
            matrix = columns(g) @ filters  # (G, N*Ho*Wo, C*kH*kW)
            back = xp.empty_like(x)
            over("col2im", back.size, matrix, back, Long(back.size), *geometry)
            return back

        def vjp_weight(g: Array) -> Array:
            return (columns(g).swapaxes(1, 2) @ rows()).reshape(weight.shape)

        return value, (vjp_x, vjp_weight, lambda g: g.sum(axis=(0, 2, 3)))

    def max_pool2d(
        x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
    ) -> Result:
        (kh, kw), (ph, pw) = pair(window), pair(padding)
        sh, sw = (kh, kw) if stride is None else pair(stride)
        if x.ndim != 4 or not fit(x, (kh, kw), (sh, sw), (ph, pw), pooling=True) or not _real(x):
            return NotImplemented
        (x,) = contiguous(x)
        n, c, h, w = x.shape
        ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        geometry = (h, w, ho, wo, kh, kw, sh, sw, ph, pw)
        out = xp.empty((n, c, ho, wo), dtype=x.dtype)
        place = xp.empty(out.shape, dtype="int32")
        over("max_pool", out.size, x, out, place, Long(out.size), *geometry)
        shape, dtype = x.shape, x.dtype

        def vjp(g: Array) -> Array:
            g = xp.ascontiguousarray(g, dtype)
            back = xp.empty(shape, dtype=dtype)
            over("max_pool_back", back.size, g, place, back, Long(back.size), *geometry)
            return back

        return out, (vjp,)

    def batch_norm(
        x: Array,
        gamma: Array,
        beta: Array,
        *,
        mean: Array,
        var: Array,
        eps: float = 1e-5,
        constant: bool = False,
        across: Callable[[Array], Array] | None = None,
    ) -> Result:
        by_channel = gamma, beta, mean, var
        fits = x.ndim in (2, 4) and all(a.shape == x.shape[1:2] for a in by_channel)
        if not fits or not _real(x, *by_channel) or across is not None:
            return NotImplemented
        x, gamma, beta, mean, var = contiguous(x, gamma, beta, mean, var)
        channels = x.shape[1]
        places = x.shape[2] * x.shape[3] if x.ndim == 4 else 1
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        sizes = (Long(x.size), channels, places)
        inverse_std = 1 / xp.sqrt(var + eps)
        out = xp.empty_like(x)
        over("batch_norm", x.size, x, gamma, beta, mean, inverse_std, out, *sizes)

        def vjps(g: Array) -> tuple[Array | None, ...]:
            g = xp.ascontiguousarray(g, x.dtype)
            work = xp.empty_like(x)
            over("batch_norm_products", x.size, g, x, mean, inverse_std, work, *sizes)
            g_gamma, g_beta = work.sum(axis=axes), g.sum(axis=axes)
            count = 0 if constant else x.size // channels
            arguments = (g, x, gamma, mean, inverse_std, g_beta, g_gamma, work)
            over("batch_norm_back", x.size, *arguments, *sizes, count)
            return work, g_gamma, g_beta

        return out, vjps

    def cross_entropy(
        logits: Array,
        targets: Array,
        *,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
    ) -> Result:
        fits = logits.ndim == 2 and targets.shape == logits.shape[:1] and ignore_index is None
        if not fits or targets.dtype.kind not in "iu" or not _real(logits):
            return NotImplemented  # soft targets, or shapes that do not fit
        (logits,) = contiguous(logits)
        n, classes = logits.shape
        losses = xp.empty(n, dtype=logits.dtype)
        difference = xp.empty_like(logits)
        labels = targets.astype("int64")
        sizes = (Long(n), classes, Real(label_smoothing))
        over("cross_entropy_labels", n, logits, labels, losses, difference, *sizes)
        return losses.sum() / n, (lambda g: difference * (g / n), None)

    layouts: dict[Any, tuple[int, Array, Array]] = {}

    def filter_scale(w: Array, shapes: Sequence[tuple[int, ...]]) -> Array:
        if not hasattr(w, "flags") or not _real(w) or not w.flags.c_contiguous:
            return NotImplemented
        key = (tuple(map(tuple, shapes)), w.dtype)
        if key not in layouts:
            ends, tinies = [0], []
            for shape in key[0]:
                size = 1
                for length in shape:
                    size *= length
                filters = shape[0] if len(shape) > 1 else 1
                for _ in range(filters):
                    ends.append(ends[-1] + size // filters)
                    tinies.append(1e-16 if len(shape) == 1 else 0.0)
            layouts[key] = ends[-1], xp.asarray(ends, "int64"), xp.asarray(tinies, w.dtype)
        total, starts, tiny = layouts[key]
        if total != w.size:
            return NotImplemented
        norms, scale = xp.empty_like(tiny), xp.empty_like(w)
        launch("filter_norms", norms.size, w, starts, tiny, norms)
        launch("filter_spread", norms.size, norms, starts, scale)
        return scale

    def sgd_update(
        w: Array,
        gradient: Array,
        velocity: Array | None,
        *,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> Array | None:
        vectors = (w, gradient) if velocity is None else (w, gradient, velocity)
        fits = all(a.shape == w.shape and a.flags.c_contiguous for a in vectors)
        if not fits or not _real(*vectors):
            return NotImplemented
        first = velocity is None
        if first:
            velocity = xp.empty_like(w) if momentum else w  # not touched without momentum
        numbers = (Real(lr), Real(momentum), Real(dampening), Real(weight_decay))
        arguments = (Long(w.size), *numbers, int(nesterov), int(first))
        over("sgd_update", w.size, w, gradient, velocity, *arguments)
        return velocity if momentum else None

    return {
        "conv2d": conv2d,
        "max_pool2d": max_pool2d,
        "batch_norm": batch_norm,
        "cross_entropy": cross_entropy,
        "filter_scale": filter_scale,
        "sgd_update": sgd_update,
    }


def _fits(
    x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any, groups: int
) -> bool:
    if x.ndim != 4 or weight.ndim != 4 or not _real(x, weight):
        return False
    return (
        x.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
        and (bias is None or bias.shape == weight.shape[:1])
        and fit(x, weight.shape[2:], pair(stride), pair(padding))
    )


def _real(*arrays: Array) -> bool:
    """Whether all arrays are of one of the two types that the kernels are compiled for."""
    dtype = arrays[0].dtype
    return dtype in ("float32", "float64") and all(a.dtype == dtype for a in arrays)
