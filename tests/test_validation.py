"""Training samples that are held out: which they are, and who looks at what."""

import json

import numpy as np
import pytest

from rsam_ref.data import DataError, digits, load_dataset
from rsam_ref.data.pictures import PictureSamples
from tests.helpers import data_sets as made
from tests.helpers.commands import called


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits in an .npz; each has its number in its first two pixels."""
    images, labels = digits()
    images = images[:300, None].copy()
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(images)), 17)
    path = tmp_path_factory.mktemp("data") / "some.npz"
    parts = {"x_train": images[:200], "x_test": images[200:]}
    np.savez(path, **parts, y_train=labels[:200], y_test=labels[200:300])
    return str(path)


def numbers(samples):
    """Which samples they are."""
    x, of = samples.take(samples.everything), [part[0] for part in samples.normalisation]
    first, second = (np.round(x[:, 0, 0, k] * of[1] + of[0]).astype(int) for k in (0, 1))
    return (17 * first + second).tolist()


@pytest.mark.parametrize(
    ("share", "limit", "sizes"),
    [(0.2, None, (160, 40)), (0.2, 60, (60, 15)), (0.2, 190, (160, 40)), (0.5, 80, (80, 80))],
)
def test_the_share_is_that_of_the_samples_in_use(folder, share, limit, sizes):
    data = load_dataset(folder, validation=share, limit=limit, seed=3)
    train, held = numbers(data.train), numbers(data.validation)
    assert (len(train), len(held)) == sizes
    assert not set(train) & set(held)
    assert set(train) | set(held) <= set(range(200))
    assert data.watched is data.validation
    assert numbers(data.test) == list(range(200, 300))


def test_a_seed_holds_out_the_same_samples_and_another_one_others(folder):
    held = [numbers(load_dataset(folder, validation=0.2, seed=s).validation) for s in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


def test_those_held_out_keep_their_labels_and_no_statistic_is_taken_of_them(folder):
    clean = load_dataset(folder, validation=0.5, seed=1)
    noisy = load_dataset(folder, validation=0.5, seed=1, label_noise=1.0)
    assert (clean.validation.labels == noisy.validation.labels).all()
    assert (clean.train.labels != noisy.train.labels).mean() > 0.5
    pixels = clean.train.take(clean.train.everything)
    assert abs(pixels.mean()) < 1e-5
    assert clean.validation.normalisation == clean.train.normalisation


def test_without_a_share_nothing_is_other_than_before(folder):
    data = load_dataset(folder, limit=20, seed=1)
    assert data.validation is None
    assert data.watched is data.test
    assert data.fingerprint == load_dataset(folder, validation=0.0, limit=20, seed=1).fingerprint
    assert data.fingerprint != load_dataset(folder, validation=0.1, limit=20, seed=1).fingerprint


def test_of_pictures_in_files_as_well(tmp_path):
    made.class_folders(tmp_path, {"train": 6, "test": 4})
    data = load_dataset(tmp_path, validation=0.25, image_size=8)
    assert len(data.train) + len(data.validation) == len(load_dataset(tmp_path, image_size=8).train)
    assert isinstance(data.train, PictureSamples)
    assert isinstance(data.validation, PictureSamples)
    assert not set(data.train.names) & set(data.validation.names)


@pytest.mark.parametrize("share", [1.0, -0.1])
def test_a_share_that_is_none_is_refused(folder, share):
    with pytest.raises(ValueError, match="validation is a share"):
        load_dataset(folder, validation=share)


def test_a_share_that_leaves_nothing_is_refused(folder):
    with pytest.raises(DataError, match="leaves none"):
        load_dataset(folder, validation=0.999)


def test_a_run_is_tested_on_what_it_held_out_and_evaluated_on_both(tmp_path):
    run = tmp_path / "run"
    options = ["--model", "mlp", "--epochs", "1", "--validation", "0.25", "--out", run]
    done = called("train", *options)
    assert done.returncode == 0, done.stderr
    assert "337 to choose by" in done.stdout.replace("\n", " ")
    told = json.loads((run / "run.json").read_text())["data"]
    assert (told["train"], told["validation"], told["test"]) == (1010, 337, 450)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    counts = {}
    for part in ("validation", "test", "train"):
        done = called("evaluate", run, "--part", part, "--out", tmp_path / part)
        assert done.returncode == 0, done.stderr
        counts[part] = json.loads((tmp_path / part / "evaluation.json").read_text())
    assert {p: c["samples"] for p, c in counts.items()} == {
        "validation": 337,
        "test": 450,
        "train": 1010,
    }
    assert counts["validation"]["accuracy"] == last["test_accuracy"]
    assert counts["test"]["accuracy"] != last["test_accuracy"]
    other = called("evaluate", run, "--part", "validation", "--data", "digits")
    assert (other.returncode, "drop --data" in other.stderr) == (2, True)


def test_a_run_that_held_nothing_out_has_no_such_part(tmp_path):
    run = tmp_path / "run"
    called("train", "--model", "mlp", "--epochs", "1", "--out", run)
    done = called("evaluate", run, "--part", "validation")
    assert done.returncode == 1
    assert "its validation is 0" in done.stderr
