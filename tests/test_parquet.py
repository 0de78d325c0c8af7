"""Data sets as Hugging Face keeps them: parquet files with a column of encoded pictures."""

import builtins

import numpy as np
import pytest

from rsam_ref.data import DataError, find_damaged, load_dataset
from rsam_ref.data.parquet import _pyarrow
from tests.helpers import data_sets as made

pa = pytest.importorskip("pyarrow", reason="pyarrow reads parquet files (the extra parquet)")
pq = pytest.importorskip("pyarrow.parquet")


def load(folder, **kwargs):
    return load_dataset(folder, image_size=8, **kwargs)


def failure(folder, **kwargs):
    with pytest.raises(DataError) as caught:
        load(folder, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def pictures(n):
    return [{"bytes": made.encoded(made.picture(i)), "path": None} for i in range(n)]


@pytest.mark.parametrize(
    "name",
    [
        "data/{part}-00000-of-00001.parquet",
        "{part}-00000-of-00001.parquet",
        "plain_text/{part}-00000-of-00001-abc123.parquet",
        "{part}/0000.parquet",
        "{part}.parquet",
        "mnist/{part}/0000.parquet",
    ],
)
def test_parquet_is_read_where_it_lies(tmp_path, name):
    data = load(made.parquet(tmp_path, name))
    assert data.classes == made.CLASSES
    assert data.train.labels.tolist() == [0, 1] * 3
    assert data.test.labels.tolist() == [0, 1] * 2
    assert data.notes == ()


def test_pictures_are_those_of_an_image_folder_to_the_bit(tmp_path):
    table = load(made.parquet(tmp_path / "table"), augment="inception")
    for i in range(6):
        made.save(tmp_path / "folder/train" / made.CLASSES[i % 2] / f"{i}.png", made.picture(i))
        made.save(tmp_path / "folder/val" / made.CLASSES[i % 2] / f"{i}.png", made.picture(i))
    files = load(tmp_path / "folder", augment="inception")
    order = [int(name.split("/")[-1][0]) for name in files.train.names]
    from rsam_backends import Stream

    index = np.array([order.index(i) for i in range(6)])
    np.testing.assert_array_equal(table.train.take(np.arange(6)), files.train.take(index))
    np.testing.assert_array_equal(
        table.train.take(np.arange(6), Stream("a", 1)), files.train.take(index, Stream("a", 1))
    )


def test_several_files_of_a_part_are_one_after_the_other(tmp_path):
    made.parquet(tmp_path, "{part}-00000-of-00002.parquet")
    made.parquet(tmp_path, "{part}-00001-of-00002.parquet", {"train": 3, "test": 1})
    data = load(tmp_path)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert data.train.names[-1] == "train-00001-of-00002.parquet#2"


def test_a_part_that_is_not_used_is_told(tmp_path):
    made.parquet(tmp_path, parts={"train": 4, "test": 4, "validation": 2})
    data = load(tmp_path)
    assert len(data.test) == 2
    assert data.notes == ("test is not used (4 rows): validation is tested on",)


@pytest.mark.parametrize("words", [False, True])
def test_classes_that_are_not_told_are_the_labels(tmp_path, words):
    data = load(made.parquet(tmp_path, names=None, words=words))
    assert data.classes == (made.CLASSES if words else ("0", "1"))
    assert data.train.labels.tolist() == [0, 1] * 3


def test_plain_bytes_are_pictures_too(tmp_path):
    for part in ("train", "test"):
        raw = [made.encoded(made.picture(i), "JPEG") for i in range(3)]
        write(tmp_path / f"{part}.parquet", img=raw, fine_label=[0, 1, 2], coarse_label=[0, 0, 1])
    data = load(tmp_path)
    assert data.train.labels.tolist() == [0, 1, 2]
    assert data.train.take(np.arange(3)).shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["a"], "label": [0]}, "has no column of pictures"),
        ({"image": pictures(1), "text": ["a"]}, "has no column of classes"),
        ({"a": pictures(1), "b": pictures(1), "label": [0]}, "has 2 columns of pictures"),
        ({"image": pictures(1), "x": [0], "z": [1]}, "has 2 columns of classes"),
        ({"image": pictures(2), "label": [0, None]}, "row 1 has no label"),
        ({"image": pictures(2), "label": [0, -1]}, "has a label -1; number the classes from 0"),
        ({"image": [*pictures(1), None], "label": [0, 1]}, "train.parquet#1: holds no bytes of a"),
    ],
    ids=["no picture", "no class", "two pictures", "two classes", "null", "negative", "no bytes"],
)
def test_tables_that_do_not_fit_are_named(tmp_path, columns, words):
    made.parquet(tmp_path, "{part}.parquet", names=None)
    write(tmp_path / "train.parquet", **columns)
    message = failure(tmp_path)
    assert words in message


def test_a_label_beyond_the_classes_is_named(tmp_path):
    made.parquet(tmp_path, "{part}.parquet", names=("cat",))
    assert "train.parquet#1: is of the class 1, of 1 known" in failure(tmp_path)


def test_a_file_cut_short_anywhere_is_named(tmp_path):
    path = made.parquet(tmp_path, "{part}.parquet") / "test.parquet"
    contents = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(contents[: len(contents) * tenth // 10])
        assert f"{path}: is damaged, or no parquet file" in failure(tmp_path)


def test_damaged_pictures_are_found_and_left_out(tmp_path):
    made.parquet(tmp_path, "{part}.parquet", names=None)
    rows = pictures(6)
    rows[1]["bytes"] = rows[1]["bytes"][:500]
    rows[4] = None
    write(tmp_path / "train.parquet", image=rows, label=[0, 1] * 3)
    found = find_damaged(tmp_path)
    assert found.keys() == {"train.parquet#1", "train.parquet#4"}
    assert found["train.parquet#4"] == "holds no bytes of a picture"
    data = load(tmp_path, skip=found)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    data.train.take(np.arange(4))


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    made.parquet(tmp_path)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    _pyarrow.cache_clear()
    try:
        assert 'pip install "rsam-ref[parquet]"' in failure(tmp_path)
    finally:
        _pyarrow.cache_clear()
