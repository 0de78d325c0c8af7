"""Relatives beside their authors' code: where the files come from, and what is said of a row.

The authors' files are not here; a small optimizer of our own stands for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess

import pytest

from benchmarks.survey import PAGE, SAME, difference

torch = pytest.importorskip("torch")

from benchmarks.authors import __main__ as command  # noqa: E402
from benchmarks.authors import adapters, changed, problem, sources  # noqa: E402
from benchmarks.authors.rows import NOT_RUN, ROWS  # noqa: E402
from rsam_ref.algorithms import relatives  # noqa: E402
from rsam_ref.algorithms.relatives import RELATIVES  # noqa: E402

THEIRS = """import a_library_that_nobody_has

class Steps(torch.optim.Optimizer):
    def __init__(self, params: a_library_that_nobody_has.Params, base, rho, **more):
        super(Steps, self).__init__(params, dict(rho=rho, **more))
        self.base = base(self.param_groups, **more)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        print("steps with FACTOR")
        for p in self.param_groups[0]["params"]:
            self.state[p]["eps"] = FACTOR * self.param_groups[0]["rho"] * p.grad
            p.add_(self.state[p]["eps"])

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p in self.param_groups[0]["params"]:
            p.sub_(self.state[p]["eps"])
        self.base.step()
"""


def at_home(folder, code, commit="0" * 40):
    """A folder that holds the code as a file of somebody/steps, and its source."""
    place = folder / "somebody" / "steps"
    place.mkdir(parents=True, exist_ok=True)
    (place / "steps.py").write_text(code)
    digest = hashlib.sha256(code.encode()).hexdigest()
    return sources.Source(f"somebody/steps@{commit}/steps.py", digest, "none")


def usam_row(folder, factor, why="", with_=None):
    """A row of the code above, which is unnormalised SAM where the factor is 1."""

    def run(code):
        model = problem.network()
        made = code.Steps(model.parameters(), torch.optim.SGD, rho=0.4, **problem.HYPER)
        return problem.halves(model, made)

    return adapters.Row(
        "usam",
        at_home(folder, THEIRS.replace("FACTOR", str(factor))),
        ("Steps",),
        "Steps",
        "rho=0.4",
        run,
        lambda: problem.ours("usam", rho=0.4),
        why=why,
        changed=with_ and (lambda: problem.ours("usam", rho=0.4 * with_)),
    )


def test_a_class_is_run_without_its_imports_and_is_the_same_or_not(tmp_path, capsys):
    row = usam_row(tmp_path, 1)
    found = command.compare(row, tmp_path)
    assert found.error is not None
    assert found.error < 1e-12
    assert command.verdict(row, found) == "the same"
    assert capsys.readouterr().out == ""

    row = usam_row(tmp_path, 0.5)
    found = command.compare(row, tmp_path)
    assert found.error is not None
    assert found.error > 1e-3
    assert command.verdict(row, found).startswith("UNEXPECTED")


def test_a_reason_counts_only_if_it_is_all_of_the_difference(tmp_path):
    row = usam_row(tmp_path, 0.5, why="half as far", with_=0.5)
    found = command.compare(row, tmp_path)
    assert command.verdict(row, found) == "half as far"
    assert found.changed is not None
    assert found.changed < 1e-12

    row = usam_row(tmp_path, 0.5, why="a third as far", with_=1 / 3)
    assert command.verdict(row, command.compare(row, tmp_path)).startswith("UNEXPECTED")
    row = usam_row(tmp_path, 1, why="half as far", with_=0.5)
    assert command.verdict(row, command.compare(row, tmp_path)).startswith("UNEXPECTED")


def test_another_file_than_the_one_that_was_read_is_not_run(tmp_path):
    row = usam_row(tmp_path, 1)
    at_home(tmp_path, "raise SystemExit('run')")
    assert "is not the file at commit 0000000" in command.compare(row, tmp_path).not_run
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no somebody/steps" in command.compare(row, empty).not_run


def test_a_bare_repository_gives_the_file_of_its_commit(tmp_path):
    def git(*arguments, where=tmp_path / "work" / "somebody" / "steps"):
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=where, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    source = at_home(tmp_path / "work", "first = 1\n")
    git("init", "-q")
    git("add", "steps.py")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    at_home(tmp_path / "work", "second = 2\n")
    git("commit", "-qam", "second")
    git("clone", "-q", "--bare", ".", str(tmp_path / "bare" / "somebody" / "steps"))

    source = dataclasses.replace(source, place=f"somebody/steps@{commit}/steps.py")
    assert sources.text(source, tmp_path / "bare") == "first = 1\n"
    assert sources.text(source, tmp_path / "work") == "first = 1\n"  # not the later file beside it


def test_what_is_downloaded_is_kept_only_if_it_is_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    source = at_home(tmp_path, "first = 1\n")
    answers = [b"something else\n", b"first = 1\n"]

    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self):
            return answers.pop(0)

    asked = []

    def open_(address, timeout):
        asked.append(address)
        return Answer()

    monkeypatch.setattr(sources.urllib.request, "urlopen", open_)
    with pytest.raises(sources.NotHereError, match="is not the file"):
        sources.text(source)
    assert sources.text(source) == "first = 1\n"
    assert sources.text(source) == "first = 1\n"
    assert asked == [f"https://raw.githubusercontent.com/somebody/steps/{'0' * 40}/steps.py"] * 2


def test_a_name_that_the_file_lacks_is_told(tmp_path):
    row = dataclasses.replace(usam_row(tmp_path, 1), names=("Strides",))
    assert command.compare(row, tmp_path).not_run == "the file does not define Strides"


def test_every_relative_has_a_row_or_a_reason_for_none():
    assert {row.relative for row in ROWS} | NOT_RUN.keys() == RELATIVES.keys() | {"sam", "asam"}
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert all(bool(row.why) == (row.changed is not None) for row in ROWS)


def test_the_page_shows_every_row_as_it_was_told():
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(command.MARKS[0])
    lines = [line for line in rest.partition(command.MARKS[1])[0].splitlines() if line[:1] == "|"]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert len(shown) == len(ROWS) + len(NOT_RUN)
    for row, (name, file, licence, theirs, _, error, why, so_changed) in zip(ROWS, shown):
        assert (name, licence, theirs) == (f"`{row.relative}`", row.source.licence, row.theirs)
        assert row.source.page in file
        assert why == (row.why or "the same"), row.id
        assert (float(error) < SAME) == (not row.why), row.id
        assert (so_changed == "") == (not row.why), row.id
        assert not so_changed or float(so_changed) < SAME, row.id


@pytest.mark.parametrize("row", [row for row in ROWS if row.changed], ids=lambda row: row.id)
def test_a_told_difference_makes_other_steps_than_ours(row):
    assert difference(row.changed(), row.ours()) > 1e-5


def test_unnormalised_sam_in_a_ball_is_another_where_the_gradient_is_long():
    """The authors' training shortens an eps longer than rho; their class and our rule do not."""
    first = problem.MiniBatch(*problem.BATCHES[0])
    w = problem.flat(problem.START)
    g0 = first(w)[1]
    assert changed.length(g0) > 1
    optimizer = relatives.make("usam", problem.base(), rho=0.4)
    assert changed.length(optimizer.find(first, w).perturbation) > 0.4
    in_ball = problem.base()
    in_ball.move(w, first(w + 0.4 * g0 / changed.length(g0))[1])
    assert difference([changed.usam_in_a_ball(0.4)[0]], [problem.split(w)]) < 1e-12
