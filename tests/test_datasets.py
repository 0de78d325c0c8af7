"""Data sets: what is read is what was written, augmentation does what it says, damage is named."""

import builtins
import gzip
import os
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rsam_backends import Stream
from rsam_ref.data import DataError, digits_split, load_dataset
from rsam_ref.data.augment import (
    PAD,
    TRIES,
    central_box,
    mirrored,
    pillow,
    random_box,
    resized,
    shifted,
)
from rsam_ref.data.pictures import IMAGENET_MEAN, IMAGENET_STD, decode
from rsam_ref.data.samples import ArraySamples, channel_statistics
from tests.helpers.files import SHARED, cifar_bytes, idx_bytes, noise_images


def write_idx_set(folder, train=30, test=10, shape=(5, 4), pack=bytes, end=""):
    folder.mkdir(exist_ok=True)
    for part, n in (("train", train), ("t10k", test)):
        images = noise_images(n, 1, shape[0], shape[1], seed=n)[:, 0]
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(labels)))
    return folder


def write_cifar10(folder, batches=2, n=7):
    folder.mkdir(exist_ok=True)
    names = [f"data_batch_{i}.bin" for i in range(1, batches + 1)] + ["test_batch.bin"]
    for seed, name in enumerate(names):
        labels = (np.arange(n) + seed) % 10
        (folder / name).write_bytes(cifar_bytes(noise_images(n, seed=seed), labels))
    (folder / "batches.meta.txt").write_text("\n".join(f"c{i}" for i in range(10)) + "\n\n")
    return folder


def write_cifar100(folder, n=7):
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(["train.bin", "test.bin"]):
        fine = 90 + np.arange(n)
        (folder / name).write_bytes(cifar_bytes(noise_images(n, seed=seed), fine % 20, fine))
    (folder / "fine_label_names.txt").write_text("".join(f"f{i}\n" for i in range(100)))
    return folder


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def smooth_image(width, height, seed=0):
    """A picture without sharp edges, so that two ways of resizing it agree."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (7 + c) + seed) + np.cos(columns / (5 + c)) for c in range(3)]
    return Image.fromarray((np.stack(waves, axis=-1) * 60 + 127).astype(np.uint8))


def write_pictures(folder, held_out="val", size=(40, 30)):
    for part, n in (("train", 3), (held_out, 2)):
        for key in ("n02", "n01"):
            for i in range(n):
                image = smooth_image(size[0], size[1], seed=i)
                save(folder / part / key / f"{key}_{i}.JPEG", image, quality=95)
    return folder


WRITERS = {
    "idx": write_idx_set,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "images": write_pictures,
}


def failure(call, *args, **kwargs):
    """The message of the DataError that a call ends in: one line."""
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def use(folder, **kwargs):
    """Load a data set and look at all of it."""
    data = load_dataset(folder, **kwargs)
    for samples in (data.train, data.test):
        samples.take(np.arange(len(samples)))
    return data


# The embedded digits


def test_the_digits_are_split_in_quarters_and_test_as_digits_split_does():
    data, other = load_dataset(seed=3), digits_split(3)
    assert (len(data.train), len(data.test), data.shape) == (1347, 450, (1, 8, 8))
    assert data.name == "digits"
    assert data.classes == tuple("0123456789")
    np.testing.assert_array_equal(data.test.labels, other.y_test)
    np.testing.assert_array_equal(data.train.labels, np.concatenate([other.y_train, other.y_val]))
    x, reference = data.test.take(np.arange(450)).reshape(450, 64), other.x_test
    slope, offset = np.polyfit(reference.ravel(), x.ravel(), 1)
    np.testing.assert_allclose(x, slope * reference + offset, atol=1e-5)
    assert slope == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", ["idx", "cifar10", "digits"])
def test_training_inputs_have_mean_0_and_deviation_1_in_each_channel(tmp_path, kind):
    data = load_dataset("digits" if kind == "digits" else WRITERS[kind](tmp_path / "set"))
    x = data.train.take(np.arange(len(data.train)))
    assert x.dtype == np.float32
    assert x.shape == (len(data.train), *data.shape)
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3), dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(0, 2, 3), dtype=float), 1, atol=1e-6)


def test_statistics_are_exact_and_a_constant_channel_is_left_alone():
    images = noise_images(2500, 2, 3, 5)
    images[:, 1] = 7
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, [images[:, 0].std(), 1], rtol=1e-13)


def test_a_folder_called_digits_is_taken_when_it_is_named_as_a_folder(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("digits").name == "digits"
    for where in ("./digits", Path("digits")):
        assert load_dataset(where).name == "cifar10"


# The formats


@pytest.mark.parametrize("end", ["", ".gz"], ids=["plain", "gzip"])
def test_idx_folders_are_read(tmp_path, end):
    pack = gzip.compress if end else bytes
    data = load_dataset(write_idx_set(tmp_path / "my-set", pack=pack, end=end))
    assert (data.name, data.shape, len(data.train), len(data.test)) == ("my-set", (1, 5, 4), 30, 10)
    assert data.classes == tuple("0123456789")
    assert data.train.labels.dtype == np.int64
    np.testing.assert_array_equal(data.test.labels, np.arange(10))
    assert_pixels(data.train, noise_images(30, 1, 5, 4, seed=30), data.train)
    assert_pixels(data.test, noise_images(10, 1, 5, 4, seed=10), data.train)


def assert_pixels(samples, images, train):
    """The samples are these images, normalised by the training samples' statistics."""
    mean, std = (value[:, None, None] for value in channel_statistics(train._images))
    x = samples.take(np.arange(len(samples)))
    np.testing.assert_allclose(x, (images - mean) / std, atol=1e-5)


