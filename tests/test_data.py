"""The embedded digits are whole, and a data file that is not what it should be says so."""

import gzip
import hashlib

import numpy as np
import pytest

from rsam_ref.data import DataError, digits, digits_split, read_idx
from tests.helpers.files import idx_bytes

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_the_digits_are_the_published_ones():
    images, labels = digits()
    assert images.shape == (1797, 8, 8)
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    fingerprint = hashlib.sha256(images.tobytes() + labels.astype("u1").tobytes()).hexdigest()
    assert fingerprint.startswith("87ff0c9e40dc7e2c")
    assert images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]  # the first row of the first digit


def test_a_split_is_a_partition_and_fixed_by_its_seed():
    a, b, other = digits_split(3), digits_split(3), digits_split(4)
    assert [len(part) for part in (a.x_train, a.x_val, a.x_test)] == [898, 449, 450]
    rows = np.concatenate([a.x_train, a.x_val, a.x_test])
    images = digits()[0].reshape(1797, 64)
    steps = np.unique(rows)  # the 17 values 0 .. 16 of a pixel, shifted and scaled
    pixels = np.searchsorted(steps, rows)
    assert len(steps) == 17
    assert sorted(map(bytes, pixels.astype("u1"))) == sorted(map(bytes, images))
    np.testing.assert_array_equal(a.x_test, b.x_test)
    assert not np.array_equal(a.y_train, other.y_train)
    assert abs(a.x_train.mean()) < 1e-5
    assert a.x_train.std() == pytest.approx(1, abs=1e-5)


def test_label_noise_changes_training_labels_only():
    clean, noisy = digits_split(0), digits_split(0, label_noise=0.4)
    changed = (clean.y_train != noisy.y_train).mean()
    assert 0.3 < changed < 0.4  # a tenth of the replaced ones hit the right class by chance
    np.testing.assert_array_equal(clean.y_val, noisy.y_val)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)
    with pytest.raises(ValueError, match="label noise is a share"):
        digits_split(0, label_noise=1.5)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4")]
)
def test_idx_files_of_every_type_are_read(tmp_path, pack, code, dtype):
    path = tmp_path / "images"
    path.write_bytes(pack(idx_bytes(IMAGES.astype(dtype), code)))
    read = read_idx(path)
    np.testing.assert_array_equal(read, IMAGES)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")


GOOD = idx_bytes(IMAGES)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "starts with nothing at byte 0"),
        (b"\x80\x04pickle", "starts with 80 04 70 69 at byte 0"),
        (GOOD[:9], "ends at byte 9, inside its header of 16 bytes"),
        (GOOD[:-1], "39 bytes, but .* make 40"),
        (GOOD + b"x", "41 bytes, but .* make 40"),
        (gzip.compress(GOOD, mtime=0)[:-9], "the gzip data is damaged"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 30, "the gzip data is damaged"),
    ],
)
def test_a_broken_idx_file_is_one_clear_error(tmp_path, contents, message):
    path = tmp_path / "images.gz"
    path.write_bytes(contents)
    with pytest.raises(DataError, match=f"images.gz: .*{message}"):
        read_idx(path)


def test_an_idx_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="images: is a folder where a file should be"):
        read_idx(tmp_path / "images")
    with pytest.raises(DataError, match="labels: cannot be read: no such file or directory"):
        read_idx(tmp_path / "labels")


def test_an_idx_file_cut_short_at_any_byte_is_one_clear_error(tmp_path):
    path = tmp_path / "images"
    for contents in (GOOD, gzip.compress(GOOD, mtime=0)):
        for n in range(len(contents)):
            path.write_bytes(contents[:n])
            with pytest.raises(DataError, match=r"images: .*; fetch the file again$") as caught:
                read_idx(path)
            assert "\n" not in str(caught.value)
