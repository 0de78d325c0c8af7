"""A step on several ranks, here threads: the same bits as shards in one process, and its cost."""

import itertools
import json
import sys

import numpy as np
import pytest

from benchmarks.ranks_model import (
    METHODS,
    NETWORKS,
    Machine,
    Network,
    cost,
    efficiency,
    pays_until,
)
from rsam_backends import forbid_waiting, to_device, to_host, use_backend
from rsam_backends.random import Stream
from rsam_backends.ranks import NCCLExchange
from rsam_ref import RSAM, SAM, SGD, launched, models, nn, objective
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.algorithms.workers import PerWorker
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.data import feed
from rsam_ref.launched import launched_as
from rsam_ref.nn.batch_parts import Sharded
from rsam_ref.nn.mpi import MPIGroup
from rsam_ref.nn.shards import bounds
from rsam_ref.nn.workers import Workers
from rsam_ref.training import ranks as ranks_module
from rsam_ref.training import recipe
from rsam_ref.training.loop import DivergedError
from rsam_ref.training.ranks import Ranks, RanksError, started
from rsam_ref.training.run import Run
from tests.helpers.ranks import NCCL, on_ranks
from tests.helpers.steps_on_ranks import MODELS, OPTIMIZERS, WAYS, bits, group_of, mini_batch, train


def on_threads(size, model, optimizer, shards, steps=3, dtype="float32", **options):
    """The bits of every rank after some steps, and their groups."""

    def work(communicator):
        mine, group = MODELS[model](dtype), group_of(communicator, shards)
        train(mine, OPTIMIZERS[optimizer](), shards, steps, group, **options)
        return bits(mine), group

    return list(zip(*on_ranks(size, work)))


def in_one_process(model, optimizer, shards, steps=3, dtype="float32", **options):
    mine = MODELS[model](dtype)
    train(mine, OPTIMIZERS[optimizer](), shards, steps, **options)
    return mine


@pytest.mark.parametrize(("size", "shards"), [(2, 2), (3, 3), (2, 4)])
@pytest.mark.parametrize("way", WAYS)
def test_ranks_have_the_bits_of_as_many_shards(size, shards, way):
    found, _ = on_threads(size, "dropout", "rsam", shards, **WAYS[way])
    assert set(found) == {bits(in_one_process("dropout", "rsam", shards, **WAYS[way]))}


@pytest.mark.parametrize("way", ["global", "worker"])
def test_on_the_device_double_too(way, double_backend):
    with use_backend("double", kernels="plain"):
        found, _ = on_threads(2, "cnn", "rsam", 2, steps=1, **WAYS[way])
        assert set(found) == {bits(in_one_process("cnn", "rsam", 2, steps=1, **WAYS[way]))}


@pytest.mark.parametrize("way", ["global", "worker"])
def test_by_nccl_nothing_is_read_back_and_nothing_waits(way, double_backend):
    """On the device double, with a stand-in for NCCL: no GPU has run it."""

    def work(communicator):
        mine = MODELS["cnn"]("float32")
        group = MPIGroup(communicator, 1, NCCLExchange(2, NCCL(communicator)))
        x, y = mini_batch(0, 12, "float32")
        own = slice(6 * communicator.rank, 6 * communicator.rank + 6)
        x, y = to_device(x[own]), to_device(y[own])
        optimizer = OPTIMIZERS["rsam"]()
        batch: Sharded | Workers
        if way == "worker":
            optimizer = PerWorker(optimizer)
            batch = Workers(mine, x, y, cross_entropy, lambda i: i, 2, None, group, 12)
        else:
            batch = Sharded(mine, x, y, cross_entropy, [0, 1], group, 12)
        optimizer.step(batch, mine.weights.flat)
        return group.stop(communicator.rank == 1), mine

    with use_backend("double", kernels="plain"):
        with forbid_waiting():  # nor may anything be read back
            found = on_ranks(2, work)
        expected = bits(in_one_process("cnn", "rsam", 2, steps=1, **WAYS[way]))
        assert [(stop, bits(mine)) for stop, mine in found] == [(True, expected)] * 2


