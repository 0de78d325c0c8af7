"""The checker itself: no luck with seeds, its command, its page, its fixture, its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsam_ref.conformance import CATALOGUE, BrokenError, Report, check
from rsam_ref.conformance.hypotheses import EXACT, Hypothesis, choose
from rsam_ref.conformance.observe.problem import Hyper, Problem, schedule
from tests.conformance.right import RIGHT

pytest_plugins = ["pytester"]

FUNCTIONS = {
    algorithm: [r for r in RIGHT if r.form == "function" and r.algorithm == algorithm]
    for algorithm in ("sam", "asam", "rsam")
}


def any_problem(examples):
    """Random problems: 80 in all; `python -m tests.conformance.seeds` has more."""
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


def conforms(algorithm, which, seed):
    case = FUNCTIONS[algorithm][which % len(FUNCTIONS[algorithm])]
    report = check(case.subject, algorithm, form="function", seed=seed)
    assert [f.code for f in report.findings if not f.note] == [], f"{case.name}: {report}"
    assert report.algorithm == algorithm


SEEDS = st.integers(0, 2**31)
WHICH = st.integers(0, 20)


@any_problem(28)
@given(WHICH, SEEDS)
def test_sam_conforms_on_any_problem(which, seed):
    conforms("sam", which, seed)


@any_problem(20)
@given(WHICH, SEEDS)
def test_asam_conforms_on_any_problem(which, seed):
    conforms("asam", which, seed)


@any_problem(32)
@given(WHICH, SEEDS)
def test_rsam_conforms_on_any_problem(which, seed):
    conforms("rsam", which, seed)


def test_the_problem_tells_what_it_must():
    """Biases other than 0, uneven filters, equal shapes, four axes, steps that change."""
    problem = Problem(0)
    parts = problem.parts(problem.start)
    assert all(np.abs(p).min() > 0 for p in parts if p.ndim == 1)
    for p in parts:
        if p.ndim > 1:
            for axis in (0, 1):
                others = tuple(i for i in range(p.ndim) if i != axis)
                norms = np.sqrt((p * p).sum(axis=others))
                assert norms.max() > 1.5 * norms.min()
    shapes = problem.shapes
    assert len(set(shapes)) < len(shapes)
    assert any(len(shape) == 4 for shape in shapes)
    assert any(len(shape) == 2 and shape[0] != shape[1] for shape in shapes)
    plan = schedule(Hyper())
    assert len(plan) >= 4
    for name in ("lr", "rho", "sigma", "lam"):
        assert len({getattr(hyper, name) for hyper in plan}) > 1
    assert not np.array_equal(problem.batch(0)[0], problem.batch(1)[0])


def test_its_gradient_is_that_of_torch():
    torch = pytest.importorskip("torch")
    from rsam_ref.conformance.observe.torch_forms import Net

    problem = Problem(3)
    net = Net().double()
    with torch.no_grad():
        for p, part in zip(net.parameters(), problem.parts(problem.start)):
            p.copy_(torch.from_numpy(part.copy()))
    x, y = problem.batch(1)
    torch.nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    theirs = np.concatenate([p.grad.numpy().reshape(-1) for p in net.parameters()])
    _, ours = problem.loss_and_grad(problem.start, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_ties_are_told():
    """Two explanations that depart equally and fit equally are both named."""
    hypotheses = [
        Hypothesis((), lambda x: x),
        Hypothesis(("a",), lambda x: 2 * x, "doubled"),
        Hypothesis(("b",), lambda x: x + x, "added"),
        Hypothesis(("a", "b"), lambda x: 2 * x, "both"),
    ]
    cases = [np.array([1.0, 2.0]), np.array([3.0, -1.0])]
    verdict = choose(hypotheses, cases, lambda x: 2 * x, lambda x: 1.0, EXACT)
    assert verdict.best.codes == ("a",)
    assert [h.codes for h in verdict.ties] == [("b",)]
    assert verdict.evidence()["cannot be told from"] == "b"


def test_a_step_that_nothing_explains_is_told_so():

    def strange(weights, loss_and_grad, state, hyper):
        _, g = loss_and_grad(weights)
        _, h = loss_and_grad([w + 0.01 * np.sin(40 * d) for w, d in zip(weights, g)])
        return [w - hyper.lr * np.tanh(d) for w, d in zip(weights, h)], state

    report = check(strange, "rsam")
    assert report.findings[0].code == "noise.missing"
    assert {f.code for f in report.findings} >= {"ascent.unknown", "update.not-judged"}


def test_the_global_generators_are_left_as_they_were():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    check(FUNCTIONS["sam"][0].subject, "sam")
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("algorithm", "form"), [("sgd", None), ("sam", "class")])
def test_wrong_settings_are_refused(algorithm, form):
    with pytest.raises(ValueError, match="there are"):
        check(FUNCTIONS["sam"][0].subject, algorithm, form=form)


def test_at_least_forty_codes_each_with_its_text():
    assert sum(not entry.note for entry in CATALOGUE.values()) >= 40
    for code, entry in CATALOGUE.items():
        assert code.count(".") == 1
        assert min(map(len, (entry.what, entry.effect, entry.remedy))) > 3


def test_a_report_survives_json():
    report = check(FUNCTIONS["sam"][0].subject, "rsam")
    again = Report.from_json(report.to_json())
    assert again.as_dict() == json.loads(report.to_json())
    assert not again.conforms
    assert str(again) == str(report)


# The command

RIGHT_FILE = """
import numpy as np