def test_idx_classes_come_from_classes_tsv(tmp_path):
    folder = write_idx_set(tmp_path / "letters")
    (folder / "classes.tsv").write_text("".join(f"{i}\tletter {i}\n" for i in range(12)))
    assert load_dataset(folder).classes == tuple(f"letter {i}" for i in range(12))
    lines = [f"{i}\tletter {i}\n" for i in range(12)]
    (folder / "classes.tsv").write_text("".join(reversed(lines)))
    assert load_dataset(folder).classes == tuple(f"letter {i}" for i in range(12))


@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin"])
def test_cifar10_is_read(tmp_path, below):
    write_cifar10(tmp_path / below, batches=3)
    data = load_dataset(tmp_path)
    assert (data.name, data.shape, len(data.train), len(data.test)) == (
        "cifar10", (3, 32, 32), 21, 7,
    )  # fmt: skip
    assert data.classes == tuple(f"c{i}" for i in range(10))
    labels = np.concatenate([(np.arange(7) + s) % 10 for s in range(3)])
    np.testing.assert_array_equal(data.train.labels, labels)
    np.testing.assert_array_equal(data.test.labels, (np.arange(7) + 3) % 10)
    assert_pixels(
        data.train, np.concatenate([noise_images(7, seed=s) for s in range(3)]), data.train
    )
    assert_pixels(data.test, noise_images(7, seed=3), data.train)


def test_ten_cifar_batches_are_in_the_order_of_their_numbers(tmp_path):
    data = load_dataset(write_cifar10(tmp_path, batches=10, n=1))
    np.testing.assert_array_equal(data.train.labels, np.arange(10))


@pytest.mark.parametrize("below", [".", "cifar-100-binary"])
def test_cifar100_is_read_with_its_fine_labels(tmp_path, below):
    write_cifar100(tmp_path / below)
    data = load_dataset(tmp_path)
    assert (data.name, len(data.classes), len(data.train)) == ("cifar100", 100, 7)
    assert data.classes[93] == "f93"
    np.testing.assert_array_equal(data.train.labels, 90 + np.arange(7))
    assert_pixels(data.train, noise_images(7), data.train)
    assert_pixels(data.test, noise_images(7, seed=1), data.train)


@pytest.mark.parametrize(
    ("kind", "names"), [("cifar10", "batches.meta.txt"), ("cifar100", "fine_label_names.txt")]
)
def test_cifar_without_names_numbers_its_classes(tmp_path, kind, names):
    (WRITERS[kind](tmp_path) / names).unlink()
    assert load_dataset(tmp_path).classes[:3] == ("0", "1", "2")


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_image_folders_are_read(tmp_path, held_out):
    folder = write_pictures(tmp_path / "pictures", held_out)
    (folder / "train" / "n01" / "notes.txt").write_text("no image")
    (folder / "train" / "n01" / "._n01_0.JPEG").write_text("what macOS leaves")
    (folder / "train" / ".cache").mkdir()
    (folder / "classes.tsv").write_text("n01\tgoldfish\n")
    data = load_dataset(folder, image_size=20)
    assert (data.name, data.shape, data.classes) == ("pictures", (3, 20, 20), ("goldfish", "n02"))
    np.testing.assert_array_equal(data.train.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(data.test.labels, [0, 0, 1, 1])
    x = data.train.take(np.array([0, 3, 1]))
    assert x.shape == (3, 3, 20, 20)
    np.testing.assert_array_equal(x[0], x[1])  # the same picture in both classes
    assert not np.array_equal(x[0], x[2])
    assert load_dataset(folder).shape == (3, 32, 32)  # about their 30 pixels
    assert data.train.take(np.array([], int)).shape == (0, 3, 20, 20)


def test_val_goes_before_test(tmp_path):
    write_pictures(write_pictures(tmp_path, "test"), "val")
    held_out: Any = load_dataset(tmp_path).test
    assert all(name.startswith("val/") for name in held_out.names)


RED = (200, 30, 90)


def colour(mode):
    if mode == "P":
        return Image.new("RGB", (16, 16), RED).quantize(4), RED
    if mode == "LA":
        return Image.new("LA", (16, 16), (120, 255)), (120, 120, 120)
    if mode == "RGBA":  # two fifths of it, and three of the white below
        return Image.new("RGBA", (16, 16), (*RED, 102)), (233, 165, 189)
    if mode == "CMYK":
        return Image.new("CMYK", (16, 16), (55, 225, 165, 0)), RED
    if mode == "I;16":
        return Image.fromarray(np.full((16, 16), 150 * 256 + 9, np.uint16)), (150, 150, 150)
    if mode == "L":
        return Image.new("L", (16, 16), 120), (120, 120, 120)
    return Image.new("1", (16, 16), 1), (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("P", "png"), ("P", "gif"), ("L", "jpg"), ("LA", "png"), ("RGBA", "png"), ("CMYK", "jpg"),
     ("CMYK", "tif"), ("I;16", "png"), ("1", "png")],
)  # fmt: skip
def test_every_kind_of_image_becomes_rgb(tmp_path, mode, suffix):
    image, expected = colour(mode)
    folder = write_pictures(tmp_path)
    save(folder / "train" / "n01" / f"a.{suffix}", image)
    data: Any = load_dataset(folder, image_size=8)
    index = list(data.train.names).index(f"train/n01/a.{suffix}")
    x = data.train.take(np.array([index]))[0]
    pixels = x * np.array(IMAGENET_STD)[:, None, None] + np.array(IMAGENET_MEAN)[:, None, None]
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), expected, atol=3)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.new("RGB", (16, 16), RED).quantize(4)
    save(tmp_path / "a.png", image, transparency=bytes([255, 0]))
    assert decode(tmp_path / "a.png").getpixel((3, 3)) == RED
    save(tmp_path / "b.png", image, transparency=bytes([0, 255]))
    assert decode(tmp_path / "b.png").getpixel((3, 3)) == (255, 255, 255)


