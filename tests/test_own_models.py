"""Models and losses of one's own in a run; and runs as people run them."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

from rsam_ref import Tensor, models  # noqa: E402
from rsam_ref.commands.train import train  # noqa: E402
from rsam_ref.data import load_dataset  # noqa: E402
from rsam_ref.nn import Linear, Sequential  # noqa: E402
from rsam_ref.training import recipe  # noqa: E402
from rsam_ref.training.run import Run  # noqa: E402
from rsam_ref.training.trained import load_trained  # noqa: E402
from tests.helpers.commands import called, command, started  # noqa: E402

MINE = """
import math
from rsam_ref.autograd import ops_nn
from rsam_ref.nn import BatchNorm2d, Conv2d, Flatten, Linear, Module, ReLU, Sequential


def net(shape, classes, width=16):
    return Sequential(Flatten(), Linear(math.prod(shape), width), ReLU(), Linear(width, classes))


class Small(Module):
    def __init__(self, channels, classes):
        self.conv = Conv2d(channels, 4, 3, padding=1)
        self.norm = BatchNorm2d(4)
        self.head = Linear(4 * 64, classes)

    def forward(self, x):
        h = ops_nn.relu(self.norm(self.conv(x)))
        return self.head(h.reshape((h.shape[0], -1)))


def built(shape, classes, seed, dtype):
    return net(shape, classes).build(seed + 5, dtype)


def single(shape, classes):
    return net(shape, classes).build(0, "float32")


def softened(scores, labels):
    return ops_nn.cross_entropy(scores, labels, label_smoothing=0.1)


def by_sample(scores, labels):
    return scores


def number(scores, labels):
    return 0.5


def wrong(scores, labels):
    return scores.shape[5]


def needs(shape, classes, depth):
    return net(shape, classes)


def raises(shape):
    raise KeyError("not today")


def too_few(shape, classes):
    return net(shape, classes - 1)


class Hidden(Module):
    def __init__(self, classes):
        self.parts = {"head": Linear(64, classes)}

    def forward(self, x):
        return self.parts["head"](x.reshape((x.shape[0], -1)))


class Mistaken(Small):
    def forward(self, x):
        return x.nothing


def an_array(shape, classes):
    return [0.0]


model = net((1, 8, 8), 10)
value = 3
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(MINE)
    return path


def make(target, **options):
    return models.make_model(target, shape=(1, 8, 8), classes=10, seed=3, **options)


def test_a_function_of_ones_own_makes_the_model_that_ours_would_be(mine):
    own = make(f"{mine}:net", width=8)
    same = models.make_model("mlp", shape=(1, 8, 8), classes=10, seed=3, hidden=[8])
    assert own.weights.names == same.weights.names
    np.testing.assert_array_equal(own.weights.flat, same.weights.flat)
    assert make(f"{mine}:net", dtype="float64").weights.flat.dtype == "float64"


def test_a_class_is_made_of_what_it_takes(mine):
    model = make(f"{mine}:Small")
    assert type(model).__name__ == "Small"
    assert "norm.running_mean" in model.state_dict()
    assert not model.norm.running_mean.any()  # trying it has moved nothing


def test_a_model_that_builds_itself_is_left_as_it_is(mine):
    want = make(f"{mine}:net").build(8)
    np.testing.assert_array_equal(make(f"{mine}:built").weights.flat, want.weights.flat)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nets", "has no 'nets'; there are"),
        ("model", "is a model; give a function or a class that makes one"),
        ("value", "is an int, not a function that makes a model"),
        ("an_array", "gives a list, where a model"),
        ("Hidden", "what lies in it would never be trained"),
        ("Mistaken", r"AttributeError: .*nothing.* \(line 68\)"),
        ("needs", "needs 'depth'.*--model-option depth="),
        ("raises", "raised KeyError: 'not today'"),
        ("too_few", r"gives shape \(2, 9\) for 2 images.*scores \(2, 10\)"),
    ],
)
def test_what_makes_no_model_is_refused_in_one_line(mine, name, says):
    with pytest.raises(ValueError, match=says):
        make(f"{mine}:{name}")


def test_options_and_precisions_that_a_model_does_not_take_are_refused(mine):
    with pytest.raises(ValueError, match=r"has no option 'depth'; it has width"):
        make(f"{mine}:net", depth=3)
    with pytest.raises(ValueError, match="builds its model in float32, and float64 is asked for"):
        make(f"{mine}:single", dtype="float64")


