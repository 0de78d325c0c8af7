"""What ranks refuse and tell where something is wrong: here threads, or processes without MPI."""

import errno
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rsam_ref import launched
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.commands import ranks as commands_ranks
from rsam_ref.nn.workers import Workers, sizes_of_workers
from rsam_ref.training import checkpoint, recipe
from rsam_ref.training import ranks as ranks_module
from rsam_ref.training.checkpoint import CheckpointError
from rsam_ref.training.ranks import Ranks, RanksError, started
from rsam_ref.training.run import Run, RunError
from tests.helpers.commands import command
from tests.helpers.ranks import on_ranks
from tests.helpers.steps_on_ranks import MODELS, bits, mini_batch

# How they were started

SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
TRAINS_ALONE = {
    "as Slurm gave it PMI": {"PMI_RANK": "1"},
    "in a batch script": {"SLURM_STEP_ID": "4294967291"},
    "in an interactive step": {"SLURM_STEP_ID": "4294967290"},
    "in no step": {"SLURM_STEP_ID": ""},
    "as the only task": {"SLURM_STEP_NUM_TASKS": "1"},
    "as it is told": {"RSAM_REF_MPI": "0"},
}


@pytest.fixture
def no_launcher(monkeypatch):
    for name in (*launched.RANK, *launched.SIZE, launched.STEP, "SLURM_PROCID", launched.OFF):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("changes", [{}, *TRAINS_ALONE.values()], ids=["refused", *TRAINS_ALONE])
def test_processes_of_srun_that_do_not_know_of_each_other(changes, no_launcher):
    for name, value in {**SRUN, **changes}.items():
        no_launcher.setenv(name, value)
    assert launched.tasks_without_pmi() == (None if changes else 2)


def test_under_srun_without_pmi_one_process_tells_and_none_trains(no_launcher, tmp_path):
    told = "rsam-ref: srun has started rsam-ref train 2 times over, with no PMI by which"
    for rank in ("0", "1"):
        done = command("train", "--out", str(tmp_path / "a"), **SRUN | {"SLURM_PROCID": rank})
        assert done.returncode == 2
        assert done.stderr[: len(told)] == (told if rank == "0" else "")
    assert not (tmp_path / "a").exists()


def test_a_switch_that_means_nothing_is_refused(no_launcher):
    done = command("models", RSAM_REF_MPI="maybe")
    assert done.returncode == 2
    assert done.stderr.startswith("rsam-ref: RSAM_REF_MPI=maybe: give 0, ")
    assert command("models", RSAM_REF_MPI="0").returncode == 0


def test_an_mpi_without_pmix_is_not_begun_under_pmix(no_launcher):
    """MPICH would end the process, with five lines of its own."""
    begun: list[int] = []
    mpi = SimpleNamespace(
        Is_initialized=lambda: False,
        Get_library_version=lambda: "MPICH Version:      5.0.2\nMPICH configure: ...",
        THREAD_MULTIPLE=3,
        Init_thread=begun.append,
    )
    no_launcher.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi, rc=SimpleNamespace()))
    no_launcher.setenv("PMIX_RANK", "0")
    with pytest.raises(RanksError, match=r"speaks PMIx.*has MPICH Version: 5\.0\.2, which does"):
        started()
    assert not begun
    mpi.Get_library_version = lambda: "MPICH Version: 5.0.2\nMPICH configure: --with-pmix=/usr"
    assert ranks_module.begun() is mpi
    assert begun == [3]


def test_ranks_of_which_some_do_something_else_are_refused():
    def work(*given):
        return lambda communicator: Ranks(communicator).agree_on_work(*given[communicator.rank])

    train, presets = ("rsam-ref train", True), ("rsam-ref train --list-presets", False)
    with pytest.raises(RanksError, match=r"rank 1 was started as .*--list-presets, rank 0 as "):
        on_ranks(2, work(train, presets))
    with pytest.raises(RanksError, match=r"rank 1 was started as rsam-ref train, rank 0 as .*--l"):
        on_ranks(2, work(presets, train))
    with pytest.raises(RanksError, match="rank 1 was started as rsam-ref train --resume, rank 0"):
        on_ranks(2, work(train, ("rsam-ref train --resume", True)))
    assert on_ranks(2, work(presets, ("rsam-ref --help", False))) == [None] * 2


