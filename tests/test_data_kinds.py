"""Data as people have them: every kind is read as what it is, and what is left out is told."""

import gzip
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rsam_ref.data import DataError, load_dataset
from tests.helpers import data_sets as made
from tests.helpers.files import idx_bytes, noise_images


def pixels(samples: Any) -> np.ndarray:
    """What the samples are before they are normalised."""
    x = samples.take(np.arange(len(samples)))
    return np.rint(x / samples._scale + samples._mean).astype(int)


def failure(where, **kwargs):
    with pytest.raises(DataError) as caught:
        load_dataset(where, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# MNIST and its kin


NAMES = {
    "its own": ("{part}-images-idx3-ubyte", "{part}-labels-idx1-ubyte"),
    "with a dot": ("{part}-images.idx3-ubyte", "{part}-labels.idx1-ubyte"),
    "one with a dot": ("{part}-images-idx3-ubyte", "{part}-labels.idx1-ubyte"),
    "torchvision's root": (
        "MNIST/raw/{part}-images-idx3-ubyte",
        "MNIST/raw/{part}-labels-idx1-ubyte",
    ),
    "torchvision's folder": ("raw/{part}-images-idx3-ubyte", "raw/{part}-labels-idx1-ubyte"),
    "folders of the same name": (
        "{part}-images-idx3-ubyte/{part}-images-idx3-ubyte",
        "{part}-labels-idx1-ubyte/{part}-labels-idx1-ubyte",
    ),
    "folders with a dash, files with a dot": (
        "{part}-images-idx3-ubyte/{part}-images.idx3-ubyte",
        "{part}-labels-idx1-ubyte/{part}-labels.idx1-ubyte",
    ),
}


@pytest.mark.parametrize("names", NAMES)
def test_mnist_is_read_under_all_its_names(tmp_path, names):
    data = load_dataset(made.mnist(tmp_path / "set", *NAMES[names]))
    assert data.classes == tuple("0123456789")
    np.testing.assert_array_equal(pixels(data.train)[:, 0], made.idx_images(60, seed=60))
    np.testing.assert_array_equal(pixels(data.test)[:, 0], made.idx_images(30, seed=30))
    np.testing.assert_array_equal(data.train.labels, np.arange(60) % 10)
    assert data.notes == ()
    assert data.name == ("MNIST" if names == "torchvision's root" else "set")


def test_packed_files_beside_unpacked_ones_are_one_set(tmp_path):
    made.mnist(tmp_path)
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(load_dataset(tmp_path).train) == 60


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_torchvisions_folders_tell_the_classes(tmp_path, name):
    made.mnist(tmp_path / name / "raw")
    first = {"FashionMNIST": "T-shirt/top", "KMNIST": "o"}[name]
    for where in (tmp_path, tmp_path / name):
        assert load_dataset(where).classes[0] == first


def test_several_of_torchvisions_sets_in_one_root_are_told_apart(tmp_path):
    for name in ("MNIST", "KMNIST"):
        made.mnist(tmp_path / name / "raw")
    assert failure(tmp_path).endswith(
        f"holds more than one set (MNIST, KMNIST); name one: {tmp_path / 'MNIST'} or "
        f"{tmp_path / 'KMNIST'}"
    )
    assert load_dataset(tmp_path / "KMNIST").classes[1] == "ki"


@pytest.mark.parametrize(
    ("images", "test"),
    [("qmnist-{part}-images-idx3-ubyte", "test"), ("{part}-images-idx3-ubyte", "t10k")],
    ids=["its own names", "MNIST's names"],
)
def test_the_class_of_qmnist_is_the_first_of_eight_columns(tmp_path, images, test):
    data = load_dataset(made.qmnist(tmp_path, images, test))
    np.testing.assert_array_equal(data.train.labels, np.arange(60) % 10)
    assert len(data.test) == 30
    assert data.notes == ("labels of 8 columns are QMNIST's: the class is the first of them",)


def test_a_wrong_label_of_qmnist_is_named_with_its_place(tmp_path):
    made.qmnist(tmp_path)
    path = tmp_path / "qmnist-train-labels-idx2-int"
    contents = bytearray(path.read_bytes())
    contents[12 + 32 * 5 + 3] = 99
    path.write_bytes(contents)
    assert "label 99 at byte 172, but there are 10" in failure(tmp_path)


SPLITS = {"letters": (26, 1, "a"), "balanced": (47, 0, "0"), "byclass": (62, 0, "0")}


@pytest.mark.parametrize("split", SPLITS)
def test_emnist_is_set_upright_and_its_labels_begin_at_0(tmp_path, split):
    classes, first, name = SPLITS[split]
    made.emnist(tmp_path, split, classes, first)
    data = load_dataset(tmp_path)
    assert (data.name, len(data.classes), data.classes[0]) == (f"emnist-{split}", classes, name)
    np.testing.assert_array_equal(data.train.labels, np.arange(60) % classes)
    stored = made.idx_images(60, seed=60)
    np.testing.assert_array_equal(pixels(data.train)[:, 0], stored.transpose(0, 2, 1))
    assert "stored transposed; they are set upright" in data.notes[0]


def test_a_split_of_emnist_is_chosen_by_the_beginning_of_its_files(tmp_path):
    made.emnist(made.emnist(tmp_path, "digits", 10, 0))
    message = failure(tmp_path)
    assert "holds more than one set (emnist-digits, emnist-letters)" in message
    assert str(tmp_path / "emnist-digits") in message
    assert load_dataset(tmp_path / "emnist-letters").classes[25] == "z"
    assert load_dataset(tmp_path / "emnist-digits").classes == tuple("0123456789")
    assert "no such folder" in failure(tmp_path / "emnist-balanced")


@pytest.mark.parametrize("below", ["raw", "EMNIST/raw"])
def test_each_split_of_emnist_is_named_where_it_is_found(tmp_path, below):
    made.emnist(made.emnist(tmp_path / below, "digits", 10, 0))
    for split, classes in (("digits", 10), ("letters", 26)):
        named = str(tmp_path / below / f"emnist-{split}")
        assert named in failure(tmp_path)
        assert len(load_dataset(named).classes) == classes


def test_both_cifars_in_a_folder_are_named(tmp_path):
    made.cifar100_py(made.cifar10_py(tmp_path))
    message = failure(tmp_path)
    for name, classes in (("cifar-10-batches-py", 10), ("cifar-100-python", 100)):
        assert str(tmp_path / name) in message
        assert len(load_dataset(tmp_path / name).classes) == classes


@pytest.mark.parametrize("split", SPLITS)
def test_emnist_under_mnists_names_is_said_to_look_like_it(tmp_path, split):
    classes, first, name = SPLITS[split]
    made.mnist(tmp_path, classes=classes, first=first, sizes=(70, 62))
    data = load_dataset(tmp_path)
    assert (len(data.classes), data.classes[0]) == (classes, name)
    np.testing.assert_array_equal(data.train.labels, np.arange(70) % classes)
    np.testing.assert_array_equal(pixels(data.train)[:, 0], made.idx_images(70, seed=70))
    assert "stored transposed, and are not set right under these names" in data.notes[0]


def test_names_from_1_on_are_those_of_labels_from_1_on(tmp_path):
    made.mnist(tmp_path, classes=3, first=1)
    (tmp_path / "classes.tsv").write_text("1\tone\n2\ttwo\n3\tthree\n")
    data = load_dataset(tmp_path)
    assert data.classes == ("one", "two", "three")
    np.testing.assert_array_equal(data.train.labels, np.arange(60) % 3)
    (tmp_path / "classes.tsv").write_text("0\tone\n1\ttwo\n2\tthree\n")
    assert "labels from 1 on need names from 1 on" in failure(tmp_path)
    made.mnist(tmp_path, classes=3)
    (tmp_path / "classes.tsv").write_text("1\tone\n2\ttwo\n3\tthree\n")
    assert "classes.tsv, which numbers them from 1: number them from 0" in failure(tmp_path)


def test_arrays_with_names_from_1_on_have_labels_from_1_on(tmp_path):
    made.arrays(tmp_path)
    (tmp_path / "classes.tsv").write_text("".join(f"{i}\tc{i}\n" for i in range(1, 11)))
    assert "y_train has label 0, but classes.tsv names 10 classes, from 1 on" in failure(tmp_path)
    held = dict(np.load(tmp_path / "mnist.npz"))
    np.savez(tmp_path / "mnist.npz", **{n: a + (n[0] == "y") for n, a in held.items()})
    data = load_dataset(tmp_path)
    assert data.classes[0] == "c1"
    np.testing.assert_array_equal(data.train.labels, np.arange(60) % 10)


# CIFAR as Python pickles


@pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5], ids=["python 2", "2", "3", "4", "5"])
@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar10_python_is_read(tmp_path, protocol, below):
    made.cifar10_py(tmp_path, protocol=protocol)
    data = load_dataset(tmp_path / below)
    assert (data.name, data.classes[3], data.shape) == ("cifar10", "c3", (3, 32, 32))
    stored = np.concatenate([noise_images(7, seed=s) for s in (0, 1)])
    np.testing.assert_array_equal(pixels(data.train), stored)
    np.testing.assert_array_equal(data.test.labels, (np.arange(7) + 2) % 10)


