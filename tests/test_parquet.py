"""Data sets as Hugging Face keeps them: parquet files with a column of encoded pictures."""

import builtins
import json

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


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("birds/{part}.parquet", "cars/{part}.parquet", "(parquet in birds/, parquet in cars/); "),
        ("birds/{part}.parquet", "cars/{part}/0000.parquet", "(parquet in birds/, parquet in cars"),
        ("a/{part}/0000.parquet", "b/{part}/0000.parquet", "(parquet in a/, parquet in b/); name"),
        ("a/b/{part}.parquet", "a/c/{part}.parquet", "(parquet in a/b/, parquet in a/c/); name"),
        ("{part}.parquet", "data/{part}.parquet", "(parquet, parquet in data/); give each a"),
        ("{part}.parquet", "{part}/0000.parquet", "has train in "),
        ("{part}.parquet", "{part}-00000-of-00001.parquet", "has train more than once, cut into"),
        (
            "{part}-00000-of-00001.parquet",
            "{part}-00000-of-00001-ab12.parquet",
            "has the number of train-00000-of-00001-ab12.parquet; keep one of them",
        ),
    ],
)
def test_two_sets_are_never_poured_together(tmp_path, first, second, words):
    made.parquet(tmp_path, first)
    made.parquet(tmp_path, second, {"train": 4, "test": 2})
    assert words in failure(tmp_path)


def test_one_of_several_sets_is_read_by_its_folder(tmp_path):
    made.parquet(tmp_path / "birds")
    made.parquet(tmp_path, "cars/{part}.parquet", {"train": 4, "test": 2})
    assert f"name one: {tmp_path / 'birds/data'} or {tmp_path / 'cars'}" in failure(tmp_path)
    assert len(load(tmp_path / "cars").train) == 4


def test_a_copy_in_a_hidden_folder_is_no_set(tmp_path):
    made.parquet(tmp_path)
    made.parquet(tmp_path, ".cache/{part}.parquet")
    assert len(load(tmp_path).train) == 6


def test_old_and_new_files_of_a_part_are_not_one(tmp_path):
    made.parquet(tmp_path, "{part}-00000-of-00001.parquet")
    made.parquet(tmp_path, "{part}-00000-of-00002.parquet", {"train": 3})
    made.parquet(tmp_path, "{part}-00001-of-00002.parquet", {"train": 3})
    message = failure(tmp_path)
    assert "(train-00000-of-00001.parquet and train-00000-of-00002.parquet); keep one" in message


def test_files_that_are_missing_are_named(tmp_path):
    made.parquet(tmp_path, "{part}-00000-of-00001.parquet", {"test": 4})
    for i in (0, 2):
        made.parquet(tmp_path, f"{{part}}-0000{i}-of-00004.parquet", {"train": 3})
    assert "has 2 of the 4 files of train; missing are 00001, 00003: get them" in failure(tmp_path)


def test_two_series_of_files_of_a_part_are_told(tmp_path):
    made.parquet(tmp_path)
    made.parquet(tmp_path, "data/{part}_more-00000-of-00001.parquet", {"train": 2})
    assert load(tmp_path).notes == ("train is all of train, train_more",)


def test_classes_that_are_numbered_otherwise_are_matched_by_name(tmp_path):
    made.parquet(tmp_path, "{part}.parquet", {"train": 6})
    made.parquet(tmp_path, "{part}.parquet", {"test": 4}, names=("yak", "dog", "cat"))
    write(tmp_path / "train_1.parquet", image=pictures(2), label=[1, 0])  # tells no names
    assert "test.parquet#0: is of the class yak, of 2 known" in failure(tmp_path)
    made.parquet(tmp_path, "{part}.parquet", {"test": 4}, names=("dog", "cat", "yak"))
    made.parquet(tmp_path, "{part}_2.parquet", {"train": 2}, names=("dog", "cat"))
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 1] * 3 + [1, 0] + [1, 0]
    assert data.test.labels.tolist() == [1, 0] * 2
    told = "does not name the classes as train.parquet does: they are matched by name"
    assert data.notes == (f"train_2.parquet {told}", f"test.parquet {told}")


def test_columns_that_are_not_used_are_told(tmp_path):
    told = json.dumps({"info": {"features": {"thumb": {"_type": "Image"}}}})
    for part in ("train", "test"):
        table = {"thumb": pictures(2), "photo": pictures(2), "label": [0, 1], "target": [1, 0]}
        table = pa.table(table).replace_schema_metadata({"huggingface": told})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    assert load(tmp_path).notes == (
        "the pictures are those of the column thumb; not used: photo",
        "the classes are those of the column label; not used: target",
    )


def test_what_lies_beside_parquet_files_is_told(tmp_path):
    made.parquet(tmp_path)
    made.class_folders(tmp_path)
    made.arrays(tmp_path)
    assert load(tmp_path).notes == (
        "mnist.npz not read, but the parquet files",
        "train/ not read, but the parquet files",
    )


def test_a_pointer_of_git_lfs_is_known(tmp_path):
    made.parquet(tmp_path, "{part}.parquet")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (tmp_path / "test.parquet").write_text(pointer)
    assert "test.parquet: is a pointer of Git LFS, not the file itself" in failure(tmp_path)
    assert "git lfs pull" in failure(tmp_path)


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
        ({"image": [*pictures(1), None], "label": [0, 1]}, "leave out what is damaged: --skip-da"),
        ({"image": pictures(2), "label": [0.0, 1.0]}, "has a column label of type double; a class"),
        ({"image": pictures(2), "label": [[0], [1]]}, "has a column label of type list<"),
        ({"image": pictures(2), "label": [b"a", b"b"]}, "has a column label of type binary"),
        ({"image": pictures(2), "label": [0, 10**12]}, "has a label 1000000000000 among 2 samples"),
        ({"image": pictures(2), "label": ["a", "b"]}, "test.parquet#0: is of the class 0, of 2 kn"),
    ],
    ids=[
        "no picture", "no class", "two pictures", "two classes", "null", "negative", "no bytes",
        "the way out", "float", "list", "bytes", "wild", "words and numbers",
    ],
)  # fmt: skip
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
