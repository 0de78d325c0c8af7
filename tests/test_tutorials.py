"""The tutorials: they run, their numbers are right, and their exercises can be solved and failed.

How much a tutorial computes is counted, not timed. It may take a minute on two cores.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from rsam_ref.nn.objective import Objective
from rsam_ref.teaching.tutorials import copy

FOLDER = Path(__file__).parent.parent / "tutorials"
TUTORIALS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
HEADINGS = ["## What to look at", "## Try this", "## Exercises"]

MOST_CALLS = 12_000_000
"""Calls of functions, Python's and C's: at a pessimistic 3 us each, half a minute."""

MOST_WORK = 20_000_000_000
"""Weights times samples, over all gradients: 6 flops each, at 4 Gflop/s half a minute."""

each = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def cells(path):
    """The cells of a percent-format file: (what stands after the %%, the text)."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert parts[0] == "", "the file begins with a cell"
    return list(zip((p.strip() for p in parts[1::2]), parts[2::2]))


def code(path):
    return [(head, text) for head, text in cells(path) if "[markdown]" not in head]


def functions(text):
    return [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]


def solutions(path):
    return FOLDER / "solutions" / f"{path.stem[:2]}.py"


def mistakes(path):
    """Answers that are wrong in ways a reader's may be; each must be refused."""
    file = Path(__file__).parent / "tutorial_mistakes" / f"{path.stem[:2]}.py"
    return functions(file.read_text(encoding="utf-8"))


def skip_without_what_it_needs(path):
    if "This tutorial needs PyTorch" in path.read_text(encoding="utf-8"):
        pytest.importorskip("torch", reason="torch is not installed")


