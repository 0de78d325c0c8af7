"""SAM, ASAM and R-SAM in PyTorch: the parts of a step, as the equations say them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rsam_ref.algorithms.noise import check_sigma
from rsam_ref.algorithms.sam import TINY
from rsam_ref.algorithms.schedules import Schedule
from rsam_ref.algorithms.settings import check_step
from rsam_ref.algorithms.variants import check_eta
from rsam_ref.pytorch.draw import Draw, draw_of, drawn, noise
from rsam_ref.pytorch.filters import check_axis, transposed_weights
from rsam_ref.pytorch.vectors import add_, as_real, norm, wide
from rsam_ref.pytorch.wrapper import Params, Part, Wrapper, eager

Number = float | Schedule


class SAM(Wrapper):
    """Sharpness-aware minimization (Foret et al., ICLR 2021) around any torch optimizer.

    ::

        g0 = grad L(w)       eps = rho g0 / (||g0|| + 1e-12)       g = grad L(w + eps)

    The base optimizer moves w by g. ``||.||`` is over all parameters of all groups together. With
    ``adaptive`` it is ASAM (Kwon et al., ICML 2021), ``eps = rho T^2 g0 / ||T g0||`` with
    ``T = |w| + eta``. Where the base maximizes, -L is meant: eps leads to where L is lowest.

    Parameters
    ----------
    params:
        the model; or parameters or groups, with ``model`` besides; or an optimizer that is
        already built, which is the base. A group may have rho, adaptive and eta of its own.
    base_optimizer:
        the base's class, made of the groups and ``options`` (lr=0.1, ...).
    rho:
        the radius, in units of the weights; a number, or a function of the step.
    max_grad_norm:
        clip g to this length, before the base step.
    model:
        whose batch norm statistics are to move once a step (see passes.py); of several networks
        an ``nn.ModuleList``.

    After a step ``trace`` holds its losses and norms. Raises ValueError for settings that cannot
    be, TypeError for a base that can be none.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> sam = SAM([w], torch.optim.SGD, rho=1.0, lr=0.5)
    >>> def closure():
    ...     sam.zero_grad()
    ...     loss = w @ w / 2
    ...     loss.backward()
    ...     return loss
    >>> sam.step(closure).item(), w.grad.tolist(), w.tolist()
    (12.5, [3.5999999046325684, 4.800000190734863], [1.2000000476837158, 1.5999999046325684])
    """

    def __init__(
        self,
        params: Params,
        base_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        rho: Number = 0.05,
        *,
        adaptive: bool = False,
        eta: float = 0.01,
        max_grad_norm: float | None = None,
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        settings = {"rho": rho, "adaptive": adaptive, "eta": eta}
        super().__init__(params, base_optimizer, settings, max_grad_norm, model, options)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for a rho or an eta below 0."""
        check_step(rho=group["rho"])
        check_eta(group["eta"])

    def _check_groups(self, saved: list[dict[str, Any]]) -> None:
        for i, (group, other) in enumerate(zip(self.param_groups, saved)):
            own, theirs = group["adaptive"], bool(other.get("adaptive", group["adaptive"]))
            if own != theirs:
                raise ValueError(
                    f"group {i} of this state is of {_name(theirs)}, and here of {_name(own)}: "
                    f"make SAM with adaptive={theirs} to go on with it"
                )

    def _ascend(self) -> Tensor:
        """From w to w + eps."""
        parts = []
        for group, weights in self._weights():
            found = [(w, _rising(w.grad, group)) for w in weights if w.grad is not None]
            parts.append(Part(group, [w for w, _ in found], [g0 for _, g0 in found]))
        reach = [_reach(part) for part in parts]  # T
        scaled = [_times(t, part.vector) for t, part in zip(reach, parts)]  # T g0
        length = norm([v for vector in scaled for v in vector])  # ||T g0||
        for part, t, v in zip(parts, reach, scaled):
            self._keep(part.weights)
            along = _times(t, v)  # T^2 g0
            add_(part.weights, along, part.group["rho"] / (length + TINY))  # w + eps
        return length


def _name(adaptive: bool) -> str:
    return "ASAM" if adaptive else "SAM"


def _reach(part: Part) -> list[Tensor] | None:
    """T = |w| + eta; None for 1, where a group is not adaptive.

    Complex weights are two real ones each, (..., 2).
    """
    if not part.group["adaptive"]:
        return None
    return [wide(as_real(w)).abs() + part.group["eta"] for w in part.weights]


def _times(t: list[Tensor] | None, vector: list[Tensor]) -> list[Tensor]:
    if t is None:
        return vector
    products = [a * as_real(b) for a, b in zip(t, vector)]
    return [torch.view_as_complex(p) if b.is_complex() else p for p, b in zip(products, vector)]


