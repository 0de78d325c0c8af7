"""Damaged pictures: found before a run that asks for it, and never a remedy that resume refuses."""

import json
import os

import numpy as np
import pytest

from rsam_ref.commands.terminal import left_out
from rsam_ref.data import DataError, find_damaged, load_dataset
from rsam_ref.training import recipe
from rsam_ref.training.run import Run, RunError
from rsam_ref.training.trained import load_trained
from tests.helpers import data_sets as made
from tests.helpers.commands import called

SETTINGS = {
    "image_size": 8,
    "model": "mlp",
    "optimizer": "sgd",
    "batch_size": 4,
    "epochs": 3,
    "skip_damaged": True,
}


def damaged_set(folder):
    """12 pictures to train on and 8 to test on; of each some cannot be read."""
    made.class_folders(folder)
    cut = folder / "train" / "cat" / "1.png"
    cut.write_bytes(cut.read_bytes()[:900])
    (folder / "train" / "dog" / "2.png").write_bytes(b"")
    (folder / "val" / "dog" / "3.png").write_bytes(b"<html>404 not found</html>")
    link = folder / "val" / "cat" / "gone.jpg"
    link.symlink_to("nowhere")
    os.mkfifo(folder / "train" / "dog" / "pipe.png")
    return folder


NAMES = {
    "train/cat/1.png",
    "train/dog/2.png",
    "train/dog/pipe.png",
    "val/dog/3.png",
    "val/cat/gone.jpg",
}


def settings(data, **changed):
    return recipe.check({**SETTINGS, "data": str(data), **changed}, "test")


def test_all_pictures_are_looked_at_once_and_the_damaged_are_named(tmp_path):
    told = []
    found = find_damaged(damaged_set(tmp_path), lambda *progress: told.append(progress))
    assert found.keys() == NAMES
    assert "is a damaged image" in found["train/cat/1.png"]
    assert found["train/dog/2.png"] == "is empty"
    assert found["train/dog/pipe.png"] == "is named like an image but is no file"
    assert found["val/dog/3.png"] == "is no image that Pillow can read"
    assert found["val/cat/gone.jpg"] == "cannot be read: no such file or directory"
    assert told == [(i, 22) for i in range(1, 23)]


def test_sets_without_encoded_pictures_have_none(tmp_path):
    assert find_damaged("digits") == {}
    assert find_damaged(made.mnist(tmp_path)) == {}


def test_what_is_skipped_is_not_looked_at(tmp_path):
    damaged_set(tmp_path)
    with pytest.raises(DataError, match="is empty"):
        load_dataset(tmp_path, image_size=8)
    data = load_dataset(tmp_path, image_size=8, skip=NAMES)
    assert (len(data.train), len(data.test)) == (10, 7)
    data.train.take(np.arange(10))
    data.test.take(np.arange(7))


def test_a_set_of_which_nothing_is_left_is_named(tmp_path):
    made.class_folders(tmp_path)
    names = [f"val/{key}/{i}.png" for key in made.CLASSES for i in range(4)]
    with pytest.raises(DataError, match="has no sample left to train on, or none to test on"):
        load_dataset(tmp_path, image_size=8, skip=names)


def test_a_run_leaves_them_out_and_goes_on_with_the_same_pictures(tmp_path):
    data = damaged_set(tmp_path / "data")
    whole = Run.start(tmp_path / "whole", settings(data))
    assert whole.go()
    listed = json.loads((tmp_path / "whole" / "damaged.json").read_text())
    assert listed.keys() == NAMES
    described = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert described["data"]["damaged"] == 5
    assert described["data"]["train"] == 10

    first = Run.start(tmp_path / "run", settings(data))
    first._advance(4, type("Never", (), {"asked": False})(), lambda step: None)
    first._save()
    first.feed.close()
    first.lock.release()
    (data / "train" / "dog" / "2.png").unlink()  # a damaged one is removed,
    made.save(data / "train" / "cat" / "1.png", made.picture(3))  # another one is mended:
    second = Run.resume(tmp_path / "run")  # the run goes on with those that it began with
    assert (second.step, len(second.data.train)) == (4, 10)
    assert second.go()
    np.testing.assert_array_equal(second.model.weights.flat, whole.model.weights.flat)
    assert len(load_trained(tmp_path / "run").data.train) == 10