def test_exif_does_not_turn_an_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    save(tmp_path / "a.jpg", smooth_image(40, 30), exif=exif)
    assert decode(tmp_path / "a.jpg").size == (40, 30)


# Label noise, limit, fingerprint


def test_label_noise_changes_its_share_of_training_labels_and_no_test_label():
    clean, noisy = load_dataset(seed=1), load_dataset(seed=1, label_noise=0.4)
    changed = (clean.train.labels != noisy.train.labels).mean()
    assert 0.3 < changed < 0.4  # a tenth of the replaced ones hit the right class by chance
    np.testing.assert_array_equal(clean.test.labels, noisy.test.labels)
    index = np.arange(1347)
    np.testing.assert_array_equal(clean.train.take(index), noisy.train.take(index))
    again = load_dataset(seed=1, label_noise=0.4).train.labels
    np.testing.assert_array_equal(noisy.train.labels, again)
    all_wrong = load_dataset(seed=1, label_noise=1.0).train.labels
    assert 0.85 < (clean.train.labels != all_wrong).mean() < 0.95
    assert np.bincount(all_wrong, minlength=10).min() > 90


@pytest.mark.parametrize("kind", ["idx", "images"])
def test_a_limit_keeps_random_samples_with_their_labels(tmp_path, kind):
    folder = WRITERS[kind](tmp_path / "set")
    size = {"image_size": 8} if kind == "images" else {}
    whole: Any = load_dataset(folder, **size)
    part: Any = load_dataset(folder, limit=5, seed=2, **size)
    assert (len(part.train), len(part.test)) == (5, len(whole.test))
    if kind == "idx":  # statistics are those of what is trained on
        kept = [bytes(image) for image in part.train._images]
        labels = dict(zip(map(bytes, whole.train._images), whole.train.labels.tolist()))
        found = [labels[image] for image in kept]
        assert len(set(kept)) == 5
    else:
        found = [int(name.startswith("train/n02")) for name in part.train.names]
        assert len(set(part.train.names)) == 5
    assert found == part.train.labels.tolist()
    assert load_dataset(folder, limit=5, seed=3, **size).fingerprint != part.fingerprint
    assert len(load_dataset(folder, limit=1000, **size).train) == len(whole.train)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_fingerprint_changes_with_data_and_labels_and_nothing_else(tmp_path, kind):
    folder = WRITERS[kind](tmp_path / "a")
    first = load_dataset(folder).fingerprint
    assert first == load_dataset(folder, augment="flip", seed=5).fingerprint
    assert first == load_dataset(WRITERS[kind](tmp_path / "elsewhere")).fingerprint
    assert len(first) == 16
    prints = {first}
    prints |= {load_dataset(folder, label_noise=0.5, seed=s).fingerprint for s in (0, 1)}
    prints |= {load_dataset(folder, limit=4, seed=s).fingerprint for s in (0, 1)}
    assert len(prints) == 5
    for file in sorted(folder.rglob("*")):
        if file.is_dir() or file.suffix == ".txt":
            continue
        contents = file.read_bytes()
        if kind == "images":
            file.write_bytes(contents + b" ")
        elif "labels" in file.name:
            file.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
        else:
            file.write_bytes(contents[:-1] + bytes([contents[-1] ^ 128]))
        prints.add(load_dataset(folder).fingerprint)
        file.write_bytes(contents)
    assert len(prints) == 5 + {"idx": 4, "cifar10": 3, "cifar100": 2, "images": 10}[kind]
    assert load_dataset(folder).fingerprint == first


