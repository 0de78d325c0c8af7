"""The optimizers for PyTorch against others' SAM: the time of a step, as a ratio, and memory.

    python -m benchmarks.pytorch_optimizers [--blocks 15] [--sam-folder FOLDER]

Against the loop that most code has, in words of our own; against pytorch_optimizer's SAM where that
is installed; and against any file that defines a class SAM(params, base_optimizer, rho, **kwargs)
with first_step and second_step, put into a folder and named: ``--sam-folder``, which is to hold
sam.py. Both take the same network, batch and base, in processes of their own, in turn (duel.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from benchmarks.contestants import LAM, LR, MOMENTUM, RHO, SIGMA, WEIGHT_DECAY, batch, torch_net
from benchmarks.duel import AbsentError, Result, cores, duel
from benchmarks.worker import before_the_net
from rsam_ref.commands.terminal import progress_bar

Step = Callable[[], None]

FOLDER = "RSAM_BENCHMARK_SAM_FOLDER"
"""Where the processes find the folder with sam.py."""

BASE = {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
MODELS = ("mlp", "resnet20")
SIZE = 128
OURS = ("sam", "rsam")
PEERS = {
    "loop": "the loop of most code",
    "package": "pytorch_optimizer",
    "file": "SAM of the folder",
    "twice": "two gradients, no ascent",
}


def contestant(model: str, who: str) -> Step:
    """A function that takes a step, on one batch."""
    import torch
    from torch import nn

    if model == "resnet20":
        import tests.helpers.torch_models  # noqa: F401 - loaded before memory is looked at
    make = MAKERS[who]()
    torch.optim.SGD([torch.zeros(1)])  # the first optimizer loads a hundred MB of torch
    before_the_net()
    net = torch_net(model)
    x, y = (torch.from_numpy(a) for a in batch(model, SIZE))
    optimizer = make(net)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        return loss

    def in_halves() -> None:
        closure()
        optimizer.first_step()
        closure()
        optimizer.second_step()

    def twice() -> None:
        closure()
        closure()
        optimizer.step()

    ways: dict[str, Step] = {"sam": lambda: optimizer.step(closure), "twice": twice}
    ways["rsam"] = ways["sam"]
    return ways.get(who, in_halves)


Maker = Callable[[Any], Any]


def our_sam() -> Maker:
    import torch

    from rsam_ref.pytorch import SAM

    return lambda net: SAM(net, torch.optim.SGD, rho=RHO, **BASE)


def our_rsam() -> Maker:
    import torch

    from rsam_ref.pytorch import RSAM

    return lambda net: RSAM(net, torch.optim.SGD, rho=RHO, sigma=SIGMA, lam=LAM, **BASE)


def the_base() -> Maker:
    import torch

    return lambda net: torch.optim.SGD(net.parameters(), **BASE)


def the_loop() -> Maker:
    import torch

    class LoopSAM:
        """A parameter at a time: its norm, a clone of it, its own eps; and back by exchange."""

        def __init__(self, params: Any) -> None:
            self.params = list(params)
            self.base = torch.optim.SGD(self.params, **BASE)
            self.old: dict[Any, Any] = {}

        def zero_grad(self) -> None:
            self.base.zero_grad()

        @torch.no_grad()
        def first_step(self) -> None:
            device = self.params[0].device
            each = [p.grad.norm(p=2).to(device) for p in self.params if p.grad is not None]
            scale = RHO / (torch.norm(torch.stack(each), p=2) + 1e-12)
            for p in self.params:
                if p.grad is None:
                    continue
                self.old[p] = p.data.clone()
                p.add_(p.grad * scale.to(p))
            self.zero_grad()

        @torch.no_grad()
        def second_step(self) -> None:
            for p in self.params:
                if p.grad is not None:
                    p.data = self.old[p]
            self.base.step()
            self.zero_grad()

    return lambda net: LoopSAM(net.parameters())


def the_package() -> Maker:
    import torch
    from pytorch_optimizer import SAM  # type: ignore[import-not-found, unused-ignore]

    return lambda net: SAM(net.parameters(), torch.optim.SGD, rho=RHO, **BASE)


def the_file() -> Maker:
    import torch

    path = Path(os.environ.get(FOLDER, "")) / "sam.py"
    if FOLDER not in os.environ or not path.is_file():
        raise ImportError("no --sam-folder with a file sam.py was given")
    spec = importlib.util.spec_from_file_location("sam_of_the_folder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda net: module.SAM(net.parameters(), torch.optim.SGD, rho=RHO, **BASE)


MAKERS: dict[str, Callable[[], Maker]] = {
    "sam": our_sam,
    "rsam": our_rsam,
    "loop": the_loop,
    "package": the_package,
    "file": the_file,
    "twice": the_base,
}


def __getattr__(name: str) -> Callable[[], Step]:
    """``resnet20_loop``: what a process of its own asks for."""
    model, _, who = name.partition("_")
    if model in MODELS and who in MAKERS:
        return lambda: contestant(model, who)
    raise AttributeError(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=15, help="pairs of blocks to a ratio")
    parser.add_argument("--sam-folder", type=Path, help="a folder with a sam.py to compare with")
    parser.add_argument("--model", choices=MODELS, action="append", help="one of the networks")
    options = parser.parse_args()
    if options.sam_folder:
        os.environ[FOLDER] = str(options.sam_folder.resolve())
    console = Console()
    right = {"justify": "right", "no_wrap": True}
    table = Table(
        *("step", "against"),
        *(Column(name, **right) for name in ("ours (ms)", "(ms)", "ratio", "quartiles", "memory")),
        title=f"Time and memory of a step, ours / theirs, batch {SIZE}, {cores()} cores",
    )
    absent = {}
    pairs = list(product(options.model or MODELS, PEERS, OURS))
    with progress_bar(console) as progress:
        for model, peer, ours in progress.track(pairs, description="pairs"):
            targets = [f"benchmarks.pytorch_optimizers:{model}_{who}" for who in (ours, peer)]
            try:
                result = duel(*targets, blocks=options.blocks, seconds=0.5)
            except AbsentError as error:
                absent[peer] = str(error)
                continue
            row = f"{model}, {ours}", PEERS[peer], *_numbers(result)
            table.add_row(*row)
            progress.console.print("  ".join(row), highlight=False)
    console.print(table)
    for peer, reason in absent.items():
        console.print(f"Left out, {PEERS[peer]}: {reason}", soft_wrap=True)


def _numbers(r: Result) -> list[str]:
    ours, theirs = r.memory
    memory = f"{ours / theirs:.2f}" if theirs else ""
    times = [f"{r.a * 1e3:.2f}", f"{r.b * 1e3:.2f}", f"{r.ratio:.2f}"]
    return [*times, f"{r.low:.2f} to {r.high:.2f}", memory]


if __name__ == "__main__":
    main()