def test_a_run_with_model_and_loss_of_ones_own(mine, tmp_path):
    arguments = ["train", "--model", f"{mine.name}:Small", "--loss", f"{mine.name}:softened"]
    done = called(*arguments, "--epochs", 2, "--out", tmp_path / "run", cwd=mine.parent)
    assert done.returncode == 0, done.stderr
    assert "Small with" in done.stdout
    trained = load_trained(tmp_path / "run")  # from another folder
    assert trained.recipe.model == f"{mine}:Small"
    whole = Run.start(
        tmp_path / "same",
        recipe.check({**trained.recipe.settings, "loss": "cross-entropy"}, "").model_copy(
            update={"label_smoothing": 0.1}
        ),
    )
    assert whole.go()  # the same steps with our own cross-entropy, smoothed
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(array, trained.model.state_dict()[name])
    assert called("predict", tmp_path / "run", "--help").returncode == 0
    assert called("evaluate", tmp_path / "run").returncode == 0
    assert "your own Small" in called("export", tmp_path / "run").stdout


def test_a_stopped_run_of_ones_own_goes_on_with_the_same_bits_and_tells_of_changed_code(
    mine, tmp_path
):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    settings = recipe.check({"model": f"{path}:Small", "epochs": 2}, "")
    whole = Run.start(tmp_path / "whole", settings)
    assert whole.go()
    run = Run.start(tmp_path / "run", settings)
    assert not run.go(on_step=lambda step: step == 5 and signal.raise_signal(signal.SIGINT))
    again = Run.resume(tmp_path / "run")
    assert (again.step, again.changed_code) == (6, [])
    again.close()
    path.write_text(MINE + "\n# another one\n")
    again = Run.resume(tmp_path / "run")
    assert again.changed_code == [str(path)]
    assert again.go()
    np.testing.assert_array_equal(again.model.weights.flat, whole.model.weights.flat)
    sessions = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"]
    codes = [session["code"][str(path)] for session in sessions]
    assert codes[0] == codes[1] != codes[2]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("by_sample", "gives shape (2, 10), where one number"),
        ("number", "gives float, where one number"),
        ("wrong", "raised IndexError: tuple index out of range"),
        ("value", "is an int, not a function"),
    ],
)
def test_a_loss_that_is_none_is_refused_before_anything_is_written(mine, tmp_path, name, says):
    out = tmp_path / "run"
    done = called("train", "--loss", f"{mine}:{name}", "--out", out)
    assert done.returncode == 2
    assert says in done.stderr
    assert not out.exists()


def test_the_models_of_ones_own_are_told_of(mine):
    done = called("models", f"{mine}:net", "--channels", 1, "--image-size", 8, "--no-memory")
    assert done.returncode == 0, done.stderr
    assert "width=16" in done.stdout
    assert "1,210 weights" in done.stdout


