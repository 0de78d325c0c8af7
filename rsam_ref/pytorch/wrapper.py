"""What SAM and R-SAM share as PyTorch optimizers: a base, groups, the order of a step, its state.

A step is made of parts, in an order: ``first_step`` leads from w to where the second gradient is
taken, ``second_step`` back to w and from there by the base optimizer. ``step(closure)`` takes all
of them. w itself is kept in a copy, so it comes back bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from rsam_backends.base import kind_of
from rsam_ref.pytorch.bases import check_base, made
from rsam_ref.pytorch.order import Order
from rsam_ref.pytorch.passes import Buffers, Replay, kept_by, modules_that_run
from rsam_ref.pytorch.scaling import Scaling, refuse_a_scalers_own_step
from rsam_ref.pytorch.settings import Settings, number
from rsam_ref.pytorch.trace import StepTrace, detached
from rsam_ref.pytorch.vectors import Vector, clip_, copy_

Params = Any
"""A model, parameters, named parameters, groups of them, or an optimizer that is already built."""

Closure = Callable[[], Any]
F = TypeVar("F", bound=Callable[..., Any])
eager = cast(Callable[[F], F], torch.compiler.disable)
"""For what torch.compile is to leave as it is: traced, a step loses its place in the order. What is
compiled is the model."""

NAME = "sharpness"
"""Where in a state_dict stands what is not the base's."""

OWNER = "_sharpness_owner"
"""The attribute by which a base knows that it has a wrapper. A copy of the base has none."""


@dataclass
class Part:
    """The weights of one group that take part in a step, and a vector along them."""

    group: dict[str, Any]
    weights: list[Tensor]
    vector: list[Tensor]


