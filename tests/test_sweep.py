"""Sweeps: what is typed becomes a plan, runs are ordinary ones, and validation alone chooses."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from rsam_ref.data import digits
from rsam_ref.figures import save
from rsam_ref.training.sweeps import outcome, varied
from rsam_ref.training.sweeps.picture import sweep_figure
from rsam_ref.training.sweeps.plan import make
from tests.helpers.commands import called, command, started

TINY = {"model": "mlp", "model_options": {"hidden": [8]}, "epochs": 1, "batch_size": 256}


def plan_of(*texts, seeds=2, settings=TINY, **options):
    return make(settings, varied.read(list(texts)), seeds=seeds, **options)


def labels(plan):
    return [setting.label for setting in plan.settings]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    lines = ['model = "mlp"', "epochs = 2", "batch_size = 256", "model_options.hidden = [8]"]
    path.write_text("\n".join(lines))
    return path


def rows(folder):
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


# What is varied


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("rho=0.05,0.1", (0.05, 0.1)),
        ("optimizer=sgd, sam", ("sgd", "sam")),
        ('optimizer="sgd","sam"', ("sgd", "sam")),
        ("betas=[0.9,0.99],[0.8,0.9]", ([0.9, 0.99], [0.8, 0.9])),
        ("nesterov=true,false", (True, False)),
        ("clip_norm=none,1.0", (None, 1.0)),
        ("augment=none,flip", ("none", "flip")),
        ("model_options.width=4,8", (4, 8)),
    ],
)
def test_values_are_read_as_they_are_typed(text, values):
    (one,) = varied.read([text])
    assert one.values == values
    assert one.name == text.partition("=")[0]


def test_ranges_are_of_whole_numbers_where_the_setting_is():
    rate, batch = (varied.read([t])[0].range for t in ("lr=1e-3:0.1:log", "batch_size=16:256"))
    assert (rate.low, rate.high, rate.log, rate.whole) == (0.001, 0.1, True, False)
    assert (batch.log, batch.whole) == (False, True)
    assert varied.read(["limit=10:20"])[0].range.whole
    assert not varied.read(["lr=0:1"])[0].range.whole


def test_a_grid_has_every_combination_once_and_drops_what_means_nothing():
    plan = plan_of("optimizer=sgd,sam,rsam", "rho=0.1,0.2,0.2", "lr=0.1,0.3")
    assert labels(plan) == [
        *("sgd, lr 0.1", "sgd, lr 0.3"),
        *("sam, rho 0.1, lr 0.1", "sam, rho 0.1, lr 0.3"),
        *("sam, rho 0.2, lr 0.1", "sam, rho 0.2, lr 0.3"),
        *("rsam, rho 0.1, lr 0.1", "rsam, rho 0.1, lr 0.3"),
        *("rsam, rho 0.2, lr 0.1", "rsam, rho 0.2, lr 0.3"),
    ]
    assert [len(group) for group in plan.groups] == [2, 4, 4]
    assert len({run.name for run in plan.runs}) == len(plan.runs) == 20
    assert [run.recipe.seed for run in plan.runs] == [0] * 10 + [1] * 10


def test_a_method_may_have_values_of_its_own():
    plan = plan_of("optimizer=sgd,sam", "sgd:lr=0.01,0.02", "sam:rho=0.1,0.2", "lr=0.3")
    assert labels(plan) == [
        *("sgd, lr 0.01", "sgd, lr 0.02"),
        *("sam, rho 0.1, lr 0.3", "sam, rho 0.2, lr 0.3"),
    ]


def test_an_option_is_varied_for_the_methods_that_have_it():
    texts = "optimizer=sam,gsam", "optimizer_options.alpha=0.1,0.4"
    assert labels(plan_of(*texts)) == [
        "sam",
        "gsam, optimizer_options.alpha 0.1",
        "gsam, optimizer_options.alpha 0.4",
    ]
    with pytest.raises(ValueError, match="alpha is no option of sam"):
        plan_of("optimizer=sam,rsam", "optimizer_options.alpha=0.1,0.4")
    with pytest.raises(ValueError, match="alpha is no option of sam"):
        plan_of("optimizer=sam,gsam", "sam:optimizer_options.alpha=0.1,0.4")


def test_one_value_overrides_the_recipe():
    plan = plan_of("epochs=3", "rho=0.1,0.2")
    assert {setting.recipe.epochs for setting in plan.settings} == {3}
    assert labels(plan) == ["rho 0.1", "rho 0.2"]


def test_options_go_with_their_model():
    plan = plan_of("model=mlp,cnn", settings={**TINY, "epochs": 1})
    assert [s.recipe.model_options for s in plan.settings] == [{"hidden": [8]}, {}]
    plan = plan_of("model_options.hidden=[4],[8,8]")
    assert [s.recipe.model_options for s in plan.settings] == [{"hidden": [4]}, {"hidden": [8, 8]}]
    assert len({run.name for run in plan.runs}) == 4


def test_draws_are_the_same_for_every_method_and_the_first_of_more():
    texts = "optimizer=sam,rsam", "rho=0.01:1:log", "lr=0.05,0.1"
    few, more = plan_of(*texts, random=3), plan_of(*texts, random=6)

    def drawn(plan, method):
        return [(s.recipe.rho, s.recipe.lr) for s in plan.settings if s.method == method]

    assert len(set(drawn(few, "sam"))) == 3
    assert drawn(few, "sam") == drawn(few, "rsam") == drawn(more, "sam")[:3]
    values = [s.recipe.rho for s in more.settings]
    assert all(0.01 <= value <= 1 for value in values)
    assert {float(f"{value:.3g}") for value in values} == set(values)
    assert plan_of(*texts, random=3, settings={**TINY, "seed": 1}).settings != few.settings


def test_a_problem_is_posed_and_not_chosen():
    plan = plan_of("label_noise=0.0,0.4", "optimizer=sgd,sam", "rho=0.1,0.2")
    assert [(g[0].posed, g[0].method, len(g)) for g in plan.groups] == [
        ({"label_noise": 0.0}, "sgd", 1),
        ({"label_noise": 0.4}, "sgd", 1),
        ({"label_noise": 0.0}, "sam", 2),
        ({"label_noise": 0.4}, "sam", 2),
    ]


def test_samples_are_held_out_where_there_is_something_to_choose():
    assert plan_of("rho=0.1,0.2").validation == 0.2
    assert plan_of("rho=0.1,0.2", validation=0.3).validation == 0.3
    assert plan_of("rho=0.1,0.2", settings={**TINY, "validation": 0.1}).validation == 0.1
    assert plan_of("optimizer=sgd,sam").validation == 0
    with pytest.raises(ValueError, match="leaves nothing to choose among 2 settings of rsam by"):
        plan_of("rho=0.1,0.2", validation=0.0)


def test_folders_have_names_of_their_own_whatever_the_values():
    names = {
        run.name
        for texts in (
            ("rho=0.1,0.10000001",),
            ("loss=cross-entropy,sigmoid",),
            ("clip_norm=none,1",),
        )
        for run in plan_of(*texts, seeds=1).runs
    }
    assert len(names) == 6
    assert all("/" not in name and " " not in name and len(name) < 100 for name in names)


MISTAKES = {
    "no value": (["--set", "rho="], "write it as NAME=VALUE,VALUE"),
    "no name": (["--set", "0.1,0.2"], "write it as NAME=VALUE,VALUE"),
    "a comma for a point": (["--set", "rho=0,05"], "input should be a valid number"),
    "unknown": (["--set", "roh=0.1,0.2"], "unknown setting roh (did you mean rho?)"),
    "of the wrong type": (["--set", "epochs=2,x"], "epochs = 'x': input should be a valid integer"),
    "out of bounds": (["--set", "rho=0.1,-1"], "rho = -1: input should be greater than or equal"),
    "an unknown method": (["--set", "optimizer=sgd,sma"], "(did you mean sam?)"),
    "of an unknown method": (["--set", "sma:rho=0.1"], "no method 'sma' (did you mean sam?)"),
    "of an absent method": (["--set", "sam:rho=1"], "sam is not among the methods of this sweep"),
    "twice": (["--set", "rho=0.1", "--set", "rho=0.2"], "--set rho is given twice"),
    "the seed": (["--set", "seed=1,2"], "--seeds 5"),
    "what is held out": (["--set", "validation=0.1,0.2"], "--validation"),
    "what decides nothing": (["--set", "log_every=1,2"], "log_every decides no number"),
    "what means nothing": (["--set", "eta=0.1,0.2"], "eta means nothing to rsam"),
    "a range on a grid": (["--set", "rho=0.1:1"], "give --random N, or list the values"),
    "a range downwards": (["--set", "rho=1:0.1", "--random", "2"], "lower to the higher"),
    "ratios from 0": (["--set", "rho=0:1:log", "--random", "2"], "begins above 0"),
    "a range of words": (["--set", "model=1:2", "--random", "2"], "model is no number"),
    "draws from nothing": (["--random", "2"], "say from what"),
    "no draws": (["--set", "rho=0.1:1", "--random", "0"], "--random must be at least 1"),
    "no seeds": (["--seeds", "0"], "--seeds must be at least 1"),
    "parts of no table": (["--set", "model.width=1"], "model_options.width=8,16"),
    "no such option": (["--set", "model_options.width=1,2"], "mlp has no option 'width'"),
    "a longer rise than the run": (["--set", "warmup_steps=0,99"], "but the run has"),
    "no choice": (["--set", "rho=0.1,0.2", "--validation", "0"], "leaves nothing to choose"),
    "no share": (["--validation", "1"], "--validation is a share from 0"),
    "no cluster": (["--cluster", "here"], "write tcp://HOST:PORT, or local"),
    "too many": ([f"--set={n}={','.join(map(str, range(1, 60)))}" for n in ("rho", "lr", "sigma")],
                 "combinations: draw some"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_before_the_first_run(recipe, tmp_path, mistake):
    options, says = MISTAKES[mistake]
    done = called("sweep", recipe, *options, "--out", tmp_path / "s")
    assert says in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "s").exists()


def test_a_mistake_in_one_of_many_combinations_names_it(recipe, tmp_path):
    done = called("sweep", recipe, "--set", "optimizer=sam,m-sam", "--set", "accumulate=1,2")
    assert done.returncode == 2
    assert (
        "--set optimizer=m-sam --set accumulate=1: m-sam takes every mini-batch in" in done.stderr
    )


# Runs


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two methods, carried out by the command."""
    folder = tmp_path_factory.mktemp("swept")
    path = folder / "tiny.toml"
    path.write_text('model = "mlp"\nepochs = 2\nbatch_size = 256\nmodel_options.hidden = [8]')
    arguments = ["sweep", path, "--set", "optimizer=sgd,rsam", "--set", "rsam:rho=0.05,0.3"]
    arguments += ["--set", "sgd:lr=0.05,1e30", "--seeds", "2", "--jobs", "2", "--out", folder / "s"]
    return arguments, command(*map(str, arguments)), folder / "s"


