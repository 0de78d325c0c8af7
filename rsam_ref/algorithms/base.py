"""The base optimizers, which move the weights: SGD and AdamW, as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsam_backends import replaceable, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.optimizer import Number, Optimizer
from rsam_ref.algorithms.sam import LossAndGrad, Trace, norm
from rsam_ref.algorithms.schedules import at


class _Base(Optimizer):
    """A base optimizer: its gradient is the one at w, perhaps clipped."""

    def __init__(self, lr: Number, weight_decay: float, clip_norm: float | None) -> None:
        if not callable(lr):  # a schedule's values are looked at step by step
            _at_least_zero(lr=lr)
        _at_least_zero(weight_decay=weight_decay)
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm must be > 0, or None for no clipping, not {clip_norm}")
        self.lr = lr
        # Python's numbers: NumPy's float64, as a sweep over linspace has them, would widen float32.
        self.weight_decay = float(weight_decay)
        self.clip_norm = None if clip_norm is None else float(clip_norm)

    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        loss, gradient = loss_and_grad(w)
        return Trace(loss=loss, gradient=gradient)

    def lr_now(self) -> float:
        """The learning rate of the next step."""
        lr = at(self.lr, self.steps)
        _at_least_zero(lr=lr)
        return lr

    def clip(self, gradient: Array) -> Array:
        """The gradient, shortened to ``clip_norm`` where it is longer.

        This is the gradient of the second pass: clipping the first would do nothing to SAM, which
        takes only its direction.
        """
        if self.clip_norm is None:
            return gradient
        return gradient * xp.minimum(self.clip_norm / (norm(gradient) + 1e-6), 1.0)


class SGD(_Base):
    """Stochastic gradient descent, as in PyTorch.

    The update is `sgd_update`. Nesterov's momentum needs momentum > 0 and no dampening.

    >>> import numpy as np
    >>> w = np.array([1.0, 2.0])
    >>> trace = SGD(lr=0.5).step(lambda w: (w @ w / 2, 1 * w), w)
    >>> print(trace.loss, trace.gradient, w)
    2.5 [1. 2.] [0.5 1. ]
    """

    def __init__(
        self,
        lr: Number,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm)
        _at_least_zero(momentum=momentum)
        if not 0 <= dampening <= 1:
            raise ValueError(f"dampening must lie in [0, 1], not {dampening}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov's momentum needs momentum > 0 and dampening = 0")
        self.momentum = float(momentum)
        self.nesterov = nesterov
        self.dampening = float(dampening)
        self.velocity: Array | None = None

    def move(self, w: Array, gradient: Array) -> None:
        """Change w (P,) in place by `sgd_update`, with the gradient clipped."""
        self.velocity = sgd_update(
            w,
            self.clip(gradient),
            self.velocity,
            lr=self.lr_now(),
            momentum=self.momentum,
            dampening=self.dampening,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )

    def state_dict(self) -> dict[str, Any]:
        """The steps taken, and a copy of the velocity (P,) on the host; None before the first."""
        return {"steps": self.steps, "velocity": _on_the_host(self.velocity)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, whichever backend it was taken on."""
        super().load_state_dict(state)
        self.velocity = _on_the_device(state["velocity"])


@replaceable
def piecewise(work: Callable[..., None], *vectors: Array) -> None:
    """``work(*vectors)``, which changes them in place, weight by weight.

    A backend may have it done piece by piece, in several threads; a name of ``xp`` follows the
    thread, so ``work`` looks none up.
    """
    work(*vectors)


@replaceable
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
    """One step of SGD: w and the velocity change in place; returns the velocity.

    g <- g + weight_decay w;  v <- momentum v + (1 - dampening) g, at the first step v <- g;
    w <- w - lr v, or with Nesterov's momentum w <- w - lr (g + momentum v).
    """
    first = velocity is None
    if momentum and first:
        velocity = xp.empty_like(gradient)

    def move(w: Array, g: Array, v: Array) -> None:
        if weight_decay:
            g = g + weight_decay * w
        if momentum:
            if first:
                v[...] = g
            else:
                v *= momentum
                v += (1 - dampening) * g if dampening else g
            g = g + momentum * v if nesterov else v
        w -= lr * g

    piecewise(move, w, gradient, w if velocity is None else velocity)
    return velocity


class AdamW(_Base):
    """Adam with weight decay of its own (Loshchilov and Hutter, ICLR 2019), as in PyTorch.

    At step t = 1, 2, ..., with m and v from 0::

        m <- beta1 m + (1 - beta1) g          the running mean of g
        v <- beta2 v + (1 - beta2) g^2        the running mean of g^2
        w <- w - lr weight_decay w
        w <- w - lr m' / (sqrt(v') + eps)     with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)

    >>> import numpy as np
    >>> w = np.array([1.0, 2.0])
    >>> trace = AdamW(lr=0.1, weight_decay=0.0).step(lambda w: (w @ w / 2, 1 * w), w)
    >>> print(w.round(3))  # the first step is as long for all weights
    [0.9 1.9]
    """

    def __init__(
        self,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), not {betas}")
        _at_least_zero(eps=eps)
        self.betas = float(betas[0]), float(betas[1])
        self.eps = float(eps)
        self.mean: Array | None = None
        self.square: Array | None = None

    def move(self, w: Array, gradient: Array) -> None:
        """Change w (P,) in place by the class's equations, with the gradient clipped."""
        g = self.clip(gradient)
        lr, t = self.lr_now(), self.steps + 1
        beta1, beta2 = self.betas
        if self.mean is None or self.square is None:
            self.mean, self.square = xp.zeros_like(w), xp.zeros_like(w)

        sqrt = xp.sqrt

        def move(w: Array, g: Array, m: Array, v: Array) -> None:
            m += (1 - beta1) * (g - m)  # m <- beta1 m + (1 - beta1) g
            v *= beta2
            v += (1 - beta2) * g * g  # v <- beta2 v + (1 - beta2) g^2
            root = sqrt(v) / (1 - beta2**t) ** 0.5  # sqrt(v')
            w *= 1 - lr * self.weight_decay
            w -= lr / (1 - beta1**t) * m / (root + self.eps)  # w <- w - lr m' / (sqrt(v') + eps)

        piecewise(move, w, g, self.mean, self.square)

    def state_dict(self) -> dict[str, Any]:
        """The steps taken, and copies of both running means (P,) on the host; None before."""
        moments = {"mean": self.mean, "square": self.square}
        return {"steps": self.steps} | {name: _on_the_host(m) for name, m in moments.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, whichever backend it was taken on."""
        super().load_state_dict(state)
        self.mean = _on_the_device(state["mean"])
        self.square = _on_the_device(state["square"])


def _on_the_host(vector: Array | None) -> Any:
    return None if vector is None else to_host(vector).copy()


def _on_the_device(vector: Any) -> Array | None:
    return None if vector is None else xp.asarray(to_device(vector), copy=True)


def _at_least_zero(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a finite number >= 0, not {value}")