def my_sam(weights, loss_and_grad, state, hyper):
    print("talking")
    _, g = loss_and_grad(weights)
    norm = np.sqrt(sum((d * d).sum() for d in g)) + 1e-12
    _, g = loss_and_grad([w + hyper.rho * d / norm for w, d in zip(weights, g)])
    v = state.get("v", [0.0] * len(g))
    v = [hyper.momentum * a + d + hyper.weight_decay * w for a, d, w in zip(v, g, weights)]
    return [w - hyper.lr * a for w, a in zip(weights, v)], {"v": v}
"""


def command(*arguments, folder):
    done = subprocess.run(
        [sys.executable, "-m", "rsam_ref", "check", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(RIGHT_FILE)
    descends = RIGHT_FILE.replace("w + hyper.rho", "w - hyper.rho")
    (tmp_path / "wrong.py").write_text(descends)
    return tmp_path


def test_the_command_says_that_it_conforms(folder):
    done = command("mine.py:my_sam", "--algorithm", "sam", folder=folder)
    assert done.returncode == 0
    assert "mine.py:my_sam conforms to SAM." in done.stdout
    assert "talking" not in done.stdout
    assert done.stderr == ""


def test_the_command_says_what_diverges_and_draws_it(folder):
    options = ("--algorithm", "sam", "--plot", "step.png", "--html", "report.html")
    done = command("wrong.py:my_sam", *options, folder=folder)
    assert done.returncode == 1
    assert "ascent.descends" in done.stdout
    assert "To mend it: add rho g0 / ||g0||" in done.stdout
    assert (folder / "step.png").stat().st_size > 5000
    page = (folder / "report.html").read_text()
    assert "ascent.descends" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_verdict_is_told_also_where_a_file_cannot_be_written(folder):
    (folder / "step.png").mkdir()
    options = ("--algorithm", "sam", "--plot", "step.png", "--html", "report.html")
    done = command("wrong.py:my_sam", *options, folder=folder)
    assert done.returncode == 2
    assert "ascent.descends" in done.stdout
    assert "step.png could not be written" in done.stderr
    assert "ascent.descends" in (folder / "report.html").read_text()


def test_the_report_as_json_is_nothing_but_json(folder):
    done = command("wrong.py:my_sam", "--algorithm", "sam", "--json", folder=folder)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["findings"][0]["code"] == "ascent.descends"
    assert report["findings"][0]["stage"] == "ascent"


ARGUMENTS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.parse_args()
"""


BLOCKS = "import signal, time\nsignal.pthread_sigmask(0, [signal.SIGALRM])\ntime.sleep(99)\n"