def test_the_snippets_of_the_page_run(tmp_path):
    page = Path(__file__).parent.parent / "docs" / "own.md"
    mine, an_op = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    (tmp_path / "mine.py").write_text(mine)
    for name in ("net", "Small"):
        arguments = ["train", "--model", f"mine.py:{name}", "--loss", "mine.py:loss"]
        done = called(*arguments, "--epochs", 1, "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    names: dict[str, Any] = {}
    exec(an_op, names)
    x = Tensor(np.linspace(-9.0, 9.0, 7), requires_grad=True)
    names["Softplus"]()(x).sum().backward()
    np.testing.assert_allclose(x.grad, 1 / (1 + np.exp(-x.data)))


# Runs as people run them


def test_a_run_is_called_by_its_data_model_and_optimizer(tmp_path, mine):
    for options in (["--model", "mlp"], ["--model", f"{mine}:net", "--optimizer", "sgd"]):
        done = called("train", "--epochs", 1, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["digits-mlp-rsam-1", "digits-net-sgd-1"]


def test_resuming_a_finished_run_says_so_and_changes_nothing(tmp_path):
    called("train", "--model", "mlp", "--epochs", 1, "--out", tmp_path / "run")
    files = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.safetensors")}
    done = called("train", "--resume", tmp_path / "run")
    assert done.returncode == 0
    assert "is finished: it has trained for all of its 11 steps" in done.stdout
    assert "--init" in done.stdout
    assert files == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.safetensors")}
    again = called("train", "--resume", tmp_path / "run")  # nobody holds the folder
    assert again.returncode == 0


def test_a_recipe_may_name_a_preset(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('preset = "digits-cnn"\nepochs = 1\n')
    of_preset = recipe.preset("digits-cnn")[0]
    assert recipe.read(path) == {**of_preset, "epochs": 1}
    path.write_text('preset = "digits-cnn"\nmodel = "mlp"\n')
    assert "model_options" not in recipe.read(path)  # they were the cnn's
    path.write_text('preset = "digits-cn"\n')
    with pytest.raises(recipe.RecipeError, match=r"did you mean digits-cnn\?"):
        recipe.read(path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "resnet_20"], "did you mean resnet20?"),
        (["--preset", "digit-cnn"], "did you mean digits-cnn?"),
        (["--loss", "crossentropy"], "there are cross-entropy, sigmoid, or give your own"),
        (["--optimizer", "rsma"], "did you mean rsam?"),
    ],
)
def test_a_name_that_is_nearly_right_is_told(arguments, says):
    done = called("train", *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_an_unknown_setting_is_told_its_nearest(tmp_path):
    (tmp_path / "r.toml").write_text("batchsize = 3\n")
    done = called("train", tmp_path / "r.toml")
    assert "unknown setting batchsize (did you mean batch_size?)" in done.stderr


def interval(**settings):
    chosen = recipe.check({"model": "mlp", **settings}, "")
    data = recipe.dataset(chosen)
    per_epoch = -(-len(data.train) // chosen.batch_size)
    return recipe.steps_between_tests(chosen, data, per_epoch), per_epoch


def test_tests_are_few_where_they_would_take_longer_than_training():
    assert interval(epochs=10) == (11, 11)  # 450 test samples against 1,347
    assert interval(epochs=10, limit=100, batch_size=10, optimizer="sgd")[0] == 60
    assert interval(epochs=10, limit=100, batch_size=10, evaluate_every=1.0)[0] == 10


@pytest.mark.parametrize(("side", "size"), [(40, 40), (28, 32), (100, 96), (217, 224), (300, 224)])
def test_the_size_of_pictures_is_chosen_by_them_and_told(tmp_path, side, size):
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (side, side + 9)).save(tmp_path / part / name / "0.png")
    data = load_dataset(tmp_path)
    assert data.shape == (3, size, size)
    told = [note for note in data.notes if "pictures are brought to" in note]
    assert f"{size} x {size} pixels" in told[0]
    assert load_dataset(tmp_path, image_size=64).shape == (3, 64, 64)


# Ctrl-C


def interrupted_at(arguments, when, cwd):
    """Exit code and errors of a command that is interrupted as soon as ``when()``."""
    process = started(*arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    try:
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.parametrize("after", [0.02, 0.1, 0.3, 0.6, 1.0])
def test_ctrl_c_while_a_command_is_loaded_is_one_line(tmp_path, after):
    begins = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from rsam_ref.__main__ import main; print('here', flush=True); main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", begins, "train", "--epochs", "5000", "--out", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    try:
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert "Traceback" not in errors
    assert process.returncode == 130
    told = [line for line in errors.splitlines() if line.strip()]
    assert len(told) == 1


def test_ctrl_c_in_a_run_keeps_the_step_and_ends_with_130(tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "--model", "mlp", "--epochs", "5000", "--out", out]
    metrics = out / "metrics.jsonl"
    code, errors = interrupted_at(
        arguments, lambda: metrics.exists() and metrics.read_bytes(), tmp_path
    )
    assert code == 130
    assert "which is kept. Go on with: rsam-ref train --resume" in errors
    assert list((out / "checkpoints").iterdir())


def test_two_presses_say_what_is_lost(tmp_path, monkeypatch):
    def twice(self, goal, stop, on_step):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "_advance", twice)
    done = called("train", "--model", "mlp", "--out", tmp_path / "run")
    assert done.returncode == 130
    assert "what was done since the last checkpoint is lost; no checkpoint" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_at_the_last_writes_leaves_a_run_that_can_be_finished(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(
            Run, "_finish", lambda self: signal.default_int_handler(signal.SIGINT, None)
        )
        done = called("train", "--model", "mlp", "--epochs", 1, "--out", tmp_path / "run")
    assert done.returncode == 130
    assert "step-" in done.stderr or "checkpoints" in done.stderr
    done = called("train", "--resume", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_help_loads_no_array_library():
    code = (
        "import sys; sys.argv = ['rsam-ref', '--help']\n"
        "from rsam_ref.commands.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'scipy', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_gives_its_names_when_asked():
    code = (
        "import sys, rsam_ref; assert 'numpy' not in sys.modules\n"
        "from rsam_ref import *\n"
        "assert RSAM is rsam_ref.RSAM and models.mlp\n"
        "assert set(rsam_ref.__all__) <= set(dir(rsam_ref))\n"
        "try:\n    rsam_ref.nothing\nexcept AttributeError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "module 'rsam_ref' has no attribute 'nothing'", done.stderr
    assert Sequential(Linear(2, 2))  # the layers are public as well
    assert command("--version").stdout.startswith("rsam-ref 0.")


def test_the_help_of_train_tells_the_recipes_defaults():
    options = get_type_hints(train, include_extras=True)
    for name, field in recipe.Recipe.model_fields.items():
        value = field.default
        if name not in options or value in (None, False, {}):
            continue
        values = value if isinstance(value, tuple) else (value,)
        shown = " ".join(v if isinstance(v, str) else f"{v:g}" for v in values)
        [option] = options[name].__metadata__
        assert f"  [default: {shown}" in option.help, name
