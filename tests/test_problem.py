"""What a comparison is posed on: the digits as ever, any data, any model."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from rsam_ref import models
from rsam_ref.data import digits, digits_split
from rsam_ref.training import comparison
from rsam_ref.training.problem import Problem, problem_on
from tests.helpers.commands import called


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The digits in an .npz, each with its number in the first two pixels."""
    images, labels = digits()
    images = images[:, None].copy()
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(images)), 17)
    path = tmp_path_factory.mktemp("data") / "some.npz"
    np.savez(
        path,
        x_train=images[:200],
        y_train=labels[:200],
        x_test=images[200:260],
        y_test=labels[200:260],
    )
    return str(path)


def numbers(x, of):
    """The numbers that were written into the pixels."""
    first, second = (np.round(x[:, 0, 0, k] * of[1] + of[0]).astype(int) for k in (0, 1))
    return 17 * first + second


def test_the_digits_are_split_and_the_mlp_made_as_ever():
    split, want = Problem().split(3, 0.4), digits_split(3, 0.4)
    assert all((a == b).all() for a, b in zip(vars(split).values(), vars(want).values()))
    model = Problem().make(3, (8,))
    assert (model.weights.flat == models.mlp([64, 8, 10], seed=3).weights.flat).all()
    assert Problem().samples == len(want.x_train)
    assert Problem(model="cnn").split(0, 0.0).x_val.shape == (449, 1, 8, 8)


@pytest.mark.parametrize("limit", [None, 60])
def test_other_data_are_split_anew_by_every_seed(folder, limit):
    from rsam_ref.data import load_dataset

    problem = problem_on(folder, model="cnn", model_options={"width": 2}, limit=limit)
    data = load_dataset(folder)
    of = [part[0] for part in data.train.normalisation]
    seen = []
    for seed in (0, 1):
        split = problem.split(seed, 0.5)
        train, val = numbers(split.x_train, of), numbers(split.x_val, of)
        assert not set(train) & set(val)
        assert set(train) | set(val) <= set(range(200))
        assert (len(train), len(val)) == ((160, 40) if limit is None else (60, 30))
        assert len(train) == problem.samples
        assert (split.y_val == data.train.labels[val]).all()
        changed = np.mean(split.y_train != data.train.labels[train])
        assert 0.3 < changed <= 0.5
        assert (split.y_test == data.test.labels).all()
        seen.append(tuple(train))
        assert (problem.split(seed, 0.5).y_train == split.y_train).all()
    assert seen[0] != seen[1]


def test_runs_of_other_data_are_not_taken_for_these(folder):
    a = comparison.Experiment(problem=problem_on(folder))
    b = comparison.Experiment()
    assert asdict(a)["problem"]["fingerprint"]
    assert asdict(a) != asdict(b)
    assert a.steps == a.epochs * 3  # 160 samples in mini-batches of 64


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--limit", "190"], "are more than the 200 training samples: give at most 133"),
        (["--limit", "0"], "the limit must be at least 1"),
        (["--model", "resnet_20"], "did you mean resnet20?"),
        (["--model", "cnn", "--model-option", "depth=3"], "cnn has no option 'depth'"),
    ],
)
def test_what_cannot_be_posed_is_one_line(folder, tmp_path, arguments, says):
    done = called("compare", "--data", folder, *arguments, "--out", tmp_path / "c")
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "c").exists()


def test_the_command_compares_on_any_data(folder, tmp_path):
    arguments = ["compare", "--data", folder, "--model", "cnn", "--model-option", "width=2"]
    arguments += ["--method", "sgd", "--method", "rsam", "--rho", "0.1", "--seeds", "2"]
    done = called(*arguments, "--epochs", "1", "--jobs", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout.replace("\n", " ")
    assert "4 runs of cnn on" in told
    assert "with 0 % of the labels replaced" in told
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["runs"]) == 4
    assert results["settings"]["problem"]["model_options"] == {"width": 2}
    (record,) = [r for r in results["runs"] if r["method"] == "sgd" and r["seed"] == 1]
    experiment = comparison.Experiment(
        epochs=1,
        label_noise=0.0,  # one's own labels stay, unless it is asked for
        problem=problem_on(folder, model="cnn", model_options={"width": 2}),
    )
    trial = comparison.Trial("sgd", record["value"], 1)
    assert comparison.execute(experiment, trial)["test_accuracy"] == record["test_accuracy"]