def test_the_digits_fingerprint_changes_with_the_split():
    assert load_dataset(seed=0).fingerprint == load_dataset(seed=0).fingerprint
    assert load_dataset(seed=0).fingerprint != load_dataset(seed=1).fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "mixup"}, "augmentation is one of none, flip, crop-flip, inception"),
        ({"label_noise": 1.5}, "label noise is a share"),
        ({"label_noise": float("nan")}, "label noise is a share"),
        ({"limit": 0}, "the limit must be at least 1, not 0"),
        ({"image_size": 0}, "the image size must be at least 1, not 0"),
        ({"seed": -1}, "a seed must be a whole number >= 0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(**settings)


# Augmentation


@st.composite
def batches(draw):
    n, c, h, w = (draw(st.integers(1, 5)) for _ in range(4))
    pad = draw(st.integers(0, 4))
    places = st.lists(st.integers(0, 2 * pad), min_size=n, max_size=n)
    tops, lefts = np.array(draw(places)), np.array(draw(places))
    flips = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    return np.arange(1, n * c * h * w + 1, dtype=float).reshape(n, c, h, w), tops, lefts, flips, pad


@given(batches())
def test_crop_and_flip_are_a_loop_over_pixels(batch):
    x, tops, lefts, flips, pad = batch
    n, _, h, w = x.shape
    expected = np.zeros_like(x)
    for i in range(n):
        for row in range(h):
            for column in range(w):
                r = row + tops[i] - pad
                q = (w - 1 - column if flips[i] else column) + lefts[i] - pad
                if 0 <= r < h and 0 <= q < w:
                    expected[i, :, row, column] = x[i, :, r, q]
    np.testing.assert_array_equal(mirrored(shifted(x, tops, lefts, pad), flips), expected)


def array_samples(augment, n=3, size=None, c=3, h=32, w=32):
    images = noise_images(n, c, h, w)
    return ArraySamples(images, np.arange(n), *channel_statistics(images), augment, size)


def test_crop_flip_gives_every_place_and_both_sides_equally_often():
    samples = array_samples("crop-flip", c=1, h=6, w=6)
    plain = samples.take(np.array([1]))
    views = {}
    for top in range(2 * PAD + 1):
        for left in range(2 * PAD + 1):
            for flip in (False, True):
                view = mirrored(shifted(plain, *np.array([[top], [left]])), np.array([flip]))
                views[view.tobytes()] = top, left, flip
    seen = samples.take(np.full(8000, 1), Stream("augment", 0))
    counts = Counter(views[view.tobytes()] for view in seen)
    for axis, ways in ((0, 9), (1, 9), (2, 2)):
        share: Counter[Any] = Counter()
        for key, count in counts.items():
            share[key[axis]] += count
        assert len(share) == ways
        assert max(share.values()) < 1.15 * 8000 / ways
        assert min(share.values()) > 0.85 * 8000 / ways


def test_the_border_of_a_shifted_image_is_the_mean_pixel():
    samples = array_samples("crop-flip")
    x = samples.take(np.zeros(200, int), Stream("augment", 0))
    corners = x[:, :, 0, 0]  # (200, 3): zero where the image was moved down or to the side
    cut = (corners == 0).all(axis=1)
    assert 0.5 < cut.mean() < 0.8  # 1 - (5/9)^2 = 0.69
    mean, _ = channel_statistics(samples._images)
    np.testing.assert_allclose(samples._mean[:, 0, 0], mean, rtol=1e-6)


def test_flip_mirrors_half_of_the_images_left_for_right():
    samples = array_samples("flip")
    plain = samples.take(np.array([2]))[0]
    seen = samples.take(np.full(1000, 2), Stream("augment", 0))
    same = (seen == plain).all(axis=(1, 2, 3))
    turned = (seen == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ turned).all()
    assert 450 < turned.sum() < 550


@pytest.mark.parametrize("augment", ["none", "flip", "crop-flip", "inception"])
@pytest.mark.parametrize("kind", ["array", "resized", "folder"])
def test_a_batch_depends_on_its_index_and_stream_alone(tmp_path, kind, augment):
    if kind == "folder":
        samples = load_dataset(write_pictures(tmp_path), image_size=16, augment=augment).train
    else:
        samples = array_samples(augment, 6, size=20 if kind == "resized" else None)
    index = np.array([4, 0, 4, 2, 5])
    plain = samples.take(index)
    first = samples.take(index, Stream("augment", 7))
    samples.take(index[:2], Stream("augment", 9))
    np.testing.assert_array_equal(samples.take(index, Stream("augment", 7)), first)
    np.testing.assert_array_equal(samples.take(index), plain)
    parts = [samples.take(part) for part in np.split(index, [1, 3])]
    np.testing.assert_array_equal(plain, np.concatenate(parts))
    assert first.dtype == plain.dtype == np.float32
    assert first.shape == plain.shape
    if augment == "none":
        np.testing.assert_array_equal(first, plain)
    else:
        assert not np.array_equal(first, plain)
        assert not np.array_equal(first, samples.take(index, Stream("augment", 8)))


@pytest.mark.parametrize("kind", ["cifar10", "images"])
@pytest.mark.parametrize("augment", ["flip", "crop-flip", "inception"])
def test_test_samples_are_never_augmented(tmp_path, kind, augment):
    size = {"image_size": 16} if kind == "images" else {}
    data = load_dataset(WRITERS[kind](tmp_path), augment=augment, **size)
    index = np.arange(4)
    np.testing.assert_array_equal(
        data.test.take(index, Stream("augment", 0)), data.test.take(index)
    )
    assert not np.array_equal(data.train.take(index, Stream("a", 0)), data.train.take(index))


draws = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).random((TRIES + 1, 2))
)


