"""The study's bookkeeping: what is tuned on what, and which numbers the page is made of."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import study
from rsam_ref.training import processes
from rsam_ref.training.trials import Store, Trial


def records(case, best, *, gain):
    """All runs of a case, with the validation accuracy best at ``best[method]``."""
    finished = {}
    for method in study.CHOSEN:
        for run in study.tuning(method):
            near = -abs(np.log(run.value / best[method]))
            finished[run] = {"val_accuracy": 0.9 + 0.01 * near, "test_accuracy": 0.0}
        for seed in study.SEEDS:
            accuracy = 0.9 + 0.01 * seed + gain[method]
            finished[Trial(method, best[method], seed)] = {"test_accuracy": accuracy}
    return finished


BEST = {"sgd": 0.055, "sam": 0.1, "sam2": study.RHOS[0], "rsam": 0.4}
GAIN = {"sgd": 0.0, "sam": 0.02, "sam2": 0.0, "rsam": -0.01}
CASE = study.Case("digits-mlp", 0.4, "digits")


def test_every_method_is_tuned_over_equally_many_values_on_seeds_of_its_own():
    plans = [study.tuning(method) for method in study.CHOSEN]
    assert len({len(plan) for plan in plans}) == 1
    assert not {run.seed for plan in plans for run in plan} & set(study.SEEDS)
    assert len(study.SEEDS) >= 5


def test_validation_chooses_and_test_samples_judge():
    rows = study.summary(CASE, records(CASE, BEST, gain=GAIN))
    found = {row["method"]: row for row in rows}
    assert {m: found[m]["chosen"] for m in study.CHOSEN} == BEST
    assert found["sam"]["accuracy"] == pytest.approx(94.0)
    assert found["sam"]["against_sgd"] == pytest.approx(2.0)
    assert found["rsam"]["against_sam"] == pytest.approx(-3.0)
    # the seeds' spread is common to all, so paired differences have none
    assert found["rsam"]["against_sam_high"] == pytest.approx(-3.0)
    assert found["sam"]["deviation"] == pytest.approx(np.std([0, 1, 2, 3, 4], ddof=1))
    assert [m for m in study.CHOSEN if found[m]["at_the_edge"]] == ["sam2"]
    assert "against_sgd" not in found["sgd"]


def test_an_interval_that_holds_zero_is_a_tie():
    row = {"against_sam_low": -0.1, "against_sam_high": 0.3}
    assert study.verdict(row, "sam") == "ties"
    assert study.verdict(row | {"against_sam_low": 0.1}, "sam") == "wins"
    assert study.verdict(row | {"against_sam_high": -0.05}, "sam") == "loses"


def test_the_page_keeps_what_people_wrote_and_gets_its_tables(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("above\n" + "old numbers\n".join(study.MARKS) + "\nbelow\n")
    rows = study.summary(CASE, records(CASE, BEST, gain=GAIN))
    for _ in range(2):
        study.fill(page, study.tables(rows, 1.25))
    text = page.read_text()
    assert text.startswith("above\n<!--")
    assert text.endswith("-->\nbelow\n")
    assert "old" not in text
    assert text.count("1.2 core hours") == 1
    assert "| R-SAM against SAM | 0 | 0 | 1 |" in text
    assert "| SAM against SGD | 1 | 0 | 0 |" in text
    assert "| 40 % | 92.0 ± 1.6 (0.055) | 94.0 ± 1.6 (0.1) | 92.0 ± 1.6 (0.013, edge)" in text
    assert "-3.0 [-3.0, -3.0] loses" in text
    page.write_text("no marks")
    with pytest.raises(study.typer.BadParameter, match="lacks the marks"):
        study.fill(page, "")
    assert page.read_text() == "no marks"


def test_small_images_are_means_of_four_pixels():
    images = np.arange(16.0).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(study.halved(images)[0, 0], [[2.5, 4.5], [10.5, 12.5]])


def test_nothing_is_said_before_all_seeds_are_there():
    finished = records(CASE, BEST, gain=GAIN)
    del finished[Trial("rsam", BEST["rsam"], 4)]
    assert study.summary(CASE, finished) == []
    del finished[study.tuning("sam")[0]]
    assert study.choice("sam", finished) is None


def test_labels_are_replaced_in_training_only():
    clean, noisy = (study.split_of(study.Case("digits-mlp", n, "digits"), 3) for n in (0.0, 0.4))
    assert 0.3 < (clean.y_train != noisy.y_train).mean() < 0.4  # a tenth draws its own class
    np.testing.assert_array_equal(clean.y_val, noisy.y_val)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)


def test_finished_runs_are_not_run_again(tmp_path, monkeypatch):
    """With all runs there the command makes the table and the figure, and trains nothing."""

    def refuse(*arguments, **options):
        raise AssertionError("it trains")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", refuse)
    for noise in study.NOISES:
        case = study.Case("digits-mlp", noise, "digits")
        file = Store(tmp_path / f"{case.name}.jsonl", case.key())
        for run, record in records(case, BEST, gain=GAIN).items():
            whole = {"method": run.method, "value": run.value, "seed": run.seed, "seconds": 1.0}
            file.add(run, whole | record)
    app = study.typer.Typer()
    app.command()(study.main)
    arguments = ["--only", "digits-mlp", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "study.csv").read_text().splitlines()))
    assert len(rows) == len(study.NOISES) * len(study.CHOSEN)
    assert "digits-mlp, labels replaced" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "study.png").stat().st_size > 5000


def test_the_committed_runs_are_those_of_these_settings():
    """What docs/study holds can be gone on with, and makes its table."""
    folder = study.Path("docs/study")
    for path in sorted(folder.glob("*.jsonl")):
        problem, noise = path.stem.rsplit("-", 1)
        case = study.Case(problem, int(noise) / 100, "")
        fingerprints = {json.loads(line)["settings"] for line in path.read_text().splitlines()}
        assert fingerprints == {Store(path, case.key()).fingerprint}, path


def test_the_committed_page_has_the_numbers_of_the_committed_runs():
    folder = study.Path("docs/study")
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert study.tables(*study.results(folder)) in page