def test_a_list_that_is_gone_is_named(tmp_path):
    data = damaged_set(tmp_path / "data")
    run = Run.start(tmp_path / "run", settings(data))
    run.feed.close()
    run.lock.release()
    (tmp_path / "run" / "damaged.json").unlink()
    with pytest.raises(DataError, match=r"damaged.json: cannot be read .* put it back, or begin"):
        Run.resume(tmp_path / "run")


def test_checkpoints_from_before_the_setting_are_gone_on_with(tmp_path):
    data = made.class_folders(tmp_path / "data")
    run = Run.start(tmp_path / "run", settings(data, skip_damaged=False))
    run._save()
    run.feed.close()
    run.lock.release()
    (path,) = (tmp_path / "run" / "checkpoints").glob("*.safetensors")
    from rsam_ref.training import checkpoint

    arrays, state = checkpoint.load(path)
    del state["recipe"]["skip_damaged"]
    checkpoint.save(path.parent, 0, arrays, state)
    assert Run.resume(tmp_path / "run").step == 0


@pytest.mark.parametrize("when", ["from the start", "later"])
@pytest.mark.parametrize("skip", [False, True])
def test_the_remedy_is_one_that_resume_takes(tmp_path, when, skip):
    data = made.class_folders(tmp_path / "data")
    victim = data / "train" / "cat" / "1.png"
    good = victim.read_bytes()
    bad = bytes(len(good)) if when == "from the start" else good[:900]
    if when == "from the start" and not skip:
        victim.write_bytes(bad)
    run = Run.start(tmp_path / "run", settings(data, skip_damaged=skip))
    run._save()
    victim.write_bytes(bad)
    with pytest.raises(RunError) as caught:
        run.go()
    message = str(caught.value)
    assert message.startswith(f"{victim}: is ")
    assert "begin another run with --skip-damaged" in message or "begin one with --skip" in message
    assert "remove it" not in message
    if when == "later":
        assert "put the old one back, then: rsam-ref train --resume" in message
        victim.write_bytes(good)
        assert Run.resume(tmp_path / "run").go()
    else:
        assert "without it the run is another" in message


def test_the_command_tells_and_keeps_the_list(tmp_path):
    data = damaged_set(tmp_path / "data")
    options = ["--image-size", "8", "--model", "mlp", "--batch-size", "4", "--epochs", "1"]
    run = ["--data", str(data), "--skip-damaged", "--out", str(tmp_path / "run")]
    done = called("train", *options, *run)
    assert done.returncode == 0, done.stderr
    assert "looking at the pictures" in done.stdout
    assert f"5 damaged pictures are left out; {tmp_path / 'run'}/damaged.json" in done.stdout
    assert "skip_damaged = true" in (tmp_path / "run" / "recipe.toml").read_text()


def test_one_damaged_picture_is_told_as_one():
    assert left_out(1) == "1 damaged picture is left out"
    assert left_out(1234) == "1,234 damaged pictures are left out"


NET = """
from torch import nn


def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
"""


def test_sharpness_tells_what_reading_the_data_left_out(tmp_path):
    """Once for all runs on the same data, as train told it; and of a network's data."""
    data = damaged_set(tmp_path / "data")
    (data / "train" / "cat" / "list.txt").write_text("no picture")
    told = set()
    for name in ("a", "b"):
        options = ["--image-size", "16", "--model", "mlp", "--batch-size", "4", "--epochs", "1"]
        run = ["--data", str(data), "--skip-damaged", "--out", str(tmp_path / name)]
        done = called("train", *options, *run)
        assert done.returncode == 0, done.stderr
        told |= {line for line in done.stdout.splitlines() if line.startswith("Of the data: ")}
    assert len(told) == 3
    quick = ["--measure", "worst", "--rho", "0.1", "--steps", "1", "--restarts", "0"]
    runs = [str(tmp_path / name) for name in ("a", "b")]
    done = called("sharpness", *runs, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("Of the data: ")]
    assert len(lines) == 3
    assert set(lines) == told

    whole = made.class_folders(tmp_path / "whole")
    (whole / "train" / "cat" / "list.txt").write_text("no picture")
    (tmp_path / "net.py").write_text(NET)
    done = called("sharpness", "net.py:net", "--data", str(whole), *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("Of the data: ")]
    assert [line for line in lines if "left out 1: " in line and "list.txt" in line]