@given(st.integers(1, 300), st.integers(1, 300), draws)
def test_a_random_box_lies_in_the_image(width, height, draws):
    left, top, right, bottom = random_box(width, height, draws)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (400, 400)])
def test_random_boxes_have_the_published_areas_and_aspects(width, height):
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(width, height, rng.random((TRIES + 1, 2))) for _ in range(4000)])
    w, h = (boxes[:, 2:] - boxes[:, :2]).T
    area, aspect = w * h / (width * height), w / h
    assert 0.079 < area.min() < 0.09
    assert area.max() > 0.9
    assert 0.74 < aspect.min() < 0.77
    assert 1.31 < aspect.max() < 1.35
    assert abs(np.log(aspect[area < 0.4]).mean()) < 0.02  # small boxes of every aspect fit
    assert abs((area[area < 0.5]).mean() - 0.29) < 0.01  # and their areas are uniform
    for start, free in ((boxes[:, 0], width - w), (boxes[:, 1], height - h)):
        roomy = free > 50
        place = start[roomy] / free[roomy]
        assert abs(place.mean() - 0.5) < 0.03
        assert place.min() < 0.02
        assert place.max() > 0.98


@pytest.mark.parametrize(("width", "height", "box"), [
    (1000, 10, (493, 0, 506, 10)), (10, 1000, (0, 493, 10, 506)), (1, 1, (0, 0, 1, 1)),
])  # fmt: skip
def test_an_image_that_no_try_fits_gives_its_centre(width, height, box):
    assert random_box(width, height, np.full((TRIES + 1, 2), 0.99)) == box


def test_a_random_part_is_that_part_of_the_image(tmp_path):
    """Of an image that is its own map (red grows across, green down), parts tell where they are."""
    rows, columns = np.mgrid[0:200, 0:250]
    own_map = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    folder = write_pictures(tmp_path)
    save(folder / "train" / "n01" / "a.png", Image.fromarray(own_map))
    data: Any = load_dataset(folder, image_size=10, augment="inception")
    i = list(data.train.names).index("train/n01/a.png")
    x = data.train.take(np.full(300, i), Stream("augment", 0))
    across, down = (
        x[:, c] * IMAGENET_STD[c] + IMAGENET_MEAN[c] for c in (0, 1)
    )  # (300, 10, 10) each
    assert np.ptp(down, axis=2).max() < 1.5  # rows stay rows
    assert (np.diff(down[:, :, 0], axis=1) > 0).all()  # and are never upside down
    step = np.diff(across, axis=2).mean(axis=(1, 2))
    assert 120 < (step < 0).sum() < 180  # half are mirrored
    widths, heights = 10 * np.abs(step), 10 * np.diff(down, axis=1).mean(axis=(1, 2))
    area = widths * heights / (200 * 250)
    assert 0.06 < area.min() < 0.12
    assert 0.9 < area.max() < 1.1


@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (64, 64), (33, 47), (300, 41)])
@pytest.mark.parametrize("size", [24, 56])
def test_evaluation_resizes_the_short_side_and_cuts_the_centre(width, height, size):
    image = smooth_image(width, height)
    short = round(size * 256 / 224)
    scale = short / min(width, height)
    wide, high = round(width * scale), round(height * scale)
    left, top = (wide - size) // 2, (high - size) // 2
    whole = image.resize((wide, high), Image.Resampling.BILINEAR)
    expected = np.asarray(whole.crop((left, top, left + size, top + size))).astype(int)
    found = resized(image, size, central_box(width, height, size)).transpose(1, 2, 0)
    assert np.abs(found - expected).max() <= 1


def test_an_image_of_extreme_aspect_needs_no_huge_intermediate():
    image = Image.new("RGB", (1, 100_000), RED)
    pixels = resized(image, 224, central_box(1, 100_000, 224))  # resizing it first takes 15 GB
    np.testing.assert_array_equal(pixels[:, 100, 100], RED)


def test_arrays_are_resized_to_the_size_that_is_asked_for():
    digits: Any = load_dataset(image_size=16)
    assert digits.shape == (1, 16, 16)
    x = digits.test.take(np.arange(3))
    assert x.shape == (3, 1, 16, 16)
    whole = Image.fromarray(digits.test._images[1, 0]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        x[1, 0], (np.asarray(whole) - digits.test._mean[0]) * digits.test._scale[0], atol=1e-6
    )
    colours = array_samples("none", size=40)
    image = Image.fromarray(colours._images[2].transpose(1, 2, 0))
    expected = np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(colours.pixels(np.array([2]), None)[0], expected)
    moved = array_samples("crop-flip", size=40).take(np.arange(3), Stream("augment", 0))
    assert moved.shape == (3, 3, 40, 40)


def test_draws_stay_on_the_host(double_backend):
    from rsam_backends import use_backend

    samples = array_samples("inception")
    expected = samples.take(np.arange(3), Stream("augment", 1))
    with use_backend("double"):
        found = samples.take(np.arange(3), Stream("augment", 1))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)


# What is wrong with a data set is said in one line


