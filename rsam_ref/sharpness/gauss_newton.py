"""The two matrices that stand in for the Hessian: Gauss-Newton's and the empirical Fisher.

The Hessian of a mean of softmax cross-entropies is, with J_n (K, P) the derivative of the scores of
sample n, p_n their softmax and y_n the target,

    H = G + mean_n sum_k (p_n - y_n)_k * (Hessian of score k),   G = mean_n J_n^T A_n J_n,
    A_n = diag(p_n) - p_n p_n^T:   the generalised Gauss-Newton matrix, Fisher's matrix too;
    F = mean_n J_n^T (p_n - y_n)(p_n - y_n)^T J_n:   the empirical Fisher matrix.

(Martens, New insights and perspectives on the natural gradient method, JMLR 21, 2020; Kunstner,
Balles and Hennig, Limitations of the empirical Fisher approximation, NeurIPS 2019.)

A trace costs one backward pass a probe: vectors r_n that are independent between samples, with mean
0 and E[r_n r_n^T] = A_n, give E ||sum_n J_n^T r_n||^2 / N = tr G.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rsam_backends import Stream, library_of
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import norm
from rsam_ref.sharpness.branch import Branch
from rsam_ref.sharpness.eigenvalues import Eigenvalues, eigenvalues_of
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import precision
from rsam_ref.sharpness.outputs import Outputs
from rsam_ref.sharpness.probes import signs_like


def gauss_newton_trace(outputs: Outputs, w: Array, *, probes: int = 30, stream: Stream) -> Estimate:
    """tr G at w (P,) for softmax cross-entropy, with its interval over probes, r_n = A_n^1/2 z_n.

    z_n are random signs and A_n^1/2 z = sqrt(p) z - p (sqrt(p) . z).
    """
    p = softmax(outputs(w))
    return _mean_square(outputs, w, (_root(p, _signs(p, stream)) for _ in range(probes)))


def fisher_trace(
    outputs: Outputs, targets: Array, w: Array, *, probes: int = 30, stream: Stream
) -> Estimate:
    """tr F at w (P,), with its interval over probes, r_n = +- (p_n - y_n).

    ``targets`` are the probabilities (N, K), one-hot rows for labels.
    """
    rest = softmax(outputs(w)) - targets
    drawn = (_signs(rest[:, :1], stream) * rest for _ in range(probes))
    return _mean_square(outputs, w, drawn)


def exact_traces(samples: Iterable[Outputs], targets: Array, w: Array) -> tuple[Estimate, Estimate]:
    """tr G and tr F at w (P,) from every sample alone: K + 1 backward passes each.

    The means are exact for these samples; the intervals are over samples, and say how far others
    would move the means.
    """
    of_g, of_f = [], []
    for n, sample in enumerate(samples):
        p = softmax(sample(w))  # (1, K)
        columns = (_root(p, _unit(p, k)) for k in range(p.shape[1]))
        of_g.append(sum(float(norm(sample.pull(w, r))) ** 2 for r in columns))
        of_f.append(float(norm(sample.pull(w, p - targets[n : n + 1]))) ** 2)
    return Estimate.of(of_g), Estimate.of(of_f)


class GaussNewton:
    """v -> G v at w (P,): scores forward, times A_n, and back.

    Forward is the outputs' own ``push``, if they have one, which is J v. Else it is a difference of
    scores on the `Branch` at w, so that no kink is stepped over; where they bend along v, it is
    good to about ten digits.
    """

    def __init__(self, outputs: Outputs, w: Array) -> None:
        self.outputs, self.w = outputs, w
        self.p = softmax(outputs(w))
        asked: Any = outputs
        self._push: Any = getattr(outputs, "push", None)
        self.exact = self._push is not None
        self._branch: Any = None if self.exact else Branch(asked, w)

    def __call__(self, v: Array, times: float = 1.0) -> Array:
        """G v; ``times`` as far apart as the scores are asked else."""
        if float(norm(v)) == 0:
            return 0 * self.w
        forward = self._forward(v, times)
        r = self.p * (forward - (self.p * forward).sum(axis=1, keepdims=True))  # A_n J_n v
        return self.outputs.pull(self.w, r) / self.p.shape[0]

    def over_samples(self, v: Array) -> Estimate:
        """v . G v for a v (P,) that is not 0, with its interval over samples, v held.

        It is the mean of (J_n v) . A_n J_n v, the variance of J_n v under each p_n.
        """
        forward = self._forward(v, 1.0)
        centred = forward - (self.p * forward).sum(axis=1, keepdims=True)
        return Estimate.of((self.p * centred * centred).sum(axis=1).tolist())

    def _forward(self, v: Array, times: float) -> Array:
        """J_n v (N, K)."""
        return self._push(self.w, v) if self.exact else self._difference(v, times)

    def _difference(self, v: Array, times: float) -> Array:
        """J_n v (N, K) by a difference of the scores."""
        length = float(norm(v))
        h = times * precision(self.w) ** (1 / 3) * (1 + float(norm(self.w))) / length
        ahead, behind = self._branch(self.w + h * v), self._branch(self.w - h * v)
        return (ahead - behind) / (2 * h)


def gauss_newton_eigenvalues(
    outputs: Outputs,
    w: Array,
    k: int = 1,
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
    stream: Stream,
) -> Eigenvalues:
    """The k largest eigenvalues of G at w (P,), with bounds as those of the Hessian's.

    The product's own error is taken for how far a shorter difference disagrees, for rounding where
    it is exact.
    """
    product = GaussNewton(outputs, w)

    def checked(q: Array) -> tuple[Array, float]:
        image = product(q)
        return image, 4 * float(norm(product(q, times=1 / 3) - image))

    return eigenvalues_of(
        product,
        None if product.exact else checked,
        w,
        k,
        iterations=iterations,
        tolerance=tolerance,
        stream=stream,
    )


def softmax(scores: Array) -> Array:
    """The probabilities (N, K) of scores (N, K)."""
    library = library_of(scores)
    raised = library.exp(scores - library.amax(scores, axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _root(p: Array, z: Array) -> Array:
    """A^1/2 z, row by row: a root of diag(p) - p p^T is (1 - p 1^T) diag(sqrt p)."""
    scaled = library_of(p).sqrt(p) * z
    return scaled - p * scaled.sum(axis=1, keepdims=True)


def _signs(like: Array, stream: Stream) -> Array:
    return signs_like(like, stream).reshape(like.shape)


def _unit(p: Array, k: int) -> Array:
    """A row (1, K) with a 1 at k."""
    library = library_of(p)
    zero, one = 0 * p[:, :1], 0 * p[:, :1] + 1
    return library.concatenate([one if i == k else zero for i in range(p.shape[1])], axis=1)


def _mean_square(outputs: Outputs, w: Array, drawn: Iterator[Array]) -> Estimate:
    return Estimate.of(float(norm(outputs.pull(w, r))) ** 2 / r.shape[0] for r in drawn)
