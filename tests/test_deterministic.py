"""Runs on other numbers of threads: what is promised of their bits, what is recorded and said."""

import json
import os
import re
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from threadpoolctl import threadpool_info, threadpool_limits

from rsam_backends import BackendError, deterministic, get_backend, threads, use_backend
from rsam_backends import numpy_backend as of_numpy
from rsam_ref.nn.shards import run_in_threads
from rsam_ref.training import arithmetic, recipe
from rsam_ref.training.run import Run
from tests.helpers.commands import called, command

# Large enough for BLAS to share out their products.
NETWORKS = {
    "large mlp": {"model": "mlp", "model_options": {"hidden": [512, 512]}, "batch_size": 128},
    "cnn with batch norm": {"model": "resnet20", "batch_size": 64, "limit": 128},
    "vit": {"model": "vit_tiny", "model_options": {"patch": 2, "depth": 1}, "limit": 32},
    "shards": {"model": "mlp", "model_options": {"hidden": [512, 512]}, "shards": 2},
    "shards with batch norm": {"model": "resnet20", "batch_size": 64, "limit": 64, "shards": 2},
}
COUNTS = [(1, 1), (1, 3), (2, 2), (3, 1)]
"""Threads of BLAS, and of our kernels."""


@contextmanager
def on_threads(of_blas: int, of_kernels: int):
    threads.set_threads(of_kernels)
    try:
        with threadpool_limits(of_blas, user_api="blas"):
            yield
    finally:
        threads.set_threads(None)


def settings(name: str, **changes):
    common = {"optimizer": "rsam", "epochs": 1, "limit": 256, "log_every": 1}
    return recipe.check({**common, **NETWORKS[name], **changes}, name)


def bits(run: Run) -> bytes:
    return b"".join(array.tobytes() for array in run.model.state_dict().values())


def trained(folder: Path, name: str, counts: tuple[int, int], **changes) -> bytes:
    with on_threads(*counts):
        run = Run.start(folder, settings(name, **changes))
        assert run.go()
    return bits(run)


def for_each_count(folder: Path, name: str, **changes) -> dict[tuple[int, int], bytes]:
    found = {}
    for i, counts in enumerate(COUNTS):
        found[counts] = trained(folder / str(i), name, counts, **changes)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_a_deterministic_run_has_the_same_bits_on_any_number_of_threads(name, tmp_path):
    found = for_each_count(tmp_path, name, deterministic=True)
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_without_it_the_kernels_threads_change_no_bit_and_those_of_blas_may(name, tmp_path):
    found = for_each_count(tmp_path, name)
    by_blas = {blas: {found[key] for key in COUNTS if key[0] == blas} for blas in (1, 2, 3)}
    assert all(len(values) == 1 for values in by_blas.values())
    assert found[1, 1] == trained(tmp_path / "same", name, (3, 1), deterministic=True)
    if len(set(found.values())) == 1:
        pytest.skip("this processor's BLAS gives the same bits on 1, 2 and 3 threads")


def test_float64_and_the_definitions_too(tmp_path):
    with use_backend("numpy", kernels="plain"):
        found = for_each_count(tmp_path, "large mlp", deterministic=True, dtype="float64")
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("name", ["large mlp", "cnn with batch norm"])
def test_a_deterministic_run_is_resumed_on_another_number_of_threads(name, tmp_path):
    changes = {"deterministic": True, "epochs": 2, "label_noise": 0.2}
    whole = trained(tmp_path / "whole", name, (1, 1), **changes)
    with on_threads(2, 2):
        run = Run.start(tmp_path / "run", settings(name, **changes))
        assert not run.go(on_step=lambda step: step == 0 and os.kill(os.getpid(), signal.SIGTERM))
    with on_threads(3, 1):
        run = Run.resume(tmp_path / "run")
        assert run.go()
    assert run.changes == []
    assert bits(run) == whole
    told = [session["arithmetic"] for session in described(tmp_path / "run")]
    assert [(one["BLAS"]["threads"], one["threads"]) for one in told] == [(1, 2), (1, 1)]


def described(folder: Path) -> list[dict]:
    return json.loads((folder / "run.json").read_text())["sessions"]


def test_a_run_keeps_its_blas_and_threads(tmp_path):
    with on_threads(2, 3):
        Run.start(tmp_path / "run", settings("shards")).go()
    told = described(tmp_path / "run")[0]["arithmetic"]
    of_threadpoolctl = next(lib for lib in threadpool_info() if lib["user_api"] == "blas")
    assert told["BLAS"]["name"] == of_threadpoolctl["internal_api"]
    assert told["BLAS"]["threads"] == 2
    assert told["BLAS"]["version"]
    assert told["BLAS"]["architecture"]
    assert (told["threads"], told["shards"], told["deterministic"]) == (3, 2, False)
    assert told["library"] == f"NumPy {np.__version__}"
    assert told["kernels"] == "fast"