def test_a_folder_that_holds_nothing_known_says_what_was_looked_for(tmp_path):
    message = failure(load_dataset, tmp_path)
    assert message.startswith(f"{tmp_path}: is empty; looked for IDX files")
    for word in ("train-images-idx3-ubyte", "data_batch_1.bin", "train.bin", "train/CLASS/"):
        assert word in message
    (tmp_path / "notes.txt").write_text("hello")
    assert "holds no data set but notes.txt; looked for" in failure(load_dataset, tmp_path)
    assert "no such folder" in failure(load_dataset, tmp_path / "nowhere")
    assert "notes.txt: is a file" in failure(load_dataset, tmp_path / "notes.txt")


def test_an_archive_that_is_still_packed_is_named(tmp_path):
    for name in ("cifar-10-python.tar.gz", "archive.zip"):
        folder = tmp_path / name[:4]
        folder.mkdir()
        (folder / name).write_bytes(b"")
        assert f"{folder / name}: is still packed" in failure(load_dataset, folder)


def test_two_sets_in_one_folder_are_refused(tmp_path):
    write_cifar10(write_idx_set(tmp_path))
    assert "holds more than one set (idx, cifar10)" in failure(load_dataset, tmp_path)


DATA_FILES = {
    "idx": ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"],
    "cifar10": ["data_batch_1.bin", "test_batch.bin"],
    "cifar100": ["train.bin", "test.bin"],
    "images": ["train/n01/n01_1.JPEG", "val/n02/n02_0.JPEG"],
}
EACH_FILE = [(kind, name) for kind, names in DATA_FILES.items() for name in names]


def small(kind):
    return {"image_size": 8} if kind == "images" else {}


@pytest.mark.parametrize(("kind", "name"), EACH_FILE)
def test_a_file_cut_short_anywhere_is_named(tmp_path, kind, name):
    path = WRITERS[kind](tmp_path / "set") / name
    contents = path.read_bytes()
    for twentieth in range(20):
        path.write_bytes(contents[: len(contents) * twentieth // 20])
        assert str(path) in failure(use, tmp_path / "set", **small(kind))
    path.write_bytes(contents)
    use(tmp_path / "set", **small(kind))


@pytest.mark.parametrize("name", [n for kind, n in EACH_FILE if kind == "idx"])
def test_a_gzip_file_cut_short_or_damaged_anywhere_is_named(tmp_path, name):
    folder = write_idx_set(tmp_path / "set", pack=gzip.compress, end=".gz")
    path = folder / f"{name}.gz"
    contents = path.read_bytes()
    for twentieth in range(20):
        place = len(contents) * twentieth // 20
        path.write_bytes(contents[:place])
        assert str(path) in failure(use, folder)
    for place in range(10, len(contents)):  # the gzip header has bytes that mean nothing
        path.write_bytes(contents[:place] + bytes([contents[place] ^ 255]) + contents[place + 1 :])
        assert str(path) in failure(use, folder)


@pytest.mark.parametrize(("kind", "name"), EACH_FILE)
@pytest.mark.parametrize("state", ["missing", "folder", "forbidden", "empty", "other"])
def test_a_file_that_cannot_be_used_is_named(tmp_path, monkeypatch, kind, name, state):
    path = WRITERS[kind](tmp_path / "set") / name
    if state == "forbidden":  # root may read everything, so the refusal is played
        real = builtins.open

        def guarded(file, *args, **kwargs):
            if os.fspath(file) == str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return real(file, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", guarded)
    elif state == "empty":
        path.write_bytes(b"")
    elif state == "other":
        path.write_bytes(b"<html>404 not found</html>")
    else:
        path.unlink()
        if state == "folder":
            path.mkdir()
    if kind == "images" and state in ("missing", "folder"):
        return  # a file that is not there belongs to no set, and folders may lie below a class's
    message = failure(use, tmp_path / "set", **small(kind))
    assert str(path) in message
    if state == "forbidden":
        assert "cannot be read: permission denied" in message


@pytest.mark.parametrize("kind", ["idx", "cifar10", "cifar100"])
def test_a_file_with_bytes_too_many_is_named(tmp_path, kind):
    for name in DATA_FILES[kind]:
        path = WRITERS[kind](tmp_path / "set") / name
        path.write_bytes(path.read_bytes() + b"x")
        message = failure(load_dataset, tmp_path / "set")
        assert str(path) in message
        assert "fetch the file again" in message


def test_a_cifar_file_longer_than_the_official_one_is_refused_unread(tmp_path):
    path = write_cifar10(tmp_path) / "test_batch.bin"
    with open(path, "wb") as file:
        file.truncate(10_001 * 3073)
    message = failure(load_dataset, tmp_path)
    assert "test_batch.bin: has more than the official 10000 records of 3073 bytes" in message


def set_byte(path, place, value):
    contents = bytearray(path.read_bytes())
    contents[place] = value
    path.write_bytes(contents)


@pytest.mark.parametrize(
    ("kind", "name", "place", "value", "words"),
    [
        ("idx", "train-labels-idx1-ubyte", 8 + 4, 10, "label 10 at byte 12, but there are 10"),
        ("idx", "t10k-labels-idx1-ubyte", 8, 77, "label 77 at byte 8, but there are 10"),
        ("idx", "train-labels-idx1-ubyte", 3, 3, "inside its header of 16|make"),
        ("idx", "train-images-idx3-ubyte", 2, 7, "no IDX file: it starts with 00 00 07 03"),
        ("idx", "train-images-idx3-ubyte", 0, 1, "no IDX file: it starts with 01 00 08 03"),
        ("idx", "t10k-images-idx3-ubyte", 7, 9, "216 bytes, but .* make 196"),
        ("cifar10", "data_batch_2.bin", 3073, 10, "label 10 at byte 3073, but there are 10"),
        ("cifar10", "test_batch.bin", 0, 255, "label 255 at byte 0, but there are 10"),
        ("cifar100", "train.bin", 3074 + 1, 100, "label 100 at byte 3075, but there are 100"),
        ("cifar100", "test.bin", 3074, 20, "label 20 at byte 3074, but there are 20"),
    ],
)
def test_a_wrong_byte_is_named_with_its_place(tmp_path, kind, name, place, value, words):
    path = WRITERS[kind](tmp_path / "set") / name
    set_byte(path, place, value)
    message = failure(load_dataset, tmp_path / "set")
    assert message.startswith(f"{path}: ")
    assert re.search(words, message), message


@pytest.mark.parametrize(
    ("name", "array", "code", "words"),
    [
        ("train-labels-idx1-ubyte", np.zeros(29, "u1"), 8, "29 labels, but 30 images"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 5, 5), "u1"), 8, "different sets"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 20), "u1"), 8, "holds values of shape (10, 20)"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 5, 4), ">i2"), 11, "(10, 5, 4) (int16)"),
        ("t10k-images-idx3-ubyte", np.zeros((0, 5, 4), "u1"), 8, "holds values of shape (0, 5, 4)"),
        ("t10k-labels-idx1-ubyte", np.zeros((10, 1), "u1"), 8, "holds values of shape (10, 1)"),
        ("t10k-labels-idx1-ubyte", np.zeros(10, ">f4"), 13, "(10,) (float32)"),
        ("t10k-labels-idx1-ubyte", np.full(10, -1, "i1"), 9, "label -1 at byte 8"),
    ],
    ids=["count", "other size", "two axes", "int16", "none", "column", "float", "negative"],
)  # fmt: skip
def test_idx_files_that_do_not_fit_together_are_named(tmp_path, name, array, code, words):
    folder = write_idx_set(tmp_path / "set")
    (folder / name).write_bytes(idx_bytes(array, code))
    message = failure(load_dataset, folder)
    assert words in message
    assert str(folder) in message


