"""The command line as a user meets it: help, exit codes, one line for every error."""

import subprocess
import sys

import pytest


def command(*arguments, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-m", "rsam_ref.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def test_help_and_version():
    help_text = command("--help").stdout
    assert "compare" in help_text
    assert "explain" in help_text
    options = command("compare", "--help").stdout
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
        (["explain", "--backend", "abacus"], 2, "unknown backend 'abacus'"),
        (["explain", "--save", "/nowhere/step.png"], 1, "No such file or directory"),
        (["compare", "--out", "/dev/null/x"], 1, "Not a directory"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(arguments, code, message):
    done = command(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("rsam-ref: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["compare", "--rho", "much"], ["compare", "--nope"], ["no"]])
def test_wrong_usage_points_to_the_help(arguments):
    done = command(*arguments)
    assert done.returncode == 2
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_tells_the_step_and_draws_it(tmp_path):
    done = command("explain", "--save", str(tmp_path / "step.png"))
    assert done.returncode == 0, done.stderr
    for text in ("w + D", "g0", "lam g0 + D", "rho a / ||a||", "degrees", "85,002 weights"):
        assert text in done.stdout
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["step.png"]
