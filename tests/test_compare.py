"""The main job: fair by construction, resumable, and honest about noise."""

import csv
import hashlib
import json
import math
import os
import signal
import subprocess
import time
from dataclasses import asdict, replace

import pytest

from rsam_backends import use_backend
from rsam_backends.switch import in_force
from rsam_ref.training import comparison as c
from rsam_ref.training.processes import carry_out
from rsam_ref.training.trials import Store, Trial
from tests.helpers.commands import command, started

TINY = c.Experiment(epochs=2, hidden=(8,), batch_size=256)


def record(method, value, seed, test, val=None, **more):
    return {
        "method": method,
        "value": value,
        "seed": seed,
        "test_accuracy": test,
        "val_accuracy": test if val is None else val,
        "diverged": "",
        **more,
    }


def test_every_method_is_tuned_over_equally_many_values():
    runs = c.plan(list(c.METHODS), [0.5, 0.1, 0.1], seeds=2)
    values = {m: {r.value for r in runs if r.method == m} for m in c.METHODS}
    assert {len(v) for v in values.values()} == {2}
    assert values["sam"] == values["rsam"] == {0.1, 0.5}
    assert len(runs) == len(set(runs)) == 2 * 2 * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["adam"], [0.1], 1), "unknown method 'adam'"),
        ((["sam"], [-0.1], 1), "rho is a radius"),
        ((["sam"], [math.nan], 1), "rho is a radius"),
        ((["sam"], [], 1), "at least one"),
        ((["sam"], [0.1], 0), "at least one"),
    ],
)
def test_a_senseless_plan_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        c.plan(*arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"sigma": -1.0},
        {"lam": 0.0},
        {"lam": math.nan},
        {"label_noise": 2.0},
        {"lr": math.inf},
    ],
)
def test_senseless_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change)).replace("_", ".")):
        replace(TINY, **change)


