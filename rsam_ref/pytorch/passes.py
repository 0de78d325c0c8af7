"""What the two passes of a step have in common: dropout's masks, and batch norm's statistics.

Masks: both passes are to draw the same ones, so the second starts where torch's generators stood
when the first began. Statistics: they move once a step, in the first pass, so whatever the second
one does to buffers is undone, in every module that the first pass ran through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class GeneratorStates:
    """Where torch's global generators stand: the host's, and those of these devices."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        others = {d for d in devices if d.type not in ("cpu", "meta")}
        self._host = torch.get_rng_state()
        self._others = {d: _module_of(d).get_rng_state(d) for d in others}

    def put_back(self) -> None:
        """Let all of them stand there again."""
        torch.set_rng_state(self._host)
        for device, state in self._others.items():
            _module_of(device).set_rng_state(state, device)


class Replay:
    """The blocks of the first pass, and those of the second, which see the same masks in turn.

    One block holds a whole pass; or there are several in both, one for each micro-batch.
    """

    def __init__(self) -> None:
        self._starts: list[GeneratorStates] = []
        self._replayed = 0
        self._recording = False

    @contextmanager
    def recorded(self, devices: Iterable[torch.device]) -> Iterator[None]:
        """A block of the first pass. One that fails leaves nothing behind."""
        start = GeneratorStates(devices)
        self._recording = True
        try:
            yield
        finally:
            self._recording = False
        self._starts.append(start)

    @contextmanager
    def replayed(self, *, needed: bool) -> Iterator[None]:
        """A block of the second pass. One that fails can be taken again.

        ``needed``: raise RuntimeError where there was none in the first pass.
        """
        if self._replayed < len(self._starts):
            self._starts[self._replayed].put_back()
        elif needed or self._starts:
            self._raise_uneven(self._replayed + 1)
        yield
        self._replayed += 1

    def need_no_block(self, what: str) -> None:
        """Raise RuntimeError within a block of the first pass."""
        if self._recording:
            raise RuntimeError(
                f"{what} within first_pass(): that block ends with the backward pass"
            )

    def need_all(self) -> None:
        """Raise RuntimeError where the second pass has blocks, but fewer than the first one."""
        if 0 < self._replayed < len(self._starts):
            self._raise_uneven(self._replayed)

    def _raise_uneven(self, replayed: int) -> None:
        raise RuntimeError(
            f"this step has {len(self._starts)} blocks first_pass() and {replayed} second_pass(): "
            "the second pass has the masks of the first one where both are in as many blocks; "
            "restore() abandons the step"
        )


def seed_generators(seed: int, devices: Iterable[torch.device]) -> None:
    """Let torch's global generators begin anew: the host's, and those of these devices alone."""
    torch.default_generator.manual_seed(seed)
    for d in devices:
        if d.type not in ("cpu", "meta"):
            _module_of(d).set_rng_state(torch.Generator(d).manual_seed(seed).get_state(), d)


def _module_of(device: torch.device) -> Any:
    return getattr(torch, device.type)


class Buffers:
    """The buffers of modules as they are now, to be put back: running statistics, counters."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._kept: list[tuple[nn.Module, str, Tensor, Tensor]] = []
        for module in modules:
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    self._kept.append((module, name, buffer, buffer.detach().clone()))

    def put_back(self) -> None:
        """Every buffer as it was, in place where it was changed in place."""
        with torch.no_grad():
            for module, name, buffer, values in self._kept:
                buffer.copy_(values)
                module._buffers[name] = buffer


@contextmanager
def modules_that_run() -> Iterator[set[nn.Module]]:
    """A block, and the modules that run in it, with all that are inside them.

    What runs within a compiled function is not seen; a compiled module is.
    """
    ran: set[nn.Module] = set()

    def note(module: nn.Module, _: Any) -> None:
        if not torch.compiler.is_compiling() and module not in ran:
            ran.update(module.modules())

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield ran
    finally:
        handle.remove()


def kept_by(model: nn.Module | None, ran: Iterable[nn.Module]) -> Buffers:
    """The buffers of the model, and of other networks that ran in training mode."""
    own = set() if model is None else set(model.modules())
    return Buffers([*own, *(m for m in ran if m.training and m not in own)])
