"""What a trained model is for: predict, evaluate, summary; what models are made of."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from rsam_ref import RSAM, SGD, models, objective  # noqa: E402
from rsam_ref.autograd.ops_nn import sigmoid, softmax  # noqa: E402
from rsam_ref.data import DataError, Inputs, digits, load_dataset  # noqa: E402
from rsam_ref.models.outline import outline  # noqa: E402
from rsam_ref.training.evaluation import Evaluation, evaluate_on, samples_for  # noqa: E402
from rsam_ref.training.figures import summary_figure  # noqa: E402
from rsam_ref.training.memory import memory_of_a_step  # noqa: E402
from rsam_ref.training.predictor import load_predictor  # noqa: E402
from rsam_ref.training.profiling import random_batch  # noqa: E402
from rsam_ref.training.summary import groups_of, runs_in  # noqa: E402
from rsam_ref.training.trained import load_trained  # noqa: E402
from tests.helpers.commands import called  # noqa: E402


def all_of(done):
    """What was printed, on both outputs."""
    return done.stdout + done.stderr


def trained(out, *more):
    done = called("train", "--model", "mlp", "--epochs", "2", "--out", str(out), *more)
    assert done.returncode == 0, all_of(done)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "sgd-0", "--optimizer", "sgd")


def coloured(folder, seed=0):
    """A set of pictures in files, 3 classes told apart by their colour, at different sizes."""
    draw = np.random.default_rng(seed)
    for part, count in (("train", 12), ("val", 6)):
        for i, name in enumerate(("blue", "green", "red")):
            (folder / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = draw.integers(0, 60, (20 + k, 24, 3)).astype(np.uint8)
                pixels[..., 2 - i] += 150
                Image.fromarray(pixels).save(folder / part / name / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = coloured(tmp_path_factory.mktemp("pictures"))
    out = folder.parent / "of-pictures"
    return folder, trained(out, "--data", str(folder), "--image-size", "16")


# Predict


def test_probabilities_are_those_of_the_model_without_the_data(run):
    predictor = load_predictor(str(run))
    data = load_dataset("digits")
    x = torch.from_numpy(data.test.take(np.arange(len(data.test))))
    state = {k: torch.from_numpy(v) for k, v in predictor.model.state_dict().items()}
    net = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(64, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 10),
    )
    net.load_state_dict(state)
    want = net(x).softmax(1).detach().numpy()
    np.testing.assert_allclose(predictor.probabilities(data.test), want, atol=2e-6)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (5, 8, 8), (5, 1, 8, 8), (5, 8, 8, 1)])
def test_arrays_of_any_layout_are_pictures(run, tmp_path, shape):
    count = shape[0] if len(shape) > 2 and shape[0] == 5 else 1
    images = digits()[0][:count]
    np.save(tmp_path / "x.npy", images.reshape(shape))
    np.savez(tmp_path / "x.npz", images.reshape(shape).astype(np.float32))
    predictor = load_predictor(run)
    want = predictor.inputs.samples(tmp_path / "x.npy")
    assert len(want) == count
    mean, std = predictor.inputs.mean[0], predictor.inputs.std[0]
    first = want.take(np.arange(count))
    np.testing.assert_allclose(first[:, 0], (images - mean) / std, atol=1e-5)
    other = predictor.inputs.samples(tmp_path / "x.npz")
    np.testing.assert_array_equal(other.take(np.arange(count)), first)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 9, 9)), r"holds an array of shape \(3, 9, 9\); the model takes pictures of"),
        (np.full((8, 8), 0.5), "values that are no whole numbers of 0 to 255"),
        (np.full((8, 8), 256), "values that are no whole numbers of 0 to 255"),
        (np.full((8, 8), np.nan), "values that are no whole numbers of 0 to 255"),
        (np.full((8, 8), "a"), "and no numbers"),
    ],
)
def test_arrays_of_another_form_are_refused_in_one_line(run, tmp_path, array, says):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=says):
        load_predictor(run).inputs.samples(tmp_path / "x.npy")


def test_fractions_are_taken_as_the_training_data_have_them(tmp_path):
    inputs = Inputs(("a", "b"), (1, 4, 4), (100.0,), (50.0,))
    stored = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.save(tmp_path / "whole.npy", stored)
    np.save(tmp_path / "fractions.npy", stored / 255)
    index = np.arange(3)
    want = inputs.samples(tmp_path / "whole.npy").take(index)
    np.testing.assert_array_equal(inputs.samples(str(tmp_path / "fractions.npy")).take(index), want)
    np.save(tmp_path / "more.npy", stored / 7)
    with pytest.raises(DataError, match="give pixels from 0 to 255, or fractions from 0 to 1"):
        inputs.samples(tmp_path / "more.npy")


def test_a_pickled_array_is_refused(run, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="no file of arrays, or damaged"):
        load_predictor(run).inputs.samples(tmp_path / "x.npy")


def test_a_picture_is_as_the_arrays_hold_theirs(run, tmp_path):
    image = digits()[0][3]
    as_seen = Image.fromarray(np.round(image.astype(float) * 255 / 16).astype(np.uint8))
    as_seen.convert("RGB").save(tmp_path / "x.png")
    predictor = load_predictor(run)
    x = predictor.inputs.samples(tmp_path / "x.png").take(np.array([0]))
    pixels = x[0, 0] * predictor.inputs.std[0] + predictor.inputs.mean[0]
    np.testing.assert_allclose(pixels, image, atol=1e-5)


def test_pictures_are_taken_as_the_run_took_its_test_pictures(pictures):
    folder, of_pictures = pictures
    predictor = load_predictor(of_pictures)
    data = load_trained(of_pictures).data
    for i, file in enumerate(["blue/0.png", "blue/1.png"]):
        x = predictor.inputs.samples(folder / "val" / file).take(np.array([0]))
        np.testing.assert_array_equal(x[0], data.test.take(np.array([i]))[0])


def test_the_command_tells_and_writes_what_the_model_says(run, tmp_path):
    np.save(tmp_path / "x.npy", digits()[0][:3])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    out = tmp_path / "out.json"
    done = called("predict", str(run), str(tmp_path / "x.npy"), "--save", str(out))
    assert done.returncode == 0, all_of(done)
    told = json.loads(out.read_text())
    want = load_predictor(run).probabilities(load_predictor(run).inputs.samples(tmp_path / "x.npy"))
    np.testing.assert_allclose([list(row["probabilities"].values()) for row in told], want)
    assert [row["class"] for row in told] == [str(p.argmax()) for p in want]
    assert f"{100 * want[0].max():.1f} %" in all_of(done)

    done = called("predict", str(run), str(tmp_path), "--save", str(tmp_path / "out.csv"))
    assert done.returncode == 1
    assert "broken.png: is no image that Pillow can read" in all_of(done).replace("\n", "")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3  # those that could be read


def test_a_run_that_does_not_tell_its_inputs_is_read_with_its_data(run, tmp_path):
    copy = tmp_path / "older"
    copy.mkdir()
    for name in ("recipe.toml", "model.safetensors"):
        (copy / name).write_bytes((run / name).read_bytes())
    assert load_predictor(copy).inputs == load_predictor(run).inputs
    (copy / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: is damaged"):
        load_predictor(copy)


def test_probabilities_do_not_overflow():
    scores = np.array([[1000.0, 0, -1000], [0, 0, 0]])
    np.testing.assert_allclose(softmax(scores).data, [[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(sigmoid(scores).data, [[1, 0.5, 0], [0.5] * 3])


# Evaluate


def test_an_evaluation_counts_what_is_taken_for_what(run):
    predictor = load_predictor(run)
    chosen = samples_for(predictor, "digits")
    result = evaluate_on(predictor, chosen.samples)
    guessed = predictor.probabilities(chosen.samples).argmax(axis=1)
    want = np.zeros((10, 10), int)
    np.add.at(want, (chosen.samples.labels, guessed), 1)
    np.testing.assert_array_equal(result.confusion, want)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert result.accuracy == pytest.approx(rows[-1]["test_accuracy"], abs=1e-12)
    assert result.loss == pytest.approx(rows[-1]["test_loss"], rel=1e-5)


def test_shares_and_intervals_of_an_evaluation():
    result = Evaluation(("a", "b", "c"), [[8, 2, 0], [1, 9, 0], [0, 0, 0]], [0, 0, 0], 0.5)
    assert result.accuracy == 17 / 20
    assert (result.recall(0), result.recall(2)) == (0.8, None)
    assert (result.precision(0), result.precision(2)) == (8 / 9, None)
    assert result.confused() == [(0, 1, 2), (1, 0, 1)]
    # Wilson's interval of 17 of 20, as scipy.stats.binomtest gives it.
    assert result.interval == pytest.approx((0.639577, 0.947624), abs=1e-5)


def test_scores_that_are_not_finite_count_as_wrong(run):
    predictor = load_predictor(run)
    predictor.model.weights.flat[...] = np.nan
    samples = samples_for(predictor, "digits").samples
    result = evaluate_on(predictor, samples)
    assert (result.accuracy, sum(result.unscored), result.samples) == (0, 450, 450)


def test_other_data_are_normalised_by_the_run(run, tmp_path):
    images, labels = digits()
    dark = (images[:, None] // 2).astype(np.uint8)
    np.savez(
        tmp_path / "dark.npz",
        x_train=dark[:100],
        y_train=labels[:100],
        x_test=dark[100:200],
        y_test=labels[100:200],
    )
    predictor = load_predictor(run)
    samples = samples_for(predictor, str(tmp_path / "dark.npz")).samples
    mean, std = predictor.inputs.mean[0], predictor.inputs.std[0]
    x = samples.take(np.arange(100))
    np.testing.assert_allclose(x, (dark[100:200] - mean) / std, atol=1e-5)


def test_folders_named_like_the_classes_are_labelled(pictures):
    folder, of_pictures = pictures
    predictor = load_predictor(of_pictures)
    by_folders = samples_for(predictor, str(folder / "val"))
    data = load_trained(of_pictures).data
    np.testing.assert_array_equal(by_folders.samples.labels, data.test.labels)
    assert evaluate_on(predictor, by_folders.samples).confusion == (
        evaluate_on(predictor, data.test).confusion
    )


def test_folders_that_are_no_classes_are_named(pictures, tmp_path):
    for name in ("blue", "box", "stick"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "a.png")
    with pytest.raises(
        DataError,
        match="no class of the model: box, stick; its classes are blue, green, red",
    ):
        samples_for(load_predictor(pictures[1]), str(tmp_path))


def test_a_run_is_evaluated_on_its_own_samples_without_those_that_it_leaves_out(tmp_path):
    folder = coloured(tmp_path / "data")
    (folder / "val" / "red" / "0.png").write_bytes(b"no picture")
    out = trained(
        tmp_path / "run",
        *("--data", folder, "--image-size", "16", "--skip-damaged", "--label-noise", "0.5"),
    )
    done = called("evaluate", out)
    assert done.returncode == 0, done.stderr
    assert "of 17, loss" in done.stdout
    own = samples_for(load_predictor(out), part="train").samples
    np.testing.assert_array_equal(own.labels, load_trained(out).data.train.labels)
    assert (own.labels != np.repeat(np.arange(3), 12)).any()  # as they were trained on


def test_data_of_other_classes_are_refused(pictures):
    with pytest.raises(
        DataError, match=r"has the classes 0, 1, 2, 3, \.\.\. \(10\), the model blue"
    ):
        samples_for(load_predictor(pictures[1]), "digits")


def test_the_command_writes_table_and_picture(run, tmp_path):
    done = called("evaluate", str(run), "--out", str(tmp_path / "e"))
    assert done.returncode == 0, all_of(done)
    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert f"accuracy {100 * told['accuracy']:.1f} %" in all_of(done)
    assert sum(map(sum, told["confusion"])) == told["samples"] == 450
    with (tmp_path / "e" / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true class", *map(str, range(10))]
    assert [list(map(int, row[1:])) for row in rows[1:]] == told["confusion"]
    assert (tmp_path / "e" / "confusion.png").read_bytes()[:4] == b"\x89PNG"


# Summary


@pytest.fixture(scope="module")
def several(run):
    trained(run.parent / "sgd-1", "--optimizer", "sgd", "--seed", "1")
    trained(run.parent / "sam-0", "--optimizer", "sam", "--rho", "0.1")
    trained(run.parent / "sam-1", "--optimizer", "sam", "--rho", "0.2")
    return run.parent


def accuracy(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["test_accuracy"]


def test_runs_that_differ_in_the_seed_alone_are_one_group(several):
    groups = groups_of(runs_in([several]))
    assert [(g.differs, len(g.runs)) for g in groups] == [
        ({"optimizer": "sam", "rho": 0.1}, 1),
        ({"optimizer": "sam", "rho": 0.2}, 1),
        ({"optimizer": "sgd"}, 2),
    ]
    a, b = accuracy(several / "sgd-0"), accuracy(several / "sgd-1")
    centre, half = groups[2].interval("test_accuracy")
    assert centre == pytest.approx((a + b) / 2)
    assert half == pytest.approx(12.706205 * abs(a - b) / 2, rel=1e-6)  # Student's t, 1 degree
    assert groups[0].interval("test_accuracy") == (accuracy(several / "sam-0"), None)


def test_an_unfinished_run_is_told_and_does_not_count(several, tmp_path):
    copy = tmp_path / "begun"
    copy.mkdir()
    for name in ("recipe.toml", "metrics.jsonl", "run.json"):
        (copy / name).write_bytes((several / "sgd-0" / name).read_bytes())
    done = called("summary", str(several / "sgd-0"), str(copy))
    assert done.returncode == 0, all_of(done)
    assert f"{copy} is not finished (step 22 of 22) and does not count" in all_of(done)
    assert not any(line.startswith("begun") for line in done.stdout.splitlines())  # no row
    assert groups_of(runs_in([copy]))[0].done == []
    (copy / "checkpoints").mkdir()
    (copy / "checkpoints" / "step-000000023.safetensors").touch()
    assert runs_in([copy])[0].step == 23  # kept after the last row of the metrics


def test_a_summary_fits_a_narrow_terminal(several, tmp_path):
    for i, model in enumerate(["cnn", "mlp"]):
        options = ("--model", model, "--optimizer", "rsam", "--batch-size", "32", "--limit", "64")
        trained(tmp_path / f"a-run-with-a-long-name-{i}", *options, "--clip-norm", "1")
    lines = called("summary", tmp_path, str(several), COLUMNS="70").stdout.splitlines()
    heading = next(line for line in lines if line.startswith("runs"))
    assert heading.split()[:2] == ["runs", "seeds"]
    assert len(heading) <= 70
    settings = [line for line in lines if line.startswith("a-run-with-a-long-name-1: ")]
    assert settings[0].split(": ")[1].startswith("model mlp, optimizer rsam, ")
    assert "sgd-0 and 1 more: " in "".join(lines)
    wide = called("summary", tmp_path, str(several), COLUMNS="200").stdout.splitlines()[0]
    assert wide.split()[:3] == ["runs", "model", "optimizer"]


def test_a_seed_that_is_there_twice_counts_once(several, tmp_path):
    for name in ("sgd-0", "sgd-1"):
        shutil.copytree(several / name, tmp_path / name)
    shutil.copytree(several / "sgd-0", tmp_path / "sgd-0-again")
    (group,) = groups_of(runs_in([tmp_path]))
    assert len(group.done) == 2
    done = called("summary", tmp_path)
    assert f"{tmp_path / 'sgd-0-again'} has seed 0 once more, and does not count" in (
        done.stdout.replace("\n", " ")
    )


def test_the_summary_is_written(several, tmp_path):
    table, picture = tmp_path / "s.csv", tmp_path / "s.png"
    done = called("summary", str(several), "--save", str(table), "--save", str(picture))
    assert done.returncode == 0, all_of(done)
    with table.open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert len(rows) == 4
    row = rows[str(several / "sam-1")]
    assert (row["optimizer"], row["rho"]) == ("sam", "0.2")
    assert float(row["test_accuracy"]) == accuracy(several / "sam-1")
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_summary_says_of_what_samples_its_figures_are(several, tmp_path):
    trained(tmp_path / "held", "--optimizer", "sgd", "--validation", "0.2")
    table = tmp_path / "s.csv"
    done = called("summary", tmp_path / "held", several, "--save", table, COLUMNS="200")
    heading, first, *_ = done.stdout.splitlines()
    assert "samples seeds accuracy (%)" in " ".join(heading.split())
    assert first.startswith("held")
    assert " validation " in first
    with table.open(newline="") as file:
        rows = {Path(row["run"]).name: row for row in csv.DictReader(file)}
    assert float(rows["held"]["validation_accuracy"]) == accuracy(tmp_path / "held")
    assert rows["held"]["test_accuracy"] == rows["sgd-0"]["validation_accuracy"] == ""
    held, other = (groups_of(runs_in([folder])) for folder in (tmp_path / "held", several))
    label = {
        name: [axes.get_ylabel() for axes in summary_figure(groups).axes]
        for name, groups in (("held", held), ("other", other), ("both", held + other))
    }
    assert label == {
        "held": ["validation loss", "validation accuracy (%)"],
        "other": ["test loss", "test accuracy (%)"],
        "both": ["loss", "accuracy (%)"],
    }
    assert summary_figure(held).get_suptitle() == ""  # one seed has no band
    assert summary_figure(other).get_suptitle().endswith("from the lowest to the highest seed")


def test_a_run_that_diverged_is_told_as_a_result_that_does_not_count(tmp_path):
    run = tmp_path / "r"
    done = called("train", "--model", "mlp", "--epochs", "2", "--lr", "1e30", "--out", run)
    assert done.returncode == 1
    told = called("summary", run).stdout
    assert re.search(r"r diverged \(step \d+ of epoch 1: .*\): a result, but one without", told)
    assert "not finished" not in told


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["summary", "nowhere"], 1, "nowhere: no such folder"),
        (["summary", "{empty}"], 1, "is no run of rsam-ref train, and no folder of runs"),
        (["summary", "{run}", "--save", "x.doc"], 2, "name it *.csv, *.png"),
        (["predict", "{run}", "nothing.png"], 1, "nothing.png: no such file"),
        (["predict", "{run}", "{empty}"], 1, "holds no picture, and no array"),
        (["predict", "{empty}", "x.png"], 1, "has no recipe.toml"),
        (["predict", "{run}", "x.png", "--save", "x.doc"], 2, "name it *.csv or *.json"),
        (["evaluate", "{run}", "--part", "val"], 2, "it is test, train or validation"),
        (["models", "resnet21"], 2, "there is no model 'resnet21'"),
        (["models", "cnn", "--model-option", "wide=3"], 2, "cnn has no option 'wide'"),
    ],
)
def test_wrong_use_ends_in_one_line(run, tmp_path, arguments, code, says):
    places = {"run": run, "empty": tmp_path}
    done = called(*[argument.format(**places) for argument in arguments])
    assert done.returncode == code, all_of(done)
    assert says in all_of(done)
    assert "Traceback" not in all_of(done)


# What a model is made of


def test_an_outline_has_the_shapes_of_torch():
    model = models.cnn(size=8, width=4)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 10),
    )
    x, want = torch.zeros(1, 1, 8, 8), []
    for layer in net:
        x = layer(x)
        count = sum(p.numel() for p in layer.parameters())
        want.append((type(layer).__name__, tuple(x.shape[1:]), count))
    lines = outline(model, (1, 8, 8))[1:]
    assert [(line.kind, line.shape, line.weights) for line in lines] == want


@pytest.mark.parametrize("name", ["resnet20", "vit_tiny", "resnet18"])
def test_an_outline_has_every_weight_once_and_changes_nothing(name):
    model = models.make_model(name, shape=(3, 32, 32), classes=10)
    state = model.state_dict()
    lines = outline(model, (3, 32, 32))
    assert sum(line.weights for line in lines) == model.weights.flat.size
    assert [line.name for line in lines] == list(model.modules())
    assert all("forward" not in vars(module) for module in model.modules().values())
    after = model.state_dict()
    assert all((state[key] == after[key]).all() for key in state)


def test_a_model_prints_its_layers():
    assert repr(models.cnn(size=8, width=4)) == (
        "Sequential()\n"
        "  0: Conv2d(weight (4, 1, 3, 3), bias (4,))\n"
        "  1: ReLU()\n"
        "  2: MaxPool2d()\n"
        "  3: Conv2d(weight (8, 4, 3, 3), bias (8,))\n"
        "  4: ReLU()\n"
        "  5: MaxPool2d()\n"
        "  6: Flatten()\n"
        "  7: Linear(weight (10, 32), bias (10,))"
    )


def test_the_memory_of_a_step_is_about_what_it_is_told_to_be():
    import tracemalloc

    model, shape = models.cnn(width=8), (1, 28, 28)
    told = memory_of_a_step(model, lambda: RSAM(SGD(1e-3, 0.9)), shape, 10).of(128)
    x, y = random_batch(128, shape, 10)
    optimizer = RSAM(SGD(1e-3, 0.9))
    optimizer.step(objective(model, x, y), model.weights.flat)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    optimizer.step(objective(model, x, y), model.weights.flat)
    measured = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert 0.7 < told / measured < 1.7


def test_the_command_models_tells_all_and_one():
    everything = called("models").stdout
    assert all(name in everything for name in models.MODELS)
    one = called("models", "mlp").stdout
    assert "269,322 weights in 6 tensors" in one
    assert "hidden=(256, 256)" in one
    assert "rsam around it" in one


# Going on from another run's weights


def test_a_run_begins_from_another_one_with_a_head_of_its_own(pictures, tmp_path):
    folder, before = pictures
    other = tmp_path / "two"
    for part in ("train", "val"):
        for name in ("blue", "red"):
            (other / part / name).mkdir(parents=True)
            for file in (folder / part / name).iterdir():
                (other / part / name / file.name).write_bytes(file.read_bytes())
    done = called(
        *("train", "--model", "mlp", "--data", other, "--image-size", "16", "--init", before),
        *("--epochs", "1", "--lr", "0", "--out", tmp_path / "after"),
    )
    assert done.returncode == 0, done.stderr
    assert "but for 5.weight and 5.bias: the last layer is new" in done.stdout
    old = load_predictor(before).model.state_dict()
    new = load_predictor(tmp_path / "after").model.state_dict()
    first = models.make_model("mlp", shape=(3, 16, 16), classes=2, seed=0).state_dict()
    for name in new:
        want = first if name.startswith("5.") else old
        np.testing.assert_array_equal(new[name], want[name])


def test_a_run_from_another_has_its_model_and_size(pictures, tmp_path):
    folder, _ = pictures
    options = ("--model-option", "hidden=[8]", "--image-size", "16", "--data", folder)
    first = trained(tmp_path / "first", *options)
    done = called(
        "train", "--init", first, "--data", folder, "--epochs", 1, "--out", tmp_path / "b"
    )
    assert done.returncode == 0, done.stderr
    after = load_predictor(tmp_path / "b")
    assert after.inputs.shape == (3, 16, 16)
    assert after.recipe.model_options == {"hidden": [8]}
    assert "its last layer is kept" not in done.stdout


def test_a_head_of_other_classes_of_the_same_number_is_told(pictures, tmp_path):
    folder, before = pictures
    other = tmp_path / "renamed"
    for part in ("train", "val"):
        for name in ("blue", "green", "red"):
            shutil.copytree(folder / part / name, other / part / f"{name}ish")
    done = called(
        *("train", "--init", before, "--data", other, "--epochs", 1, "--out", tmp_path / "after")
    )
    assert done.returncode == 0, done.stderr
    assert "its last layer is kept, which was trained on the classes blue, green, red." in (
        done.stdout.replace("\n", " ")
    )


def test_weights_of_another_model_are_no_new_head(pictures, tmp_path):
    done = called(
        *("train", "--model", "mlp", "--model-option", "hidden=[8]", "--data", pictures[0]),
        *("--image-size", "16", "--init", pictures[1], "--out", tmp_path / "after"),
    )
    assert done.returncode == 1
    assert "the model has no 5.bias" in done.stderr


def test_the_snippet_of_the_page_runs(pictures, capsys):
    page = Path(__file__).parent.parent / "docs" / "trained.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    folder, run = pictures
    exec(code, {"run": run, "picture": folder / "val" / "red" / "0.png"})
    assert "Sequential()" in capsys.readouterr().out
