"""Training runs in a folder: whatever happens to them, they end with the same bits."""

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from rsam_ref.training import checkpoint, recipe
from rsam_ref.training.loop import DivergedError
from rsam_ref.training.metrics import Metrics
from rsam_ref.training.recipe import Recipe, RecipeError
from rsam_ref.training.run import Run, RunError

SMALL = {"model": "mlp", "model_options": {}, "epochs": 2, "batch_size": 256, "log_every": 4}


def settings(**changes) -> Recipe:
    return recipe.check({**SMALL, **changes}, "test")


def lines(folder) -> list[dict]:
    """The rows of a run's metrics."""
    return list(map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines()))


def finished(folder) -> tuple[dict, list]:
    """The bytes of the last checkpoint's arrays, and the rows without their times."""
    path, arrays, state, _ = checkpoint.load_newest(Path(folder) / "checkpoints")
    rows = lines(folder)
    assert rows[-1]["step"] == state["step"], path
    for row in rows:
        row.pop("seconds")
    return {name: array.tobytes() for name, array in arrays.items()}, rows


def same_as_whole(folder, whole) -> None:
    (arrays, rows), (expected_arrays, expected_rows) = finished(folder), whole
    assert arrays == expected_arrays
    assert rows == expected_rows


def test_a_run_leaves_everything_that_was_promised(tmp_path):
    run = Run.start(tmp_path / "run", settings(optimizer="sam"))
    seen: list[dict] = []
    assert run.go(on_row=seen.append)
    names = {path.name for path in run.folder.iterdir()} - {".lock"}
    assert names == {
        "recipe.toml",
        "run.json",
        "metrics.jsonl",
        "metrics.csv",
        "curves.png",
        "checkpoints",
        "model.safetensors",
    }
    assert recipe.check(recipe.read(run.folder / "recipe.toml"), "") == run.recipe
    rows = lines(run.folder)
    assert rows == seen
    table = list(csv.DictReader((run.folder / "metrics.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in rows]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert rows[-1]["epoch"] == 2
    assert all(row["adversarial_loss"] > row["loss"] for row in rows)  # an ascent goes up
    assert (run.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    described = json.loads((run.folder / "run.json").read_text())
    assert described["parameters"] == run.model.weights.flat.size
    assert described["data"]["train"] == 1347
    assert described["sessions"][0].keys() >= {"rsam_ref", "numpy", "python", "backend", "time"}
    weights = load_file(run.folder / "model.safetensors")
    assert weights.keys() == run.model.state_dict().keys()


def until(end, number=signal.SIGTERM):
    """Ask for a stop when step ``end`` begins."""
    return lambda step: step == end and os.kill(os.getpid(), number)


OPTIMIZERS = [
    {"optimizer": "sgd", "nesterov": True},
    {"optimizer": "adamw", "lr": 1e-3},
    {"optimizer": "sam", "ascent_steps": 2},
    {"optimizer": "asam", "rho": 0.5},
    {"optimizer": "rsam", "base": "adamw", "lr": 1e-3, "clip_norm": 1.0, "rho_low": 0.02},
    {"optimizer": "noise"},
]


@pytest.mark.parametrize("changes", OPTIMIZERS, ids=lambda c: c["optimizer"])
def test_stopped_at_every_step_and_resumed_it_ends_with_the_same_bits(changes, tmp_path):
    changes = {"warmup_steps": 3, "label_noise": 0.2, **changes}
    whole = Run.start(tmp_path / "whole", settings(**changes))
    assert whole.go()
    run = Run.start(tmp_path / "run", settings(**changes))
    while not run.go(on_step=lambda step: os.kill(os.getpid(), signal.SIGINT)):
        run = Run.resume(tmp_path / "run")
    same_as_whole(tmp_path / "run", finished(tmp_path / "whole"))
    sessions = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"]
    assert [session["from_step"] for session in sessions] == list(range(12))


@pytest.mark.parametrize("parts", [{"accumulate": 2}, {"shards": 2, "recompute": True}], ids=str)
def test_batch_norm_dropout_and_augmentation_are_resumed_too(parts, tmp_path):
    changes = {
        **parts,
        "model": "wide_resnet",
        "model_options": {"depth": 10, "width": 1, "dropout": 0.2},
        "augment": "crop-flip",
        "limit": 96,
        "batch_size": 32,
    }
    assert Run.start(tmp_path / "whole", settings(**changes)).go()
    run = Run.start(tmp_path / "run", settings(**changes))
    for end in (1, 3, 4):
        assert not run.go(on_step=until(end))
        run = Run.resume(tmp_path / "run")
    assert run.go()
    same_as_whole(tmp_path / "run", finished(tmp_path / "whole"))


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "rsam_ref", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


OFTEN = ("--model", "mlp", "--model-option", "hidden=[32]", "--epochs", 60, "--checkpoint-every", 3)


def go_on(run):
    """The command that begins the run in a folder or goes on with it."""
    return ("--resume", run) if (run / "recipe.toml").exists() else (*OFTEN, "--out", run)


def newest(run):
    """The step of the newest checkpoint, 0 if there is none."""
    paths = checkpoint.newest_first(run / "checkpoints")
    return int(paths[0].stem[5:]) if paths else 0


def wait_for_a_checkpoint(run, process):
    """Until the process has written one more than there were, or has ended."""
    before = newest(run)
    while process.poll() is None and newest(run) == before:
        time.sleep(0.002)


def test_killed_at_25_random_moments_it_ends_with_the_same_bits(tmp_path):
    """Any moment: while loading, in a step, while a checkpoint or the metrics are written.

    Two in three come some time after the next checkpoint, however long that takes to be reached, so
    the moments are spread over the run on a busy machine as on a quiet one.
    """
    began = time.perf_counter()
    process = command(*OFTEN, "--out", tmp_path / "whole")
    wait_for_a_checkpoint(tmp_path / "whole", process)
    loading = time.perf_counter() - began
    output, _ = process.communicate()
    assert process.returncode == 0, output
    between = (time.perf_counter() - began - loading) / 20  # checkpoints, one every 3 epochs of 60
    draw = random.Random(25)
    run, reached = tmp_path / "run", []
    for _ in range(25):
        process = command(*go_on(run))
        if draw.random() < 1 / 3:
            time.sleep(draw.uniform(0.4, 1) * loading)
        else:
            wait_for_a_checkpoint(run, process)
            time.sleep(draw.uniform(0, between))
        process.kill()
        output, _ = process.communicate()
        assert "Traceback" not in output
        assert process.returncode in (0, -signal.SIGKILL), output
        reached.append(newest(run))
    process = command(*go_on(run))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    same_as_whole(run, finished(tmp_path / "whole"))
    assert not list(run.rglob("*.partial"))
    assert len(set(reached)) > 10, f"the kills came at too few places: {reached}"


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    assert Run.start(tmp_path / "whole", settings()).go()
    run = Run.start(tmp_path / "run", settings())
    fsync, calls = os.fsync, []

    def full_later(descriptor):
        calls.append(descriptor)
        if len(calls) > 10:  # one a row, two a file: all of epoch 1, and the rows of epoch 2
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_later)
        with pytest.raises(RunError, match=r"No space left.*step-000000006.*--resume") as caught:
            run.go()
    assert "\n" not in str(caught.value)
    assert "at step 12" in str(caught.value)
    run = Run.resume(tmp_path / "run")
    assert run.step == 6
    assert run.go()
    same_as_whole(tmp_path / "run", finished(tmp_path / "whole"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")
def test_on_a_disk_of_one_megabyte(tmp_path):
    """The real thing: the second checkpoint has no room beside the first."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        wide = ("--model", "mlp", "--model-option", "hidden=[1024]")
        process = command(*wide, "--epochs", 3, "--out", tmp_path / "run")
        output, _ = process.communicate()
        assert process.returncode == 1, output
        assert "Traceback" not in output
        assert "No space left on device" in output
        assert "the last good checkpoint is" in output
        (path,) = checkpoint.newest_first(tmp_path / "run" / "checkpoints")
        checkpoint.load(path)
        assert not list((tmp_path / "run").rglob("*.partial"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(tmp_path):
    assert Run.start(tmp_path / "run", settings()).go()
    whole = finished(tmp_path / "run")
    newest = checkpoint.newest_first(tmp_path / "run" / "checkpoints")[0]
    contents = bytearray(newest.read_bytes())
    contents[-5] ^= 1
    newest.write_bytes(contents)
    process = command("--resume", tmp_path / "run")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert f"{newest}: is damaged" in output
    assert "going back to the checkpoint before it" in output
    assert "Going on at step 6 of 12" in output
    same_as_whole(tmp_path / "run", whole)


def test_without_a_whole_checkpoint_nothing_is_begun_again(tmp_path):
    """Not even at the second try, and in the same process: the folder is not left locked."""
    assert Run.start(tmp_path / "run", settings()).go()
    rows = lines(tmp_path / "run")
    for path in checkpoint.newest_first(tmp_path / "run" / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(checkpoint.CheckpointError, match="no checkpoint in it is whole") as e:
            Run.resume(tmp_path / "run")
        assert "To begin this run again, remove that folder" in str(e.value)
    assert lines(tmp_path / "run") == rows


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 128), ("optimizer", "sam"), ("clip_norm", 1.0), ("epochs", 3)],
)
def test_a_run_is_not_resumed_with_other_settings(name, value, tmp_path):
    run = Run.start(tmp_path / "run", settings())
    assert not run.go(on_step=until(3))
    path = tmp_path / "run" / "recipe.toml"
    began = path.read_bytes()
    path.write_bytes(recipe.write(settings(**{name: value})))
    with pytest.raises(RunError, match=f"recipe.toml: {name} = {value}, but the run began with"):
        Run.resume(tmp_path / "run")
    path.write_bytes(began)
    assert Run.resume(tmp_path / "run").go()


def test_what_decides_no_weights_may_change(tmp_path):
    assert Run.start(tmp_path / "whole", settings()).go()
    whole, _ = finished(tmp_path / "whole")
    run = Run.start(tmp_path / "run", settings())
    assert not run.go(on_step=until(3))
    other = settings(log_every=1, checkpoint_every=2, evaluate_every=2.0, recompute=True)
    (tmp_path / "run" / "recipe.toml").write_bytes(recipe.write(other))
    assert Run.resume(tmp_path / "run").go()
    assert finished(tmp_path / "run")[0] == whole


def test_a_damaged_description_is_named(tmp_path):
    run = Run.start(tmp_path / "run", settings())
    assert not run.go(on_step=until(3))
    path = tmp_path / "run" / "run.json"
    path.write_text("{seed: 0")
    with pytest.raises(RunError, match=r"run.json: damaged .*; it only tells of the run, so"):
        Run.resume(tmp_path / "run")
    path.unlink()
    assert Run.resume(tmp_path / "run").go()


def test_metrics_cut_short_are_mended(tmp_path):
    run = Run.start(tmp_path / "run", settings())
    assert not run.go(on_step=until(8, signal.SIGINT))
    path = run.metrics.path
    rows = path.read_text()
    path.write_text(rows + '{"step": 10, "los')
    assert [row["step"] for row in Metrics(run.folder, 8).rows] == [2, 4, 6, 8]
    assert path.read_text() == rows
    assert [row["step"] for row in Metrics(run.folder, 5).rows] == [2, 4]


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    run = Run.start(tmp_path / "run", settings())
    process = command("--resume", tmp_path / "run")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "another process is training in" in output
    assert run.go()


def test_nothing_is_overwritten(tmp_path):
    Run.start(tmp_path / "run", settings()).go()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="holds a run already: go on with --resume"):
        Run.start(tmp_path / "run", settings())
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_finished_run_resumes_to_nothing_more(tmp_path):
    assert Run.start(tmp_path / "run", settings()).go()
    whole = finished(tmp_path / "run")
    steps: list[int] = []
    assert Run.resume(tmp_path / "run").go(on_step=steps.append)
    assert not steps
    same_as_whole(tmp_path / "run", whole)


def cifar(folder, seed):
    """A CIFAR-10 set of 60 + 20 random images."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for name, n in (("data_batch_1.bin", 60), ("test_batch.bin", 20)):
        records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
        records[:, 0] = rng.integers(0, 10, n)
        (folder / name).write_bytes(records.tobytes())
    return str(folder)


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    data = cifar(tmp_path / "data", 0)
    run = Run.start(tmp_path / "run", settings(data=data, batch_size=20))
    assert not run.go(on_step=until(3))
    cifar(tmp_path / "data", 1)
    with pytest.raises(RunError, match="holds other data than this run began with"):
        Run.resume(tmp_path / "run")
    cifar(tmp_path / "data", 0)
    assert Run.resume(tmp_path / "run").go()


def test_accumulated_parts_take_the_same_step(tmp_path):
    """Two parts or five: the mean over the whole mini-batch, up to rounding."""
    weights = []
    for i, parts in enumerate(({}, {"accumulate": 2}, {"accumulate": 5}, {"shards": 3})):
        changes = {**parts, "dtype": "float64", "optimizer": "rsam", "epochs": 1}
        run = Run.start(tmp_path / str(i), settings(**changes))
        run.go()
        weights.append(run.model.weights.flat)
    for other in weights[1:]:
        np.testing.assert_allclose(other, weights[0], rtol=0, atol=1e-12)


def test_a_diverged_run_stops_with_its_checkpoints(tmp_path):
    run = Run.start(tmp_path / "run", settings(optimizer="sgd", lr=1e25, warmup_steps=11))
    optimizer: Any = run.optimizer
    optimizer.lr = lambda step: 0.01 if step < 8 else 1e30
    with pytest.raises(DivergedError, match=r"step [34] of epoch 2: .*"):
        run.go()
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints")[2]["step"] == 6


def test_event_files_are_written_when_asked_for(tmp_path):
    assert Run.start(tmp_path / "run", settings(tensorboard=True)).go()
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"test_accuracy" in events.read_bytes()


# Recipes


@pytest.mark.parametrize("name", recipe.presets())
def test_every_preset_is_a_recipe_with_notes(name):
    values, notes = recipe.preset(name)
    checked = recipe.check(values, name)
    assert notes["about"]
    assert notes["choice"]
    assert checked.optimizer == "rsam"


def test_the_vit_preset_has_the_public_code_s_schedules():
    r = recipe.check(recipe.preset("imagenet-vit-b16")[0], "")
    steps, warm, top = 93_834, 10_000, 3e-3
    optimizer: Any = recipe.optimizer(r, steps)
    lr, rho, sigma = optimizer.base.lr, optimizer.rho, optimizer.sigma
    assert (r.batch_size, r.weight_decay, r.clip_norm, r.lam, r.loss) == (
        *(4096, 0.3, 1.0, 2.0),
        "sigmoid",
    )
    assert sigma(0) == pytest.approx(5e-4)
    assert sigma(steps // 2) == pytest.approx(1.5e-3)
    assert sigma(steps) == pytest.approx(2.5e-3)
    assert lr(warm) == pytest.approx(top)
    assert rho(warm // 2) == pytest.approx(2.5 * lr(warm // 2) / top)
    assert rho(warm) == pytest.approx(2.5)
    assert rho(50_000) == pytest.approx(1.5 + lr(50_000) / top)
    assert rho(steps) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rho": -0.1}, r"test: rho = -0.1: input should be greater than or equal to 0"),
        ({"rho": float("nan")}, "rho = nan"),
        ({"lam": 0.0}, "lam = 0.0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"epochs": "ten"}, "epochs = 'ten'"),
        ({"batch_size": 2.5}, "batch_size = 2.5"),
        ({"optimizer": "adam"}, "optimizer = 'adam': input should be 'sgd', 'adamw'"),
        ({"label_noise": 1.5}, "label_noise = 1.5"),
        ({"rhoo": 1}, "unknown setting rhoo .did you mean rho.*; there are data, image_size"),
        ({"seed": -1}, "seed = -1"),
        ({"shards": 2, "accumulate": 2}, "accumulate and shards both share out a mini-batch"),
        ({"model_options": {"seed": 3}}, "seed is no option of a model: it is decided elsewhere"),
        ({"model_options": 3}, "model_options = 3"),
        ({"data": 5}, "data = 5"),
        ({"lr": 0.0, "rho_low": 0.1}, "rho_low lets rho follow the learning rate, which is 0"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(RecipeError, match=message) as caught:
        settings(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup_steps": 12}, "warmup_steps = 12, but the run has 12 steps"),
        ({"loss": "sigmoid", "label_smoothing": 0.1}, "label_smoothing goes with"),
        ({"model": "resnet21"}, "there is no model 'resnet21'"),
        ({"model_options": {"depth": 3}}, "mlp has no option 'depth'"),
        ({"betas": [0.9, 1.0]}, "betas must lie in"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused_before_the_folder_is_made(values, message, tmp_path):
    changes = {"optimizer": "adamw", **values}
    with pytest.raises(ValueError, match=message) as caught:
        Run.start(tmp_path / "run", settings(**changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_broken_recipe_file_is_one_clear_error(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("rho = = 3")
    with pytest.raises(RecipeError, match=r"recipe.toml: not TOML"):
        recipe.read(path)


def test_every_recipe_survives_its_file(tmp_path):
    for changes in OPTIMIZERS:
        r = settings(**changes, model_options={"hidden": 5}, data=str(tmp_path))
        (tmp_path / "r.toml").write_bytes(recipe.write(r))
        assert recipe.check(recipe.read(tmp_path / "r.toml"), "") == r