SMALL = ("--model", "mlp", "--limit", "300", "--batch-size", "100", "--epochs", "2")


@pytest.fixture
def stopped(tmp_path):
    """A function that makes a run, stopped after its first step."""

    def make(name: str, **changes) -> Path:
        own = {"limit": 300, "batch_size": 100, "epochs": 2, **changes}
        run = Run.start(tmp_path / name, settings("large mlp", **own))
        assert not run.go(on_step=lambda step: step == 0 and os.kill(os.getpid(), signal.SIGTERM))
        return tmp_path / name

    return make


def test_a_resume_on_other_threads_of_blas_says_so_and_goes_on(stopped):
    with threadpool_limits(2, user_api="blas"):
        run = stopped("run")
    done = command("train", "--resume", str(run), "--threads", "3", OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[0]
    assert line == (
        "Other than in the last session: BLAS threads: 2, now 1. So from step 1 on the last bits "
        "may not be those of the run never stopped, and in training that grows. Begun with "
        "--deterministic, a run has the same bits on any number of threads."
    )
    assert "Going on at step 1 of 6" in done.stdout


def test_a_resume_on_other_threads_of_the_kernels_has_nothing_to_say(stopped):
    done = called("train", "--resume", stopped("run"), "--threads", "3")
    threads.set_threads(None)
    assert done.returncode == 0, done.stderr
    assert "Other than" not in done.stdout


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_with_other_numbers_of_threads_have_the_same_bits(count, stopped, tmp_path):
    whole = called("train", *SMALL, "--model-option", "hidden=[512,512]", "--deterministic",
                   "--optimizer", "rsam", "--out", tmp_path / "whole")  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    run = stopped("run", deterministic=True)
    done = command(
        *("train", "--resume", str(run), "--deterministic", "--threads", str(4 - count)),
        OPENBLAS_NUM_THREADS=str(count),
    )
    assert done.returncode == 0, done.stderr
    assert "Other than" not in done.stdout
    expected, found = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run")
    )
    for name, array in expected.items():
        assert array.tobytes() == found[name].tobytes(), name


def test_another_processor_s_instructions_are_told_even_so(stopped):
    if of_numpy.numpy_blas()["name"] != "openblas":
        pytest.skip("what makes BLAS take another processor's code is OpenBLAS's own variable")
    run = stopped("run", deterministic=True)
    done = command("train", "--resume", str(run), OPENBLAS_CORETYPE="Prescott")
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[0]
    assert line.startswith("Other than in the last session: BLAS architecture: ")
    assert ", now " in line
    assert "--deterministic" not in line  # which would not help


def test_whatever_decides_a_bit_is_compared():
    before = arithmetic.told(recipe.check({}, "test"))
    assert arithmetic.changes(before, {**before, "threads": 99}) == []
    assert arithmetic.changes(before, {**before, "library": "NumPy 9"}) == [
        f"library: {before['library']}, now NumPy 9"
    ]
    blas = {**before["BLAS"], "version": "9"}
    assert arithmetic.changes(before, {**before, "BLAS": blas}) == [
        f"BLAS version: {before['BLAS']['version']}, now 9"
    ]
    assert len(arithmetic.changes(before, {**before, "BLAS": None})) == 4
    for name in ("backend", "kernels", "instructions", "normal draws", "rsam_ref"):
        assert len(arithmetic.changes(before, {**before, name: "other"})) == 1


def test_of_another_backend_only_what_both_have_is_compared():
    before = arithmetic.told(recipe.check({}, "test"))
    now = {**before, "backend": "dpnp", "library": "dpnp 0.20", "device": "Arc", "driver": "1"}
    del now["BLAS"], now["instructions"]
    assert arithmetic.changes(before, now) == [
        "backend: numpy, now dpnp",
        f"library: {before['library']}, now dpnp 0.20",
    ]


def test_a_run_of_before_that_was_kept_is_resumed_without_a_word(stopped):
    run = stopped("run")
    told = json.loads((run / "run.json").read_text())
    del told["sessions"][0]["arithmetic"]
    (run / "run.json").write_text(json.dumps(told))
    assert Run.resume(run).changes == []