@pytest.mark.parametrize("below", ["", "cifar-100-python"])
def test_cifar100_python_is_read_with_its_fine_labels(tmp_path, below):
    data = load_dataset(made.cifar100_py(tmp_path) / below)
    assert (data.name, data.classes[93]) == ("cifar100", "f93")
    np.testing.assert_array_equal(data.train.labels, 90 + np.arange(7))
    np.testing.assert_array_equal(pixels(data.test), noise_images(7, seed=1))


def test_both_versions_of_cifar_are_the_same_data(tmp_path):
    from tests.test_datasets import write_cifar10

    binary = load_dataset(write_cifar10(tmp_path / "binary"))
    python = load_dataset(made.cifar10_py(tmp_path / "python"))
    assert binary.fingerprint == python.fingerprint


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_cifar_pickle_cut_short_anywhere_is_named(tmp_path, name):
    path = made.cifar10_py(tmp_path, protocol=4) / "cifar-10-batches-py" / name
    contents = path.read_bytes()
    for twentieth in range(20):
        path.write_bytes(contents[: len(contents) * twentieth // 20])
        assert str(path) in failure(tmp_path)


def test_a_cifar_pickle_with_a_wrong_label_is_named(tmp_path):
    made.cifar10_py(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(made.python2_pickle(np.zeros((2, 3072), "u1"), [3, 11], "labels"))
    assert "label 11 of image 1, but there are 10 classes" in failure(tmp_path)
    path.write_bytes(made.python2_pickle(np.zeros((2, 3072), "u1"), [3], "labels"))
    assert "has 2 images, and no whole number for each" in failure(tmp_path)
    path.write_bytes(made.python2_pickle(np.zeros((2, 99), "u1"), [3, 1], "labels"))
    assert "no rows of 3,072 bytes" in failure(tmp_path)


# NumPy's files


PAIRS = {
    "mnist.npz": {
        "mnist.npz": {
            "x_train": ("x", 60), "y_train": ("y", 60), "x_test": ("x", 30), "y_test": ("y", 30),
        }
    },
    "npy": {
        "train_images.npy": {"": ("x", 60)}, "train_labels.npy": {"": ("y", 60)},
        "test_images.npy": {"": ("x", 30)}, "test_labels.npy": {"": ("y", 30)},
    },
    "npy, capitals": {
        "X_train.npy": {"": ("x", 60)}, "y_train.npy": {"": ("y", 60)},
        "X_val.npy": {"": ("x", 30)}, "y_val.npy": {"": ("y", 30)},
    },
    "Kuzushiji's": {
        f"kmnist-{part}-{kind}.npz": {"arr_0": (letter, n)}
        for part, n in (("train", 60), ("test", 30))
        for kind, letter in (("imgs", "x"), ("labels", "y"))
    },
    "a file a part": {
        "train.npz": {"images": ("x", 60), "labels": ("y", 60)},
        "test.npz": {"images": ("x", 30), "labels": ("y", 30)},
    },
}  # fmt: skip


@pytest.mark.parametrize("pairs", PAIRS)
def test_numpys_files_are_read(tmp_path, pairs):
    data = load_dataset(made.arrays(tmp_path, PAIRS[pairs]))
    np.testing.assert_array_equal(pixels(data.train)[:, 0], made.idx_images(60, seed=60))
    np.testing.assert_array_equal(pixels(data.test)[:, 0], made.idx_images(30, seed=30))
    np.testing.assert_array_equal(data.train.labels, np.arange(60) % 10)


def test_one_npz_is_a_data_set_and_a_part_not_used_is_told(tmp_path):
    """As MedMNIST has them: three parts, and labels in a column."""
    x, y = noise_images(12).transpose(0, 2, 3, 1), np.arange(12)[:, None] % 3
    parts = {
        f"{part}_{kind}": value[:n]
        for part, n in (("train", 12), ("val", 4), ("test", 5))
        for kind, value in (("images", x), ("labels", y))
    }
    np.savez(tmp_path / "a.npz", **parts)
    made.arrays(tmp_path / "other")
    data = load_dataset(tmp_path / "a.npz")
    np.testing.assert_array_equal(pixels(data.train), noise_images(12))
    assert (len(data.test), len(data.classes), data.name) == (4, 3, "a")
    assert data.notes == ("test is not used (5 samples): val is tested on",)


def test_fractions_become_bytes_and_are_told(tmp_path):
    made.arrays(tmp_path)
    held = dict(np.load(tmp_path / "mnist.npz"))
    held["x_train"] = (held["x_train"] / 255).astype(np.float32)
    np.savez(tmp_path / "mnist.npz", **held)
    data = load_dataset(tmp_path)
    np.testing.assert_array_equal(pixels(data.train)[:, 0], made.idx_images(60, seed=60))
    assert "fractions from 0 to 1 are brought to 0 .. 255" in data.notes[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("y_train", np.eye(10)[np.arange(60) % 10], "mnist.npz: y_train holds values of shape"),
        ("y_train", np.eye(10)[np.arange(60) % 10], "take argmax(1)"),
        ("y_test", np.arange(30) - 1, "y_test has label -1; number the classes from 0 on"),
        ("y_test", np.arange(30) * 10**12, "has a label 29000000000000 among 90 samples; number"),
        ("y_test", np.full(30, 2**64 - 1, np.uint64), "has label 18446744073709551615; number"),
        ("y_test", np.zeros(0, int), "y_test holds no label"),
        ("y_test", np.arange(29), "has 30 images of test, but 29 labels"),
        ("x_train", np.zeros((60, 784), np.uint8), "x_train holds images of shape (60, 784)"),
        ("x_train", np.zeros((0, 28, 28), np.uint8), "x_train holds no image: its shape is (0, 28"),
        (
            "x_test",
            np.full((30, 28, 28), 200, np.float32),
            "(float32); images are bytes, or fractio",
        ),
        ("x_test", np.full((30, 28, 28), 200, np.float32), "from 0 to 1; save it as uint8"),
        ("x_test", np.ones((30, 28, 28), bool), "x_test holds bool; save it as uint8, 0 to 255"),
        ("x_test", np.zeros((30, 14, 14), np.uint8), "of shape (1, 28, 28) in train, (1, 14, 14)"),
        ("x_test", np.full((30, 28, 28), 300.0), "holds values from 300 to 300 (float64)"),
        ("x_test", np.full((30, 28, 28), None), "holds objects, which would have to be unpickled"),
        ("x_test", None, "has no images of test"),
    ],
    ids=[
        "one-hot",
        "argmax",
        "negative",
        "wild",
        "beyond int64",
        "no label",
        "count",
        "flat",
        "no image",
        "floats",
        "save",
        "bool",
        "size",
        "range",
        "objects",
        "missing",
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, name, value, words):
    made.arrays(tmp_path)
    held = dict(np.load(tmp_path / "mnist.npz"))
    held.pop(name)
    np.savez(tmp_path / "mnist.npz", **held, **({} if value is None else {name: value}))
    assert words in failure(tmp_path)


def test_arrays_of_no_known_name_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=np.zeros((4, 8, 8)), classes=np.zeros(4, int))
    message = failure(tmp_path)
    assert "has a.npz pixels, a.npz classes, and none that is called x_train, y_train" in message


def test_files_that_are_called_arrays_and_are_none_are_named(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"PAR1")
    assert "mnist.npz: is no file of NumPy's" in failure(tmp_path)
    made.arrays(tmp_path)
    contents = (tmp_path / "mnist.npz").read_bytes()
    for twentieth in range(1, 20):
        (tmp_path / "mnist.npz").write_bytes(contents[: len(contents) * twentieth // 20])
        assert "mnist.npz: is damaged" in failure(tmp_path)


# What all kinds share


def test_classes_without_a_sample_are_told(tmp_path):
    made.mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(30, dtype="u1") % 7))
    notes = load_dataset(tmp_path).notes
    assert notes == ("3 of 10 classes without a sample to test on: 7, 8, 9",)


def test_what_holds_no_set_is_told_by_what_lies_there(tmp_path):
    made.class_folders(tmp_path, {".": 2})
    message = failure(tmp_path)
    assert "holds no data set but cat, dog and no train/ and val/" in message
    assert "put some pictures of each into train/CLASS/" in message
    made.class_folders(tmp_path, {"val": 2})
    assert "has val/ but no train/ beside it" in failure(tmp_path)


def test_a_set_in_a_folder_below_is_named(tmp_path):
    made.class_folders(tmp_path / "pictures" / "x")
    made.emnist(tmp_path / "letters" / "gzip")
    made.with_metadata(tmp_path / "table" / "data")
    for name in ("pictures/x", "letters/gzip", "table/data"):
        path = tmp_path / name
        assert failure(path.parent).endswith(f": holds no data set itself; give {path}")
        load_dataset(path)


def test_a_file_in_the_place_of_its_folder_is_told(tmp_path):
    made.mnist(tmp_path)
    assert failure(tmp_path / "train-images-idx3-ubyte").endswith(f"give its folder, {tmp_path}")
    for name in ("cifar.tar.gz", "data.npz"):
        assert "no such file; a set is given by its folder" in failure(tmp_path / name)
    (tmp_path / "cifar.tar.gz").touch()
    assert "is a file; unpack it and give the folder" in failure(tmp_path / "cifar.tar.gz")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "test_batch.bin", "mnist.npz"])