def raising(what):
    return f"def my_sam(weights, loss_and_grad, state, hyper):\n    raise {what}\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("while True: pass\n", "hang"),
        ("import os\nos._exit(7)\n", "exit code 7"),
        ("print('so far')\nimport os\nos.abort()\n", "ended the process"),
        ("raise RuntimeError('not today')\n", "not today"),
        ("", "has no 'my_sam'"),
        (ARGUMENTS, 'under if __name__ == "__main__"; the last it printed: broken.py: error: the '),
        ("from .helpers import norm\n", "it is pack.broken:my_sam"),
        ("def f(:\n", "SyntaxError: invalid syntax in line 1\n"),
        ("\0", "SyntaxError: source code string cannot contain null bytes\n"),
        ("my_sam = 3\n", "an int is not callable"),
        (
            "class my_sam:\n    def fit(self, x): pass\n",
            "a class without step() (it has fit); give",
        ),
        (
            "class my_sam:\n    def __init__(self, params): raise ValueError('a\\nb')\n"
            "    def step(self, closure): pass\n",
            "my_sam could not be made (ValueError: a b); give",
        ),
        (BLOCKS, "took more than 3 seconds; does it hang?"),
        ("my_sam = lambda: 0\n", "it gave 0, which is nothing that steps; give a function make"),
        ("from unittest.mock import MagicMock\nmy_sam = MagicMock()\n", "has every attribute"),
        (raising("Exception('two\\n\\nlines')"), "Exception: two lines, broken.py line 2, my_sam"),
        (raising("AssertionError"), "raised AssertionError, broken.py line 2, my_sam"),
        (raising("MemoryError"), "raised MemoryError, broken.py line 2, my_sam"),
        (raising("KeyboardInterrupt"), "raised KeyboardInterrupt, broken.py line 2, my_sam"),
        ("while True: pass\n", "loading it took more than 3 seconds, broken.py line 1"),
    ],
)
def test_what_cannot_run_ends_in_a_message_and_in_2(source, says, folder):
    pack = folder / "pack"
    pack.mkdir()
    (pack / "broken.py").write_text(source)
    slow = "while" in source or source == BLOCKS
    options = ("--algorithm", "sam", "--timeout", "3" if slow else "60")
    done = command("pack/broken.py:my_sam", *options, folder=folder)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("rsam-ref: could not check pack/broken.py:my_sam: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_called_as_a_module_is_is_told_to_be_renamed(folder):
    pack = folder / "pack"
    pack.mkdir()
    for name in ("json.py", "mine.py"):
        (pack / name).write_text(RIGHT_FILE)
    done = command(
        "pack/mine.py:my_sam", "--algorithm", "sam", folder=folder
    )  # it does no harm to another
    assert "conforms" in done.stdout
    done = command("pack/json.py:my_sam", folder=folder)
    assert done.returncode == 2
    assert "json.py is called as the module 'json' is, and stands before it: rename" in done.stderr
    (pack / "optax.py").write_text("")
    (pack / "mine.py").write_text("import optax\nmy_sam = optax.contrib.sam\n")
    done = command("pack/mine.py:my_sam", "--algorithm", "sam", folder=folder)
    assert "optax.py stands before the module 'optax': rename it" in done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("other", "other is a file, and the name of one has to end in .py"),
        ("pack/mine", "did you mean pack/mine.py:my_sam?"),
    ],
)
def test_a_file_that_is_named_as_no_file_is(name, says, folder):
    (folder / "pack").mkdir()
    for file in ("other", "pack/mine.py"):
        (folder / file).write_text(RIGHT_FILE)
    done = command(f"{name}:my_sam", folder=folder)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_sigterm_ends_it_as_ctrl_c_does(folder):
    (folder / "long.py").write_text(
        "import os, time\nopen('id', 'w').write(str(os.getpid()))\ntime.sleep(50)\n"
    )
    check_it = [sys.executable, "-m", "rsam_ref", "check", "long.py:my_sam"]
    with subprocess.Popen(check_it, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "id").exists() or not (child := (folder / "id").read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "rsam-ref: interrupted; nothing was written\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(child), 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say what to check"),
        (("mine.py",), "FILE.py:NAME"),
        (("mine.py:five:six",), "mine.py:five:six"),
        (("nowhere.py:my_sam",), "no file nowhere.py"),
        (("mine.py:my_sam", "--algorithm", "sgd"), "unknown algorithm"),
        (("mine.py:my_sam", "--plot", "step.gif"), "give a file ending in"),
        (("mine.py:my_sam", "--plot", "nope/x.png"), "there is no folder nope"),
        (("mine.py:my_sam", "--html", "nope/x.html"), "there is no folder nope"),
        (("mine.py:my_sam", "--timeout", "0"), "--timeout"),
        (("mine.py:my_sam", "--timeout", "inf"), "--timeout is in seconds"),
        (("mine.py:my_sam", "--timeout", "nan"), "--timeout is in seconds"),
        (("mine.py:my_sam", "--seed", "-1"), "--seed must be a whole number"),
        (("mine.py:my_sam", "--seed", "9" * 20), "--seed must be a whole number"),
        (("mine.py:my_sam", "--base", "foo"), "unknown base 'foo'; there are sgd, adam"),
        (("mine.py:my_sam", "--form", "optax"), "it is of the form function, not optax"),
        (("mine.py:my_sam", "--processes", "5"), "'--processes'"),
        (("mine.py:my_sam", "wrong.py:my_sam"), "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments, says, folder):
    done = command(*arguments, folder=folder)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("rsam-ref: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_base_of_the_files_own_is_no_unknown_one(folder):
    (folder / "mine.py").write_text(f"{RIGHT_FILE}\nclass Drop:\n    pass\n")
    options = ("--algorithm", "sam", "--base", "drop")
    done = command("mine.py:my_sam", *options, folder=folder)
    assert done.returncode == 1
    assert "update.other-base" in done.stdout


def test_the_codes_can_be_listed(folder):
    done = command("--codes", folder=folder)
    assert done.returncode == 0
    assert done.stdout.count("\n") >= len(CATALOGUE)


def test_a_module_is_found_as_well_as_a_file():
    report = check("tests.conformance.right:sam_copies", "sam")
    assert report.conforms
    with pytest.raises(BrokenError, match="cannot be loaded: ModuleNotFoundError"):
        check("no_such_package.module:name", "sam")


# The fixture


def test_the_fixture_holds_a_project_to_it(pytester: pytest.Pytester):
    pytester.makepyfile(mine=RIGHT_FILE, wrong=RIGHT_FILE.replace("w + hyper.rho", "w - hyper.rho"))
    pytester.makepyfile(
        """
        import mine, wrong

        def test_right(rsam_conforms):
            assert rsam_conforms(mine.my_sam, "sam").conforms

        def test_wrong(rsam_conforms):
            rsam_conforms(wrong.my_sam, "sam")

        def test_wrong_but_known(rsam_conforms):
            rsam_conforms(wrong.my_sam, "sam", allow=["ascent.descends"])

        def test_no_such_code(rsam_conforms):
            rsam_conforms(mine.my_sam, "sam", allow=["ascent.descend"])
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        ["*diverges from sam: ascent.descends*", "*to mend it: add rho g0*"]
    )
    result.stdout.fnmatch_lines(["*unknown code 'ascent.descend'; did you mean ascent.descends*"])


def test_the_fixture_costs_nothing_at_start():
    """The plugin is loaded with every pytest where rsam-ref is; so it loads nothing itself."""
    code = "import sys, rsam_ref.conformance.pytest_plugin; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_error_at_a_limit_is_a_divergence():
    right = FUNCTIONS["sam"][0].subject

    def refuses(weights, loss_and_grad, state, hyper):
        if hyper.rho == 0:
            raise ValueError("rho must be > 0")
        return right(weights, loss_and_grad, state, hyper)

    report = check(refuses, "sam")
    assert [f.code for f in report.findings if not f.note] == ["limits.rho-zero"]
    assert "rho must be > 0" in report.findings[0].evidence["error"]


def test_settings_are_read_by_name_and_by_index():
    def indexes(weights, loss_and_grad, state, hyper):
        assert hyper["rho"] == hyper.rho
        assert dict(hyper)["lam"] == hyper.lam
        return FUNCTIONS["sam"][0].subject(weights, loss_and_grad, state, hyper)

    assert check(indexes, "sam").conforms
    with pytest.raises(BrokenError, match="KeyError: 'temperature'"):
        check(lambda weights, loss_and_grad, state, hyper: hyper["temperature"], "sam")


def test_functions_are_checked_without_loading_torch():
    code = (
        f"{RIGHT_FILE.replace('print', '# print')}\n"
        "import sys\n"
        "from rsam_ref.conformance import check\n"
        "assert check(my_sam, 'sam').conforms\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_right_is_drawn_on_its_place(seed):
    """eps along g0 has nothing across it but rounding, which is no axis to draw along."""
    drawn = check("tests.conformance.right:sam_copies", "sam", seed=seed).picture
    assert drawn["observed w + eps"] == pytest.approx(drawn["expected w + eps"], abs=1e-12)
    assert drawn["out of the plane"] < 1e-12
