"""The table in docs/data.md: what we do with every kind of data is what it says."""

import re

import pytest

from rsam_ref.data.pictures import pillow
from tests.helpers import data_kinds

ROWS = dict(
    re.match(r"\| (.+?) \| (.*?) \|", line).groups()
    for line in data_kinds.in_the_page().splitlines()[2:]
)


def test_the_table_has_every_kind_and_no_other():
    assert list(ROWS) == [kind.title for kind in data_kinds.KINDS]
    assert len(ROWS) == len(data_kinds.in_the_page().splitlines()) - 2


@pytest.mark.parametrize("kind", data_kinds.KINDS, ids=lambda kind: kind.title)
def test_we_do_what_the_table_says(tmp_path, kind):
    if "parquet" in kind.title:
        pytest.importorskip("pyarrow", reason="pyarrow reads parquet files (the extra parquet)")
    if "avif" in kind.title and ".avif" not in pillow().registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    (folder := tmp_path / "set").mkdir()
    assert data_kinds.ours(kind, folder).replace("|", "/") == ROWS[kind.title]


@pytest.mark.frameworks
def test_torchvision_does_what_the_table_says():
    found = data_kinds.measured()
    if found is None:
        pytest.skip("torchvision is not installed beside us; make frameworks puts it there")
    answers = found["answers"]
    for line in data_kinds.in_the_page().splitlines()[2:]:
        _, title, _, theirs, _ = re.split(r"^\| | \| | \|$", line)
        assert answers[title] == theirs