REFUSED = {
    "sparse-sam looks at single samples": {"optimizer": "sparse-sam"},
    "m-sam takes .* on ranks the same is .*perturbation = worker": {"optimizer": "m-sam"},
    "accumulate takes .* ranks share it out among themselves": {"accumulate": 4},
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_ranks_cannot_do_is_refused_in_their_words(told):
    with pytest.raises(recipe.RecipeError, match=told):
        recipe.refuse_ranks(REFUSED[told])


def test_a_shard_that_ranks_cannot_share_is_refused():
    with pytest.raises(RanksError, match=r"1 shard cannot .* to 3 ranks.*start one process, or"):
        on_ranks(3, lambda communicator: Ranks(communicator).deal(1, 64))


@pytest.mark.parametrize(
    ("n", "shards", "m", "sizes"),
    [
        (18, 2, 4, [3] * 6),
        (10, 3, None, [3, 3, 4]),
        (10, 2, 400, [5, 5]),
        (3, 3, None, [1, 1, 1]),
    ],
)
def test_workers_have_the_sizes_that_are_told(n, shards, m, sizes):
    assert sizes_of_workers(n, shards, m) == sizes
    x, y = mini_batch(0, n, "float32")
    workers = Workers(MODELS["mlp"]("float32"), x, y, cross_entropy, lambda i: i, shards, m)
    assert [len(part.x._data) for part in workers.parts] == sizes


def test_the_sizes_of_uneven_workers_are_told(tmp_path):
    words = ("train", "--model", "mlp", "--limit", "20", "--batch-size", "10", "--epochs", "1")
    workers = ("--shards", "3", "--perturbation", "worker")
    done = command(*words, *workers, "--out", str(tmp_path / "run"))
    assert "3 workers in a mini-batch of 10 samples, of 3 to 4 samples each" in done.stdout


# Errors


def test_what_fails_on_the_first_rank_alone_is_raised_by_all():
    def work(communicator):
        def read():
            assert communicator.rank == 0
            raise CheckpointError("a/file", "is damaged")

        with pytest.raises(CheckpointError, match=r"^a/file: is damaged$"):
            Ranks(communicator).from_first(read)
        return Ranks(communicator).from_first(lambda: 7)

    assert on_ranks(3, work) == [7] * 3


KEPT = {
    "rsam-ref: out of memory\n": "rsam-ref: rank 2: out of memory\n",
    "Usage: ...\nError: no option --x\n": "Usage: ...\nrsam-ref: rank 2: no option --x\n",
    "Traceback ...\nKeyError: 'x'\n": "Traceback ...\nrsam-ref: rank 2: KeyError: 'x'\n",
    "rsam-ref: going back\nrsam-ref: a\n": "rsam-ref: going back\nrsam-ref: rank 2: a\n",
    "": "rsam-ref: rank 2: ended with exit code 4, and says nothing\n",
}


@pytest.mark.parametrize("kept", KEPT)
def test_a_rank_that_fails_ends_with_one_line_of_its_number(kept):
    assert commands_ranks._of_rank(2, kept, 4) == KEPT[kept]


@pytest.mark.parametrize(
    ("sent", "whose"),
    [
        ({1: "rsam-ref: no\n", 2: "rsam-ref: no\n"}, ""),
        ({1: "rsam-ref: no\n"}, "rank 0: "),
        ({1: "rsam-ref: no\n", 2: "rsam-ref: something else\n"}, "rank 0: "),
        ({}, "rank 0: "),
    ],
    ids=["all say the same", "one goes on", "one says something else", "all go on"],
)
def test_rank_0_names_itself_where_others_do_not_say_the_same(sent, whose, monkeypatch):
    waiting = list(sent.items())

    def recv(tag, status):
        status.source, text = waiting.pop(0)
        return text

    world = SimpleNamespace(size=3, iprobe=lambda tag: bool(waiting), recv=recv)
    mpi = SimpleNamespace(
        COMM_WORLD=world,
        Status=SimpleNamespace,
        Is_initialized=lambda: True,
        Is_finalized=lambda: False,
    )
    monkeypatch.setattr(commands_ranks, "MOMENT", 0.05)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))
    assert commands_ranks._whose("no") == whose


# Runs

SMALL = {"model": "mlp", "epochs": 2, "batch_size": 128, "limit": 450, "checkpoint_every": 3}


def begun(folder, communicator=None, **changes):
    whole = {**SMALL, "shards": 2, "deterministic": True, **changes}
    return Run.start(folder, recipe.check(whole, "test"), ranks=Ranks(communicator))


def trained(folder, communicator=None, on_step=lambda run, step: None, **changes):
    run = begun(folder, communicator, **changes)
    run.go(on_step=lambda step: on_step(run, step))
    return bits(run.model)