def test_a_run_reports_what_it_was(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    run = c.execute(TINY, Trial("rsam", 0.1, seed=3))
    assert {k: run[k] for k in ("method", "rho", "sigma", "lam", "lr", "seed")} == {
        "method": "rsam",
        "rho": 0.1,
        "sigma": 1e-3,
        "lam": 2.0,
        "lr": 0.1,
        "seed": 3,
    }
    assert len(run["val_curve"]) == TINY.epochs
    assert run["val_curve"][-1] == run["val_accuracy"]
    assert run["seconds"] > 0
    again = c.execute(TINY, Trial("rsam", 0.1, seed=3))
    assert again["test_loss"] == run["test_loss"]


def test_the_limits_hold_between_methods():
    """rho = 0: SAM is SGD. (R-SAM at rho = 0 is SGD too: its second pass is at w.)"""
    sgd = c.execute(TINY, Trial("sgd", TINY.lr, 0))
    for method in ("sam", "sam2", "rsam"):
        assert c.execute(TINY, Trial(method, 0.0, 0))["test_loss"] == sgd["test_loss"]


def test_a_diverged_run_is_a_result():
    run = c.execute(TINY, Trial("sgd", 1e30, 0))
    assert "Lower the learning rate" in run["diverged"]
    json.dumps(run, allow_nan=False)


def test_validation_chooses_and_test_reports():
    runs = [
        *(record("sam", 0.1, s, test=0.99, val=0.5) for s in range(3)),
        *(record("sam", 0.2, s, test=0.80, val=0.9) for s in range(3)),
    ]
    best = c.summarise(runs)["methods"]["sam"]["best"]
    assert best["value"] == 0.2
    assert best["test_accuracy"] == pytest.approx(0.80)


def test_differences_are_paired_and_say_when_they_are_noise():
    sgd = [record("sgd", 0.1, s, t) for s, t in enumerate((0.70, 0.80, 0.90))]
    better = [record("sam", 0.1, s, t) for s, t in enumerate((0.75, 0.86, 0.95))]
    noisy = [record("rsam", 0.1, s, t) for s, t in enumerate((0.90, 0.70, 0.82))]
    found = {
        (d["method"], d["against"]): d for d in c.summarise(sgd + better + noisy)["differences"]
    }
    assert found["sam", "sgd"]["mean"] == pytest.approx(0.16 / 3)
    assert not found["sam", "sgd"]["within_noise"]
    assert found["rsam", "sgd"]["within_noise"]
    # Student's interval for three pairs: 4.303 standard errors each way.
    interval = c.paired_interval([3.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert interval.high - interval.mean == pytest.approx(4.302653 / math.sqrt(3))
    assert c.paired_interval([1.0], [0.5]).within_noise


def test_finished_runs_are_kept_and_others_are_not_mixed_in(tmp_path):
    path = tmp_path / "runs.jsonl"
    runs = c.plan(["sgd"], [0.1, 0.2], seeds=1)
    carry_out(c.execute, TINY, runs[:1], Store(path, TINY))
    text = path.read_text()
    path.write_text(text + text[:40])  # killed while it wrote the next line
    file = Store(path, TINY)
    assert list(file.finished) == runs[:1]
    done = []
    carry_out(c.execute, TINY, runs, file, on_trial=lambda run, record: done.append(run))
    assert done == runs[1:]
    assert set(Store(path, TINY).finished) == set(runs)
    assert not Store(path, replace(TINY, epochs=3)).finished


def test_kernels_are_a_setting_of_their_own_and_runs_from_before_them_stay(tmp_path, monkeypatch):
    path, told = tmp_path / "runs.jsonl", asdict(TINY)
    del told["kernels"]
    before = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    assert Store(path, TINY).fingerprint == before
    plain = replace(TINY, kernels="plain")
    assert Store(path, plain).fingerprint != before
    used = []
    monkeypatch.setattr(c, "train", lambda *_, **__: used.append(in_force.kind))
    try:
        c.execute(plain, c.plan(["sgd"], [0.1], seeds=1)[0])
    finally:
        use_backend("numpy", kernels="fast")
    assert used == ["plain"]


def test_results_are_written_whole(tmp_path):
    runs = c.plan(["sgd", "sam"], [0.1], seeds=2)
    file = Store(tmp_path / "runs.jsonl", TINY)
    carry_out(c.execute, TINY, runs, file, jobs=2)
    results = c.write_results(tmp_path, TINY, [file.finished[run] for run in runs])
    loaded = json.loads((tmp_path / "results.json").read_text())
    assert loaded["runs"] == results["runs"]
    wanted = [
        "method",
        "rho",
        "sigma",
        "lam",
        "seed",
        "test_accuracy",
        "train_accuracy",
        "test_loss",
        "seconds",
    ]
    assert all(set(wanted) <= set(run) for run in loaded["runs"])
    with (tmp_path / "results.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["method"] for row in rows] == [run.method for run in runs]
    assert float(rows[0]["test_accuracy"]) == loaded["runs"][0]["test_accuracy"]
    assert not list(tmp_path.glob("*.partial"))


RUNS = 40  # so many that not all are through before it is interrupted
COMMAND = ["compare", "--method", "sgd", "--seeds", str(RUNS)]
COMMAND += ["--rho", "0.1", "--epochs", "5", "--jobs", "2", "--out"]


def lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path, how):
    path = tmp_path / "runs.jsonl"
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = started(*COMMAND, tmp_path, **outputs, start_new_session=True)
    deadline = time.monotonic() + 300  # for one that hangs
    while lines(path) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, how)
    _, errors = process.communicate()
    kept = lines(path)
    assert 3 <= kept < RUNS
    assert process.returncode != 0
    if how == signal.SIGINT:
        assert "run the same command to go on" in errors
        assert "Traceback" not in errors
        assert process.returncode == 130
    done = command(*COMMAND, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"of {RUNS} runs were finished before and are kept" in done.stdout
    assert lines(path) - kept in (RUNS - kept, RUNS - kept + 1)  # at most one line was cut short
    assert (tmp_path / "compare.png").stat().st_size > 10_000


def test_a_killed_worker_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(c, "execute", kill_self)
    with pytest.raises(RuntimeError, match="a worker process was killed"):
        carry_out(c.execute, TINY, c.plan(["sgd"], [0.1], 1), Store(tmp_path / "runs.jsonl", TINY))


def kill_self(settings, run):
    os.kill(os.getpid(), signal.SIGKILL)