def test_the_command_chooses_by_validation_and_tests_the_chosen_alone(swept):
    _, done, folder = swept
    assert done.returncode == 0, done.stderr
    assert "8 runs of mlp: 4 settings x 2 seeds" in done.stdout
    assert "1,077 samples to train on, 270 held out to choose by, 450 to test" in done.stdout
    results = json.loads((folder / "results.json").read_text())
    by_method = {c["method"]: c for c in results["chosen"]}
    assert by_method["sgd"]["tuned"] == {"lr": 0.05}  # the other one diverged
    settings = {json.dumps(s["values"]): s for s in results["settings"]}
    rates = [s["validation_accuracy"] for s in settings.values() if s["method"] == "rsam"]
    best = max(range(2), key=lambda i: rates[i]["mean"])
    assert by_method["rsam"]["tuned"] == {"rho": (0.05, 0.3)[best]}
    assert settings['{"optimizer": "sgd", "lr": 1e+30}']["diverged"] == 2
    looked_at = {path.parent.name for path in folder.glob("*/tested.json")}
    assert looked_at == {row["run"] for row in rows(folder) if row["test_accuracy"]}
    assert len(looked_at) == 4
    assert (folder / "sweep.png").stat().st_size > 10_000


def test_the_figures_are_those_of_the_runs(swept):
    _, _, folder = swept
    results = json.loads((folder / "results.json").read_text())
    table = rows(folder)
    assert len(table) == len({row["run"] for row in table}) == 8
    for row in table:
        told = (folder / row["run"] / "metrics.jsonl").read_text().splitlines()
        if row["diverged"]:
            assert "Lower the learning rate" in row["diverged"]
            continue
        assert float(row["validation_accuracy"]) == json.loads(told[-1])["test_accuracy"]
    (difference,) = results["differences"]
    tests = {
        method: [
            float(r["test_accuracy"]) for r in table if r["method"] == method and r["test_loss"]
        ]
        for method in ("sgd", "rsam")
    }
    pairs = [b - a for a, b in zip(tests["sgd"], tests["rsam"], strict=True)]
    assert difference["mean"] == pytest.approx(sum(pairs) / 2)
    assert (difference["method"], difference["less"]) == ("rsam", "sgd")


