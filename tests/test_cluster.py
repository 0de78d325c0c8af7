"""Runs on a Dask cluster: a scheduler and workers as processes of their own, one of them killed.

`make test-cluster` runs these; without Dask they are skipped.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import rsam_ref
from rsam_ref.data import digits
from rsam_ref.training import cluster as cluster_of
from rsam_ref.training.comparison import Experiment, WithData, execute, execute_with_data
from rsam_ref.training.engines import Once, engine
from rsam_ref.training.problem import problem_on
from rsam_ref.training.trials import Store, Trial
from tests.helpers.commands import called, command, started

distributed = pytest.importorskip("distributed", reason="Dask is not installed: make test-cluster")
pytestmark = pytest.mark.cluster

RECIPE = 'model = "mlp"\nepochs = 100\nbatch_size = 64\nmodel_options.hidden = [16]\n'
RECIPE += "evaluate_every = 100\n"
WAIT = 120  # seconds, for what hangs
ONE_THREAD = ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]


def wait_for(what, process=None):
    """What a function gives, once it gives something."""
    deadline = time.monotonic() + WAIT
    while not (found := what()):
        assert time.monotonic() < deadline, "it hangs"
        assert process is None or process.poll() is None, "it ended"
        time.sleep(0.02)
    return found


class Processes:
    """A scheduler and workers, ended with the block."""

    def __init__(self, folder):
        self.folder, self.all = folder, []

    def dask(self, *words):
        with (self.folder / "dask.log").open("a") as log:
            program = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
            self.all.append(subprocess.Popen(program, stdout=log, stderr=log, cwd=self.folder))
        return self.all[-1]

    def __enter__(self):
        told = self.folder / "scheduler.json"
        where = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", told]
        self.dask("scheduler", *where, "--no-dashboard")
        self.address = json.loads(wait_for(lambda: told.exists() and told.read_text()))["address"]
        return self

    def worker(self, *options):
        return self.dask("worker", self.address, "--no-nanny", *(options or ONE_THREAD))

    def __exit__(self, *error):
        for process in reversed(self.all):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    with Processes(tmp_path) as found:
        yield found


def results(folder):
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_worker_killed_in_the_middle_of_a_sweep_loses_and_doubles_no_run(cluster, tmp_path):
    workers = [cluster.worker(), cluster.worker()]
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    arguments = ["sweep", recipe, "--set", "rho=0.05,0.1,0.2", "--seeds", "2", "--out"]
    out = tmp_path / "s"
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = started(*arguments, out, "--cluster", cluster.address, **outputs)
    finished = lambda: list(out.glob("*/model.safetensors"))
    under_way = lambda: (
        {p.parents[1] for p in out.glob("*/checkpoints/*")} - {p.parent for p in finished()}
    )

    def both_at_work():
        workers[0].send_signal(signal.SIGSTOP)
        if finished() and len(found := under_way()) == 2:
            return found
        workers[0].send_signal(signal.SIGCONT)
        return None

    cut = wait_for(both_at_work, process)
    workers[0].kill()
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, output
    assert f"2 workers at {cluster.address}" in output
    found = results(out)
    names = [row["run"] for row in found]
    assert sorted(names) == sorted(
        f"rho{rho}-seed{seed}" for rho in ("0.05", "0.1", "0.2") for seed in (0, 1)
    )
    sessions = {
        p.parent: len(json.loads(p.read_text())["sessions"]) for p in out.glob("*/run.json")
    }
    assert sum(sessions.values()) == 7, sessions  # one of the two under way was gone on with
    assert next(run for run, n in sessions.items() if n == 2) in cut
    done = command(*map(str, arguments), str(tmp_path / "alone"), "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "alone") == found  # bit by bit what processes of this machine find


def test_a_comparison_on_a_local_cluster_has_the_numbers_of_processes(tmp_path):
    arguments = ["compare", "--method", "sgd", "--method", "sam", "--rho", "0.1", "--seeds", "2"]
    arguments += ["--epochs", "2", "--jobs", "2", "--out"]
    done = command(*arguments, str(tmp_path / "a"), "--cluster", "local")
    assert done.returncode == 0, done.stderr
    assert "dashboard http://127.0.0.1:" in done.stdout
    assert done.stderr == ""
    assert len((tmp_path / "a" / "runs.jsonl").read_text().splitlines()) == 4
    again = called(*arguments, str(tmp_path / "a"))
    assert "4 of 4 runs were finished before" in again.stdout
    alone = command(*arguments, str(tmp_path / "b"))
    assert alone.returncode == 0, alone.stderr
    assert results(tmp_path / "a") == results(tmp_path / "b")


def test_arrays_are_sent_to_workers_that_do_not_see_them(cluster, tmp_path):
    images, labels = digits()
    parts = {"x_train": images[:400], "x_test": images[400:500]}
    np.savez(tmp_path / "d.npz", **parts, y_train=labels[:400], y_test=labels[400:500])
    problem = problem_on(str(tmp_path / "d.npz"))
    experiment = Experiment(epochs=1, hidden=(8,), problem=problem)
    alone = execute(experiment, Trial("sgd", 0.1, 0))
    given = Once(WithData(experiment, problem.sample_arrays()))
    (tmp_path / "d.npz").unlink()
    workers = [cluster.worker()]
    store = Store(tmp_path / "runs.jsonl", experiment)
    trials = [Trial("sgd", 0.1, seed) for seed in range(40)]

    def on_trial(trial, record):
        if len(store.finished) == 4:  # the only one that has the data is gone
            workers[0].kill()
            workers.append(cluster.worker())

    with engine(cluster.address, 1, tell=str) as carry_out:
        carry_out(execute_with_data, given, trials, store, on_trial=on_trial)
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 40
    assert store.finished[trials[0]]["test_loss"] == alone["test_loss"]


def test_ctrl_c_keeps_what_is_finished_and_frees_the_cluster(cluster, tmp_path):
    cluster.worker()
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.replace("= 100", "= 40"))
    arguments = ["sweep", recipe, "--seeds", "20", "--cluster", cluster.address, "--out"]
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    process = started(*arguments, tmp_path / "s", **outputs)
    finished = lambda: list((tmp_path / "s").glob("*/model.safetensors"))
    wait_for(lambda: len(finished()) >= 2, process)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 130, errors
    assert "run the same command to go on" in errors
    assert "Traceback" not in output + errors
    assert len(finished()) < 20
    with distributed.Client(cluster.address) as client:
        wait_for(lambda: not any(client.processing().values()))  # the one under way ended


@pytest.mark.parametrize(
    ("version", "threads", "says"),
    [
        ("0.0.1", 1, "has rsam-ref .*, this is 0.0.1: install the same there"),
        (rsam_ref.__version__, 2, "takes 2 runs at a time in one process: start workers with"),
    ],
)
def test_a_worker_that_is_not_fit_says_so(monkeypatch, version, threads, says):
    worker = SimpleNamespace(address="tcp://w:1", state=SimpleNamespace(nthreads=threads))
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    with pytest.raises(cluster_of.ClusterError, match=says):
        cluster_of._carried_out(version, 1, print, None, None)


def test_no_scheduler_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_of, "WAIT", 1)
    done = called("compare", "--quick", "--cluster", "tcp://127.0.0.1:9", "--out", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr


def test_a_folder_that_a_worker_does_not_see_is_told(tmp_path):
    from rsam_ref.training.sweeps.plan import make
    from rsam_ref.training.sweeps.runs import Place, execute

    (run,) = make({}, [], seeds=1).runs
    elsewhere = Place.make(tmp_path / "s", "numpy", None, 1)
    Place.make(tmp_path / "s", "numpy", None, 1)  # as another machine has a folder of that name
    with pytest.raises(RuntimeError, match="must be the same for all workers"):
        execute(elsewhere, run)
