"""Folders of pictures as they are unpacked: how they may lie, and what about them is told."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from rsam_ref.data import DataError, find_damaged, load_dataset
from rsam_ref.data.feed import Feed
from rsam_ref.data.pictures import IMAGENET_MEAN, IMAGENET_STD, decode
from tests.helpers import data_sets as made

SIZE = 8


def load(folder, **kwargs):
    return load_dataset(folder, image_size=SIZE, **kwargs)


def failure(folder, **kwargs):
    with pytest.raises(DataError) as caught:
        load(folder, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def shown(samples, name):
    """The mean colour (3,) of the picture of this name."""
    x = samples.take(np.flatnonzero(samples.names == name))
    return (x.mean(axis=(0, 2, 3)) * IMAGENET_STD + IMAGENET_MEAN).round(1).tolist()


# Classes by folders


def test_pictures_in_folders_below_a_class_are_of_that_class(tmp_path):
    made.class_folders(tmp_path)
    made.class_folders(tmp_path, {"train": 5}, "{part}/{key}/more/{i}.png")
    made.class_folders(tmp_path, {"train": 2}, "{part}/{key}/more/and more/{i}.png")
    data = load(tmp_path)
    assert np.bincount(data.train.labels).tolist() == [13, 13]
    assert all(f"/{data.classes[k]}/" in n for n, k in zip(data.train.names, data.train.labels))
    assert data.notes == ()


def test_a_link_to_a_folder_is_followed_and_a_circle_is_told(tmp_path):
    made.class_folders(tmp_path / "set")
    made.class_folders(tmp_path / "elsewhere", {"x": 3})
    (tmp_path / "set/train/cat/linked").symlink_to(tmp_path / "elsewhere/x/cat")
    (tmp_path / "set/train/dog/around").symlink_to(tmp_path / "set/train/dog")
    data = load(tmp_path / "set")
    assert np.bincount(data.train.labels).tolist() == [9, 6]
    assert data.notes == ("left out 1: links to a folder above them (train/dog/around)",)


def test_a_class_folder_that_is_a_link_to_nowhere_is_told(tmp_path):
    made.class_folders(tmp_path)
    (tmp_path / "train" / "wolf").symlink_to(tmp_path / "gone")
    data = load(tmp_path)
    assert data.classes == made.CLASSES
    assert data.notes == ("left out 1: links that lead nowhere (train/wolf)",)


def test_what_is_left_out_is_told_with_number_and_reason(tmp_path):
    made.class_folders(tmp_path)
    for i in range(3):
        (tmp_path / "train" / "cat" / f"notes{i}.txt").write_text("no picture")
    (tmp_path / "val" / "dog" / "._1.png").write_text("what macOS leaves")
    made.save(tmp_path / "train" / "loose.png", made.picture())
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (12, 8)
    assert sorted(data.notes) == [
        "left out 1: hidden (val/dog/._1.png)",
        "left out 1: in no class's folder (train/loose.png)",
        "left out 3: no pictures (train/cat/notes0.txt, ...)",
    ]


def test_pictures_in_no_class_end_in_the_two_ways_out(tmp_path):
    """As ImageNet's own archive of validation pictures is unpacked."""
    made.class_folders(tmp_path)
    for i in range(4):
        made.save(tmp_path / "test" / f"ILSVRC2012_val_{i}.JPEG", made.picture(i))
    os.rename(tmp_path / "val", tmp_path / "unused")
    message = failure(tmp_path)
    assert "4 pictures lie in it directly: move each into a folder of its class, or" in message
    (tmp_path / "test" / "metadata.csv").write_text(
        "file_name,label\n" + "".join(f"ILSVRC2012_val_{i}.JPEG,cat\n" for i in range(4))
    )
    assert load(tmp_path).test.labels.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("suffix", "form"),
    [("pgm", "PPM"), ("jfif", "JPEG"), ("avif", "AVIF"), ("jp2", "JPEG2000"), ("tga", "TGA"),
     ("ico", "ICO"), ("pcx", "PCX"), ("PNG", "PNG"), ("img", "PNG"), ("", "PNG"), ("0", "JPEG")],
)  # fmt: skip
def test_a_picture_is_known_by_its_contents(tmp_path, suffix, form):
    made.class_folders(tmp_path)
    mode = "L" if suffix == "pgm" else "RGB"
    name = f"new.{suffix}" if suffix else "new"
    made.save(tmp_path / "train" / "cat" / name, made.picture().convert(mode), format=form)
    data = load(tmp_path)
    assert f"train/cat/{name}" in data.train.names
    assert abs(shown(data.train, f"train/cat/{name}")[0] - 31.5) < 4
    assert data.notes == ()


def test_a_program_for_a_printer_is_no_picture(tmp_path):
    """Pillow would have another program run it."""
    made.class_folders(tmp_path)
    made.save(tmp_path / "train" / "cat" / "a.eps", made.picture())
    assert load(tmp_path).notes == ("left out 1: no pictures (train/cat/a.eps)",)
    os.rename(tmp_path / "train/cat/a.eps", tmp_path / "train/cat/a.png")
    with pytest.raises(DataError, match="is no image that Pillow can read"):
        decode(tmp_path / "train" / "cat" / "a.png")