def test_a_resume_cannot_make_a_run_deterministic(stopped):
    run = stopped("run")
    done = called("train", "--resume", run, "--deterministic")
    assert done.returncode == 2
    assert "is decided when a run begins" in done.stderr
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("deterministic = false", "deterministic = true"))
    done = called("train", "--resume", run)
    assert done.returncode == 1
    assert "deterministic = True, but the run began with False" in done.stderr


def test_a_backend_that_promises_no_order_refuses_before_anything_is_written(
    tmp_path, double_backend
):
    with (
        use_backend(double_backend.name),
        pytest.raises(BackendError, match="the double backend promises no fixed order of its sums"),
    ):
        Run.start(tmp_path / "run", settings("large mlp", deterministic=True))
    assert not (tmp_path / "run").exists()


def test_a_blas_whose_threads_cannot_be_set_is_refused(monkeypatch):
    monkeypatch.setattr(of_numpy, "blas_libraries", list)
    with pytest.raises(BackendError, match="VECLIB_MAXIMUM_THREADS=1"):
        deterministic()
    assert get_backend("numpy").arithmetic()["BLAS"] is None


def test_it_is_numpy_s_own_blas_that_is_told(monkeypatch):
    own = Path(np.__file__).parent.parent / "numpy.libs" / "libopenblas.so"
    common = {"internal_api": "openblas", "architecture": "Zen", "num_threads": 2}
    other = common | {"filepath": "/somewhere/libopenblas.so", "version": "1"}
    monkeypatch.setattr(
        of_numpy,
        "blas_libraries",
        lambda: [other, common | {"filepath": str(own), "version": "2"}],
    )
    assert of_numpy.numpy_blas()["version"] == "2"
    monkeypatch.setattr(of_numpy, "blas_libraries", lambda: [other, other | {"version": "3"}])
    assert of_numpy.numpy_blas()["version"] == "1"


class OfEachThread:
    """A BLAS as OpenBLAS is on OpenMP: every thread has a number of threads of its own."""

    def __init__(self):
        self.numbers = threading.local()
        self.lib_controllers = [self]

    @property
    def number(self):
        return getattr(self.numbers, "now", 4)

    def limit(self, limits):
        before, self.numbers.now = self.number, limits
        return SimpleNamespace(restore_original_limits=lambda: self._restore(before))

    def _restore(self, before):
        self.numbers.now = before


def test_a_blas_with_a_number_of_threads_for_every_thread_is_at_one_in_all(monkeypatch):
    blas, (common, _) = OfEachThread(), threads._blas_by_reach()
    monkeypatch.setattr(threads, "_blas_by_reach", lambda: (common, blas))
    threads._pool.cache_clear()  # its workers began before
    seen = []

    def work(piece):
        seen.append((threading.current_thread().name, blas.number))
        started.wait(1)  # so that every thread takes a piece

    try:
        for of_kernels in (1, 3):
            started = threading.Barrier(of_kernels)
            with on_threads(1, of_kernels):
                threads.share_out(work, range(3))
        assert len({name for name, _ in seen}) == 3
        run_in_threads([lambda shard: seen.append(("shard", blas.number))] * 3, [1 / 3] * 3)
        assert {number for _, number in seen} == {1}
        assert blas.number == 4
        with deterministic():
            assert blas.number == 1
        assert blas.number == 4
    finally:
        threads._pool.cache_clear()


def test_pieces_have_blas_at_one_thread_on_any_number_of_threads_of_the_kernels():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((4, 128, 784)), rng.standard_normal((512, 784))
    out, seen, found = np.empty((4, 128, 512)), set(), set()

    def work(piece):
        seen.add(of_numpy.numpy_blas()["threads"])
        np.matmul(x[piece], weight.T, out=out[piece])

    for of_blas, of_kernels in COUNTS:
        with on_threads(of_blas, of_kernels):
            threads.share_out(work, range(4))
        found.add(out.tobytes())
    assert seen == {1}
    assert len(found) == 1


def test_the_block_is_left_with_the_threads_that_there_were():
    with threadpool_limits(2, user_api="blas"):
        with deterministic():
            assert of_numpy.numpy_blas()["threads"] == 1
            threads.share_out(lambda piece: None, range(4))  # which sets them as well
            assert of_numpy.numpy_blas()["threads"] == 1
        assert of_numpy.numpy_blas()["threads"] == 2


def test_the_snippet_of_the_page_runs_and_has_the_same_bits():
    page = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text()
    [snippet] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found = set()
    for of_blas in (1, 2):
        names: dict[str, Any] = {}
        with on_threads(of_blas, of_blas):
            exec(snippet, names)
        found.add(names["model"].weights.flat.tobytes())
    assert len(found) == 1
