"""The command line as a user meets it: help, exit codes, one line for every error."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from rsam_ref.commands import train as cli_train
from rsam_ref.training.recipe import Recipe
from tests.helpers.commands import called, command


def test_help_and_version():
    help_text = command("--help").stdout
    assert "compare" in help_text
    assert "explain" in help_text
    options = called("compare", "--help").stdout
    assert all(f"--{name}" in options for name in ("quick", "label-noise", "rho", "jobs", "out"))
    assert command("--version").stdout.startswith("rsam-ref 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare", "--rho", "-1"], 2, "rho is a radius and must be a finite number >= 0"),
        (["compare", "--rho", "nan"], 2, "rho is a radius"),
        (["compare", "--sigma", "-1"], 2, "sigma must be a finite number >= 0"),
        (["compare", "--lam", "0"], 2, "lam must be a finite number > 0"),
        (["compare", "--method", "sgdd"], 2, "unknown method 'sgdd'; there are sgd, sam"),
        (["compare", "--label-noise", "1.5"], 2, "label noise is a share"),
        (["compare", "--jobs", "0"], 2, "--jobs must be at least 1"),
        (["compare", "--epochs", "0"], 2, "epochs and batch size must be at least 1"),
        (["explain", "--rho", "-1"], 2, "rho is a radius"),
        (["explain", "--sigma", "-1"], 2, "sigma scales the noise"),
        (["explain", "--lam", "-1"], 2, "lam weighs the gradient"),
        (["explain", "--seed", "-1"], 2, "a seed must be a whole number >= 0, not -1"),
        (["explain", "--save", "step.jpeg"], 2, "give a file ending in .png, .svg, .pdf"),
        (["explain", "--handout", "step.doc"], 2, "give a file ending in .pdf, .html"),
        (["explain", "--interactive", "step.pdf"], 2, "--interactive step.pdf: give a file ending"),
        (["explain", "--interactive", "x.html", "--rho", "3"], 2, "rho is a number from 0 to 2"),
        (["explain", "--interactive", "/nowhere/x.html"], 1, "No such file or directory"),
        (
            ["explain", "--algorithm", "gsam", "--interactive", "x.html"],
            2,
            "--stages and --interactive take rsam, sam and asam, --handout rsam and sam",
        ),
        (
            ["explain", "--surface", "digits", "--interactive", "x.html"],
            2,
            "choose it there, or open the page with #surface=digits at the end of its address",
        ),
        (["explain", "--algorithm", "stacked"], 2, "open the page with #method=stacked"),
        (["explain", "--algorithm", "adam"], 2, "unknown algorithm 'adam'; there are rsam, sam"),
        (
            ["explain", "--algorithm", "asam", "--ascent-steps", "2"],
            2,
            "--ascent-steps means nothi",
        ),
        (["explain", "--algorithm", "asam", "--handout", "x.pdf"], 2, "ASAM has no page to hand"),
        (["explain", "--against", "rsam"], 2, "--against takes another of rsam, sam, asam"),
        (["explain", "--against", "gsam"], 2, "--against takes another of rsam, sam, asam"),
        (["explain", "--at", "1"], 2, "--at is two numbers, as in --at 0.3,0.8, not '1'"),
        (["explain", "--at", "1,inf"], 2, "a step starts at two finite weights"),
        (["explain", "--lr", "-1"], 2, "lr is a learning rate"),
        (["explain", "--surface", "hill"], 2, "unknown surface 'hill'; there are ripples"),
        (["explain", "--algorithm", "sam", "--seed", "1"], 2, "--seed means nothing to sam"),
        (["explain", "--background", "blue"], 2, "white or transparent, not 'blue'"),
        (["explain", "--stages", "/dev/null"], 1, "/dev/null: Not a directory"),
        (["explain", "--rho", "1e300", "--save", "x.svg"], 1, "has left the range of numbers"),
        (["explain", "--backend", "abacus"], 2, "unknown backend 'abacus'"),
        (["explain", "--save", "/nowhere/step.png"], 1, "No such file or directory"),
        (["compare", "--out", "/dev/null/x"], 1, "Not a directory"),
        (["train", "--rho", "-1"], 2, "rho = -1.0: input should be greater than or equal to 0"),
        (
            ["train", "--optimizer", "sgd", "--rho", "1"],
            2,
            "--rho means nothing to",
        ),
        (
            ["train", "--base", "adamw", "--momentum", "0.5"],
            2,
            "--momentum means nothing to --optimizer rsam --base adamw",
        ),
        (["train", "--model-option", "seed=3"], 2, "seed is no option of a model"),
        (["train", "--model-option", "width=0"], 2, "outputs must be at least 1, not 0"),
        (["train", "--optimizer", "adam"], 2, "optimizer = 'adam': input should be 'sgd', 'adamw'"),
        (
            ["train", "--model", "resnet21"],
            2,
            "there is no model 'resnet21' (did you mean resnet32?); choose one of mlp",
        ),
        (["train", "--model", "vit_tiny"], 2, "patch 16 does not divide image_size 8"),
        (["train", "--model-option", "width"], 2, "write it as NAME=VALUE"),
        (
            ["train", "--model", "mlp", "--model-option", "hidden=a"],
            2,
            "mlp: hidden must be a whole number, or a list of them, not 'a'",
        ),
        (["train", "--preset", "best"], 2, "unknown preset 'best'; there are cifar-resnet18"),
        (["train", "--warmup-steps", "99999"], 2, "warmup_steps = 99999, but the run has"),
        (["train", "--resume", "x", "--lr", "1"], 2, "--resume goes on with the recipe in the"),
        (["train", "--resume", "/nowhere"], 1, "no run to resume: it has no recipe.toml"),
        (["train", "--data", "/nowhere"], 1, "/nowhere: no such folder"),
        (["train", "nowhere.toml"], 1, "nowhere.toml: No such file"),
        (["train", "--epochs", "1", "--out", "/dev/null/x"], 1, "Not a directory"),
        (["data", "fetch", "imagenet"], 2, "the sets to fetch are mnist, fashion-mnist, cifar10"),
        (["data", "fetch"], 2, "Missing argument"),
        (["train", "--threads", "1.5"], 2, "Invalid value for '--threads'"),
        (["train", "--nope"], 2, "No such option: --nope"),
        (["nope"], 2, "No such command 'nope'; see "),
        (["compare", "--kernels", "mkl"], 2, "kernels are 'fast' or 'plain'"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(arguments, code, message):
    done = called(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("rsam-ref: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compare", "--rho", "-1"], 2),
        (["explain", "--save", "/nowhere/step.png"], 1),
        (["train", "--data", "/nowhere"], 1),
        (["data", "fetch", "imagenet"], 2),
        (["train", "--nope"], 2),
    ],
    ids=lambda arguments: arguments[0] if isinstance(arguments, list) else None,
)
def test_a_process_ends_as_a_call_does(arguments, code):
    done, expected = command(*arguments), called(*arguments)
    assert done.returncode == code
    assert (done.stderr, done.returncode) == (expected.stderr, expected.returncode)


@pytest.mark.parametrize("arguments", [["compare", "--rho", "much"], ["compare", "--nope"], ["no"]])
def test_wrong_usage_points_to_the_help(arguments):
    done = called(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("rsam-ref: ")
    assert done.stderr.endswith(" --help\n")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_train_by_a_recipe_a_preset_and_options(tmp_path):
    recipe = tmp_path / "my.toml"
    recipe.write_text('model = "mlp"\noptimizer = "sam"\nepochs = 3\n[model_options]\nhidden = [8]')
    done = command("train", str(recipe), "--epochs", "1", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "mlp with 610 weights on digits: 1,347 samples to train on, 450 to" in done.stdout
    assert "epoch   1.00  training loss" in done.stdout
    used = (tmp_path / "run" / "recipe.toml").read_text()
    assert 'optimizer = "sam"' in used
    assert "epochs = 1" in used
    assert "hidden" in used
    listed = called("train", "--list-presets").stdout
    assert "imagenet-vit-b16" in listed
    told = called("train", "--preset", "digits-cnn", "--epochs", "1", "--out", str(tmp_path / "b"))
    assert told.returncode == 0, told.stderr
    assert "our choice: everything" in told.stdout


def test_runs_get_folders_of_their_own(tmp_path):
    done = [called("train", "--model", "mlp", "--epochs", "1", cwd=tmp_path) for _ in range(2)]
    assert [d.returncode for d in done] == [0, 0]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "digits-mlp-rsam-1",
        "digits-mlp-rsam-2",
    ]


def test_explain_tells_the_step_and_draws_it(tmp_path):
    done = command("explain", "--save", str(tmp_path / "step.png"))
    assert done.returncode == 0, done.stderr
    for text in ("w + D", "g0", "lam g0 + D", "rho a / ||a||", "degrees", "85,002 weights"):
        assert text in done.stdout
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["step.png"]


def test_explain_makes_slides_and_a_page_to_hand_out(tmp_path):
    wanted = ("--algorithm", "sam", "--stages", "slides", "--handout", "page.html")
    done = called("explain", *wanted, "--background", "transparent", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "w + D" not in done.stdout
    slides = [
        f"sam-{i}-{s}.svg" for i, s in enumerate(("weights", "gradient", "radius", "descent"), 1)
    ]
    assert sorted(path.name for path in (tmp_path / "slides").iterdir()) == slides
    assert "One step of SAM" in (tmp_path / "page.html").read_text(encoding="utf-8")
    for name in (*(f"slides/{slide}" for slide in slides), "page.html"):
        assert f"Wrote {name}" in done.stdout


def test_explain_shows_two_algorithms_on_the_same_ground(tmp_path):
    wanted = ("--algorithm", "sam", "--against", "rsam", "--surface", "saddle", "--lr", "0.1")
    files = ("--save", "both.svg", "--stages", "slides")
    done = called("explain", *wanted, "--seed", "3", "--at", "-0.5,1", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("Of 200 draws R-SAM", "85,002 weights", "a saddle, from (-0.5, 1)"):
        assert text in done.stdout
    slides = sorted(path.name for path in (tmp_path / "slides").iterdir())
    assert [s for s in slides if "-1-" in s] == ["rsam-1-weights.svg", "sam-1-weights.svg"]
    assert len(slides) == 6 + 4
    assert "SAM beside R-SAM" in (tmp_path / "both.svg").read_text(encoding="utf-8")


def test_every_setting_of_a_recipe_is_an_option_of_train():
    options = inspect.signature(cli_train.train).parameters.keys()
    assert Recipe.model_fields.keys() - options == {"model_options", "optimizer_options"}
    assert {"model_option", "optimizer_option"} <= options


@pytest.mark.parametrize(("steps", "told"), [(1, "In 1 step another"), (20, "In 20 steps another")])
def test_a_run_no_better_than_a_guess_is_told_with_its_steps(steps, told):
    data = SimpleNamespace(watched=SimpleNamespace(labels=np.arange(100) % 10))
    run = SimpleNamespace(data=data, recipe=SimpleNamespace(lr=0.1), steps=steps)
    assert told in cli_train._no_better_than_a_guess(run, 0.1)