def test_a_pipe_is_never_opened(tmp_path):
    made.class_folders(tmp_path)
    os.mkfifo(tmp_path / "train" / "cat" / "pipe")
    assert load(tmp_path).notes == ("left out 1: no pictures (train/cat/pipe)",)


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_a_picture_of_the_size_is_taken_as_it_is(tmp_path, augment):
    made.class_folders(tmp_path)
    image = made.picture(3, (SIZE, SIZE))
    for part in ("train", "val"):
        made.save(tmp_path / part / "cat" / "own.png", image)
    data = load(tmp_path, augment=augment)
    for samples in (data.train, data.test):
        at = np.flatnonzero([name.endswith("cat/own.png") for name in samples.names])
        np.testing.assert_array_equal(
            samples.pixels(at, None)[0], np.asarray(image).transpose(2, 0, 1)
        )


@pytest.mark.parametrize(
    ("side", "size"), [(22, 24), (64, 64), (100, 96), (216, 224), (224, 224), (400, 224)]
)
def test_the_size_is_told_unless_it_is_given(tmp_path, side, size):
    for part in ("train", "val"):
        made.save(tmp_path / part / "cat" / "a.png", made.picture(0, (side + 10, side)))
    assert load_dataset(tmp_path).notes == (
        f"pictures are brought to {size} x {size} pixels, as the middle one of 1 has {side} on its "
        "short side; image_size gives another",
    )
    assert load_dataset(tmp_path, image_size=size).notes == ()


