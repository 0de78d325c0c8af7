"""The optimizers for PyTorch in several processes: two of them, by gloo, and FSDP2's shards.

All that a number of processes does is done by one start of them, and left in files.
"""

from __future__ import annotations

import copy
import os
from datetime import timedelta
from functools import partial

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from torch import multiprocessing, nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from rsam_ref.pytorch import RSAM, SAM  # noqa: E402
from tests.helpers.torch_problems import flat, torch_batches, torch_net  # noqa: E402

pytestmark = pytest.mark.frameworks

STEPS = 4
BASE = {"lr": 0.1, "momentum": 0.9}
both = pytest.mark.parametrize("kind", [SAM, RSAM])


def optimizer_of(kind, model, seed=3, **options):
    own = {"sigma": 0.02, "seed": seed, "draw": "reference"} if kind is RSAM else {}
    return kind(model, torch.optim.SGD, rho=0.1, **own, **options, **BASE)


def net():
    return torch_net().eval()  # batch norm's statistics are those of a part


def closure_of(model, optimizer, x, y, *, scaler=None, spoil=None):
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        calls.append(1)
        if spoil == len(calls):
            loss = loss * float("inf")
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    return closure


def part_of(rank, x, y, of=2):
    return x.chunk(of)[rank], y.chunk(of)[rank]


def _begin(rank, folder, world):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=120),
    )
    try:
        done = {name: work(rank, world) for name, work in WORK[world].items()}
        torch.save(done, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each work gave in each process, by the number of processes and its name."""

    def found(world, name):
        if world not in kept:
            folder = tmp_path_factory.mktemp("processes")
            multiprocessing.spawn(_begin, (folder, world), nprocs=world)
            ends = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]
            kept[world] = {key: [end[key] for end in ends] for key in ends[0]}
        return kept[world][name]

    kept: dict = {}
    return found


# Synchronised: the group is one process with all of the mini-batch


def synchronised(rank, world, kind):
    model = DistributedDataParallel(net())
    optimizer = optimizer_of(kind, model)
    for x, y in torch_batches(STEPS):
        optimizer.step(closure_of(model, optimizer, *part_of(rank, x, y)))
    return flat(model)


def alone(kind):
    model = net()
    optimizer = optimizer_of(kind, model)
    for x, y in torch_batches(STEPS):
        optimizer.step(closure_of(model, optimizer, x, y))
    return flat(model)


@both
def test_two_processes_are_one(kind, found):
    a, b = found(2, f"synchronised {kind.__name__}")
    assert torch.equal(a, b)
    torch.testing.assert_close(a, alone(kind), rtol=0, atol=1e-11)


# Per worker: every one climbs by its own gradient, and only g is averaged


def per_worker(rank, world, kind):
    model = DistributedDataParallel(net())
    optimizer = optimizer_of(kind, model, seed=rank)
    for x, y in torch_batches(STEPS):
        closure = closure_of(model, optimizer, *part_of(rank, x, y))
        optimizer.step(closure, first_pass=model.no_sync())
    return flat(model)


def stated(kind):
    """The same in plain words, in one process: g is the mean of the workers' gradients."""
    model = net()
    base = torch.optim.SGD(model.parameters(), **BASE)
    probes = [optimizer_of(kind, copy.deepcopy(model), seed=rank) for rank in range(2)]
    for x, y in torch_batches(STEPS):
        gradients = []
        for rank, probe in enumerate(probes):
            own = probe.model
            own.load_state_dict(model.state_dict())
            some_x, some_y = part_of(rank, x, y)
            for name in probe.PARTS:
                if name != "draw_step":
                    nn.functional.cross_entropy(own(some_x), some_y).backward()
                if name == "second_step":
                    gradients.append([p.grad.clone() for p in own.parameters()])
                getattr(probe, name)()
            probe.zero_grad()
        for p, *found in zip(model.parameters(), *gradients):
            p.grad = (found[0] + found[1]) / 2
        base.step()
    return flat(model)


@both
def test_per_worker_is_its_plain_statement(kind, found):
    a, b = found(2, f"per worker {kind.__name__}")
    assert torch.equal(a, b)
    torch.testing.assert_close(a, stated(kind), rtol=0, atol=1e-11)
    assert (a - alone(kind)).abs().max() > 1e-6, "it is another algorithm"


def overflowing(rank, world, kind, first_alone):
    """In the second step, the second worker's first pass overflows."""
    model = DistributedDataParallel(net().float())
    optimizer = optimizer_of(kind, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    ends = []
    for step, (x, y) in enumerate(torch_batches(3, torch.float32)):
        spoil = 1 if step == 1 and rank == 1 else None
        closure = closure_of(model, optimizer, *part_of(rank, x, y), scaler=scaler, spoil=spoil)
        optimizer.step(closure, scaler=scaler, first_pass=model.no_sync() if first_alone else None)
        scaler.update()
        ends.append(flat(model))
    return [torch.stack(ends), torch.tensor(scaler.get_scale())]


@both
@pytest.mark.parametrize("first_alone", [False, True], ids=["synchronised", "per worker"])
def test_an_overflow_of_one_worker_skips_the_step_of_all(kind, first_alone, found):
    (a, scale_a), (b, scale_b) = found(2, f"overflow {kind.__name__} {first_alone}")
    assert torch.equal(a, b)
    assert torch.equal(a[0], a[1])
    assert torch.isfinite(a).all()
    assert not torch.equal(a[1], a[2])
    assert scale_a == scale_b == 512


# FSDP2: the parameters are shards


def sharded(rank, world, kind, adaptive):
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import init_device_mesh

    mesh = init_device_mesh("cpu", (world,))
    model = net()
    fully_shard(model, mesh=mesh)
    optimizer = optimizer_of(kind, model, **({"adaptive": True} if adaptive else {}))
    for x, y in torch_batches(STEPS):
        optimizer.step(closure_of(model, optimizer, *part_of(rank, x, y, world)))
    return torch.cat([p.full_tensor().detach().reshape(-1) for p in model.parameters()])


METHODS = {"sam": (SAM, False), "asam": (SAM, True), "rsam": (RSAM, False)}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_shards_take_the_step_of_the_whole(method, world, found):
    kind, adaptive = METHODS[method]
    model = net()
    optimizer = optimizer_of(kind, model, **({"adaptive": True} if adaptive else {}))
    for x, y in torch_batches(STEPS):
        optimizer.step(closure_of(model, optimizer, x, y))
    for end in found(world, f"sharded {method}"):
        torch.testing.assert_close(end, flat(model), rtol=0, atol=1e-11)


SHARDED = {
    f"sharded {name}": partial(sharded, kind=k, adaptive=a) for name, (k, a) in METHODS.items()
}
WORK: dict = {1: SHARDED, 2: dict(SHARDED)}
for each in (SAM, RSAM):
    WORK[2][f"synchronised {each.__name__}"] = partial(synchronised, kind=each)
    WORK[2][f"per worker {each.__name__}"] = partial(per_worker, kind=each)
    for alone_first in (False, True):
        WORK[2][f"overflow {each.__name__} {alone_first}"] = partial(
            overflowing, kind=each, first_alone=alone_first
        )