def test_its_runs_are_ordinary_ones(swept, tmp_path):
    _, _, folder = swept
    run = folder / "rsam-rho0.05-seed1"
    summary = called("summary", folder, "--save", tmp_path / "runs.csv")
    assert "validation accuracy (%)" in summary.stdout
    assert "Lower the learning rate" in summary.stdout
    assert summary.stdout.count("diverged (step") == 2
    assert "not finished" not in summary.stdout
    (row,) = [
        row
        for row in csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())
        if Path(row["run"]).name == run.name
    ]
    figures = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert float(row["validation_accuracy"]) == figures["test_accuracy"]
    assert "test_accuracy" not in row
    assert (summary.returncode, "rho" in summary.stdout) == (0, True)
    evaluated = called("evaluate", run, "--out", tmp_path / "e")
    tested = json.loads((run / "tested.json").read_text())
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert (evaluated.returncode, found["accuracy"]) == (0, tested["accuracy"])
    resumed = called("train", "--resume", run)
    assert "is finished" in resumed.stdout
    measured = called("sharpness", run, "--measure", "worst", "--samples", "64", "--out", tmp_path)
    assert measured.returncode == 0, measured.stderr


def test_a_run_of_a_sweep_is_that_of_train(swept, recipe, tmp_path):
    _, _, folder = swept
    options = ["--optimizer", "rsam", "--rho", "0.05", "--seed", "1", "--validation", "0.2"]
    done = called("train", recipe, *options, "--out", tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    names = "model.safetensors", "recipe.toml"
    for name in names:
        ours = (folder / "rsam-rho0.05-seed1" / name).read_bytes()
        assert (tmp_path / "alone" / name).read_bytes() == ours


def test_the_same_command_does_nothing_again_and_more_values_keep_the_old_ones(swept):
    arguments, before, folder = swept
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")}
    again = called(*arguments)
    assert "8 of 8 runs were finished before and are kept" in again.stdout
    tables = [text[text.index("   optimizer") :] for text in (again.stdout, before.stdout)]
    assert tables[0] == tables[1]
    more = [str(a).replace("0.05,0.3", "0.05,0.1,0.3") for a in arguments]
    done = called(*more)
    assert "8 of 10 runs were finished before" in done.stdout, done.stderr
    assert len(rows(folder)) == 10
    assert {p: p.stat().st_mtime_ns for p in written} == written


def test_runs_are_known_by_their_settings_and_others_lie_beside_them(recipe, tmp_path):
    def sweep(*options):
        done = called("sweep", recipe, *options, "--jobs", "1", "--seeds", "1", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        kept = re.search(r"(\d+) of (\d+) runs were finished before", done.stdout)
        return kept and kept.groups(), {row["run"] for row in rows(tmp_path)}

    assert sweep("--validation", "0.2") == (None, {"rsam-seed0"})
    # Now rho is varied, and 0.05 is the recipe's; the run keeps the name that it has.
    assert sweep("--set", "rho=0.05,0.1") == (("1", "2"), {"rsam-seed0", "rho0.1-seed0"})
    kept, names = sweep("--set", "rho=0.05,0.1", "--set", "epochs=1")
    assert kept is None
    (other,) = names - {"rho0.05-seed0"}
    assert other.startswith("rho0.1-seed0-")
    assert sweep("--set", "rho=0.05,0.1")[0] == ("2", "2")


def test_data_that_changed_under_a_sweep_are_told(tmp_path):
    images, labels = digits()
    for shift in (0, 1):
        parts = {"x_train": images[:200] + shift, "x_test": images[200:300]}
        np.savez(tmp_path / "d.npz", **parts, y_train=labels[:200], y_test=labels[200:300])
        (tmp_path / "r.toml").write_text(f'data = "{tmp_path}/d.npz"\nmodel = "mlp"\nepochs = 1')
        arguments = ["sweep", tmp_path / "r.toml", "--seeds", "1", "--jobs", "1"]
        done = called(*arguments, "--out", tmp_path / "s")
    assert done.returncode == 2
    assert "d.npz is another than when" in done.stderr


def test_a_sweep_at_work_is_not_disturbed(swept):
    arguments, _, folder = swept
    with FileLock(folder / ".lock"):
        done = called(*arguments)
    assert done.returncode == 1
    assert "another process is at work in" in done.stderr


def test_without_a_choice_nothing_is_held_out(recipe, tmp_path):
    done = called("sweep", recipe, "--seeds", "2", "--jobs", "1", "--out", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert "no samples are held out and every run is tested" in done.stdout
    assert "test accuracy (%)" in done.stdout
    assert "Chosen" not in done.stdout
    assert [row["run"] for row in rows(tmp_path / "s")] == ["rsam-seed0", "rsam-seed1"]
    assert "validation_accuracy" not in rows(tmp_path / "s")[0]
    assert not list((tmp_path / "s").glob("*/tested.json"))


def test_a_dry_run_tells_the_runs_and_makes_none(recipe, tmp_path):
    done = called(
        "sweep", recipe, "--set", "rho=0.1,0.2", "--seeds", "2", "--dry-run", cwd=tmp_path
    )
    told = [line for line in done.stdout.splitlines() if "seed" in line and "/" in line]
    assert told == [f"runs/sweep-tiny/rho{v}-seed{s}" for s in (0, 1) for v in ("0.1", "0.2")]
    assert not (tmp_path / "runs").exists()


OWN = """
from rsam_ref import models

def net(shape, classes, seed, dtype, width=8):
    if seed == 1 and width == 9:
        raise TypeError("no such width tonight")
    own = {"shape": shape, "classes": classes, "seed": seed, "dtype": dtype}
    return models.make_model("mlp", hidden=[width], **own)
"""


def test_a_run_that_fails_does_not_stop_the_others(recipe, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    lines = f'model = "{tmp_path}/mine.py:net"\nepochs = 1\nbatch_size = 512'
    recipe.write_text(lines)
    arguments = ["sweep", recipe, "--set", "model_options.width=8,9", "--seeds", "3", "--jobs", "1"]
    done = called(*arguments, "--out", tmp_path / "s")
    assert done.returncode == 1
    assert "no such width tonight" in done.stderr
    assert "1 of 6 runs failed; the same command tries them again" in done.stderr
    assert "2 of 3" in done.stdout  # seeds of the setting that is not whole
    assert "Chosen" not in done.stdout
    told = " ".join(done.stdout.split())
    assert "Nothing is chosen of rsam: 1 of its 6 runs failed (model_options.width9-seed1: " in told
    reason = told.partition("Nothing is chosen of rsam: ")[2]
    assert "no such width tonight" in reason
    assert "all are needed." in reason
    assert len(rows(tmp_path / "s")) == 5
    (tmp_path / "mine.py").write_text(OWN.replace("== 9", "== 99"))
    done = called(*arguments, "--out", tmp_path / "s")
    assert done.returncode == 2  # what the others were made with is another now
    assert "mine.py is another than when" in done.stderr


def test_damaged_folders_are_told_and_the_others_go_on(recipe, tmp_path):
    arguments = ["sweep", recipe, "--set", "rho=0.05,0.1", "--set", "epochs=1", "--seeds", "1"]
    arguments += ["--jobs", "1", "--out", tmp_path / "s"]
    assert called(*arguments).returncode == 0
    (tmp_path / "s" / "other").mkdir()
    (tmp_path / "s" / "other" / "recipe.toml").write_text("rho = = 1")
    metrics = tmp_path / "s" / "rho0.05-seed0" / "metrics.jsonl"
    metrics.write_text("[1]\n")
    done = called(*[str(a).replace("0.05,0.1", "0.05,0.1,0.2") for a in arguments])
    assert done.returncode == 1
    assert "other is left alone, its recipe cannot be read: " in done.stdout
    assert "metrics.jsonl: is damaged: line 1 is no row of metrics" in done.stderr
    assert "1 of 3 runs failed" in done.stderr
    assert {row["run"] for row in rows(tmp_path / "s")} == {"rho0.1-seed0", "rho0.2-seed0"}
    summary = called("summary", tmp_path / "s")
    assert (summary.returncode, summary.stderr.count("does not count")) == (0, 2)
    assert "rho0.2-seed0" in summary.stdout


def test_from_one_setting_to_two_a_line_says_why_runs_are_done_again(recipe, tmp_path):
    first = ["sweep", recipe, "--seeds", "1", "--jobs", "1", "--out", tmp_path / "s"]
    done = called(*first)
    assert (done.returncode, "again" in done.stdout) == (0, False)
    more = called(*first, "--set", "rho=0.05,0.1", "--dry-run")
    told = "1 of the 2 runs are in {} with no samples held out; now it is a share of 0.2 of the"
    assert told.format(tmp_path / "s") in more.stdout
    assert "they are trained again, and the old ones stay" in more.stdout


def test_a_dry_run_tells_what_is_done_and_what_goes_on(swept, recipe, tmp_path):
    arguments, _, _folder = swept
    done = called(*arguments, "--dry-run")
    states = [line.split("  ")[1] for line in done.stdout.splitlines() if "-seed" in line]
    assert sorted(states) == ["diverged"] * 2 + ["finished"] * 6
    assert "8 of 8 runs are finished and would be kept." in done.stdout
    half = tmp_path / "s" / "rsam-seed0"
    source = called("sweep", recipe, "--seeds", "1", "--jobs", "1", "--out", tmp_path / "s")
    assert source.returncode == 0, source.stderr
    (half / "model.safetensors").unlink()
    again = "sweep", recipe, "--seeds", "1", "--jobs", "1", "--out", tmp_path / "s"
    assert f"{half}  goes on from step 12" in called(*again, "--dry-run").stdout
    done = called(*again)
    assert "1 run was begun before and goes on from the last checkpoint." in done.stdout
    assert done.returncode == 0, done.stderr


def test_the_table_fits_a_narrow_terminal(swept):
    arguments, _, _ = swept
    for width in (80, 60):
        narrow = called(*arguments, COLUMNS=str(width)).stdout.splitlines()
        at = next(i for i, line in enumerate(narrow) if line.split()[:2] == ["setting", "seeds"])
        end = next(i for i, line in enumerate(narrow) if line.startswith("Chosen"))
        table = narrow[at:end]
        assert max(map(len, table)) <= width
        assert sum(line.rstrip().endswith(" s") for line in table) == 4
        assert "sgd, lr" in "".join(table)


COMMAND = ["--set", "rho=0.05,0.1", "--set", "epochs=100", "--set", "checkpoint_every=100000"]
COMMAND += ["--set", "evaluate_every=100", "--set", "batch_size=64", "--seeds", "1", "--jobs", "2"]


def under_way(arguments, folder):
    """A sweep that has begun to train: its process."""
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = started(*arguments, **outputs, start_new_session=True)
    deadline = time.monotonic() + 300
    rows_of = folder / "rho0.05-seed0" / "metrics.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if rows_of.exists() and rows_of.stat().st_size:
            break
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_workers_end_with_the_sweep(recipe, tmp_path, number):
    endless = [str(a).replace("epochs=100", "epochs=100000") for a in COMMAND]
    process = under_way(["sweep", recipe, *endless, "--out", tmp_path / "s"], tmp_path / "s")
    os.kill(process.pid, number)
    try:
        _, errors = process.communicate(
            timeout=300
        )  # when the workers have let go of their outputs
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if number == signal.SIGTERM:
        assert (process.returncode, "run the same command to go on" in errors) == (130, True)
    assert "Traceback" not in errors
    with FileLock(tmp_path / "s" / "rho0.05-seed0" / ".sweep.lock", timeout=300):
        kept = list((tmp_path / "s" / "rho0.05-seed0" / "checkpoints").iterdir())
    assert kept  # written when it was asked to stop: none was due


def test_ctrl_c_keeps_the_runs_under_way_and_the_same_command_ends_with_the_same_bits(
    recipe, tmp_path
):
    arguments = ["sweep", recipe, *COMMAND, "--out", tmp_path / "s"]
    process = under_way(arguments, tmp_path / "s")
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "run the same command to go on" in errors
    assert "Traceback" not in errors + output
    kept = [path.name for path in Path(tmp_path, "s").glob("*/checkpoints/*")]
    assert kept  # written when it was asked to stop: none was due
    done = command(*map(str, arguments))
    assert done.returncode == 0, done.stderr
    run = tmp_path / "s" / "rho0.05-seed0"
    assert len(json.loads((run / "run.json").read_text())["sessions"]) == 2
    whole = called("train", run / "recipe.toml", "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    same = [(d / "model.safetensors").read_bytes() for d in (run, tmp_path / "whole")]
    assert same[0] == same[1]


# What came of it


def finished(plan, accuracy):
    """Records of all runs, with the accuracy that a function of setting and seed gives."""
    records = {}
    for setting in plan.settings:
        for run in plan.runs_of(setting):
            value = accuracy(setting, run.recipe.seed)
            broken = "step 1" if value is None else ""
            loss = None if value is None else 1 - value
            told = {"accuracy": value, "loss": loss, "seconds": 1.0, "diverged": broken}
            records[run] = told
    return records


def test_the_best_mean_is_chosen_and_never_one_that_diverged():
    plan = plan_of("rho=0.1,0.2,0.3")
    means = {0.1: 0.8, 0.2: 0.9, 0.3: 0.85}
    records = finished(plan, lambda s, seed: means[s.recipe.rho] + 0.01 * seed)
    (best,) = outcome.choose(plan, outcome.rows_of(plan, records))
    assert best.setting.recipe.rho == 0.2
    assert best.interval("accuracy") == pytest.approx((0.905, 12.7062 * 0.005), rel=1e-4)
    spoilt = finished(plan, lambda s, seed: None if (s.recipe.rho, seed) == (0.2, 1) else 0.5)
    (best,) = outcome.choose(plan, outcome.rows_of(plan, spoilt))
    assert best.setting.recipe.rho == 0.1


def test_nothing_is_chosen_before_all_of_a_method_is_there():
    plan = plan_of("optimizer=sam,rsam", "rho=0.1,0.2")
    records = finished(plan, lambda s, seed: 0.5)
    gone = next(run for run in records if run.recipe.optimizer == "sam")
    del records[gone]
    chosen = outcome.choose(plan, outcome.rows_of(plan, records))
    assert [row.setting.method for row in chosen] == ["rsam"]


def test_a_choice_at_the_edge_is_told():
    plan = plan_of("rho=0.1,0.2,0.3", "lr=0.1,0.2,0.4")
    records = finished(plan, lambda s, seed: s.recipe.rho - abs(s.recipe.lr - 0.2))
    (chosen,) = outcome.tested(plan, outcome.rows_of(plan, records), {})
    assert chosen.at_the_edge == {"rho": "highest"}
    assert chosen.among == 9
    assert chosen.tests == []


def test_methods_are_compared_on_the_same_problem_seed_by_seed():
    plan = plan_of("optimizer=sgd,sam", "label_noise=0.0,0.4", seeds=3, validation=0.2)
    gain = {"sgd": 0.0, "sam": 0.02}
    records = finished(plan, lambda s, seed: 0.8 + 0.03 * seed + gain[s.method])
    chosen = outcome.tested(plan, outcome.rows_of(plan, records), records)
    found = outcome.differences(chosen)
    assert [(d.posed["label_noise"], d.method, d.less) for d in found] == [
        (0.0, "sam", "sgd"),
        (0.4, "sam", "sgd"),
    ]
    assert found[0].interval.mean == pytest.approx(0.02)
    assert not found[0].interval.within_noise


@pytest.mark.parametrize(
    "texts",
    [
        ("rho=0.05,0.1,0.5",),
        ("optimizer=sgd,sam", "rho=0.1,0.2"),
        ("rho=0.1,0.2", "lr=0.1,0.2", "sigma=0.001,0.002", "epochs=1,2"),
        ("optimizer=sgd,sam,rsam",),
        ("loss=cross-entropy,sigmoid",),
        (),
    ],
)
def test_every_kind_of_sweep_has_its_figure(swept, tmp_path, texts):
    _, _, folder = swept
    plan = plan_of(*texts)
    records = finished(plan, lambda s, seed: 0.5 + 0.01 * seed)
    rows = outcome.rows_of(plan, records)
    chosen = outcome.tested(plan, rows, records)
    for run in {run.name for c in chosen for run in c.row.runs}:
        (tmp_path / run).symlink_to(folder / "rsam-rho0.05-seed0")  # a course to draw
    figure = sweep_figure(plan, rows, chosen, tmp_path)
    save(figure, tmp_path / "sweep.png")
    assert len(figure.axes) == min(3, max(1, sum("." in t for t in texts))) + 1 or not texts
    assert figure.description.startswith("chosen: ")
    assert "95 %" not in figure.get_suptitle() + figure.axes[-1].get_title()  # a range is drawn
    assert "band from the lowest to the highest seed" in figure.axes[-1].get_title()
    assert figure.axes[0].get_title() == "mean and 95 % interval over seeds"