def test_a_pointer_of_git_lfs_is_no_damaged_file(tmp_path, name):
    from tests.test_datasets import write_cifar10

    writers: dict[str, Any] = {"train": made.mnist, "test_": write_cifar10, "mnist": made.arrays}
    writers[name[:5]](tmp_path)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    assert f"{name}: is a pointer of Git LFS, not the file itself; get it" in failure(tmp_path)


@pytest.mark.parametrize(
    "held_out", ["val", "valid", "validation", "test", "testing", "Val", "Test", "VALID"]
)
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_parts_go_by_many_names(tmp_path, train, held_out):
    made.class_folders(tmp_path, {train: 3, held_out: 2})
    data = load_dataset(tmp_path, image_size=8)
    assert (len(data.train), len(data.test), data.notes) == (6, 4, ())


def test_a_part_that_is_not_used_is_told_with_its_number(tmp_path):
    made.class_folders(tmp_path, {"train": 3, "test": 5, "valid": 2})
    data = load_dataset(tmp_path, image_size=8)
    assert len(data.test) == 4
    assert data.notes == ("test/ is not used (10 files): valid/ is tested on",)


def test_a_picture_of_the_wrong_mode_is_still_a_picture(tmp_path):
    made.class_folders(tmp_path)
    made.save(tmp_path / "train" / "cat" / "x.png", Image.new("1", (9, 9)))
    assert len(load_dataset(tmp_path, image_size=8).train) == 13