def test_what_leaves_damaged_pictures_out_is_named(tmp_path):
    made.class_folders(tmp_path)
    (tmp_path / "train" / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "or leave out what is damaged: --skip-damaged" in failure(tmp_path)
    (tmp_path / "train" / "cat" / "gone.png").unlink()
    (tmp_path / "train" / "cat" / "empty.png").touch()
    assert "is empty; remove it or get it again, or leave out what is damaged: --skip-damaged" in (
        failure(tmp_path)
    )
    assert len(load(tmp_path, skip=find_damaged(tmp_path)).train) == 12


def test_a_picture_that_git_lfs_has_not_fetched_is_named(tmp_path):
    made.class_folders(tmp_path)
    path = tmp_path / "train" / "cat" / "0.png"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(DataError, match=r"0\.png: is a pointer of Git LFS.*git lfs pull"):
        decode(path)


def test_arrays_beside_folders_of_pictures_are_told(tmp_path):
    made.arrays(made.class_folders(tmp_path))
    assert load(tmp_path).notes == ("mnist.npz not read, but the folders of pictures",)


# Tiny ImageNet


def test_tiny_imagenet_is_read_as_it_is_unpacked(tmp_path):
    data = load(made.tiny_imagenet(tmp_path))
    assert data.classes == ("domestic cat, house cat", "dog")
    assert np.bincount(data.train.labels).tolist() == [6, 6]
    assert data.test.names.tolist() == [f"val/images/val_{i}.JPEG" for i in range(4)]
    assert data.test.labels.tolist() == [0, 1, 0, 1]
    assert data.notes == (
        "test/ is not used (4 files): val/ is tested on",
        "left out 2: no pictures (train/cat/cat_boxes.txt, ...)",
    )


def test_annotations_that_do_not_fit_are_named(tmp_path):
    path = made.tiny_imagenet(tmp_path) / "val" / "val_annotations.txt"
    lines = path.read_text()
    path.write_text(lines + "val_9.JPEG\tcat\t0\t0\t1\t1\n")
    assert "names val/images/val_9.JPEG, which is not there" in failure(tmp_path)
    path.write_text(lines + "val_3.JPEG\n")
    assert "line 5 is not a file, a tab and a class" in failure(tmp_path)
    path.write_text("val_0.JPEG\twolf\n")
    assert "is of the class wolf, which train/ does not have" in failure(tmp_path)
    path.write_text("val_0.JPEG\tcat\n")
    assert "left out 3: not in val_annotations.txt (val/images/val_1.JPEG, ...)" in (
        load(tmp_path).notes
    )


# Classes by a table


@pytest.mark.parametrize("above", [False, True], ids=["beside", "above"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_table_tells_the_classes(tmp_path, name, above):
    data = load(made.with_metadata(tmp_path, name, above))
    assert data.classes == made.CLASSES
    assert data.train.labels.tolist() == [0, 1] * 3
    assert data.test.names.tolist() == [f"test/{i}.png" for i in range(4)]
    assert data.notes == ()
    made.save(tmp_path / "train" / "deep" / "er.png", made.picture())
    assert load(tmp_path).notes == (f"left out 1: not in {name} (train/deep/er.png)",)


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    made.with_metadata(tmp_path)
    for part, n in (("train", 6), ("test", 4)):
        rows = "".join(f"{i}.png,{(0, 10, 9)[i % 3]}\n" for i in range(n))
        (tmp_path / part / "metadata.csv").write_text("file_name,label\n" + rows)
    data = load(tmp_path)
    assert data.classes == ("0", "9", "10")
    assert data.train.labels.tolist() == [0, 2, 1, 0, 2, 1]


def test_folders_whose_names_are_numbers_are_in_the_order_of_the_alphabet(tmp_path):
    """As torchvision's ImageFolder numbers them, and as runs before were numbered."""
    for part in ("train", "val"):
        for key in ("0", "9", "10"):
            made.save(tmp_path / part / key / "a.png", made.picture())
    assert load(tmp_path).classes == ("0", "10", "9")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\n0.png,cat\n", "has no column file_name, but name, label"),
        ("file_name,text\n0.png,a cat\n", "the one with the class is called label"),
        ("file_name,label\n0.png,\n", "row 1 lacks its file_name or its label"),
        ("file_name,label\n0.png,cat,x\n", "more fields than there are columns"),
        ("file_name,label\n../test/0.png,cat\n", "row 1 leads out of its folder: ../test/0.png"),
        ("file_name,label\n/etc/0.png,cat\n", "row 1 leads out of its folder: /etc/0.png"),
        ("file_name,label\n0.png,cat\n0.png,dog\n", "row 2 names 0.png once more"),
        ("file_name,label\n77.png,cat\n", "names train/77.png, which is not there"),
        ("file_name,label\n", "has no column file_name"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, text, words):
    (made.with_metadata(tmp_path) / "train" / "metadata.csv").write_text(text)
    message = failure(tmp_path)
    assert words in message
    assert str(tmp_path / "train" / "metadata.csv") in message


def test_a_table_without_classes_leaves_them_to_the_folders(tmp_path):
    made.class_folders(tmp_path)
    lines = [json.dumps({"file_name": f"cat/{i}.png", "text": "a cat"}) for i in range(6)]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(lines))
    assert load(tmp_path).classes == made.CLASSES


# What is shown


def test_what_is_transparent_is_laid_on_white_and_told(tmp_path):
    made.class_folders(tmp_path)
    hidden = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    made.save(tmp_path / "train" / "cat" / "hidden.png", hidden)
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    made.save(tmp_path / "train" / "cat" / "half.png", half)
    data = load(tmp_path)
    assert shown(data.train, "train/cat/hidden.png") == [255.0] * 3
    assert shown(data.train, "train/cat/half.png") == pytest.approx([127] * 3, abs=1)
    (note,) = data.notes
    assert note.startswith("1 of 14 pictures looked at have parts that are transparent: they are")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [10, 12])
def test_few_bits_in_16_are_told_and_scaled_if_asked(tmp_path, bits, suffix):
    made.class_folders(tmp_path)
    values = np.full((16, 16), 2**bits - 1, np.uint16)
    made.save(tmp_path / "train" / "cat" / f"deep.{suffix}", Image.fromarray(values))
    data = load(tmp_path)
    top = (2**bits - 1) >> 8
    assert shown(data.train, f"train/cat/deep.{suffix}") == pytest.approx([top] * 3, abs=1)
    (note,) = data.notes
    assert f"hold no value above {2**bits - 1:,}" in note
    assert f"give bits = {bits}" in note
    scaled = load(tmp_path, bits=bits)
    assert shown(scaled.train, f"train/cat/deep.{suffix}") == pytest.approx([255] * 3, abs=1)
    assert scaled.notes == ()
    cut = load(tmp_path, bits=8)
    assert "more than 8 bits, cut there" in cut.notes[0]
    with pytest.raises(ValueError, match="bits of a value are 8 to 16, not 7"):
        load(tmp_path, bits=7)


def test_pictures_that_use_16_bits_are_not_talked_about(tmp_path):
    made.class_folders(tmp_path)
    values = np.full((16, 16), 40_000, np.uint16)
    made.save(tmp_path / "train" / "cat" / "deep.png", Image.fromarray(values))
    assert load(tmp_path).notes == ()
    (tmp_path / "train/cat/deep.png").unlink()
    grey = b"P5 4 4 4095\n" + np.full((4, 4), 4095, ">u2").tobytes()  # a maximum of its own
    (tmp_path / "train" / "cat" / "deep.pgm").write_bytes(grey)
    data = load(tmp_path)
    assert shown(data.train, "train/cat/deep.pgm") == [255.0] * 3
    assert data.notes == ()


# What is prepared while a step runs


def test_a_feed_prepares_two_batches_ahead_and_none_beyond_the_end(tmp_path):
    data = load(made.class_folders(tmp_path))
    plain, bounded = Feed(data.train, 4, seed=1), Feed(data.train, 4, seed=1, epochs=2)
    for step in range(6):
        (x, y), (other, labels) = plain.prepare(step), bounded(step)
        np.testing.assert_array_equal(x, other)
        np.testing.assert_array_equal(y, labels)
        assert sorted(bounded._coming) == [s for s in (step + 1, step + 2) if s < 6]
    assert sorted(bounded(0)[1]) == sorted(plain.prepare(0)[1])  # one goes back as well
    plain.close()
    bounded.close()
