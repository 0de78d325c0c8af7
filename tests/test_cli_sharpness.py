"""`rsam-ref sharpness` as a user meets it, and how a trained model is read back for it."""

import csv
import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
import typer
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from rsam_ref.commands import sharpness as cli_sharpness
from rsam_ref.data.errors import DataError
from rsam_ref.sharpness import figures as plot_sharpness
from rsam_ref.sharpness import survey
from rsam_ref.sharpness.kept import Kept
from rsam_ref.training import recipe
from rsam_ref.training.run import Run
from rsam_ref.training.trained import load_trained
from tests.helpers.commands import called, command, started

QUICK = {
    "rho": [0.05, 0.1],
    "sigma": [1e-3, 1e-2],
    "samples": 60,
    "batches": 2,
    "draws": 2,
    "directions": 2,
    "points": 5,
    "steps": 10,
    "restarts": 1,
    "eigenvalues": 2,
}
OPTIONS = [
    part
    for name, value in QUICK.items()
    for one in (value if isinstance(value, list) else [value])
    for part in (f"--{name}", str(one))
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trained networks."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"limit": 200, "epochs": 2, "batch_size": 64, "rho": 0.1}
    settings = {
        "mlp-sam": {"model": "mlp", "optimizer": "sam", "model_options": {"hidden": [16]}},
        "cnn-rsam": {"model": "cnn", "optimizer": "rsam", "model_options": {"width": 2}},
    }
    for name, own in settings.items():
        Run.start(folder / name, recipe.check(common | own, name)).go()
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_measures_of_two_models(runs, tmp_path):
    before = contents(runs)
    done = command(
        "sharpness", str(runs / "mlp-sam"), str(runs / "cnn-rsam"), *OPTIONS, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert contents(runs) == before
    for text in ("Largest rise of the loss", "mlp-sam", "cnn-rsam", "projected ascent", "rank"):
        assert text in done.stdout
    out = tmp_path / "runs" / "sharpness"
    names = {"flatness.png", "plane.png", "inner.png"}
    for name in names:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    names |= {"sharpness.csv", "sharpness.json", "measured.jsonl"}
    assert {path.name for path in out.iterdir()} == names

    rows = json.loads((out / "sharpness.json").read_text())
    with (out / "sharpness.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(survey.COLUMNS)
    assert [row["measure"] for row in table] == [row["measure"] for row in rows]
    assert float(table[0]["value"]) == rows[0]["value"]
    count = Counter((row["model"], row["measure"]) for row in rows)
    inner = 2 * 2 * (1 + 4 + 3 * 2 + 4)  # batches, radii; maximum, SAM, draws by sigma, ascent
    for model in ("mlp-sam", "cnn-rsam"):
        counts = {name: count[model, name] for name in survey.MEASURES if count[model, name]}
        assert counts == {
            "line": 10,
            "plane": 25,
            "worst": 2,
            "average": 2,
            "stability": 2,
            "hessian": 2,
            "inner": inner,
        }
    shares = [row["value"] for row in rows if row["method"] in ("sam", "ascent")]
    assert all(0 < share <= 1 for share in shares)
    maxima: dict[tuple, float] = {}
    for row in rows:
        if row["measure"] == "inner":
            key = row["model"], row["draw"], row["rho"]
            maximum = maxima.setdefault(key, row["rise"])  # its row is the first
            assert row["value"] == pytest.approx(row["rise"] / maximum)

    # The plane's axes are the first two lines.
    own = [r for r in rows if r["model"] == "cnn-rsam"]
    line = {(r["draw"], r["x"]): r["value"] for r in own if r["measure"] == "line"}
    plane = {(r["x"], r["y"]): r["value"] for r in own if r["measure"] == "plane"}
    for t in (-1, -0.5, 0, 0.5, 1):
        assert plane[t, 0] == pytest.approx(line[0, t])
        assert plane[0, t] == pytest.approx(line[1, t])
    assert line[0, 1] != pytest.approx(line[1, 1])

    # Another subset of the same is taken from what was kept, and says the same.
    again = called(
        *("sharpness", str(runs / "mlp-sam"), *OPTIONS),
        *("--measure", "worst", "--measure", "line"),
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    same = [r for r in rows if r["model"] == "mlp-sam" and r["measure"] in ("worst", "line")]
    assert json.loads((out / "sharpness.json").read_text()) == same


NAMED = [name for name in survey.MEASURES if name not in survey.USUAL]


def test_measures_that_must_be_named(runs, tmp_path):
    asked = [
        part for name in ("hessian", "average", "worst", *NAMED) for part in ("--measure", name)
    ]
    done = command(
        *("sharpness", str(runs / "mlp-sam"), str(runs / "cnn-rsam"), *OPTIONS, *asked),
        *("--lowest", "1", "--probes", "4", "--parts", "3"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for text in ("Trace of the Hessian", "fisher trace", "0.01 quadratic", "1 largest", "-1"):
        assert text in done.stdout
    out = tmp_path / "runs" / "sharpness"
    for name in ("flatness.png", "eigenplane.png", "layers.png", "ascents.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    if find_spec("plotly"):
        pages = [(out / f"ascents-{i}.html").read_text(encoding="utf-8") for i in (1, 2)]
        assert ["mlp-sam" in page for page in pages] == [True, False]
    else:
        assert "pip install 'rsam-ref[view]'" in done.stdout
    rows = json.loads((out / "sharpness.json").read_text())
    for model, layers in (("mlp-sam", ["1", "3"]), ("cnn-rsam", ["0", "3", "7"])):
        own = {
            name: [r for r in rows if (r["model"], r["measure"]) == (model, name)]
            for name in survey.MEASURES
        }
        hessian = {r["x"]: r for r in own["hessian"]}
        assert list(hessian) == [1, 2, -1]
        for row in hessian.values():
            assert row["low"] < row["value"] < row["high"]
            assert row["sample_low"] < row["value"] < row["sample_high"]
        whole, *shares = own["trace"]
        assert [r["part"] for r in shares] == layers
        assert sum(r["value"] for r in shares) == pytest.approx(whole["value"])
        assert [(r["part"], r["x"]) for r in own["layers"]] == [
            (layer, x) for layer in layers for x in (1, -1)
        ]
        for row in own["layers"]:  # Cauchy's interlacing
            assert hessian[-1]["low"] <= row["value"] <= hessian[1]["high"]
        assert sum(r["value"] for r in own["density"]) * (
            own["density"][1]["x"] - own["density"][0]["x"]
        ) == pytest.approx(1, rel=0.01)
        traces = {r["method"]: r for r in own["gauss-newton"] if r["x"] == 0}
        assert list(traces) == ["hessian", "gauss-newton", "fisher"]
        assert traces["hessian"]["value"] == whole["value"]
        assert traces["fisher"]["low"] == traces["fisher"]["high"]
        assert traces["fisher"]["sample_low"] < traces["fisher"]["value"]
        # with ReLU both have one trace
        assert whole["low"] < traces["gauss-newton"]["value"] < whole["high"]
        assert len(own["eigenplane"]) == 25
        kinks = {(r["method"], r["sigma"]): r["value"] for r in own["kinks"]}
        for row in own["average"]:
            assert kinks["rise", row["sigma"]] == row["value"]
            beyond = kinks["rise", row["sigma"]] - kinks["quadratic", row["sigma"]]
            assert kinks["beyond", row["sigma"]] == pytest.approx(beyond)
        for part, all_of in zip(own["m-sharpness"], own["worst"], strict=True):
            assert part["value"] > 0.9 * all_of["value"]
        ends = {r["method"]: r for r in own["ascents"] if r["method"]}  # the last of each path
        assert {(r["rho"], r["sigma"]) for r in own["ascents"]} == {(0.05, 0.001)}
        assert (ends["sam"]["x"], ends["sam"]["y"]) == pytest.approx((1, 0))
        assert ends["rsam"]["x"] ** 2 + ends["rsam"]["y"] ** 2 == pytest.approx(1)
        middle = [r for r in own["ascents"] if not r["method"] and r["x"] == r["y"] == 0]
        starts = [r for r in own["ascents"] if r["method"] and r["draw"] == 0]
        assert len({r["value"] for r in middle + starts}) == 1


def test_tables_too_wide_for_the_console_are_several(monkeypatch):
    empty = dict.fromkeys(survey.COLUMNS) | {"measure": "hessian", "x": 1}
    numbers = {"value": -0.12345, "low": -0.2, "high": -0.1}
    numbers |= {"sample_low": -0.123, "sample_high": -0.0456}
    rows = [empty | numbers | {"model": f"model-{i}"} for i in range(5)]
    monkeypatch.setattr(cli_sharpness.console, "width", 90)
    tables = list(cli_sharpness._tables(rows, "rank", "Eigenvalues"))
    assert [len(table.columns) - 1 for table in tables] == [2, 2, 1]
    monkeypatch.setattr(cli_sharpness.console, "width", 300)
    [table] = cli_sharpness._tables(rows, "rank", "Eigenvalues")
    assert len(table.columns) == 6


def test_layers_stand_in_their_order():
    empty = dict.fromkeys(survey.COLUMNS) | {"measure": "trace", "low": 0.0, "high": 3.0}
    rows = [
        empty | {"model": model, "part": part, "value": value}
        for model in "mn"
        for part, value in ((None, 3.0), ("0", 1.0), ("3", 2.0))
    ]
    axes = plot_sharpness.layers_figure(rows).axes
    assert len(axes) == 1
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["all", "0", "3"]
    drawn: Any = axes[0].containers
    assert [list(c.lines[0].get_xdata()) for c in drawn] == [[3.0, 1.0, 2.0]] * 2
    assert [list(c.lines[0].get_ydata()) for c in drawn] == [[0, 1, 2]] * 2


def test_many_classes_are_estimated_and_few_are_exact(runs):
    trained = load_trained(runs / "mlp-sam", dtype="float64")
    found = {}
    for probes in (3, 4):  # 9 products for 10 classes, and 12
        settings = survey.SurveySettings(samples=60, probes=probes, eigenvalues=1)
        rows = list(survey.survey("gauss-newton", survey.Subject(trained, settings)))
        found[probes] = {row["method"]: row for row in rows if row["x"] == 0}
    for method in ("gauss-newton", "fisher"):
        estimate, exact = found[3][method], found[4][method]
        assert estimate["low"] < exact["value"] < estimate["high"]
        assert estimate["sample_low"] is None
        assert exact["sample_low"] < exact["value"]


def test_gauss_newton_is_for_cross_entropy(runs, tmp_path):
    settings = {"limit": 100, "epochs": 1, "loss": "sigmoid", "model": "mlp"}
    Run.start(tmp_path / "sigmoid", recipe.check(settings, "sigmoid")).go()
    done = called("sharpness", str(tmp_path / "sigmoid"), "--measure", "gauss-newton", cwd=tmp_path)
    assert done.returncode == 2
    assert "was trained by sigmoid: name other measures" in done.stderr
    with pytest.raises(ValueError, match="gauss-newton is for networks trained by cross-entropy"):
        survey.Subject(load_trained(tmp_path / "sigmoid"), survey.SurveySettings()).outputs()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rho", "-1"], 2, "rho is a radius and must be a finite number >= 0"),
        (["--sigma", "nan"], 2, "sigma scales the noise and must be"),
        (["--lam", "0"], 2, "lam weighs the gradient"),
        (["--measure", "flatness"], 2, "unknown measure 'flatness'; there are line, plane, worst"),
        (["--points", "1"], 2, "a line needs at least 2 points, not 1"),
        (["--steps", "5", "--measure", "inner"], 2, "--steps 5: inner compares ascents of up to"),
        (["--steps", "0"], 2, "steps must be at least 1, not 0"),
        (["--samples", "0"], 2, "samples must be at least 1"),
        (["--extent", "inf"], 2, "extent must be a finite number > 0"),
        (["--seed", "-1"], 2, "a seed must be a whole number >= 0, not -1"),
        (["--dtype", "float16"], 2, "--dtype is float32 or float64, not float16"),
        (["--eigenvalues", "99999999"], 1, "k counts eigenvalues, 1 to the 1210 weights"),
        (["--lowest", "-1"], 2, "lowest must be at least 0, not -1"),
        (["--probes", "1"], 2, "an interval needs at least 2 probes, not 1"),
        (["--parts", "0"], 2, "parts must be at least 1, not 0"),
        (["--out", "/dev/null/x"], 1, "Not a directory"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(runs, tmp_path, arguments, code, message):
    measure = ["--measure", "hessian"] if "--measure" not in arguments else []
    done = called("sharpness", str(runs / "mlp-sam"), *measure, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("rsam-ref: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_diverged_model_can_be_measured(runs, tmp_path):
    """What is not finite is left out of tables and figures."""
    shutil.copytree(runs / "mlp-sam", tmp_path / "mlp-sam")
    model = tmp_path / "mlp-sam" / "model.safetensors"
    with safe_open(model, framework="numpy") as file:
        arrays, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
    largest = max(arrays, key=lambda name: arrays[name].size)
    arrays[largest] = arrays[largest] * np.float32(3e37)
    save_file(arrays, model, metadata)
    done = command(
        *("sharpness", str(tmp_path / "mlp-sam"), *OPTIONS, "--dtype", "float32"),
        *("--measure", "inner", "--measure", "worst"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "share of the inner maximum" in done.stdout


def test_steps_are_asked_for_where_they_are_used(runs, tmp_path):
    done = called(
        *("sharpness", str(runs / "mlp-sam"), "--steps", "2", "--restarts", "0"),
        *("--measure", "worst", "--samples", "20"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_checkpoint_is_one_line(tmp_path):
    done = called("sharpness", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"rsam-ref: {tmp_path}/nowhere: no such file or folder; give a run of rsam-ref train"
    ]


def measured(runs, out, **more):
    cli_sharpness.sharpness([runs / "mlp-sam"], out=out, **QUICK, **more)


def test_what_was_measured_is_kept_at_ctrl_c(runs, tmp_path, monkeypatch, capsys):
    real, calls = survey.MEASURES["average"], []

    def interrupted(subject):
        calls.append(subject)
        yield next(real(subject))
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setitem(survey.MEASURES, "average", interrupted)
    with pytest.raises(typer.Exit) as stop:
        measured(runs, tmp_path, measure=["worst", "average", "hessian"])
    assert stop.value.exit_code == 130
    assert "run the same command to go on" in capsys.readouterr().err
    rows = json.loads((tmp_path / "sharpness.json").read_text())
    assert [row["measure"] for row in rows] == ["worst", "worst", "average"]
    assert (tmp_path / "flatness.png").exists()

    worst = lambda subject: pytest.fail("worst was measured already")
    monkeypatch.setitem(survey.MEASURES, "worst", worst)
    monkeypatch.setitem(survey.MEASURES, "average", real)
    measured(runs, tmp_path, measure=["worst", "average", "hessian"])
    again = json.loads((tmp_path / "sharpness.json").read_text())
    assert [row["measure"] for row in again] == [
        m for m in ("worst", "average", "hessian") for _ in "12"
    ]
    assert again[:3] == rows


def test_ctrl_c_for_real(runs, tmp_path):
    arguments = ["--measure", "line", "--measure", "plane", "--points", "2001", "--samples", "9"]
    arguments += ["--directions", "1", "--out", str(tmp_path)]
    outputs = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    process = started("sharpness", runs / "cnn-rsam", *arguments, **outputs)
    kept = tmp_path / "measured.jsonl"
    while process.poll() is None and not kept.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # the plane of 4 million points is under way
    try:
        message = process.communicate(timeout=300)[1]  # for one that hangs
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in message
    assert (tmp_path / "sharpness.csv").exists()


def test_other_settings_or_weights_are_measured_anew(runs, tmp_path):
    measured(runs, tmp_path, measure=["worst"])
    first = (tmp_path / "measured.jsonl").read_text()
    measured(runs, tmp_path, measure=["worst"])
    assert (tmp_path / "measured.jsonl").read_text() == first
    measured(runs, tmp_path, measure=["worst"], seed=1)
    assert len((tmp_path / "measured.jsonl").read_text().splitlines()) == 2
    measured(runs, tmp_path, measure=["worst"], dtype="float32")
    assert len((tmp_path / "measured.jsonl").read_text().splitlines()) == 3
    cli_sharpness.sharpness(
        [runs / "mlp-sam"], out=tmp_path, measure=["worst"], **(QUICK | {"draws": 7})
    )
    assert len((tmp_path / "measured.jsonl").read_text().splitlines()) == 3
    cli_sharpness.sharpness(
        [runs / "mlp-sam"], out=tmp_path, measure=["worst"], **(QUICK | {"rho": [0.3]})
    )
    assert len((tmp_path / "measured.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("measure", survey.MEASURES)
def test_a_measure_uses_the_settings_that_it_says(runs, measure):
    asked = set()

    class Watched(survey.SurveySettings):
        def __getattribute__(self, name):
            if name in survey.SurveySettings.__dataclass_fields__:
                asked.add(name)
            return super().__getattribute__(name)

    few = {"rhos": (0.1,), "sigmas": (1e-3,), "draws": 1, "points": 2, "steps": 10, "restarts": 0}
    settings = Watched(**few, samples=20, batches=1, directions=1, eigenvalues=1)
    asked.clear()
    list(survey.survey(measure, survey.Subject(load_trained(runs / "mlp-sam"), settings)))
    assert asked == {"seed", *survey.USES[measure]}


def test_a_line_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "measured.jsonl"
    Kept(path).add("a", [{"value": float("nan")}])
    path.write_text(path.read_text() + '{"fingerprint": "b", "ro')
    kept = Kept(path)
    assert kept.get("a") == [{"value": None}]
    assert kept.get("b") is None
    kept.add("c", [{"value": 1.0}])
    again = Kept(path)
    assert (again.get("a"), again.get("c")) == ([{"value": None}], [{"value": 1.0}])


def test_losses_that_are_not_finite_leave_gaps_in_the_figures():
    empty = dict.fromkeys(survey.COLUMNS) | {"model": "m"}
    grid = [-1.0, 0.0, 1.0]
    line = [
        empty | {"measure": "line", "draw": 0, "x": x, "value": None if x == 1 else x * x}
        for x in grid
    ]
    plane = [
        empty | {"measure": "plane", "x": x, "y": y, "value": None if x == y == 1 else 1 + x * y}
        for y in grid
        for x in grid
    ]
    axes = plot_sharpness.flatness_figure(line).axes[0]
    assert all(list(drawn.get_xdata()) == [-1.0, 0.0] for drawn in axes.get_lines())
    assert len(plot_sharpness.plane_figure(plane).axes) == 2
    assert len(plot_sharpness.plane_figure(plane[:4]).axes) == 1  # one whole row: no contours yet


@pytest.mark.parametrize(("steepest", "scale"), [(19.0, "linear"), (21.0, "log")])
def test_steep_walls_do_not_hide_the_floor(steepest, scale):
    empty = dict.fromkeys(survey.COLUMNS) | {"model": "m", "measure": "line", "draw": 0}
    rows = [empty | {"x": x, "value": value} for x, value in ((0.0, 1.0), (1.0, steepest))]
    assert plot_sharpness.flatness_figure(rows).axes[0].get_yscale() == scale


def test_figures_show_what_they_are_given():
    empty = dict.fromkeys(survey.COLUMNS) | {"measure": "inner", "sigma": None}
    rows = [
        empty | {"model": "m", "draw": i, "rho": rho, "method": method, "gradients": k, "value": v}
        for i in range(3)
        for rho in (0.1, 0.2)
        for method, k, v in (("sam", 1, 0.8 + 0.1 * i), ("ascent", 5, 1.0))
    ]
    own = [row for row in rows if row["method"] == "sam"]
    rows += [
        row | {"method": "rsam", "sigma": s, "value": 1 - s} for row in own for s in (0.2, 0.4, 0.8)
    ]
    axes = plot_sharpness.inner_figure(rows).axes[0]
    drawn: Any = axes.containers
    heights = {c.get_label(): list(c.lines[0].get_ydata()) for c in drawn}
    np.testing.assert_allclose(heights["SAM, 1 gradient"], [90, 90])
    np.testing.assert_allclose(heights["projected ascent, 5 gradients"], [100, 100])
    np.testing.assert_allclose(heights["R-SAM, 1 gradient, sigma 0.4"], [60, 60])
    np.testing.assert_allclose(heights["R-SAM, 1 gradient, sigma 0.8"], [20, 20])
    assert "R-SAM, 1 gradient, sigma 0.2" not in heights


# Reading a trained model back


def test_a_model_is_read_from_a_run_a_model_or_a_checkpoint(runs):
    folder = runs / "cnn-rsam"
    state = load_file(folder / "model.safetensors")
    from_run = load_trained(folder)
    assert from_run.path == folder / "model.safetensors"
    assert from_run.step is None
    assert from_run.recipe.optimizer == "rsam"
    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    from_checkpoint = load_trained(checkpoint, dtype="float64")
    assert from_checkpoint.step == 2 * 4
    for trained in (from_run, load_trained(folder / "model.safetensors"), from_checkpoint):
        assert len(trained.data.train) == 200
        for name, array in trained.model.state_dict().items():
            np.testing.assert_array_equal(array, state[name])
    assert from_run.model.weights.flat.dtype == "float32"
    assert from_checkpoint.model.weights.flat.dtype == "float64"


def test_a_model_in_bfloat16_is_read(runs, tmp_path):
    folder = shutil.copytree(runs / "mlp-sam", tmp_path / "run")
    torch_files = pytest.importorskip("safetensors.torch")
    state = torch_files.load_file(folder / "model.safetensors")
    halves = {name: value.bfloat16() for name, value in state.items()}
    torch_files.save_file(halves, folder / "model.safetensors")
    for name, array in load_trained(folder).model.state_dict().items():
        np.testing.assert_array_equal(array, halves[name].float().numpy())


def test_a_run_under_way_is_read_from_its_newest_checkpoint(runs, tmp_path):
    folder = shutil.copytree(runs / "mlp-sam", tmp_path / "run")
    (folder / "model.safetensors").unlink()
    assert load_trained(folder).step == 8
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(DataError, match=r"has no trained model and no checkpoint yet"):
        load_trained(folder)


def test_what_cannot_be_read_says_why(runs, tmp_path):
    folder = shutil.copytree(runs / "mlp-sam", tmp_path / "run")
    model = folder / "model.safetensors"
    whole = model.read_bytes()

    lonely = tmp_path / "alone" / "model.safetensors"
    lonely.parent.mkdir()
    lonely.write_bytes(whole)
    with pytest.raises(DataError, match=r"no recipe\.toml beside it or above it"):
        load_trained(lonely)
    with pytest.raises(DataError, match=r"has no recipe\.toml, so it is no run"):
        load_trained(lonely.parent)

    model.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"is damaged, or no safetensors file"):
        load_trained(folder)
    state = load_file(runs / "mlp-sam" / "model.safetensors")
    save_file({**state, "5.weight": np.zeros(3)}, model)
    with pytest.raises(DataError, match=r"does not fit mlp: the model has no 5\.weight"):
        load_trained(folder)
    save_file({name: array * np.nan for name, array in state.items()}, model)
    with pytest.raises(DataError, match=r"does not fit mlp: .* not finite"):
        load_trained(folder)

    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    raw = bytearray(checkpoint.read_bytes())
    raw[-1] ^= 1
    checkpoint.write_bytes(raw)
    with pytest.raises(DataError, match=r"is damaged: its contents have the checksum"):
        load_trained(checkpoint)
    assert checkpoint.exists()  # reading does not put it aside

    model.write_bytes(whole)
    described = json.loads((folder / "run.json").read_text())
    described["data"]["fingerprint"] = "0" * 16
    (folder / "run.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"holds other data than .* was trained on"):
        load_trained(folder)
    (folder / "run.json").unlink()
    assert load_trained(folder).step is None


# Networks of PyTorch

NETWORK = """
import torch
from torch import nn


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(*mlp())


ready = mlp()


def smoothed(output, target):
    return nn.functional.cross_entropy(output, target, label_smoothing=0.1)


def batches():
    draws = torch.Generator().manual_seed(0)
    for n in (20, 30, 1000):
        yield torch.randn(n, 1, 8, 8, generator=draws), torch.arange(n) % 10


def dicts():
    return [{"image": x, "label": y} for x, y in batches()]


def called(model, batch):
    return model(batch["image"]), batch["label"]


def broken():
    raise OSError("no such\\nnetwork")


def needs(width):
    return mlp()


number = 3


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


def once(output, target):
    return nn.functional.cross_entropy(Once.apply(output), target)
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A folder with net.py, where the test is."""
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(folder):
    return json.loads((folder / "sharpness.json").read_text())


def test_a_network_is_measured_as_the_run_with_the_same_weights(runs, network):
    measures = [f"--measure={m}" for m in survey.MEASURES if m != "hessian"]
    run = load_trained(runs / "mlp-sam")
    given = runs / "mlp-sam" / "model.safetensors"
    data = ["--data", "digits", "--batch-size", "64"]
    done = called("sharpness", str(runs / "mlp-sam"), *OPTIONS, *measures, "--out", "ours")
    assert done.returncode == 0, done.stdout
    done = called(
        "sharpness", "net.py:mlp", "--weights", str(given), *data, *OPTIONS, *measures, "--out", "t"
    )
    assert done.returncode == 0, done.stdout
    assert len(run.data.train) == 200  # of 1,347: other samples, so other numbers, of equal kind
    ours, theirs = rows_of(network / "ours"), rows_of(network / "t")
    assert {row["model"] for row in theirs} == {"model"}
    alike = ("measure", "method", "draw", "rho", "sigma", "gradients", "x", "y")
    told = [
        [tuple(r[c] for c in alike) for r in rows if r["measure"] in survey.USUAL]
        for rows in (ours, theirs)
    ]
    assert told[0] == told[1]
    counts = [
        Counter((r["measure"], r["method"], r["part"]) for r in rows) for rows in (ours, theirs)
    ]
    assert counts[0] == counts[1]
    assert all(row["value"] is not None for row in theirs)


def test_a_network_stands_beside_a_run_in_tables_and_figures(runs, network):
    before = contents(runs)
    done = called(
        *("sharpness", str(runs / "mlp-sam"), "net.py:Mlp", "net.py:ready", *OPTIONS),
        *("--batches-from", "batches", "--loss", "smoothed", "--out", "out"),
    )
    assert done.returncode == 0, done.stdout
    assert contents(runs) == before
    out = network / "out"
    assert {row["model"] for row in rows_of(out)} == {"mlp-sam", "Mlp", "ready"}
    for name in ("flatness.png", "plane.png", "inner.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    for text in ("Largest rise of the loss", "mlp-sam", "Mlp", "ready"):
        assert text in done.stdout


def test_a_network_is_measured_once_and_again_when_anything_changes(network):
    def measured(*more, files=("a.npz", "b.npz")):
        weights = [part for name in files for part in ("--weights", name)]
        done = called(
            *("sharpness", "net.py:mlp", *weights, *QUICKER, "--out", "out", *more),
        )
        assert done.returncode == 0, done.stdout
        lines = (network / "out" / "measured.jsonl").read_text().splitlines()
        measures = [line for line in lines if '"value"' in line]  # the others are plans
        return len(measures), rows_of(network / "out")

    for i, name in enumerate(("a", "b")):
        write_weights(network / f"{name}.npz", i)
    common = ("--batches-from", "batches")
    count, rows = measured(*common)
    assert count == 2
    assert [row["model"] for row in rows] == ["a", "b"]
    assert measured(*common) == (2, rows)  # nothing anew
    write_weights(network / "b.npz", 2)
    count, others = measured(*common)
    assert count == 3
    assert others[0] == rows[0]
    assert others[1]["value"] != rows[1]["value"]
    assert measured(*common, "--loss", "smoothed")[0] == 5
    assert measured("--data", "digits")[0] == 7
    assert measured(*common, "--draws", "5")[0] == 7  # no setting of this measure
    done = measured("--batches-from", "dicts", "--forward", "called")
    assert done == (7, others)  # the same batches, in another form


QUICKER = ["--measure", "worst", "--rho", "0.1", "--steps", "3", "--restarts", "0"]


def write_weights(path, seed):
    rng = np.random.default_rng(seed)
    shapes = {"1.weight": (16, 64), "1.bias": (16,), "3.weight": (10, 16), "3.bias": (10,)}
    np.savez(path, **{f"module.{n}": rng.normal(size=s) / 8 for n, s in shapes.items()})


def test_whole_batches_are_taken_until_there_are_enough_samples(network):
    from rsam_ref.commands.networks import Asked, load_networks

    asked = Asked([], None, "batches", None, None, 128, "float64")
    for samples, taken in ((1, 1), (20, 1), (21, 2), (51, 3)):
        settings = survey.SurveySettings(samples=samples)
        [network] = load_networks(["net.py:mlp"], asked, settings)
        assert len(network.evaluation) == taken


WRONG = {
    "no data": (["net.py:mlp"], 2, "say what net.py:mlp is measured on"),
    "data twice": (
        ["net.py:mlp", "--data", "digits", "--batches-from", "batches"],
        2,
        "say what net.py:mlp is measured on",
    ),
    "options of a run": (["somewhere", "--data", "digits"], 2, "--data is for a network"),
    "two and one weights": (
        ["net.py:mlp", "net.py:Mlp", "--weights", "a.npz", "--data", "digits"],
        2,
        "2 networks and 1 --weights",
    ),
    "no such name": (["net.py:cnn", "--data", "digits"], 1, "net.py has no 'cnn'"),
    "no such file": (["gone.py:cnn", "--data", "digits"], 1, "there is no file gone.py"),
    "a function that fails": (
        ["net.py:broken", "--data", "digits"],
        1,
        "net.py:broken could not be called without arguments: OSError: no such network",
    ),
    "a function with arguments": (
        ["net.py:needs", "--data", "digits"],
        1,
        "missing 1 required positional argument: 'width'",
    ),
    "no model": (["net.py:dicts", "--data", "digits"], 1, "gives a list, not a torch.nn.Module"),
    "other batches": (
        ["net.py:mlp", "--batches-from", "number"],
        1,
        "number is an int: give a loader",
    ),
    "no pairs": (["net.py:mlp", "--batches-from", "dicts"], 1, "a batch is a dict"),
    "no such weights": (
        ["net.py:mlp", "--data", "digits", "--weights", "gone.npz"],
        1,
        "gone.npz: no such file",
    ),
    "a pickle": (
        ["net.py:mlp", "--data", "digits", "--weights", "own.pt"],
        1,
        "own.pt: is a file of PyTorch's own",
    ),
    "weights of another": (
        ["net.py:mlp", "--data", "digits", "--weights", "other.npz"],
        1,
        "other.npz: does not fit the model: it has no 1.weight and has weight besides",
    ),
    "another shape": (
        ["net.py:mlp", "--batches-from", "torch:zeros"],
        1,
        "torch:zeros could not be called without arguments",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_network_is_one_line(network, wrong):
    options, code, says = WRONG[wrong]
    torch.save({"1.weight": torch.ones(16, 64)}, network / "own.pt")
    np.savez(network / "other.npz", weight=np.ones(3))
    done = called("sharpness", *options, *QUICKER, cwd=network)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_measure_that_a_network_cannot_take_leaves_the_others(network):
    done = command(
        *("sharpness", "net.py:mlp", "--batches-from", "batches", "--loss", "once", *QUICKER),
        *("--measure", "hessian", "--out", "out"),
        cwd=network,
    )
    assert done.returncode == 1
    assert "mlp hessian: a function is marked once_differentiable" in done.stderr
    assert {row["measure"] for row in rows_of(network / "out")} == {"worst"}
