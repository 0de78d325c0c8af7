"""Weights for other programs and from them: a run goes on over there, and comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as torch_load_file
from safetensors.torch import save_file as torch_save_file
from torch import nn

from rsam_ref import models
from rsam_ref.data.errors import DataError
from rsam_ref.data.weight_files import read_weights
from rsam_ref.models.elsewhere import in_pytorch
from rsam_ref.nn.objective import objective
from rsam_ref.pytorch import resume_run
from rsam_ref.training import recipe
from rsam_ref.training.exchange import load_weights
from rsam_ref.training.run import Run
from rsam_ref.training.trained import load_trained
from tests.helpers import torch_models
from tests.helpers.commands import called as rsam_ref

SMALL = {"model": "cnn", "model_options": {"width": 2}, "epochs": 1, "batch_size": 64}
NORMED = {"model": "wide_resnet", "model_options": {"depth": 10, "width": 1}, "limit": 128}


def settings(**more: Any) -> dict[str, Any]:
    return {**SMALL, "dtype": "float64", "log_every": 1000, **more}


def run(folder: Path, *, stop_after: int | None = None, **more: Any) -> Run:
    """A run in a folder, trained to the end, or killed after a checkpoint."""
    made = Run.start(folder, recipe.check(settings(**more), "test"))
    if stop_after is None:
        assert made.go()
        return made

    class Killed(BaseException):
        pass

    def on_step(step: int) -> None:
        if step == stop_after:
            raise Killed

    with pytest.raises(Killed):
        made.go(on_step=on_step)
    return made


def torch_cnn(width: int = 2, size: int = 8) -> nn.Module:
    lines = in_pytorch("cnn", shape=(1, size, size), classes=10, options={"width": width})
    return made_by(lines)


def made_by(lines: list[str]) -> nn.Module:
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return names["model"]


def flat(model: nn.Module, names: list[str]) -> np.ndarray:
    own = dict(model.named_parameters())
    return np.concatenate([own[n].detach().numpy().ravel() for n in names])


# The files


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("m.safetensors", torch_load_file),
        ("m.pt", lambda path: torch.load(path, weights_only=True)),
        ("m.npz", lambda path: {k: torch.tensor(v) for k, v in np.load(path).items()}),
    ],
)
def test_pytorch_takes_what_is_exported(tmp_path, name, read):
    ours = run(tmp_path / "run", **NORMED)
    done = rsam_ref("export", tmp_path / "run", "--out", tmp_path / name)
    assert done.returncode == 0, done.stderr
    theirs = torch_models.WideResNet(10, 1, channels=1).double()
    theirs.load_state_dict(read(tmp_path / name))  # strict: batch norm's counters as well
    assert theirs.bn1.num_batches_tracked == ours.steps
    x = ours.data.test.take(np.arange(20))
    ours.model.eval()
    theirs.eval()
    with torch.no_grad():
        scores = theirs(torch.tensor(x).double()).numpy()
    assert abs(ours.model(x.astype("float64")).data - scores).max() < 1e-12


def test_what_is_told_makes_the_model_and_reads_the_file(tmp_path):
    run(tmp_path / "run")
    done = rsam_ref("export", tmp_path / "run")
    lines = [line[4:] for line in done.stdout.splitlines() if line.startswith("    ")]
    model = made_by(lines)
    state = load_file(tmp_path / "run" / "exported.safetensors")
    assert not model.training
    assert (model[0].weight.detach().numpy() == state["0.weight"].astype("float32")).all()


def test_the_file_tells_inputs_and_classes(tmp_path):
    ours = run(tmp_path / "run")
    rsam_ref("export", tmp_path / "run")
    with safe_open(tmp_path / "run" / "exported.safetensors", "numpy") as file:
        told = json.loads(file.metadata()["export"])
    assert told["shape"] == [1, 8, 8]
    assert told["step"] == ours.steps
    assert told["classes"] == list("0123456789")
    stored = ours.data.train.take(np.arange(3)) * told["std"][0] + told["mean"][0]
    assert abs(stored - stored.round()).max() < 1e-4  # the digits are whole numbers


def test_the_newest_checkpoint_of_a_run_that_trains_is_exported(tmp_path):
    run(tmp_path / "run", stop_after=5, checkpoint_every=2)
    done = rsam_ref("export", tmp_path / "run")
    assert "of step 4, to" in done.stdout


def test_nothing_is_overwritten(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "m.npz").write_bytes(b"mine")
    done = rsam_ref("export", tmp_path / "run", "--out", tmp_path / "m.npz")
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert (tmp_path / "m.npz").read_bytes() == b"mine"


@pytest.mark.parametrize("asked", [["--format", "onnx"], ["--out", "m.h5"]])
def test_an_unknown_format_is_wrong_usage(tmp_path, asked):
    done = rsam_ref("export", tmp_path, *asked)
    assert done.returncode == 2
    assert "the format is one of safetensors, torch, npz" in done.stderr


def test_a_format_and_a_name_that_differ_are_wrong_usage(tmp_path):
    done = rsam_ref("export", tmp_path, "--format", "torch", "--out", "m.npz")
    assert done.returncode == 2
    assert "--format torch and --out m.npz: name it *.pt" in done.stderr


# Reading


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model."])
def test_a_state_is_read_behind_a_prefix(tmp_path, prefix):
    theirs = torch_cnn()
    state = {prefix + k: v.contiguous() for k, v in theirs.state_dict().items()}
    torch_save_file(state, tmp_path / "m.safetensors")
    ours = models.cnn(size=8, width=2, seed=1)
    assert load_weights(ours, tmp_path / "m.safetensors").prefix == prefix
    assert (ours.weights.flat == flat(theirs, ours.weights.names)).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_read_exactly(tmp_path, kind):
    theirs = torch_cnn().to(kind)
    torch_save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    ours = models.cnn(size=8, width=2, seed=1)
    load_weights(ours, tmp_path / "m.safetensors")
    assert (ours.weights.flat == flat(theirs.float(), ours.weights.names)).all()


def test_foreign_names_are_told_in_one_short_line(tmp_path):
    np.savez(tmp_path / "m.npz", **{f"layer{i}.w": np.ones(2) for i in range(100)})
    with pytest.raises(
        DataError, match=r"has no bn1\.bias, .* but layer0\.w, .*; it is of"
    ) as told:
        load_weights(models.resnet20(), tmp_path / "m.npz")
    assert len(str(told.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("m.pt", b"\x80\x02}q\x00.", "which can run code when it is read. In Python, where you"),
        ("m.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", "the state has no"),
        ("m.safetensors", b"nothing", "is damaged, or neither safetensors nor npz"),
        ("m.npz", b"PK\3\4 and then nothing", "is damaged, or no npz of plain arrays"),
        ("m.safetensors", None, "no such file or folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, contents, says):
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    with pytest.raises(DataError) as told:
        load_weights(models.cnn(size=8), tmp_path / name)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.npz"])
def test_a_file_of_torch_save_is_refused_whatever_its_name(tmp_path, name):
    torch.save(torch_cnn().state_dict(), tmp_path / name)
    with pytest.raises(DataError, match="is a file of PyTorch's own"):
        load_weights(models.cnn(size=8), tmp_path / name)


def test_what_is_no_file_is_not_read():
    with pytest.raises(DataError, match="is no file of weights"):
        load_weights(models.cnn(size=8), "/dev/zero")


def test_a_checkpoint_gives_its_weights(tmp_path):
    ours = run(tmp_path / "run")
    [newest, *_] = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"), reverse=True)
    back = models.cnn(size=8, width=2, dtype="float64")
    load_weights(back, newest)
    assert (back.weights.flat == ours.model.weights.flat).all()


def test_averaged_weights_of_torch_are_read(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(torch_cnn())
    torch_save_file(averaged.state_dict(), tmp_path / "m.safetensors")
    assert load_weights(models.cnn(size=8, width=2), tmp_path / "m.safetensors").prefix == "module."


def test_values_too_large_for_the_model_are_told(tmp_path):
    state = {k: v.double() for k, v in torch_cnn().state_dict().items()}
    state["0.bias"] += 1e300
    torch_save_file(state, tmp_path / "m.safetensors")
    ours = models.cnn(size=8, width=2)
    before = ours.weights.flat.copy()
    with pytest.raises(DataError, match=r"0\.bias holds values .* too large for float32"):
        load_weights(ours, tmp_path / "m.safetensors")
    assert (ours.weights.flat == before).all()


def test_an_npz_of_objects_builds_nothing(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="no npz of plain arrays"):
        load_weights(models.cnn(size=8), tmp_path / "m.npz")


def test_float8_is_refused_in_words(tmp_path):
    state = {"0.weight": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    torch_save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(DataError, match=r"0\.weight is F8_E4M3, which NumPy does not have"):
        load_weights(models.cnn(size=8), tmp_path / "m.safetensors")


def test_a_run_starts_from_weights_and_resumes_without_their_file(tmp_path):
    first = run(tmp_path / "first")
    first_weights = np.array(first.model.weights.flat)
    (tmp_path / "moved").mkdir()
    for path in (tmp_path / "first").iterdir():
        path.rename(tmp_path / "moved" / path.name)
    source = tmp_path / "moved"
    whole = run(tmp_path / "whole", init=str(source), lr=0.05)
    begun = Run.start(tmp_path / "begun", recipe.check(settings(init=str(source), lr=0.05), "test"))
    assert (np.array(begun.model.weights.flat) == first_weights).all()
    begun.lock.release()
    source.rename(tmp_path / "gone")
    again = Run.resume(tmp_path / "begun")
    assert again.go()
    assert (again.model.weights.flat == whole.model.weights.flat).all()


def test_weights_of_another_model_begin_no_run(tmp_path):
    run(tmp_path / "first")
    options = ["--model", "mlp", "--init", tmp_path / "first", "--out", tmp_path / "second"]
    done = rsam_ref("train", *options)
    assert done.returncode == 2 or done.returncode == 1
    assert "it is of another model" in done.stderr
    assert not (tmp_path / "second").exists()


# Going on in PyTorch


METHODS = {
    "sgd": {"optimizer": "sgd", "nesterov": True},
    "adamw": {"optimizer": "adamw", "lr": 0.01},
    "sam": {"optimizer": "sam", "clip_norm": 0.5},
    "asam": {"optimizer": "asam", "rho": 0.5},
    "rsam": {"optimizer": "rsam", "sigma": 0.01, "rho_low": 0.01, "warmup_steps": 3},
    "rsam, adamw": {"optimizer": "rsam", "sigma": 0.01, "base": "adamw", "lr": 0.01},
}


def shuffled(model: nn.Module) -> nn.Module:
    """The same model, with its parameters in another order."""
    for module in model.modules():
        if len(module._parameters) == 2:
            module._parameters = dict(reversed(module._parameters.items()))
    return model


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [0, 7])
def test_a_run_goes_on_in_pytorch_as_here(tmp_path, method, stop):
    chosen = METHODS[method] | {"batch_size": 128, "epochs": 2}
    whole = run(tmp_path / "whole", **chosen)
    if stop:
        run(tmp_path / "begun", stop_after=stop, checkpoint_every=stop, **chosen)
    else:
        first = Run.start(tmp_path / "begun", recipe.check(settings(**chosen), "test"))
        first._save()
        first.lock.release()
    theirs = shuffled(torch_cnn().double())
    on = resume_run(tmp_path / "begun", theirs)
    assert on.step == stop
    for x, y in on.batches():

        def closure(x=x, y=y):
            on.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(theirs(x), y)
            loss.backward()
            return loss

        on.optimizer.step(closure)
        on.scheduler.step()
    ours = np.array(whole.model.weights.flat)
    assert abs(flat(theirs, whole.model.weights.names) - ours).max() < 1e-11


def test_a_method_that_is_not_there_is_told(tmp_path):
    run(tmp_path / "run", optimizer="gsam")
    with pytest.raises(ValueError, match=r"the run's method is gsam; rsam_ref\.pytorch has"):
        resume_run(tmp_path / "run", torch_cnn().double())


def test_workers_that_climb_by_themselves_are_told(tmp_path):
    run(tmp_path / "run", optimizer="sam", perturbation="worker", shards=2)
    with pytest.raises(ValueError, match="each worker of the run has an ascent of its own"):
        resume_run(tmp_path / "run", torch_cnn().double())


def test_another_model_is_told_and_stays_as_it_is(tmp_path):
    run(tmp_path / "run", stop_after=5, checkpoint_every=2)
    other = torch_cnn().double()
    other[-1] = nn.Linear(8, 7).double()
    before = [p.detach().clone() for p in other.parameters()]
    with pytest.raises(DataError, match=r"does not fit: of 7\.weight it has .*, the model"):
        resume_run(tmp_path / "run", other)
    assert all(torch.equal(p, b) for p, b in zip(other.parameters(), before))
    with pytest.raises(TypeError, match="takes a torch model, not PosixPath"):
        resume_run(other, tmp_path / "run")


def test_a_finished_run_is_not_gone_on_with(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(ValueError, match="the run is finished"):
        resume_run(tmp_path / "run", torch_cnn().double())


def test_batches_are_augmented_as_in_the_run(tmp_path):
    first = run(tmp_path / "run", augment="flip", stop_after=5, checkpoint_every=2)
    on = resume_run(tmp_path / "run", torch_cnn().double())
    x, y = next(on.batches())
    expected, labels = first.feed.prepare(on.step)
    assert x.dtype == torch.float64
    assert (x.numpy() == expected).all()
    assert (y.numpy() == labels).all()


def test_weights_go_there_and_come_back(tmp_path):
    ours = run(tmp_path / "run", stop_after=5, checkpoint_every=2)
    theirs = torch_cnn().double()
    resume_run(tmp_path / "run", nn.Sequential(*theirs))
    torch_save_file(theirs.state_dict(), tmp_path / "back.safetensors")
    back = load_trained(tmp_path / "run").model
    trained = back.weights.flat.copy()
    back.weights.flat[:] = 0
    load_weights(back, tmp_path / "back.safetensors")
    assert (back.weights.flat == trained).all()
    x, y = ours.feed.prepare(0)
    loss, _ = objective(back, x.astype("float64"), y)(back.weights.flat)
    assert np.isfinite(float(loss))


def test_the_snippets_of_the_page_run(tmp_path):
    page = Path(__file__).parent.parent / "docs" / "weights.md"
    there, back = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    first = run(tmp_path / "run", model_options={"width": 4}, stop_after=7, checkpoint_every=6)
    assert first.steps > 9
    model = torch_cnn(width=4).double()
    names = {
        "run": tmp_path / "run",
        "model": model,
        "loss_fn": nn.CrossEntropyLoss(),
        "path": tmp_path / "m.npz",
    }
    exec(there, names)
    assert names["on"].optimizer.steps == first.steps
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    np.savez(names["path"], **state)
    exec(back, names)
    assert (names["ours"].state_dict()["0.bias"] == state["0.bias"].astype("float32")).all()


def test_a_header_whose_length_begins_as_a_pickle_does_is_safetensors(tmp_path):
    path = tmp_path / "m.safetensors"
    for padding in range(256):
        told = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        header = json.dumps({"__metadata__": {"note": padding * "x"}, **told}).encode()
        if len(header) % 256 == 0x80:
            break
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert path.read_bytes()[:1] == b"\x80"
    assert read_weights(path)["a"].tolist() == [0.0]