COSTS = {  # exchanges of vectors in a step
    "sgd": (1, None),
    "sam": (2, 1),
    "asam": (2, 1),
    "rsam": (2, 1),
    "noise": (1, 1),
}


@pytest.mark.parametrize("optimizer", COSTS)
def test_exchanges_of_a_step_are_counted(optimizer):
    """Batch norm besides: synchronised, one forward and one backward in every layer and pass."""
    passes, per_worker = COSTS[optimizer]
    _, groups = on_threads(2, "cnn", optimizer, 2)
    layers = 2
    assert {group.sums for group in groups} == {3 * passes}
    assert {group.gathers for group in groups} == {3 * passes * 2 * layers}
    if per_worker is not None:
        _, groups = on_threads(2, "cnn", optimizer, 2, per_worker=True)
        assert {group.sums for group in groups} == {3 * per_worker}
        assert {group.gathers for group in groups} == {0}  # they come with the gradient


def test_a_rank_receives_about_two_vectors_however_many_there_are():
    size = MODELS["mlp"]("float64").weights.flat.nbytes
    for n in (2, 3, 4, 6):
        _, groups = on_threads(n, "mlp", "sgd", n, steps=1, dtype="float64")
        received = groups[0].exchange.received
        assert received == pytest.approx(2 * (n - 1) / n * size, rel=0.01)


def plain_statement(w, shapes, x, y, model, kind, step, velocity, groups):
    """A step per worker, on lists of gradients, one a group of samples."""
    gradients, shares = [], []
    for number, samples in enumerate(groups):
        own = objective(model, x[samples], y[samples])
        if kind == "sam":
            g0 = own(w)[1]
            eps = 0.05 * g0 / (np.sqrt(np.sum(g0**2)) + 1e-12)
        else:
            key = ("noise", 3, step, number) if number else ("noise", 3, step)
            noise = filter_noise(w, shapes, sigma=0.01, stream=Stream(*key))
            a = 2 * own(w + noise)[1] + noise
            eps = 0.05 * a / (np.sqrt(np.sum(a**2)) + 1e-12)
        gradients.append(own(w + eps)[1])
        shares.append(len(x[samples]) / len(x))
    g = sum(share * gradient for share, gradient in zip(shares, gradients))
    velocity = 0.9 * velocity + g
    return w - 0.02 * velocity, velocity


