"""Pickles of plain data are read, and nothing that one names is ever called."""

import collections
import operator
import pickle
import pickletools

import numpy as np
import pytest

from rsam_ref.data import DataError
from rsam_ref.data.pickles import read_pickle
from tests.helpers.data_sets import python2_pickle

PLAIN = {
    "numbers": [0, 1, 255, 256, 70_000, -5, 2**40, 1.5, True, False, None],
    "text": ["", "a", "é\n", "x" * 300],
    "bytes": [b"", b"\xff\x00", b"y" * 300],
    "nested": {"a": [1, (2, 3), (), (4,), (5, 6, 7, 8), {}, []], b"b": {"c": "d"}},
    "shared": [[1, 2]] * 3,
}


def read(contents):
    return read_pickle("some.pkl", contents)


def refusal(contents):
    with pytest.raises(DataError) as caught:
        read(contents)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("some.pkl: ")
    return message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_are_read_as_python_reads_them(name, protocol):
    contents = pickle.dumps(PLAIN[name], protocol)
    assert read(contents) == PLAIN[name]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["u1", "i4", "<i8", ">i2", "f4", "f8", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4), (2, 3, 4)])
def test_arrays_are_read_to_the_last_value(protocol, dtype, shape):
    array = np.asarray(np.random.default_rng(0).random(shape) * 100).astype(dtype)
    found = read(pickle.dumps({"a": array, "again": [array]}, protocol))
    np.testing.assert_array_equal(found["a"], array)
    assert found["a"].dtype == array.dtype
    np.testing.assert_array_equal(found["again"][0], array)


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_by_columns_are_read(protocol):
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(read(pickle.dumps(array, protocol)), array)


def test_what_python_2_wrote_is_read():
    rows = np.arange(256, dtype=np.uint8).reshape(4, 64)
    contents = python2_pickle(rows, [1, 2, 3, 4], "labels")
    found = read(contents)
    assert found.keys() == {"data", "labels"}
    np.testing.assert_array_equal(found["data"], rows)
    assert found["labels"] == [1, 2, 3, 4]
    python = pickle.loads(contents, encoding="latin1")  # the test's own, of bytes made above
    np.testing.assert_array_equal(python["data"], rows)


class Calling:
    """Pickled, it asks for a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Own:
    pass


CALLED: list[tuple] = []


def note_down(*arguments):
    CALLED.append(arguments)


FOREIGN = {
    "OrderedDict": collections.OrderedDict(a=1),
    "len": Calling(len, "abc"),
    "a name alone": len,
    "a class of one's own": Own(),
    "operator": Calling(operator.add, 1, 2),
    "a call that would leave a trace": Calling(note_down, "called"),
    "set": {1, 2},
    "complex": 1j,
    "range": range(3),
    "slice": slice(1, 2),
    "an array of objects": np.array([{}, None], object),
    "a dtype alone": np.dtype("u1"),
    "a structured array": np.zeros(2, [("a", "u1")]),
    "text in an array": np.array(["a", "b"]),
    "a scalar of NumPy": np.float64(3),
    "a random generator": np.random.default_rng(0),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", FOREIGN)
def test_whatever_else_a_pickle_asks_for_is_refused_uncalled(name, protocol):
    CALLED.clear()
    contents = pickle.dumps({"first": [1, 2], "then": FOREIGN[name]}, protocol)
    assert "is a pickle that holds more than plain arrays, and is not read" in refusal(contents)
    assert CALLED == []
    if name.startswith("a call"):
        pickle.loads(contents)
        assert CALLED == [("called",)]  # Python's own reader does call it


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_is_asked_for_is_named(protocol):
    contents = pickle.dumps(collections.OrderedDict(), protocol)
    assert "it asks for collections.OrderedDict" in refusal(contents)


def asking(*opcodes):
    return b"\x80\x02" + b"".join(opcodes) + b"."


NDARRAY, RECONSTRUCT = b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n"
U1 = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R"
CRAFTED = {
    "a number is called": asking(b"K\x01", b")R"),
    "arguments that are no tuple": asking(NDARRAY, b"]R"),
    "a state for a list": asking(b"]", b"}b"),
    "a state for a function": asking(NDARRAY, b"}b"),
    "items for a tuple": asking(b")", b"K\x01a"),
    "pairs for a list": asking(b"]", b"K\x01K\x02s"),
    "an array of an array's size": asking(RECONSTRUCT, b")R"),
    "a dtype without its name": asking(b"cnumpy\ndtype\n", b")R"),
    "a persistent name": asking(b"K\x01Q"),
    "an extension": asking(b"\x82\x01"),
    "an object built without a call": asking(b"cbuiltins\nobject\n", b")\x81"),
    "an instance of old": b"(ibuiltins\nlen\n.",
    "a name by parts of NumPy's": asking(b"cnumpy\nload\n"),
    "a name within a name": asking(b"cnumpy\nndarray.tofile\n"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_pickles_made_by_hand_are_refused(name):
    refusal(CRAFTED[name])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (b"(K\x01K\x05\x85" + U1 + b"\x89C\x04abcdt", "4 bytes for an array of shape (5,)"),
        (b"(K\x01J\xff\xff\xff\xff\x85" + U1 + b"\x89C\x04abcdt", "an array of shape (-1,)"),
        (b"(K\x01K\x04\x85" + U1 + b"\x89]t", "an array of objects"),
        (b"(K\x01K\x04\x85" + NDARRAY + b"\x89C\x04abcdt", "an array of no plain numbers"),
    ],
    ids=["short", "negative", "a list", "no dtype"],
)
def test_the_parts_of_an_array_are_checked(state, words):
    array = RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85C\x01btR"
    assert words in refusal(b"\x80\x03" + array + state + b"b.")


def test_every_byte_of_a_pickle_may_be_wrong():
    """Whatever a damaged file asks for, the answer is plain data or one line."""
    contents = pickle.dumps({"data": np.arange(9, dtype="u1"), "labels": [1, 2, 3]}, 4)
    for place in range(len(contents)):
        for value in (0, 46, 82, 98, 99, 255, contents[place] ^ 1):
            changed = contents[:place] + bytes([value]) + contents[place + 1 :]
            try:
                read(changed)
            except DataError:
                continue


def test_much_shared_is_not_copied_for_every_use():
    """Thirty levels of a list that holds the level below twice: a billion, if each were a copy."""
    levels: list = [1]
    for _ in range(30):
        levels = [levels, levels]
    contents = pickle.dumps(levels, 2)
    assert len(contents) < 1000
    found = read(contents)
    assert found[0] is found[1]


def test_the_opcodes_that_are_read_are_pythons():
    from rsam_ref.data import pickles

    known = {opcode.name for opcode in pickletools.opcodes}
    assert {*pickles._VALUES, *pickles._CONSTANTS, *pickles._TUPLES} <= known