@pytest.mark.parametrize(
    ("kind", "name", "contents", "words"),
    [
        ("cifar10", "batches.meta.txt", b"a\nb\n", "has 2 lines where 10 class names should be"),
        ("cifar10", "batches.meta.txt", b"\xff\xfe", "is no text in UTF-8: byte 0"),
        ("cifar100", "fine_label_names.txt", b"", "has 0 lines where 100 class names should be"),
        (
            "images",
            "classes.tsv",
            b"n01\tfish\nn02 bird\n",
            "line 2 is not a key, a tab",
        ),
        ("idx", "classes.tsv", b"0\tfish\n", "but there are 1 classes"),
        ("idx", "classes.tsv", b"1\tfish\n2\tbird\n", "label 0 at byte 8, but there are 2"),
        ("idx", "classes.tsv", b"0\tfish\n2\tbird\n", "no name for the label 1; number the"),
    ],
    ids=["short", "binary", "empty", "no tab", "too few", "from 1", "a gap"],
)
def test_wrong_class_names_are_named(tmp_path, kind, name, contents, words):
    folder = WRITERS[kind](tmp_path / "set")
    (folder / name).write_bytes(contents)
    assert words in failure(load_dataset, folder)


def test_a_gap_in_the_cifar_batches_is_named(tmp_path):
    write_cifar10(tmp_path, batches=4)
    (tmp_path / "data_batch_2.bin").unlink()
    assert "data_batch_2.bin: is missing" in failure(load_dataset, tmp_path)


def test_image_folders_that_are_not_whole_are_named(tmp_path):
    def shape(*files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "train").mkdir(parents=True)
        for name in files:
            save(folder / name, smooth_image(20, 20))
        return folder

    assert "has train but none of val, valid" in failure(load_dataset, shape("train/a/1.png"))
    assert "train: has no sub-folders" in failure(load_dataset, shape("val/a/1.png"))
    one = "train/a/1.png"
    assert "val/b/1.png: is of the class b, which train/ does not have" in failure(
        load_dataset, shape(one, "val/b/1.png")
    )
    folder = shape(one, "val/a/1.png")
    (folder / "train" / "empty").mkdir()
    assert "train/empty: has no image that Pillow can read" in failure(load_dataset, folder)
    folder = shape(one)
    (folder / "val" / "a").mkdir(parents=True)
    assert "val: has no image" in failure(load_dataset, folder)


def test_a_broken_link_and_a_pipe_are_no_images(tmp_path):
    folder = write_pictures(tmp_path)
    link = folder / "train" / "n01" / "z.jpg"
    link.symlink_to("nowhere")
    assert f"{link}: cannot be read" in failure(load_dataset, folder)
    link.unlink()
    os.mkfifo(link)
    assert f"{link}: is named like an image but is no file" in failure(load_dataset, folder)


