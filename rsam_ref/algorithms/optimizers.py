"""SAM, RSAM and NoiseOnly: optimizers that find their own gradient, and let a base one move."""

from __future__ import annotations

import copy
from typing import Any, Self

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import ball_noise, check_sigma, filter_noise
from rsam_ref.algorithms.optimizer import Number, Optimizer
from rsam_ref.algorithms.protocol import Shapes, stepwise
from rsam_ref.algorithms.sam import LossAndGrad, Trace, rsam_gradient, sam_gradient
from rsam_ref.algorithms.schedules import at
from rsam_ref.algorithms.settings import check_step
from rsam_ref.algorithms.variants import (
    asam_gradient,
    check_eta,
    gradient_rsam_gradient,
    noise_gradient,
    stacked_rsam_gradient,
)


class Wrapper(Optimizer):
    """Finds its own gradient, and leaves the move to its base."""

    def __init__(self, base: Optimizer) -> None:
        if not isinstance(base, Optimizer):
            raise TypeError(
                f"{type(self).__name__} wraps a base optimizer such as SGD(lr=0.1), "
                f"not {type(base).__name__}"
            )
        if isinstance(base, Wrapper):
            raise TypeError(
                f"{type(self).__name__} finds its own gradient, so that of the "
                f"{type(base).__name__} inside would be ignored; give it SGD or AdamW"
            )
        self.base = base

    def move(self, w: Array, gradient: Array) -> None:
        """Change w (P,) in place, by the base."""
        self.base.move(w, gradient)
        self.base.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The steps taken, and the base's state."""
        return {"steps": self.steps, "base": self.base.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, the base too."""
        super().load_state_dict(state)
        self.base.load_state_dict(state["base"])


class SAM(Wrapper):
    """Sharpness-aware minimization around a base optimizer (see `sam_gradient`).

    ``adaptive`` makes it ASAM, with ``eta`` (see `asam_gradient`).

    >>> import numpy as np
    >>> from rsam_ref import SAM, SGD
    >>> w = np.array([3.0, 4.0])
    >>> trace = SAM(SGD(lr=0.5), rho=1.0).step(lambda w: (w @ w / 2, 1 * w), w)
    >>> print(trace.gradient.round(3), w.round(3))  # from w, by the gradient at w + eps
    [3.6 4.8] [1.2 1.6]
    """

    def __init__(
        self,
        base: Optimizer,
        rho: Number = 0.05,
        ascent_steps: int = 1,
        adaptive: bool = False,
        eta: float = 0.01,
    ) -> None:
        super().__init__(base)
        check_step(rho=at(rho, 0), ascent_steps=ascent_steps)
        check_eta(eta)
        if adaptive and ascent_steps != 1:
            raise ValueError("ASAM is defined with one ascent step; drop ascent_steps or adaptive")
        self.rho = rho
        self.ascent_steps = ascent_steps
        self.adaptive = adaptive
        self.eta = float(eta)

    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """The gradient at w + eps, by `sam_gradient` or `asam_gradient`."""
        rho = at(self.rho, self.steps)
        if self.adaptive:
            return asam_gradient(loss_and_grad, w, rho=rho, eta=self.eta)
        return sam_gradient(loss_and_grad, w, rho=rho, ascent_steps=self.ascent_steps)


class _Noisy(Wrapper):
    """Draws noise around w: in step t from ``Stream("noise", seed, t)``, wherever it runs.

    ``shapes`` are the parameters' shapes, which say what a filter is. They are taken from the
    objective; for a plain function they must be given (``[w.shape]`` makes w one filter).
    """

    worker = 0

    def __init__(
        self, base: Optimizer, sigma: Number, seed: int, shapes: Shapes | None, ball: bool = False
    ) -> None:
        super().__init__(base)
        check_sigma(at(sigma, 0))
        Stream("noise", seed)  # a seed that cannot be one is refused here
        self.sigma = sigma
        self.seed = seed
        self.shapes = shapes
        self.ball = ball

    def of_worker(self, number: int) -> Self:
        """Itself with draws of the worker's own; those of worker 0 are the usual ones."""
        own = copy.copy(self)
        own.worker = number
        return own

    def draw(self, loss_and_grad: LossAndGrad, w: Array) -> Array:
        key = (self.steps, self.worker) if self.worker else (self.steps,)
        sigma, stream = at(self.sigma, self.steps), Stream("noise", self.seed, *key)
        if self.ball:
            return ball_noise(w, sigma=sigma, stream=stream)
        shapes = self.shapes
        if not shapes and (told := stepwise(loss_and_grad)) is not None:
            shapes = told.shapes
        if not shapes:
            raise TypeError(
                f"{type(self).__name__} draws by the norm of every filter, and this function does "
                "not say what the filters are: give objective(model, x, y) itself, or "
                f"{type(self).__name__}(..., shapes=[...]); shapes=[w.shape] makes w one filter"
            )
        return filter_noise(w, shapes, sigma=sigma, stream=stream)


class RSAM(_Noisy):
    """Random sharpness-aware minimization around a base optimizer (see `rsam_gradient`).

    ``variant`` chooses another reading of the name that is found in public code: ``stacked``,
    ``gradient`` (both in variants.py, without lam) or ``ball`` (in noise.py).

    >>> import numpy as np
    >>> from rsam_ref import RSAM, SGD
    >>> w = np.array([3.0, 4.0])
    >>> optimizer = RSAM(SGD(lr=0.5), rho=1.0, sigma=0.01, seed=0, shapes=[w.shape])
    >>> trace = optimizer.step(lambda w: (w @ w / 2, 1 * w), w)
    >>> print(round(float(np.linalg.norm(trace.perturbation)), 6), trace.noise.shape)
    1.0 (2,)
    """

    VARIANTS = ("rsam", "stacked", "gradient", "ball")

    def __init__(
        self,
        base: Optimizer,
        rho: Number = 0.05,
        sigma: Number = 5e-4,
        lam: float = 2.0,
        seed: int = 0,
        shapes: Shapes | None = None,
        variant: str = "rsam",
    ) -> None:
        super().__init__(base, sigma, seed, shapes, ball=variant == "ball")
        check_step(rho=at(rho, 0), lam=lam)
        if variant not in self.VARIANTS:
            raise ValueError(f"unknown variant {variant!r}; there are {', '.join(self.VARIANTS)}")
        self.rho = rho
        self.lam = float(lam)
        self.variant = variant

    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """The gradient at w + eps, by `rsam_gradient` or the reading that ``variant`` names."""
        rho, noise = at(self.rho, self.steps), self.draw(loss_and_grad, w)
        if self.variant == "stacked":
            return stacked_rsam_gradient(loss_and_grad, w, noise, rho=rho)
        if self.variant == "gradient":
            return gradient_rsam_gradient(loss_and_grad, w, noise, rho=rho)
        return rsam_gradient(loss_and_grad, w, noise, rho=rho, lam=self.lam)


class NoiseOnly(_Noisy):
    """Random smoothing without an ascent: the gradient at w + noise (see `noise_gradient`).

    >>> import numpy as np
    >>> from rsam_ref import SGD, NoiseOnly
    >>> w = np.array([3.0, 4.0])
    >>> optimizer = NoiseOnly(SGD(lr=0.5), sigma=0.01, seed=0, shapes=[w.shape])
    >>> trace = optimizer.step(lambda w: (w @ w / 2, 1 * w), w)
    >>> print((trace.gradient - trace.noise).round(3))
    [3. 4.]
    """

    def __init__(
        self, base: Optimizer, sigma: Number = 5e-4, seed: int = 0, shapes: Shapes | None = None
    ) -> None:
        super().__init__(base, sigma, seed, shapes)

    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """The gradient at w + D."""
        return noise_gradient(loss_and_grad, w, self.draw(loss_and_grad, w))