def _rising(gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """Where things get worse: along the gradient, or against it in a group that maximizes.

    In full: the gradient of a sparse embedding holds only the rows that were looked up.
    """
    full = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return -full if group.get("maximize") else full


class RSAM(Wrapper):
    """Random sharpness-aware minimization (Liu et al., NeurIPS 2022) around any torch optimizer.

    ::

        D  = sigma s z                     s the norm of each weight's filter, z ~ N(0, I)
        g0 = grad L(w + D)
        a  = lam g0 + D                    eps = rho a / (||a|| + 1e-12)
        g  = grad L(w + eps)

    The base optimizer moves w by g. A filter is what makes one output: a row of a linear weight, an
    output channel of a convolution (of a transposed one, by the model's modules), a whole bias.
    The loss that is returned is the first pass's, at w + D.

    Parameters
    ----------
    params, base_optimizer, rho, max_grad_norm, model, options:
        as in `SAM`. A group may have
        rho, sigma, lam and output_axis of its own.
    sigma:
        the noise in units of the filters' norms; a number, or a function of the step.
    lam:
        weighs the gradient against the draw; a number, or a function of the step.
    seed:
        of the draw. Workers of one model have the same seed, or one of their own each.
    draw:
        "torch", by generators of its own; "reference", the numbers of `rsam_ref.RSAM` with
        this seed; or a function of (step, weights) that gives z, a tensor for each weight.
    output_axis:
        along which axis of a weight the filters are counted.

    Raises RuntimeError in the first pass for a transposed convolution that the model does not tell.
    """

    PARTS = ("draw_step", "first_step", "second_step")

    def __init__(
        self,
        params: Params,
        base_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        rho: Number = 0.05,
        sigma: Number = 5e-4,
        lam: Number = 2.0,
        *,
        seed: int = 0,
        draw: str | Draw = "torch",
        output_axis: int = 0,
        max_grad_norm: float | None = None,
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        self._draw = draw_of(draw, seed)
        self._noise: dict[Tensor, Tensor] = {}
        self._before: Any = None
        settings = {"rho": rho, "sigma": sigma, "lam": lam, "output_axis": output_axis}
        super().__init__(params, base_optimizer, settings, max_grad_norm, model, options)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for a rho or a sigma below 0, or a lam that is not above."""
        check_step(rho=group["rho"], lam=group["lam"])
        check_sigma(group["sigma"])
        check_axis(group["output_axis"], group["params"])

    @eager
    @torch.no_grad()
    def draw_step(self) -> None:
        """From w to w + D, where the first gradient is taken; those of the step before are gone.

        Raises RuntimeError out of turn.
        """
        self._order.turn("draw_step")
        self._take_up_groups()
        self._begin()
        groups = list(self._weights())
        self._before = self._draw_state()
        z = iter(drawn(self._draw, self.steps, [w for _, weights in groups for w in weights]))
        transposed = self._transposed()
        for group, weights in groups:
            self._keep(weights)
            for w in weights:
                axis = 1 if w in transposed else group["output_axis"]
                own = {"output_axis": axis, "groups": transposed.get(w, 1)}
                self._noise[w] = noise(w, next(z), sigma=group["sigma"], **own)  # D = sigma s z
                w.add_(self._noise[w])  # w + D
        self._used_up()
        self._order.done("draw_step")

    def _transposed(self) -> dict[Tensor, int]:
        return {} if self.model is None else transposed_weights(self.model.modules())

    def _look_at(self, ran: set[nn.Module]) -> None:
        """Raise for a transposed convolution whose filters were looked for along axis 0."""
        if not (found := set(transposed_weights(ran))):
            return
        found -= set(self._transposed())
        for group, weights in self._weights():
            for w in found.intersection(weights if group["output_axis"] == 0 else ()):
                raise RuntimeError(
                    f"the weight of the shape {tuple(w.shape)} is of a transposed convolution, "
                    "whose filters only the model tells: RSAM(model, ...) or RSAM(..., model=model)"
                )

    def _ascend(self) -> Tensor:
        """From w + D to w + eps. A parameter without gradient has the gradient 0."""
        parts = []
        for group, weights in self._weights():
            own = [w for w in weights if w in self._noise]
            a = [_ascent(w.grad, self._noise[w], group) for w in own]  # a = lam g0 + D
            parts.append(Part(group, own, a))
        length = norm([a for part in parts for a in part.vector])  # ||a||
        self._back()  # eps is measured from w, not from w + D
        for part in parts:
            add_(part.weights, part.vector, part.group["rho"] / (length + TINY))  # w + eps
        self._noise = {}
        return length

    def _first_part(self) -> None:
        self.draw_step()

    @eager
    def restore(self) -> None:
        """Abandon a step, as `SAM`'s; the next one draws the same noise."""
        if not self._order.at_rest and self._before is not None:
            self._load_draw(self._before)
        self._noise = {}
        super().restore()

    def _draw_state(self) -> Any:
        return self._draw.state_dict() if hasattr(self._draw, "state_dict") else None

    def _load_draw(self, state: Any) -> None:
        if state is not None and hasattr(self._draw, "load_state_dict"):
            self._draw.load_state_dict(state)

    def _own_state(self) -> dict[str, Any]:
        return {**super()._own_state(), "draw": self._draw_state()}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        if (state["draw"] is None) != (self._draw_state() is None):
            raise ValueError("the state was saved with another draw: make RSAM with that one")
        self._load_draw(state["draw"])
        super()._load_own_state(state)


def _ascent(gradient: Tensor | None, drawn: Tensor, group: dict[str, Any]) -> Tensor:
    """The direction a = lam g0 + D of one parameter."""
    return drawn if gradient is None else group["lam"] * wide(_rising(gradient, group)) + drawn
