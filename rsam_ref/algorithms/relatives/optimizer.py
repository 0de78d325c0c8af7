"""`Related`: any relative of SAM as an optimizer around a base, with what its rule needs."""

from __future__ import annotations

import itertools
import math
from typing import Any

from rsam_backends import Stream, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.algorithms.optimizer import Number, Optimizer
from rsam_ref.algorithms.optimizers import Wrapper
from rsam_ref.algorithms.protocol import Shapes, stepwise
from rsam_ref.algorithms.relatives.form import ApartTrace, Relative, State
from rsam_ref.algorithms.sam import LossAndGrad, Trace
from rsam_ref.algorithms.schedules import at


class Related(Wrapper):
    """A relative's rule around a base optimizer.

    ``settings`` are the rule's, each a number or a schedule; those left out have their defaults.
    Rules that draw do so from ``seed`` and the step, so nothing of a draw is a checkpoint's state.
    ``shapes`` are the parameters' shapes where a plain function does not say them.

    Raises TypeError for a setting that the rule does not have, and for a base that has not what
    the rule needs.
    """

    def __init__(
        self,
        relative: Relative,
        base: Optimizer,
        *,
        seed: int = 0,
        shapes: Shapes | None = None,
        **settings: Number,
    ) -> None:
        super().__init__(base)
        if unknown := sorted(settings.keys() - relative.settings.keys()):
            known = ", ".join(relative.settings) or "none"
            raise TypeError(f"{relative.title} has no setting {unknown[0]}; there are: {known}")
        if "velocity" in relative.needs and not getattr(base, "momentum", 0):
            raise TypeError(
                f"{relative.title} follows the base's velocity, and this {type(base).__name__} has "
                "none: give SGD(lr, momentum=0.9)"
            )
        if relative.apart and not hasattr(base, "lr"):
            raise TypeError(
                f"{relative.title} moves the weights by the base's lr as well, and this "
                f"{type(base).__name__} has none: give SGD(lr) or AdamW(lr)"
            )
        Stream("noise", seed)  # a seed that cannot be one is refused here
        self.relative = relative
        defaults = {name: setting.default for name, setting in relative.settings.items()}
        self.settings: dict[str, Number] = {**defaults, **settings}
        for name, setting in relative.settings.items():
            value = self.settings[name]
            if not callable(value) or setting.whole:
                setting.check(name, value)
        self.seed = seed
        self.shapes = shapes
        self.state: State = {}

    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """The gradient to move by, by the relative's rule."""
        settings = self._settings_now()
        needs = {name: getattr(self, f"_{name}")(loss_and_grad, w) for name in self.relative.needs}
        found: Any = self.relative.rule(loss_and_grad, w, **needs, **settings)
        if "state" in self.relative.needs:
            trace, self.state = found
            return trace
        return found

    def step(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """One step; what goes past the base moves w besides, at the base's learning rate."""
        before, taken = self.state, self.base.steps
        try:
            trace = super().step(loss_and_grad, w)
        except BaseException:
            self.state = before  # a step whose move fails has not happened
            raise
        if isinstance(trace, ApartTrace):
            w -= at(self.base.lr, taken) * trace.apart  # type: ignore[attr-defined]
        return trace

    def state_dict(self) -> dict[str, Any]:
        """The steps taken, the base's state, and copies of what the rule keeps, on the host."""
        kept = {
            name: to_host(v).copy() if hasattr(v, "dtype") else v for name, v in self.state.items()
        }
        return {**super().state_dict(), "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, whichever backend it was taken on."""
        super().load_state_dict(state)
        self.state = {
            name: xp.asarray(to_device(v), copy=True) if hasattr(v, "dtype") else v
            for name, v in state.get("kept", {}).items()
        }

    # What rules need, by its name

    def _settings_now(self) -> dict[str, float]:
        """Every setting that the rule is given in this step, as a number."""
        now: dict[str, float] = {}
        for name, setting in self.relative.settings.items():
            value = self.settings[name]
            number = at(value, self.steps)
            now[name] = int(number) if setting.whole else number
            setting.check(name, now[name])  # a schedule may leave the range
        if "noise" in self.relative.needs:
            del now["sigma"]  # it is in the draw
        return now

    def _state(self, loss_and_grad: LossAndGrad, w: Array) -> State:
        return self.state

    def _step(self, loss_and_grad: LossAndGrad, w: Array) -> int:
        return self.steps

    def _noise(self, loss_and_grad: LossAndGrad, w: Array) -> Array:
        """D = sigma s z, R-SAM's draw."""
        sigma = at(self.settings["sigma"], self.steps)
        shapes = self._shapes(loss_and_grad)
        return filter_noise(w, shapes, sigma=sigma, stream=Stream("noise", self.seed, self.steps))

    def _z(self, loss_and_grad: LossAndGrad, w: Array) -> Array:
        """z ~ N(0, I)."""
        return Stream("noise", self.seed, self.steps).normal(w.size, w.dtype)

    def _mask(self, loss_and_grad: LossAndGrad, w: Array) -> Array:
        """1 with probability beta, else 0, for every weight by itself."""
        keep = at(self.settings["beta"], self.steps)
        return Stream("mask", self.seed, self.steps).keep_mask(w.shape, keep, w.dtype)

    def _coin(self, loss_and_grad: LossAndGrad, w: Array) -> float:
        """One uniform number in [0, 1), on the host."""
        return float(Stream("coin", self.seed, self.steps).integers(0, 1 << 53, 1)[0]) / (1 << 53)

    def _velocity(self, loss_and_grad: LossAndGrad, w: Array) -> Array:
        """The base's velocity, 0 before the first step."""
        velocity = getattr(self.base, "velocity", None)
        return xp.zeros_like(w) if velocity is None else velocity

    def _parts(self, loss_and_grad: LossAndGrad, w: Array) -> Any:
        """The parts of the mini-batch."""
        parts = getattr(loss_and_grad, "parts", None)
        if parts is None:
            raise TypeError(
                f"{self.relative.title} takes the mini-batch in parts, and this function does not "
                "say its parts: give an Accumulated (in a recipe: accumulate = 4), or a function "
                "with ``parts``, whose sum it is"
            )
        return parts

    def _samples(self, loss_and_grad: LossAndGrad, w: Array) -> Any:
        """Single samples of the mini-batch, as many as asked for."""
        samples = getattr(loss_and_grad, "samples", None)
        if samples is None:
            raise TypeError(
                f"{self.relative.title} looks at single samples, and this function does not give "
                "them: give objective(model, x, y), or a function with ``samples(count)``"
            )
        return samples

    def _filter_sum(self, loss_and_grad: LossAndGrad, w: Array) -> Any:
        """Gives every weight of a matrix or a kernel the sum over its filter."""
        shapes = self._shapes(loss_and_grad)

        def filter_sum(v: Array) -> Array:
            sums = v.copy()
            for part, shape in zip(self._tensors(loss_and_grad, w), shapes):
                if len(shape) > 1:
                    sums[part].reshape(shape[0], -1)[...] = (
                        sums[part].reshape(shape[0], -1).sum(axis=1, keepdims=True)
                    )
            return sums

        return filter_sum

    def _tensors(self, loss_and_grad: LossAndGrad, w: Array) -> list[slice]:
        """Where in w each tensor lies."""
        ends = [0, *itertools.accumulate(map(math.prod, self._shapes(loss_and_grad)))]
        return [slice(*pair) for pair in itertools.pairwise(ends)]

    def _shapes(self, loss_and_grad: LossAndGrad) -> Shapes:
        if self.shapes:
            return self.shapes
        if (told := stepwise(loss_and_grad)) is not None:
            return told.shapes
        raise TypeError(
            f"{self.relative.title} goes by filters or tensors, and this function does not say the "
            "weights' shapes: give objective(model, x, y) itself, or shapes=[...]"
        )
