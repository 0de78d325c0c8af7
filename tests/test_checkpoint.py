"""Checkpoints: whole or not there, and a damaged one is known, whatever was done to it."""

import errno
import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsam_ref.training import checkpoint
from rsam_ref.training.checkpoint import CheckpointError

ARRAYS = {
    "model.weight": np.linspace(-1, 1, 24, dtype="float32").reshape(4, 6),
    "optimizer.velocity": np.array([np.pi, -0.0, 5e-324]),
    "empty": np.zeros((0, 3), "float32"),
}
STATE = {"step": 7, "pending": [[0.1, 1 / 3]], "values": {"optimizer.steps": 7, "none": None}}


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    path = checkpoint.save(tmp_path, 7, ARRAYS, STATE)
    arrays, state = checkpoint.load(path)
    assert state == STATE
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].tobytes() == array.tobytes()
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape


@pytest.mark.parametrize(
    "laid_out",
    [np.asfortranarray, lambda a: a[:, ::2], lambda a: a.T, lambda a: a.astype(">f8")],
    ids=["fortran", "strided", "transposed", "big-endian"],
)
def test_an_array_comes_back_however_it_lies_in_memory(tmp_path, laid_out):
    array = laid_out(np.arange(12.0).reshape(3, 4))
    arrays, _ = checkpoint.load(checkpoint.save(tmp_path, 1, {"a": array}, {}))
    assert np.array_equal(arrays["a"], array)


def test_numbers_that_numpy_does_not_have_are_one_clear_error(tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    told = {
        "__metadata__": {"rsam_ref": "{}", "sha256": ""},
        "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
    }
    header = json.dumps(told).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="holds numbers that NumPy does not have"):
        checkpoint.load(path)


def test_the_newest_two_are_kept_and_nothing_else_is_left(tmp_path):
    for step in (5, 10, 1_000_000_000, 15):
        checkpoint.save(tmp_path, step, ARRAYS, {"step": step})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000000015.safetensors", "step-1000000000.safetensors"]
    assert checkpoint.load_newest(tmp_path)[2] == {"step": 1_000_000_000}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("whole"), 1, ARRAYS, STATE).read_bytes()


@given(data=st.data())
def test_any_changed_byte_is_noticed(data, whole, tmp_path_factory):
    place = data.draw(st.integers(0, len(whole) - 1), "place")
    change = data.draw(st.integers(1, 255), "change")
    path = tmp_path_factory.mktemp("changed") / "step-000000001.safetensors"
    path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
    try:
        arrays, state = checkpoint.load(path)
    except CheckpointError as error:
        message = str(error)
    else:  # white space of the header, which nothing depends on
        assert state == STATE
        assert all(arrays[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
        return
    assert "\n" not in message
    assert str(path) in message


@pytest.mark.parametrize("twentieth", range(20))
def test_a_cut_file_is_noticed(twentieth, whole, tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes(whole[: len(whole) * twentieth // 20])
    with pytest.raises(CheckpointError, match=r"step-000000001.safetensors: is damaged"):
        checkpoint.load(path)


def folder(path):
    path.mkdir()


def foreign(path):
    from safetensors.numpy import save_file

    save_file({"weight": np.ones(3)}, path)


def forbidden(path):
    path.write_bytes(b"secret")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read: no such file"),
        (folder, "cannot be read: is a directory"),
        (foreign, "is no checkpoint of rsam-ref"),
        (forbidden, "cannot be read: permission denied"),
        (lambda path: path.write_bytes(b"\x80\x04\x95pickle"), "is damaged"),
    ],
    ids=["missing", "a folder", "foreign", "no permission", "a pickle"],
)
def test_a_file_that_is_no_checkpoint_is_one_clear_error(make, message, tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_newest_one_gives_way_to_the_one_before(tmp_path):
    checkpoint.save(tmp_path, 5, ARRAYS, {"step": 5})
    newest = checkpoint.save(tmp_path, 10, ARRAYS, {"step": 10})
    newest.write_bytes(newest.read_bytes()[:-1])
    path, _, state, damaged = checkpoint.load_newest(tmp_path)
    assert (path.name, state) == ("step-000000005.safetensors", {"step": 5})
    assert len(damaged) == 1
    assert str(newest) in str(damaged[0])
    assert newest.with_name(newest.name + ".damaged").exists()  # and nothing is thrown away


def test_without_a_whole_one_the_error_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint in it"):
        checkpoint.load_newest(tmp_path)
    path = checkpoint.save(tmp_path, 5, ARRAYS, {})
    path.write_bytes(b"")
    for _ in range(2):  # it is left where it is, so the second look says the same
        with pytest.raises(CheckpointError, match="no checkpoint in it is whole"):
            checkpoint.load_newest(tmp_path)
    assert path.exists()


def test_one_that_cannot_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, ARRAYS, {"step": 5})
    newest = checkpoint.save(tmp_path, 10, ARRAYS, {"step": 10})

    def failing(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "safe_open", failing)
        with pytest.raises(CheckpointError, match="cannot be read: input/output error"):
            checkpoint.load_newest(tmp_path)
    assert checkpoint.load_newest(tmp_path)[0] == newest


@contextmanager
def no_room(failing, monkeypatch):
    """A disk that takes no more: it shows when flushing, when naming, or while writing."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "writing":  # the system itself refuses, after the first 100 bytes
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            yield "File too large"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    else:
        with monkeypatch.context() as patch:
            where = (os, "fsync") if failing == "flushing" else (Path, "replace")
            patch.setattr(*where, full)
            yield "No space left"


@pytest.mark.parametrize("failing", ["writing", "flushing", "naming"])
def test_a_full_disk_leaves_the_old_ones_alone(failing, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, ARRAYS, {"step": 5})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_room(failing, monkeypatch) as message, pytest.raises(OSError, match=message) as caught:
        checkpoint.save(tmp_path, 10, ARRAYS, {"step": 10})
    assert caught.value.filename.endswith("step-000000010.safetensors")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_nested_state_is_taken_apart_and_put_together():
    tree = {"steps": 3, "base": {"steps": 3, "velocity": np.ones(2), "mean": None}}
    arrays, values = checkpoint.flatten(tree, "optimizer")
    assert list(arrays) == ["optimizer.base.velocity"]
    values = json.loads(json.dumps(values))
    other = {"model.base.velocity": np.zeros(2)}
    again = checkpoint.unflatten({**arrays, **other}, values, "optimizer")
    assert again.pop("base").pop("velocity") is arrays["optimizer.base.velocity"]
    assert again == {"steps": 3}