class Wrapper(torch.optim.Optimizer):
    """Finds the gradient by two passes, and lets a base optimizer move by it."""

    PARTS: tuple[str, ...] = ("first_step", "second_step")
    """The parts of a step, in their order."""

    _step_supports_amp_scaling = True
    """So a scaler's own step comes to ours as it is, which refuses it."""

    def __init__(
        self,
        params: Params,
        base_optimizer: Callable[..., torch.optim.Optimizer] | None,
        settings: Mapping[str, Any],
        max_grad_norm: float | None,
        model: nn.Module | None,
        options: Mapping[str, Any],
    ) -> None:
        who = type(self).__name__
        if callable(params) and not isinstance(params, nn.Module):
            raise TypeError(f"the model comes first, then the base's class: {who}(model, SGD, ...)")
        if isinstance(params, nn.Module):
            params, model = params.parameters(), params if model is None else model
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(
                f"model is an nn.Module, or nn.ModuleList([...]) of several, not {kind_of(model)}"
            )
        if max_grad_norm is not None:
            max_grad_norm = number("max_grad_norm", max_grad_norm, "a number, or None")
            if not max_grad_norm > 0:
                raise ValueError(f"max_grad_norm must be > 0, or None, not {max_grad_norm}")
        self.max_grad_norm = max_grad_norm
        self.model = model
        self.steps = 0
        self.trace: StepTrace | None = None
        self._settings = Settings(settings, who)
        self._order = Order(who, self.PARTS)
        self._away: list[tuple[Tensor, Tensor]] = []
        self._length: Tensor | None = None
        self._scaling = Scaling()
        self._replay = Replay()
        self._ran: set[nn.Module] = set()
        self._buffers: Buffers | None = None
        built = isinstance(params, torch.optim.Optimizer)
        if built and (base_optimizer is not None or options):
            raise TypeError(
                f"{who} was given an optimizer that is already built; "
                f"{', '.join(['base_optimizer'] if base_optimizer else options)} is its own affair"
            )
        super().__init__(params.param_groups if built else params, {})
        base = params if built else made(base_optimizer, self.param_groups, options, who)
        for group in [] if built else base.param_groups:
            self._settings.check_names(group, base.defaults)
        self._check_model()
        self._adopt(base)

    def _check_model(self) -> None:
        own = {p for group in self.param_groups for p in group["params"]}
        if self.model is not None and own.isdisjoint(self.model.parameters()):
            raise ValueError(
                f"the model has none of the parameters of this {type(self).__name__}; give the one "
                "that they are of, or nn.ModuleList([...]) of several"
            )

    def _adopt(self, base: torch.optim.Optimizer) -> None:
        """Share the base's groups and state, now and whenever it loads others; and its hooks."""
        if isinstance(base, Wrapper):
            raise TypeError(
                f"{type(self).__name__} finds its own gradient, so that of the "
                f"{type(base).__name__} inside would be ignored; give it SGD or AdamW"
            )
        check_base(base, self._settings.defaults, type(self).__name__)
        if (other := getattr(base, OWNER, None)) is not None:
            raise ValueError(
                f"this {type(base).__name__} is the base of a {other} already, whose settings its "
                f"groups hold; give each {type(self).__name__} a base of its own"
            )
        self._share(base)
        self.base_optimizer = base
        setattr(base, OWNER, type(self).__name__)
        base.register_load_state_dict_pre_hook(self._with_settings)
        base.register_load_state_dict_post_hook(self._share)
        base.register_step_pre_hook(self._before_base_step)
        base.register_step_post_hook(self._after_base_step)

    def _with_settings(self, base: Any, state: dict[str, Any]) -> dict[str, Any] | None:
        """A base's state without settings of ours: the groups keep those that they have."""
        self._take_up_groups()
        saved, names = state["param_groups"], self._settings.defaults
        if len(saved) != len(self.param_groups):
            return None  # torch refuses it
        own = [{name: group[name] for name in names} for group in self.param_groups]
        return {**state, "param_groups": [{**a, **b} for a, b in zip(own, saved)]}

    def _share(self, base: torch.optim.Optimizer) -> None:
        complete = [dict(group) for group in base.param_groups]
        for i, group in enumerate(complete):
            self._complete(group, i)
        for group, own in zip(base.param_groups, complete):  # all of them, or none
            group.update(own)
        self.param_groups = base.param_groups
        self.state = base.state
        self.defaults = {**base.defaults, **self._settings.defaults}

    def _complete(self, group: dict[str, Any], place: int) -> None:
        """Give a group the settings that it does not have, and look at those that it has."""
        self._settings.complete(group, place, self.steps)
        self.check(group)

    def __repr__(self) -> str:
        name, base = type(self).__name__, type(self.base_optimizer).__name__
        return super().__repr__().replace(name, f"{name} around {base}", 1)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for settings that cannot be."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with settings of its own or those that the optimizer was made with."""
        base = self.__dict__.get("base_optimizer")
        if base is None:  # torch's constructor: the base is made of these groups
            super().add_param_group(param_group)
            return
        self._order.need_rest("add_param_group()")
        self._settings.check_names(param_group, base.defaults)
        base.add_param_group(param_group)
        try:
            self._complete(self.param_groups[-1], len(self.param_groups) - 1)
        except BaseException:
            self.param_groups.pop()
            self._settings.forget(len(self.param_groups))
            raise

    def _take_up_groups(self) -> None:
        """Give those groups their settings that the base, whose list it is, was given."""
        for i in range(self._settings.groups, len(self.param_groups)):
            self._settings.check_names(self.param_groups[i], self.base_optimizer.defaults)
            self._complete(self.param_groups[i], i)

    def _begin(self) -> None:
        """A step begins: the schedules' values for it."""
        for i, group in enumerate(self.param_groups):
            self._settings.move(group, i, self.steps)
            self.check(group)

    # The weights: away from w, and back

    def _weights(self) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
        """Every group, and those of its parameters that are not frozen."""
        for group in self.param_groups:
            yield group, [p for p in group["params"] if p.requires_grad]

    def _keep(self, weights: Vector) -> None:
        """Copy weights that are about to be changed; what is in the copies is w."""
        self._away += [(w, w.detach().clone()) for w in weights]
        torch.clear_autocast_cache()  # else autocast goes on with its casts of the weights before

    def _back(self) -> None:
        """Every weight as it was at w, bit for bit."""
        if self._away:
            copy_([w for w, _ in self._away], [kept for _, kept in self._away])
            torch.clear_autocast_cache()

    @eager
    def restore(self) -> None:
        """Abandon a step: the weights are at w, without gradients, and a new step may begin."""
        self._scaling.forget(self, self.base_optimizer)
        self._return()
        self._used_up()

    def _return(self) -> None:
        """The weights are at w, the statistics as the first pass left them; nothing is kept."""
        with torch.no_grad():
            self._back()
        self._away, self._length = [], None
        self._scaling, self._replay = Scaling(), Replay()
        if self._buffers is not None:
            self._buffers.put_back()
        self._buffers, self._ran = None, set()
        self._order.abandon()

    def _without_gradients(self) -> bool:
        return all(p.grad is None for group in self.param_groups for p in group["params"])

    def _need_gradients(self, name: str) -> None:
        if self._without_gradients():
            raise RuntimeError(
                f"{type(self).__name__}.{name}() found no gradient: make a backward pass first"
            )

    def _used_up(self) -> None:
        """The gradients are gone: those of the next pass must not be added to them."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    # The passes

    @contextmanager
    def first_pass(self) -> Iterator[None]:
        """A block for the first forward and backward pass: where it draws, the second will too.

        The statistics of modules that run here move once a step, of whatever network they are.
        Only needed with dropout or without the model, and where ``step(closure)`` is not used.
        Of micro-batches each may have a block of its own, in both passes.

        Raises RuntimeError out of turn.
        """
        self._order.turn("first_step", "first_pass")
        self._replay.need_no_block("first_pass()")
        if self._without_gradients():  # those that were there are of a step that was left out
            self._replay, self._ran = Replay(), set()
        devices = {p.device for group in self.param_groups for p in group["params"]}
        with self._replay.recorded(devices), modules_that_run() as ran:
            yield
        self._ran |= ran

    @contextmanager
    def second_pass(self, model: nn.Module | None = None) -> Iterator[None]:
        """A block for the second forward and backward pass: the masks are those of `first_pass`.

        ``model``: put its running statistics back afterwards. Where the optimizer knows the model,
        or it ran in `first_pass`, `second_step` does so without being told.

        Raises RuntimeError out of turn, and without ``model`` where there was no `first_pass`.
        """
        self._order.turn("second_step", "second_pass")
        with self._replay.replayed(needed=model is None):
            buffers = None if model is None else Buffers(model.modules())
            try:
                yield
            finally:
                if buffers is not None:
                    buffers.put_back()

    # The step

    @eager
    def first_step(self, scaler: Any = None, *, zero_grad: bool = True) -> None:
        """From where the weights are to w + eps, by the gradients that a backward pass left.

        Parameters
        ----------
        scaler:
            the ``torch.amp.GradScaler`` by which both passes' losses are scaled.
        zero_grad:
            the gradients are gone afterwards, always: the second pass's must not be added to them.

        Raises
        ------
        RuntimeError:
            out of turn, and where there is no gradient. Nothing has changed then: the part can be
            called again, or `restore`.
        ValueError:
            with ``zero_grad=False``.
        """
        self._order.turn("first_step")
        self._need_gradients("first_step")
        if not zero_grad:
            raise ValueError(
                "first_step() always zeroes the gradients, else the second pass's would be added "
                "to them: leave zero_grad=False out"
            )
        self._replay.need_no_block("first_step()")
        scaling = Scaling(scaler)
        self._take_up_groups()
        self._look_at(self._ran)
        if self.PARTS[0] == "first_step":
            self._begin()
        self._scaling = scaling
        scaling.unscale_first(self)
        with torch.no_grad():
            self._length = self._ascend()
        self._used_up()
        self._buffers = kept_by(self.model, self._ran)
        self._order.done("first_step")

    def _look_at(self, ran: set[nn.Module]) -> None:
        """Raise for modules that this optimizer would have had to know."""

    def _ascend(self) -> Tensor:
        """Move the weights to w + eps; returns the length of what eps was cut from."""
        raise NotImplementedError

    @eager
    @torch.no_grad()
    def second_step(self, *, zero_grad: bool = False) -> None:
        """Back to w, bit for bit, and from there the base step with g = grad L(w + eps).

        If `first_step` was given a scaler, it also does here what it is for: g is unscaled, and if
        either pass overflowed, the weights stay. Call the scaler's ``update()`` afterwards.

        Parameters
        ----------
        zero_grad:
            set the gradients to zero afterwards. Else g is in them.

        Raises
        ------
        RuntimeError:
            out of turn, and where there is no gradient. Nothing has changed then: the part can be
            called again, or `restore`.
        """
        self._order.turn("second_step")
        self._need_gradients("second_step")
        self._replay.need_all()
        length, scaling = cast(Tensor, self._length), self._scaling
        clip = None if self.max_grad_norm is None else self._clip
        self._return()
        try:
            clipped = scaling.base_step(self.base_optimizer, length, clip)
        except BaseException:
            scaling.forget(self, self.base_optimizer)
            raise
        self.trace = StepTrace(None, None, length, clipped)
        self.steps += 1
        self._opt_called = True  # what learning rate schedulers ask for
        if zero_grad:
            self._used_up()

    def _clip(self) -> Tensor:
        """Clip g; returns its length before."""
        own = [p for group in self.param_groups for p in group["params"]]
        return clip_(own, cast(float, self.max_grad_norm))

    def _before_base_step(self, base: Any, args: Any, kwargs: Any) -> None:
        for hook in self._optimizer_step_pre_hooks.values():
            if hook(self, args, kwargs) is not None:
                raise RuntimeError(
                    f"a step hook of {type(self).__name__} cannot change arguments: it is called "
                    "before the base's step, which has none; let it return None"
                )

    def _after_base_step(self, base: Any, args: Any, kwargs: Any) -> None:
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, args, kwargs)

    @eager
    @torch.no_grad()
    def step(
        self,
        closure: Closure | None = None,
        *,
        scaler: Any = None,
        first_pass: AbstractContextManager[Any] | None = None,
    ) -> Any:
        """One step; returns the first pass's loss.

        Parameters
        ----------
        closure:
            computes the loss on this step's mini-batch, calls its backward, and returns it. It
            is called twice, with gradients on and set to None before: both times it must take
            the same samples, in as many parts as it likes.
        scaler:
            a ``torch.amp.GradScaler``, by which the closure scales: it calls
            ``scaler.scale(loss).backward()`` and returns the loss. If either pass overflows,
            the weights stay. Call the scaler's ``update()`` afterwards.
        first_pass:
            a context for the first call, such as ``ddp.no_sync()``, with which every
            worker climbs by its own gradient.

        If the closure raises, the weights are at w.

        Raises
        ------
        RuntimeError:
            without a closure, or one that leaves no gradient; within a step that first_step
            began.
        """
        refuse_a_scalers_own_step(self)
        if closure is None:
            raise RuntimeError(
                f"{type(self).__name__} takes two gradients a step, so step() needs a closure that "
                "zeroes the gradients, computes the loss, calls backward and returns the loss; or "
                f"call {', '.join(self.PARTS)}, with a backward pass before each of the last two"
            )
        self._order.need_rest("step()")
        evaluate = torch.enable_grad()(closure)
        self._used_up()  # of the step before, which a closure may leave there
        try:
            self._first_part()
            with self.first_pass(), first_pass or nullcontext():
                loss = evaluate()
            self.first_step(scaler)
            with self.second_pass():
                adversarial_loss = evaluate()
            self.second_step()
        except BaseException:
            self.restore()
            raise
        losses = {"loss": detached(loss), "adversarial_loss": detached(adversarial_loss)}
        self.trace = replace(cast(StepTrace, self.trace), **losses)
        return loss

    step.hooked = True  # type: ignore[attr-defined]  # torch is not to call the hooks a second time

    def _first_part(self) -> None:
        """What comes before the first pass; nothing, but for R-SAM."""

    # State

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides the weights.

        The base's state and groups, the steps taken, where the draw stands: tensors and numbers
        only. Raises RuntimeError in the middle of a step.
        """
        self._order.need_rest("state_dict()")
        self._take_up_groups()
        return {**self.base_optimizer.state_dict(), NAME: self._own_state()}

    def _own_state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises ValueError for the state of a base optimizer alone, of another algorithm, or of
        another draw. Nothing has changed then.
        """
        self._order.need_rest("load_state_dict()")
        if NAME not in state_dict:
            raise ValueError(
                f"this is no state of {type(self).__name__}: it has no {NAME!r}. That of a base "
                "optimizer is loaded by base_optimizer.load_state_dict"
            )
        self._take_up_groups()
        state, before = state_dict[NAME], self._own_state()
        if set(state) != set(before):
            raise ValueError(
                f"this is a state of another algorithm than {type(self).__name__}: its {NAME!r} "
                f"holds {', '.join(sorted(state))}, not {', '.join(sorted(before))}"
            )
        self._check_groups(state_dict["param_groups"])
        self._load_own_state(state)
        try:
            self.base_optimizer.load_state_dict({k: v for k, v in state_dict.items() if k != NAME})
        except BaseException:
            self._load_own_state(before)
            raise

    def _check_groups(self, saved: list[dict[str, Any]]) -> None:
        """Raise ValueError where groups of a state are of another algorithm."""

    def _load_own_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: all of it, as torch's own would leave the base out."""
        self._order.need_rest("a copy or a pickle")
        left = [name for name in self.__dict__ if name.startswith("_optimizer_")]  # hooks
        return {k: v for k, v in self.__dict__.items() if k not in (*left, "step")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "base_optimizer" in state:
            self._adopt(self.base_optimizer)