def test_a_run_that_ranks_cannot_take_is_not_begun(tmp_path):
    with pytest.raises(recipe.RecipeError, match="sparse-sam looks at single samples"):
        on_ranks(2, lambda c: trained(tmp_path / "run", c, optimizer="sparse-sam"))
    assert not (tmp_path / "run").exists()


def test_ranks_that_have_drifted_are_told_what_is_left(tmp_path):
    def drift(run, step):
        if step == 4 and not run.ranks.first:
            run.model.weights.flat[7] *= np.float32(1 + 2e-7)

    kept = tmp_path / "run" / "checkpoints" / "step-000000003.safetensors"
    again = f"mpiexec -n 2 rsam-ref train --resume {tmp_path / 'run'}"
    with pytest.raises(RanksError, match=f"draws by itself.*agreed, is {kept}; .* then: {again}$"):
        on_ranks(2, lambda c: trained(tmp_path / "run", c, drift))


def test_batch_norm_s_statistics_that_drift_apart_are_told(tmp_path):
    def work(communicator):
        run = begun(tmp_path / "run", communicator, model="resnet20", limit=16, batch_size=8)
        run.close()
        if not run.ranks.first:
            module, name, value = run.model.buffer_values()[0]
            setattr(module, name, value + np.float32(2e-7))
        run._agree_on_weights()

    with pytest.raises(RanksError, match="rank 1 is at step 0 with weights"):
        on_ranks(2, work)


@pytest.mark.parametrize("whole", [True, False], ids=["one is whole", "none is whole"])
def test_ranks_go_back_to_the_checkpoint_before_a_damaged_one(whole, tmp_path):
    run = tmp_path / "run"
    before = trained(run)
    newest, *older = checkpoint.newest_first(run / "checkpoints")
    for path in [newest] if whole else [newest, *older]:
        path.write_bytes(path.read_bytes()[:3000])

    def resumed(communicator):
        again = Run.resume(run, ranks=Ranks(communicator))
        step, damaged = again.step, [str(error) for error in again.damaged]
        again.go()
        return bits(again.model), step, damaged

    if not whole:
        with pytest.raises(CheckpointError, match="no checkpoint in it is whole"):
            on_ranks(2, resumed)
        return
    one, other = on_ranks(2, resumed)
    assert one == other
    assert one[:2] == (before, checkpoint.step_of(older[0]))
    [told] = one[2]
    assert told.startswith(f"{newest}: is damaged")


NET = """
from rsam_ref import models


def net(shape, classes, seed=0, dtype="float32"):
    made = {{"shape": shape, "classes": classes, "seed": seed, "dtype": dtype}}
    return models.make_model("mlp", hidden=[{width}], **made)
"""


def test_one_s_own_code_is_compared_by_what_is_in_it(tmp_path):
    places = [tmp_path / "one" / "net.py", tmp_path / "two" / "net.py"]
    for place in places:
        place.parent.mkdir()
        place.write_text(NET.format(width=8))

    def work(communicator):
        own = f"{places[communicator.rank]}:net"
        return trained(tmp_path / "run", communicator, model=own, epochs=1)

    assert len(set(on_ranks(2, work))) == 1
    shutil.rmtree(tmp_path / "run")
    places[1].write_text(NET.format(width=9))
    with pytest.raises(RanksError, match=r"model net\.py:net \(\w+\), rank 0 with net\.py:net \("):
        on_ranks(2, work)


def test_the_command_that_goes_on_is_that_of_as_many_ranks(tmp_path):
    def told(communicator=None):
        run = begun(tmp_path / ("together" if communicator else "alone"), communicator)
        run.close()
        return run.to_go_on

    assert told() == f"rsam-ref train --resume {tmp_path / 'alone'}"
    together = f"mpiexec -n 2 rsam-ref train --resume {tmp_path / 'together'}"
    assert on_ranks(2, told) == [together] * 2


def test_a_full_disk_is_told_by_all_ranks_alike(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "file"))

    monkeypatch.setattr(checkpoint, "save", full)

    def work(communicator):
        with pytest.raises(RunError) as told:
            trained(tmp_path / "run", communicator)
        return str(told.value)

    one, other = on_ranks(2, work)
    assert one == other
    assert "No space left on device. The run stopped at step 3; no checkpoint yet. Mend" in one
    assert one.endswith(f"then: mpiexec -n 2 rsam-ref train --resume {tmp_path / 'run'}")


def test_code_that_ends_the_program_is_told(tmp_path):
    def leave(run, step):
        if step == 4:
            raise SystemExit(4)

    with pytest.raises(RunError, match=r"ended the program: SystemExit\(4\)\. The run stopped"):
        trained(tmp_path / "run", None, leave)