def run_script(path, folder, *first, figures="figures"):
    """A tutorial as a script away from the project, warnings as errors; figures in ``folder``."""
    environment = {k: v for k, v in os.environ.items() if k != "RSAM_TUTORIAL_FIGURES"}
    if figures:
        environment["RSAM_TUTORIAL_FIGURES"] = str(folder / figures)
    # The time limit is for one that hangs.
    return subprocess.run(
        [sys.executable, "-W", "error", *(first or [str(path)])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def style(monkeypatch):
    """The tutorials' folder to import from, as if this were one of them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delenv("RSAM_TUTORIAL_FIGURES", raising=False)
    with matplotlib.rc_context():
        yield importlib.import_module("style")
    del sys.modules["style"]


def test_there_are_tutorials_in_order():
    assert [int(path.stem[:2]) for path in TUTORIALS] == list(range(1, 12))


@each
def test_it_runs_as_a_script_with_its_exercises_unsolved(path, tmp_path):
    skip_without_what_it_needs(path)
    done = run_script(path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert re.findall(r"^Exercise (\d): (.*)$", done.stdout, re.MULTILINE) == [
        ("1", "not yet"),
        ("2", "not yet"),
    ]
    figures = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert figures
    assert all(re.fullmatch(path.stem[:2] + r"-[a-z-]+\.(png|gif)", name) for name in figures)
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]


def without_pytorch(number, folder):
    block = "import sys, runpy; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1]);"
    path = TUTORIALS[number - 1]
    return run_script(path, folder, "-c", block + "runpy.run_path(sys.argv[2])", FOLDER, path)


def test_a_script_tells_that_it_has_figures_and_where_they_are(tmp_path):
    path = TUTORIALS[0]
    saved = run_script(path, tmp_path).stdout
    assert saved.endswith(f"The tutorial's 1 figure: in {(tmp_path / 'figures').resolve()}\n")
    told = run_script(path, tmp_path, figures=None).stdout
    assert "The tutorial has 1 figure. To save them: RSAM_TUTORIAL_FIGURES=figures python" in told


def test_copies_of_the_tutorials_never_replace_somebodys_answers(tmp_path):
    copied = copy(tmp_path / "mine")
    assert copy(tmp_path / "mine") == copied, "what is the same is left"
    answered = tmp_path / "mine" / TUTORIALS[0].name
    answered.write_text("# my answers\n")
    (tmp_path / "mine" / "style.py").unlink()
    with pytest.raises(FileExistsError, match="other contents; nothing was written"):
        copy(tmp_path / "mine")
    assert answered.read_text() == "# my answers\n"
    assert not (tmp_path / "mine" / "style.py").exists()


def test_the_second_one_does_without_pytorch(tmp_path):
    done = without_pytorch(2, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "finite differences" in done.stdout


def test_the_tenth_one_says_that_it_needs_pytorch(tmp_path):
    done = without_pytorch(10, tmp_path)
    assert done.returncode == 1
    assert done.stderr == "This tutorial needs PyTorch: pip install torch\n"


@each
def test_its_form(path):
    text = path.read_text(encoding="utf-8")
    assert 150 <= len(text.splitlines()) <= 250
    found = [line[2:] for line in text.splitlines() if line.startswith("# #")]
    assert found[0].startswith(f"# {int(path.stem[:2])}. ")
    assert [line for line in found if line in HEADINGS] == HEADINGS
    heads = [head for head, _ in cells(path)]
    assert heads[0] == "[markdown]", "text before code"
    assert set(heads) <= {"", "[markdown]", 'tags=["hide-input"]', 'tags=["exercise"]'}
    for head, cell in cells(path):
        if head == "[markdown]":
            assert all(line.startswith("#") for line in cell.strip().splitlines())
    assert "assert " in "".join(cell for _, cell in code(path))


@each
def test_a_number_in_the_text_is_a_number_in_the_code(path):
    """A guard against text that no longer says what the asserts do: numbers of two digits on."""
    in_code = "".join(text for _, text in code(path)).replace("_", "")
    in_text = "".join(text for head, text in cells(path) if "[markdown]" in head)
    numbers = re.findall(r"\d[\d,]*\.?\d+", in_text.partition("## Try this")[0])
    assert len(numbers) > 5
    assert [n for n in numbers if n.replace(",", "") not in in_code] == []


@each
def test_jupytext_reads_it_as_it_is_meant(path):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    notebook = jupytext.read(path)
    kinds = ["markdown" if "[markdown]" in head else "code" for head, _ in cells(path)]
    assert [cell.cell_type for cell in notebook.cells] == kinds
    tagged = [cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", [])]
    assert len(tagged) == 2
    written = jupytext.writes(notebook, fmt="py:percent")
    body = written[written.index("# %%") :]
    assert body.splitlines() == path.read_text(encoding="utf-8").splitlines()


@each
def test_solutions_have_the_names_of_the_blanks(path):
    blanks = [
        function for head, text in code(path) if "exercise" in head for function in functions(text)
    ]
    for blank in blanks:
        assert ast.unparse(blank.body) == "...", "a blank is left blank"
    solved = functions(solutions(path).read_text(encoding="utf-8"))
    assert [f.name for f in blanks] == [f.name for f in solved]
    assert [ast.unparse(f.args) for f in blanks] == [ast.unparse(f.args) for f in solved]


@pytest.fixture
def counted(monkeypatch):
    """Counts calls and work, while ``counted["on"]``."""
    count = {"on": True, "calls": 0, "work": 0}
    evaluate = Objective.__call__

    def weighed(self, w):
        count["work"] += w.size * len(self.x) * count["on"]
        return evaluate(self, w)

    def profiler(_frame, event, _argument):
        count["calls"] += count["on"] and event in ("call", "c_call")

    monkeypatch.setattr(Objective, "__call__", weighed)
    sys.setprofile(profiler)
    yield count
    sys.setprofile(None)


@each
@pytest.mark.usefixtures("style")
def test_the_solutions_pass_and_mistakes_do_not(path, capsys, counted):
    solved = {f.name: f for f in functions(solutions(path).read_text(encoding="utf-8"))}
    namespace = {"__name__": f"tutorial_{path.stem}"}
    counted["on"] = False
    skip_without_what_it_needs(path)  # imported here, and not counted
    counted["on"] = True
    blank, refused = None, []
    for head, text in code(path):
        cell = compile(text, path.name, "exec")
        if blank:  # this cell checks it
            counted["on"] = False
            right = dict(namespace)
            for mistake in mistakes(path):
                if mistake.name == blank:
                    exec(ast.unparse(mistake), namespace)
                    with pytest.raises(AssertionError):
                        exec(cell, namespace)
                    namespace.update(right)
                    refused.append(ast.unparse(mistake))
            counted["on"] = True
        exec(cell, namespace)
        blank = functions(text)[0].name if "exercise" in head else None
        if blank:
            exec(ast.unparse(solved[blank]), namespace)

    said = re.findall(r"^Exercise (\d): (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert said == [("1", "right"), ("2", "right")]
    assert refused == [ast.unparse(m) for m in mistakes(path)], "in the order of the exercises"
    assert {mistake.name for mistake in mistakes(path)} == set(solved)
    assert 0 < counted["calls"] <= MOST_CALLS
    assert counted["work"] <= MOST_WORK


def test_the_list_names_every_tutorial():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\d\d_\w+\.py)\)", text) == [path.name for path in TUTORIALS]
    rows = re.findall(r"^\| (\d+) \|.*$", text, re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 12))


def test_a_notebook_displays_a_figure_and_a_script_does_not(style, monkeypatch):
    shown: list[Any] = []
    python: Any = types.ModuleType("IPython")
    display: Any = types.ModuleType("IPython.display")
    python.version_info = (9, 0)  # Matplotlib looks
    display.Image = lambda data, width: data
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    made, axes = style.figure(2, 2)
    style.arrow(axes, (0, 0), (1, 1), style.BLUE)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    style.show(made, "nothing")
    assert shown == []
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    style.show(made, "something")
    assert [png[:4] for png in shown] == [b"\x89PNG"]
