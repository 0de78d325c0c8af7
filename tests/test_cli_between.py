"""`rsam-ref between`: the line, the plane and the path between models, held to the functions."""

import csv
import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rsam_backends import Stream
from rsam_ref.commands.alike import _check_run
from rsam_ref.sharpness import loss_barrier, matched, plane_of_trajectory, plane_through
from rsam_ref.sharpness.between import Models, line, summary, with_matched_units
from rsam_ref.sharpness.between_figures import line_figure, plane_figure
from rsam_ref.sharpness.scored import ModelScored, even_parts
from rsam_ref.training import recipe
from rsam_ref.training.run import Run
from rsam_ref.training.trained import load_trained
from tests.helpers.commands import called, command
from tests.helpers.curved import curved

FEW = ["--samples", "60", "--points", "5"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three MLPs, one of another width, a small ResNet twice, and an MLP on other classes."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"limit": 200, "batch_size": 64, "optimizer": "sgd", "keep_checkpoints": 9}
    mlp = {"model": "mlp", "model_options": {"hidden": [16, 12]}, "epochs": 5}
    resnet = {"model": "resnet20", "epochs": 1}
    settings = {
        "a": mlp | {"seed": 1},
        "b": mlp | {"seed": 2},
        "c": mlp | {"seed": 3},
        "wide": mlp | {"seed": 1, "model_options": {"hidden": [18, 12]}, "epochs": 1},
        "r1": resnet | {"seed": 1},
        "r2": resnet | {"seed": 2},
    }
    for name, own in settings.items():
        Run.start(folder / name, recipe.check(common | own, name)).go()
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def asked(out, *words):
    done = called("between", *map(str, words), *FEW, "--out", str(out))
    assert done.returncode == 0, done.stderr
    with (out / "between.csv").open() as file:
        table = list(csv.DictReader(file))
    told = json.loads((out / "between.json").read_text())
    assert [float(row["loss"]) for row in table] == [row["loss"] for row in told["rows"]]
    for ending, begin in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        assert (out / f"between.{ending}").read_bytes().startswith(begin)
    return told, done.stdout


def scored(trained, part, samples=60):
    held = getattr(trained.data, part)
    stream = Stream("samples" if part == "train" else "test samples", 0)
    index = stream.permutation(len(held))[:samples]
    return ModelScored(trained.model, held.take(index), held.labels[index], trained.loss)


def test_the_line_between_two_is_that_of_the_functions(runs, tmp_path):
    before = contents(runs)
    told, output = asked(tmp_path, runs / "a", runs / "b")
    assert contents(runs) == before
    first, second = (load_trained(runs / name, dtype="float64") for name in "ab")
    a, b = first.model.weights.flat, second.model.weights.flat
    shapes = first.model.weights.shapes
    nearer = matched(a, b, shapes, stream=Stream("matching", 0, 0))
    for units, end in (("as they are", b), ("matched", nearer)):
        for part in ("train", "test"):
            score = scored(first, part)
            expected = loss_barrier(lambda w, f=score: f(w)[0], a, end, points=5)
            [found] = [
                row for row in told["barriers"] if (row["units"], row["data"]) == (units, part)
            ]
            assert found["barrier"] == pytest.approx(expected.height)
            assert found["where"] == expected.where
            assert found["losses"] == pytest.approx([expected.losses[0], expected.losses[-1]])
            accuracies = [score((1 - t) * a + t * end)[1] for t in expected.steps]
            assert found["lowest"] == pytest.approx(min(accuracies))
    ends = {row["model"]: row for row in told["rows"] if row["model"]}
    assert list(ends) == ["a", "b"]
    assert (ends["a"]["x"], ends["b"]["x"]) == (0, 1)
    apart = told["distances"]
    assert apart["as they are"] == pytest.approx([0, np.linalg.norm(b - a)])
    assert apart["matched"][1] < apart["as they are"][1]
    assert "b was trained on other samples or labels than a" in output  # the seed splits digits
    assert "units matched" in output


def test_accuracy_is_that_of_evaluation(runs):
    """Without batch norm, on all test samples, loss and accuracy are those of `evaluate`."""
    from rsam_ref.training.evaluation import evaluate_on
    from rsam_ref.training.predictor import load_predictor

    predictor, trained = load_predictor(runs / "a"), load_trained(runs / "a")
    expected = evaluate_on(predictor, trained.data.test)
    loss, accuracy = scored(trained, "test", 10_000)(trained.model.weights.flat)
    assert accuracy == pytest.approx(expected.accuracy)
    assert loss == pytest.approx(expected.loss, rel=1e-5)


def test_the_plane_through_three(runs, tmp_path):
    told, output = asked(tmp_path, runs / "a", runs / "b", runs / "c", "--margin", "0.5")
    trained = [load_trained(runs / name, dtype="float64") for name in "abc"]
    weights = [one.model.weights.flat for one in trained]
    plane = plane_through(*weights)
    own = [r for r in told["rows"] if (r["units"], r["data"]) == ("as they are", "train")]
    named = {r["model"]: r for r in own if r["model"]}
    assert list(named) == ["a", "b", "c", "mean of all"]
    score = scored(trained[0], "train")
    for name, place, w in zip("abc", plane.places, weights, strict=True):
        assert (named[name]["x"], named[name]["y"]) == pytest.approx(place)
        assert named[name]["loss"] == pytest.approx(score(w)[0])
        assert named[name]["apart"] < 1e-10
    assert named["mean of all"]["loss"] == pytest.approx(score(sum(weights) / 3)[0])
    grid = [r for r in own if r["model"] is None]
    assert len(grid) == 25
    some = grid[7]
    w = plane.origin + some["x"] * plane.across + some["y"] * plane.up
    assert some["loss"] == pytest.approx(score(w)[0])
    xs = [r["x"] for r in grid]
    widest = max(max(along) - min(along) for along in zip(*plane.places))
    assert max(xs) - min(xs) == pytest.approx(2 * widest)
    assert {r["units"] for r in told["rows"]} == {"as they are", "matched"}
    assert "mean of all" in output


def test_the_path_of_a_run_s_checkpoints(runs, tmp_path):
    told, output = asked(tmp_path, runs / "a", "--path")
    folder = runs / "a" / "checkpoints"
    files = sorted(folder.iterdir())
    assert len(files) == 5
    weights = [load_trained(file, dtype="float64").model.weights.flat for file in files]
    plane, shares = plane_of_trajectory(weights)
    assert told["shares"] == pytest.approx(shares)
    assert [model["name"] for model in told["models"]] == [f"step {4 * i}" for i in range(1, 6)]
    assert told["apart"] == pytest.approx(plane.apart, abs=1e-12)
    assert told["apart"][0] > 0.01
    train = [r for r in told["rows"] if r["data"] == "train" and r["model"]]
    score = scored(load_trained(runs / "a", dtype="float64"), "train")
    assert [r["loss"] for r in train] == pytest.approx([score(w)[0] for w in weights])
    assert f"{100 * shares[0]:.1f} %" in output
    several, _ = asked(tmp_path / "files", *files, "--path")
    assert several["shares"] == pytest.approx(shares)
    assert [r["loss"] for r in several["rows"]] == pytest.approx([r["loss"] for r in told["rows"]])


def test_batch_norm_takes_the_samples_statistics(runs, tmp_path):
    told, output = asked(tmp_path, runs / "r1", runs / "r2")
    assert told["batch_statistics_of"] == 60
    assert "Batch norm takes the statistics of the samples themselves, 60 at a time" in output
    assert "Units are matched for MLPs alone" in output
    assert "resnet20 is none" in output
    trained = load_trained(runs / "r1", dtype="float64")
    state = trained.model.state_dict()
    held = trained.data.train
    index = Stream("samples", 0).permutation(len(held))[:60]
    x, y = held.take(index), held.labels[index]
    from rsam_ref.sharpness import Landscape

    # resnet20 has no dropout, so the loss of training is that with the batch's statistics
    expected = Landscape(trained.model, x, y, trained.loss, batch_statistics=True)
    w = trained.model.weights.flat
    assert told["rows"][0]["loss"] == pytest.approx(float(expected.loss(w)))
    assert told["rows"][0]["loss"] != pytest.approx(
        float(Landscape(trained.model, x, y, trained.loss).loss(w))
    )
    for name, array in trained.model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_what_was_asked_is_kept(runs, tmp_path, monkeypatch):
    real, calls = ModelScored.__call__, []

    def stopping(self, w):
        calls.append(w)
        if len(calls) == 8:  # two to see that both are alike, a whole strip, and some of another
            raise KeyboardInterrupt
        return real(self, w)

    monkeypatch.setattr(ModelScored, "__call__", stopping)
    words = ["between", str(runs / "r1"), str(runs / "r2"), *FEW, "--out", str(tmp_path)]
    done = called(*words)
    assert done.returncode == 130
    assert done.stderr.strip() == (
        "rsam-ref: stopped; what was asked is kept, and the same command goes on from it"
    )
    assert not (tmp_path / "between.csv").exists()
    done = called(*words)
    assert done.returncode == 0, done.stderr
    count = len(calls)
    assert called(*words).returncode == 0
    others = len(calls) - count
    assert others == 2
    kept = (tmp_path / "between.jsonl").read_text().splitlines()
    assert len(kept) == 2
    assert called(*words, "--seed", "1").returncode == 0
    assert len((tmp_path / "between.jsonl").read_text().splitlines()) == 4


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "twin")
    shutil.copytree(runs / "a", tmp_path / "lone")
    for file in sorted((tmp_path / "lone" / "checkpoints").iterdir())[:-2]:
        file.unlink()
    damaged = shutil.copytree(runs / "b", tmp_path / "diverged")
    state = load_file(damaged / "model.safetensors")
    save_file({n: v * 1e30 for n, v in state.items()}, damaged / "model.safetensors")
    alone = tmp_path / "alone" / "model.safetensors"
    alone.parent.mkdir()
    shutil.copy(runs / "a" / "model.safetensors", alone)
    a, b = runs / "a", runs / "b"
    cases = [
        ([a], 2, "is one model: give two or three, or --path"),
        ([a, tmp_path / "twin"], 1, "a and twin have the same weights"),
        ([a, a], 1, "have the same weights, so nothing lies between them"),
        ([a, runs / "wide"], 1, "of different architectures, 1.weight (16, 64) against 1.weight"),
        ([a, runs / "r1"], 1, "a (mlp) and r1 (resnet20) are of different architectures, 6 param"),
        ([a, b, runs / "c", runs / "wide"], 2, "4 models: give two or three, or --path"),
        ([a, b, "--path"], 2, "a path needs 3 models or more, in their order, not 2"),
        ([tmp_path / "lone", "--path"], 1, "keeps 2 different models, and a path needs 3: train"),
        ([a, alone], 1, "no recipe.toml beside it or above it"),
        ([a, runs / "gone"], 1, "no such file or folder; give a run of rsam-ref train"),
        ([a, b, "--points", "2"], 2, "--points must be at least 3"),
        ([a, b, "--samples", "0"], 2, "--samples must be at least 1"),
        ([a, b, "--dtype", "float16"], 2, "--dtype is float32 or float64"),
        ([a, b, "--margin", "-1"], 2, "--margin is a finite share"),
        ([a, b, "--seed", "-1"], 2, "a seed must be a whole number >= 0, not -1"),
        ([a, "net.py:mlp", "--data", "digits"], 2, "is a run and net.py:mlp a network"),
        ([a, b, "--weights", "w.npz"], 2, "--weights is for a network"),
    ]
    for words, code, says in cases:
        done = called("between", *map(str, words), "--out", str(tmp_path / "out"))
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert says in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    done = command(
        "between", str(a), str(damaged), *FEW, "--dtype", "float32", "--out", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr  # its losses are told as not finite
    assert "not finite" in done.stdout


# Networks of PyTorch

NETWORK = """
import torch
from torch import nn


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def tanh():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(x + torch.relu(self.second(x)))


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 4))


def batches():
    draws = torch.Generator().manual_seed(0)
    return [(torch.randn(30, 8, generator=draws), torch.arange(30) % 4) for _ in range(2)]


def held_out():
    draws = torch.Generator().manual_seed(1)
    return [(torch.randn(20, 8, generator=draws), torch.arange(20) % 4)]


def fitted():
    return [(x, torch.nn.functional.one_hot(y, 4).float()) for x, y in batches()]


def squared(output, target):
    return ((output - target) ** 2).mean()
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A folder with net.py and weights of it, where the test is."""
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(NETWORK, names)
    for make in ("mlp", "Residual", "Normed"):
        for i in range(3):
            with torch.random.fork_rng():
                torch.manual_seed(i)
                made: torch.nn.Module = names[make]()
            arrays = {n: v.numpy() for n, v in made.state_dict().items()}
            np.savez(f"{make}-{i}.npz", **arrays)
    return tmp_path


def weights(name, *numbers):
    return [word for i in numbers for word in ("--weights", f"{name}-{i}.npz")]


def test_two_weights_of_a_network(network):
    told, _ = asked(network / "out", "net.py:mlp", *weights("mlp", 0, 1), "--data", "digits")
    assert [model["name"] for model in told["models"]] == ["mlp-0", "mlp-1"]
    assert {(r["units"], r["data"]) for r in told["rows"]} == {
        (units, data) for units in ("as they are", "matched") for data in ("train", "test")
    }
    assert told["distances"]["matched"][1] < told["distances"]["as they are"][1]
    assert all(r["accuracy"] is not None for r in told["rows"])
    by = {(r["units"], r["data"], r["x"]): r["loss"] for r in told["rows"]}
    for data in ("train", "test"):  # a matched network computes the same
        assert by["matched", data, 1.0] == pytest.approx(by["as they are", data, 1.0])


def test_batch_norm_alone_is_in_training_in_a_network(network):
    """Its dropout is not, and its state stays as it is."""
    options = ["--batches-from", "batches", "--test-batches-from", "held_out"]
    told, output = asked(network / "out", "net.py:Normed", *weights("Normed", 0, 1, 2), *options)
    assert "30 at a time" in output
    names: dict[str, Any] = {}
    exec(NETWORK, names)
    made: torch.nn.Module = names["Normed"]()
    arrays = np.load("Normed-1.npz")
    made.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    made.double().eval()
    made[1].train()
    for data, source in (("train", "batches"), ("test", "held_out")):
        losses, counts = [], []
        for x, y in names[source]():
            with torch.no_grad():
                losses.append(float(torch.nn.functional.cross_entropy(made(x.double()), y)))
            counts.append(len(x))
        [row] = [r for r in told["rows"] if (r["model"], r["data"]) == ("Normed-1", data)]
        assert row["loss"] == pytest.approx(np.average(losses, weights=counts))
    assert "Units are matched for MLPs alone" in output


def test_units_of_what_only_looks_like_an_mlp_are_not_matched(network):
    told, output = asked(
        *(network / "out", "net.py:Residual", *weights("Residual", 0, 1)),
        *("--batches-from", "batches"),
    )
    assert {(r["units"], r["data"]) for r in told["rows"]} == {("as they are", "train")}
    assert "computes something else with its units in another order" in " ".join(output.split())


def test_what_is_no_classifier_has_no_accuracy(network):
    options = ["--batches-from", "fitted", "--loss", "squared"]
    told, output = asked(
        network / "out", "net.py:Residual", *weights("Residual", 0, 1, 2), *options
    )
    assert all(r["accuracy"] is None for r in told["rows"])
    assert "accuracy" not in output


def test_networks_that_differ_in_more_than_weights_are_one_line(network):
    cases = [
        (
            ["net.py:mlp", "net.py:tanh", *weights("mlp", 0, 1), "--data", "digits"],
            1,
            "mlp-0 with the weights of mlp-1 computes something else than mlp-1",
        ),
        (
            ["net.py:mlp", "net.py:Residual", "--batches-from", "batches"],
            1,
            "net.py:mlp could not be run",
        ),
        (["net.py:mlp", "--data", "digits"], 2, "net.py:mlp is one model"),
        (["net.py:mlp", *weights("mlp", 0, 1)], 2, "say what net.py:mlp is measured on"),
        (
            ["net.py:mlp", *weights("mlp", 0, 1), "--data", "digits", "--test-batches-from", "x"],
            2,
            "--test-batches-from goes with --batches-from",
        ),
        (
            ["net.py:Normed", *weights("Normed", 0, 1), "--batches-from", "gone"],
            1,
            "net.py has no 'gone'",
        ),
    ]
    for words, code, says in cases:
        done = called("between", *words, "--out", "out")
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert says in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


# The parts


def test_samples_are_taken_in_even_parts():
    assert even_parts(5, 9) == [slice(0, 5)]
    sizes = [p.stop - p.start for p in even_parts(513, 256)]
    assert sizes == [171, 171, 171]
    assert [p.stop - p.start for p in even_parts(7, 3)] == [3, 2, 2]
    with pytest.raises(ValueError, match="at least one sample"):
        even_parts(0, 3)


def test_a_summary_tells_the_rise_and_where():
    common = {"units": "as they are", "data": "train"}
    rows = [
        common | {"x": x, "loss": loss, "accuracy": accuracy}
        for x, loss, accuracy in ((0.0, 1.0, 0.9), (0.5, 4.0, 0.2), (1.0, 2.0, 0.8))
    ]
    [found] = summary(rows)
    assert (found["barrier"], found["where"]) == (2.5, 0.5)
    assert (found["lowest"], found["lowest_where"]) == (0.2, 0.5)
    assert summary([row | {"loss": None} for row in rows])[0]["barrier"] is None


def test_figures_show_what_they_are_given():
    network = curved("relu")
    rng = np.random.default_rng(0)
    models = Models(
        ["a", "b"], [network.w, network.w + rng.standard_normal(len(network.w))], network.shapes
    )
    score = lambda w: (float(network.loss.loss(w)), None)
    picture = line(models, "as they are", 5)
    rows = [row for _, places in picture.strips() for row in picture.scored(places, "train", score)]
    figure = line_figure(rows, ["a", "b"])
    [axes] = figure.axes
    drawn = axes.get_lines()[0]
    np.testing.assert_allclose(drawn.get_ydata(), [row["loss"] for row in rows])
    assert list(drawn.get_xdata()) == [0, 0.25, 0.5, 0.75, 1]
    common: dict[str, Any] = {"units": "as they are", "data": "train", "model": None}
    wall = [
        common
        | {"picture": "plane", "apart": None}
        | {"x": x, "y": y, "loss": None if x == y == 0 else 1.0 + x * y, "accuracy": None}
        for y in (0.0, 1.0)
        for x in (0.0, 1.0)
    ]
    assert len(plane_figure(wall, "t").axes) == 2  # with the bar
    nothing = [row | {"loss": None} for row in wall]
    assert len(plane_figure(nothing, "t").axes) <= 1


def test_matching_is_refused_where_it_changes_what_is_computed():
    network = curved("relu")
    other = network.w + np.random.default_rng(1).standard_normal(len(network.w))
    models = Models(["a", "b"], [network.w, other], network.shapes)
    position = lambda w: (float(w @ np.arange(len(w))), None)
    with pytest.raises(ValueError, match="b computes something else with its units in another"):
        with_matched_units(models, position, seed=0)
    found = with_matched_units(models, lambda w: (float(network.loss.loss(w)), None), seed=0)
    assert sorted(found.weights[1]) == sorted(other)


def test_models_of_other_classes_are_refused(runs):
    first = load_trained(runs / "a")
    other = replace(first, data=replace(first.data, classes=tuple("abcdefghij")))
    with pytest.raises(
        ValueError, match=r"b tells 10 classes \(a, b, c, \.\.\.\) apart and a 10 classes \(0, 1"
    ):
        _check_run(first, other, "a", "b")