def test_pixels_that_are_no_bytes_are_refused(tmp_path):
    save(tmp_path / "a.tif", Image.fromarray(np.ones((4, 4), np.float32)))
    message = failure(decode, tmp_path / "a.tif")
    assert message == f"{tmp_path / 'a.tif'}: has pixels of Pillow's mode F; save it as 8-bit"


@pytest.mark.parametrize(
    "error", [ValueError("bad\ndata"), SyntaxError("broken"), IndexError(7)], ids=repr
)
def test_whatever_a_decoder_meets_names_the_file(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    save(tmp_path / "a.png", smooth_image(8, 8))
    monkeypatch.setattr(Image.Image, "convert", fail)
    assert "a.png: is a damaged image" in failure(decode, tmp_path / "a.png")
    error = MemoryError("none left")  # this one is not the file's fault
    with pytest.raises(MemoryError):
        decode(tmp_path / "a.png")


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch):
    folder, real = write_pictures(tmp_path), os.scandir

    def guarded(path="."):
        if os.fspath(path).endswith(state):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    for state in ("train", "n02"):
        assert f"{state}: cannot be read: permission denied" in failure(load_dataset, folder)
    monkeypatch.setattr(os, "listdir", guarded)
    state = tmp_path.name
    assert "cannot be read: permission denied" in failure(load_dataset, folder)


def png_of_any_size(width, height):
    """A PNG whose header promises width x height pixels that are not there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_an_image_too_large_to_be_honest_is_refused_without_a_warning(tmp_path, side):
    """Pillow warns of the first and refuses the second. The warning would be a second line."""
    folder = write_pictures(tmp_path)
    path = folder / "train" / "n01" / "a.png"
    path.write_bytes(png_of_any_size(side, side))
    code = (
        "import sys; from rsam_ref.data import DataError, load_dataset\n"
        "try: load_dataset(sys.argv[1], image_size=8).train.take([0, 1, 2, 3])\n"
        "except DataError as error: print(error, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("\n") == 1
    assert f"{path}: has more than" in done.stderr


def test_without_pillow_the_remedy_is_named(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    pillow.cache_clear()
    try:
        remedy = 'pip install "rsam-ref[images]"'
        assert remedy in failure(load_dataset, folder)
        assert remedy in failure(load_dataset, image_size=16)
        assert remedy in failure(load_dataset, augment="inception")
        assert load_dataset(augment="crop-flip").name == "digits"
    finally:
        pillow.cache_clear()


# Real data


def shared(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_fashion_mnist_is_the_published_one():
    data: Any = load_dataset(shared("fashion-mnist"))
    assert (data.name, data.shape) == ("fashion-mnist", (1, 28, 28))
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert [data.classes[i] for i in data.test.labels[:5]] == [
        "Ankle boot", "Pullover", "Trouser", "Trouser", "Shirt",
    ]  # fmt: skip
    assert data.train.labels[:6].tolist() == [9, 0, 0, 3, 0, 2]
    # The mean 0.2860 and deviation 0.3530 that are in everybody's code.
    assert data.train._mean.item() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert 1 / data.train._scale.item() / 255 == pytest.approx(0.3530, abs=5e-5)


def test_cifar10_rows_are_the_published_ones():
    data: Any = load_dataset(shared("cifar-10-lossless"))
    assert (data.name, len(data.train), len(data.test)) == ("cifar10", 4000, 1000)
    assert data.classes[0] == "airplane"
    assert data.classes[9] == "truck"
    assert [data.classes[i] for i in data.train.labels[:5]] == [
        "frog", "truck", "truck", "deer", "automobile",
    ]  # fmt: skip
    assert data.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    counts = np.bincount(data.train.labels)
    assert (counts.min(), counts.max()) == (366, 422)
    assert data.train._images[0, :, 0, 0].tolist() == [59, 62, 63]
    assert data.train._images[0, :, 0, 1].tolist() == [43, 46, 45]
    np.testing.assert_allclose(data.train._mean.ravel() / 255, [0.4914, 0.4822, 0.4465], atol=0.005)


def test_the_imagenet_like_folder_is_whole():
    data: Any = load_dataset(shared("imagenet-like"), image_size=64)
    assert np.bincount(data.train.labels).tolist() == [60] * 10
    assert np.bincount(data.test.labels).tolist() == [20] * 10
    assert data.classes[0] == "goldfish, Carassius auratus"
    assert data.classes[9] == "pizza, pizza pie"
    assert data.shape == (3, 64, 64)
    x = data.train.take(np.arange(600))
    channels = x / data.train._scale + data.train._mean
    assert (np.ptp(channels, axis=1).max(axis=(1, 2)) < 1e-3).sum() >= 1  # greyscale files
    lemons = channels[data.train.labels == 8].mean(axis=(0, 2, 3))
    assert lemons[0] > lemons[2] + 50  # lemons are yellow: red far above blue
    goldfish = channels[data.train.labels == 0].mean(axis=(0, 2, 3))
    assert goldfish[0] > goldfish[2] + 20