@pytest.mark.parametrize("kind", ["sam", "rsam"])
@pytest.mark.parametrize(("shards", "m", "size"), [(2, None, 1), (3, 2, 3), (1, 3, 1), (2, 2, 2)])
def test_per_worker_is_the_plain_statement_of_it(kind, shards, m, size):
    n, steps = 11, 4
    found = on_threads(size, "mlp", kind, shards, steps, "float64", per_worker=True, m=m, n=n)[0]
    model = MODELS["mlp"]("float64")
    w, velocity = model.weights.flat.copy(), 0.0
    groups = []
    for start, end in zip(bounds(n, shards), bounds(n, shards)[1:]):
        inner = bounds(end - start, -(-(end - start) // (m or n)))
        groups += [slice(start + a, start + b) for a, b in itertools.pairwise(inner)]
    for step in range(steps):
        x, y = mini_batch(step, n, "float64")
        w, velocity = plain_statement(
            w, model.weights.shapes, x, y, model, kind, step, velocity, groups
        )
    for one in found:
        np.testing.assert_allclose(np.frombuffer(one), w, rtol=0, atol=1e-13)


@pytest.mark.parametrize("optimizer", ["sam", "asam", "rsam", "noise"])
def test_one_worker_is_the_whole_mini_batch_bit_for_bit(optimizer):
    one = in_one_process("mlp", optimizer, 1, per_worker=True)
    assert bits(one) == bits(in_one_process("mlp", optimizer, 1))
    assert bits(one) != bits(in_one_process("mlp", optimizer, 2, per_worker=True))


def test_groups_of_the_same_samples_are_the_same_in_any_number_of_shards():
    weights = [
        in_one_process("mlp", "rsam", k, dtype="float64", per_worker=True, m=2).weights.flat
        for k in (1, 2, 3)
    ]
    for other in weights[1:]:
        np.testing.assert_allclose(to_host(other), to_host(weights[0]), atol=1e-13)


@pytest.mark.parametrize(("shards", "m"), [(2, None), (1, 6)])
def test_running_statistics_per_worker_are_the_workers_mean(shards, m):
    model, alone = MODELS["cnn"]("float64"), [MODELS["cnn"]("float64") for _ in range(2)]
    optimizer = PerWorker(SAM(SGD(0.0), 0.05))
    x, y = mini_batch(0, 12, "float64")
    workers = Workers(model, x, y, cross_entropy, lambda i: i, shards, m)
    optimizer.step(workers, model.weights.flat)
    for i, own in enumerate(alone):
        half = slice(6 * i, 6 * i + 6)
        SAM(SGD(0.0), 0.05).step(objective(own, x[half], y[half], seed=i), own.weights.flat)
    for name, value in model.state_dict().items():
        if "running" in name:
            expected = sum(own.state_dict()[name] for own in alone) / 2
            np.testing.assert_allclose(value, expected, rtol=1e-13)


def test_per_worker_asks_for_workers():
    model = MODELS["mlp"]("float32")
    x, y = mini_batch(0, 4, "float32")
    with pytest.raises(TypeError, match=r"asks what it steps on for its workers.*Objective"):
        PerWorker(RSAM(SGD(0.1))).step(objective(model, x, y), model.weights.flat)


def test_a_wish_to_stop_is_heard_by_all_after_the_same_step():
    def work(communicator):
        group = MPIGroup(communicator, 1)
        ranks = Ranks(communicator)
        ranks.group = group
        heard = []
        for step in range(4):
            heard.append(ranks.stopping(asked=communicator.rank == 1 and step >= 2))
            group.sum([(np.zeros(3, "float32"),)])
        return heard

    assert on_ranks(3, work) == [[False, False, False, True]] * 3


def test_ranks_that_are_not_alike_are_refused_with_what_differs():
    def work(communicator):
        ranks = Ranks(communicator)
        ranks.agree({"NumPy": "2.4", "data": "a" if ranks.rank < 2 else "b"}, "has come")

    with pytest.raises(RanksError, match="rank 2 has come with data b, rank 0 with a: all ranks"):
        on_ranks(3, work)


def test_shards_that_ranks_cannot_share_evenly_are_refused():
    def deal(shards, batch_size):
        return lambda communicator: Ranks(communicator).deal(shards, batch_size)

    with pytest.raises(
        RanksError, match=r"4 shards .* to 3 ranks.*start one process or 2 or 4 ranks"
    ):
        on_ranks(3, deal(4, 64))
    with pytest.raises(RanksError, match="4 shards have no sample each in mini-batches of 3"):
        on_ranks(2, deal(4, 3))
    assert on_ranks(2, deal(4, 4)) == [None, None]


LAUNCHERS = {
    "MPICH": {"PMI_RANK": "1", "PMI_SIZE": "2"},
    "Open MPI": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    "PMIx": {"PMIX_RANK": "1"},
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_is_known_by_what_it_sets(launcher, monkeypatch):
    for name in (*launched.RANK, *launched.SIZE):
        monkeypatch.delenv(name, raising=False)
    assert launched_as() is None
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    assert launched_as() == 1
    monkeypatch.setenv("RSAM_REF_MPI", "0")
    assert launched_as() is None


@pytest.mark.parametrize(
    ("seen", "local", "expected"), [("", "3", "3"), ("4,5", "1", "5"), ("4,5", "2", "4")]
)
def test_each_rank_sees_the_gpu_of_its_number(seen, local, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    monkeypatch.setenv("MPI_LOCALRANKID", local)
    ranks_module.choose_gpu()
    assert ranks_module.os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_without_mpi4py_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(RanksError, match=r"started by mpiexec, but mpi4py is missing.*pip install"):
        started()


# Runs


SMALL = {"model": "mlp", "epochs": 2, "batch_size": 128, "limit": 450, "checkpoint_every": 3}


def settings(**changes):
    return recipe.check({**SMALL, "shards": 2, "deterministic": True, **changes}, "test")


def trained(folder, communicator=None, on_step=lambda run, step: None, **changes):
    run = Run.start(folder, settings(**changes), ranks=Ranks(communicator))
    run.go(on_step=lambda step: on_step(run, step))
    return bits(run.model)


WORKERS = {"perturbation": "worker", "m": 20}


@pytest.mark.parametrize(
    "changes",
    [{}, {"augment": "crop-flip"}, WORKERS, {"batch_size": 149}],
    ids=["plain", "augmented", "workers", "a last batch smaller than the shards"],
)
def test_a_run_on_ranks_is_the_run_on_as_many_shards(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "TEST_BATCH", 100)  # five batches of test samples
    changes = {"shards": 4, **changes}
    alone = trained(tmp_path / "alone", **changes)
    together = on_ranks(2, lambda c: trained(tmp_path / "together", c, **changes))
    assert together == [alone] * 2
    lines = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text]
        for text in (
            (tmp_path / name / "metrics.jsonl").read_text().splitlines()
            for name in ("alone", "together")
        )
    ]
    assert lines[0] == lines[1]


def test_weights_that_drift_apart_are_told_before_a_checkpoint_is_written(tmp_path):
    def drift(run, step):
        if step == 4 and not run.ranks.first:
            run.model.weights.flat[7] *= np.float32(1 + 2e-7)

    with pytest.raises(RanksError, match=r"rank 1 is at step 6 with weights \w+, rank 0 with \w+:"):
        on_ranks(2, lambda c: trained(tmp_path / "run", c, drift))
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"step-000000003.safetensors"}


def test_ranks_are_not_given_samples_that_others_have(tmp_path):
    with pytest.raises(recipe.RecipeError, match="sparse-sam looks at single samples"):
        on_ranks(2, lambda c: trained(tmp_path / "run", c, optimizer="sparse-sam"))


def test_where_workers_diverge_the_layer_is_told(tmp_path):
    for optimizer in ("sam", "rsam"):
        with pytest.raises(DivergedError, match=r"step \d+ of epoch 1: the loss .* is not finite"):
            trained(tmp_path / optimizer, optimizer=optimizer, lr=1e30, **WORKERS)


WRONG = {
    "m goes with perturbation": {"m": 4},
    "sgd is not among those that can have it: sam, asam, rsam, noise": {
        "perturbation": "worker",
        "optimizer": "sgd",
    },
    "give m = 32 instead": {"perturbation": "worker", "shards": 1, "accumulate": 4},
}


@pytest.mark.parametrize("told", WRONG)
def test_settings_of_workers_that_mean_nothing_are_refused(told):
    with pytest.raises(recipe.RecipeError, match=told):
        settings(**WRONG[told])


# The model of what it costs


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("way", ["global", "worker"])
def test_the_model_s_exchanges_and_bytes_are_those_that_are_counted(n, way):
    _, groups = on_threads(n, "cnn", "rsam", n, steps=1, **WAYS[way])
    network = Network("cnn", MODELS["cnn"]("float32").weights.flat.size, 0.0, norms=(4, 6))
    expected = cost(network, METHODS[1 if way == "global" else 2], Machine(1, 1, 1), n, 1)
    assert (groups[0].sums, groups[0].gathers) == (expected.sums, expected.gathers)
    few = 2 * n * 4 * (n + 3)  # losses, the wish to stop, and numbers that fill a part
    assert 0 <= groups[0].exchange.received - expected.received <= few


def test_the_model_knows_resnet50s_batch_norms():
    modules = models.resnet50(classes=10).modules().values()
    norms = [module.channels for module in modules if isinstance(module, nn.BatchNorm2d)]
    assert sorted(NETWORKS[0].norms) == sorted(norms)


def test_more_ranks_compute_less_of_their_time():
    machine = Machine(rate=1e12, latency=1e-5, bandwidth=1e9)
    for network, method in itertools.product(NETWORKS, METHODS):
        shares = [efficiency(network, method, machine, n, 4096 / n) for n in (1, 8, 64, 512)]
        assert shares[0] == 1
        assert shares == sorted(shares, reverse=True)
        until = pays_until(network, method, machine, 4096)
        assert efficiency(network, method, machine, until, 4096 / until) >= 0.5
        assert efficiency(network, method, machine, 2 * until, 2048 / until) < 0.5
