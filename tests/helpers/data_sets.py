"""Data sets as people have them, made up: each writer fills a folder and returns it.

What is written is small and known: pictures of `picture`, classes cat and dog, labels that go
around. Imported by the tests of data, and by the table of kinds (`tests.data_kinds`).
"""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.files import idx_bytes, noise_images

IDX = ("images-idx3", "labels-idx1")
CLASSES = ("cat", "dog")
PARTS = {"train": 6, "val": 4}


def picture(number: int = 0, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """Noise around a level of its own, so that pictures are told apart."""
    rng = np.random.default_rng(number)
    noise = rng.integers(0, 64, (size[1], size[0], 3)) + 10 * (number % 16)
    return Image.fromarray(noise.astype(np.uint8))


def save(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def class_folders(folder: Path, parts=None, name="{part}/{key}/{i}.png") -> Path:
    """Pictures in folders of their classes; ``name`` says how they lie."""
    for part, n in (parts or PARTS).items():
        for k, key in enumerate(CLASSES):
            for i in range(n):
                save(folder / name.format(part=part, key=key, i=i), picture(2 * i + k))
    return folder


def idx_images(n: int, seed: int = 0, side: int = 28) -> np.ndarray:
    return noise_images(n, 1, side, side, seed=seed)[:, 0]


def mnist(
    folder: Path,
    images="{part}-images-idx3-ubyte",
    labels="{part}-labels-idx1-ubyte",
    test="t10k",
    classes=10,
    first=0,
    sizes=(60, 30),
) -> Path:
    """The four files of MNIST under other names, with labels from ``first`` on."""
    for part, n in zip(("train", test), sizes):
        for name, array in (
            (images, idx_images(n, seed=n)),
            (labels, (np.arange(n) % classes + first).astype(np.uint8)),
        ):
            path = folder / name.format(part=part)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(idx_bytes(array))
    return folder


def qmnist(folder: Path, images="qmnist-{part}-images-idx3-ubyte", test="test") -> Path:
    """QMNIST's names, and its labels of eight columns of 32-bit numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = images.replace("images-idx3-ubyte", "labels-idx2-int")
    for part, n in (("train", 60), (test, 30)):
        rows = np.zeros((n, 8), ">i4")
        rows[:, 0] = np.arange(n) % 10
        rows[:, 1:] = 77  # writers, places: no classes
        (folder / images.format(part=part)).write_bytes(idx_bytes(idx_images(n, seed=n)))
        (folder / labels.format(part=part)).write_bytes(idx_bytes(rows, 0x0C))
    return folder


def emnist(folder: Path, split="letters", classes=26, first=1) -> Path:
    return mnist(
        folder,
        f"emnist-{split}-{{part}}-images-idx3-ubyte",
        f"emnist-{split}-{{part}}-labels-idx1-ubyte",
        "test",
        classes,
        first,
    )


def _python2_string(raw: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(raw)) + raw


def python2_pickle(data: np.ndarray, labels: list[int], key: str) -> bytes:
    """A dict with an array of bytes and a list, as Python 2 and NumPy 1 wrote them."""
    shape = b"".join(b"J" + struct.pack("<i", n) for n in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\x00\x85U\x01btRq\x03"
        + b"(K\x01" + shape + b"\x86cnumpy\ndtype\nq\x04(U\x02u1K\x00K\x01tRq\x05"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + _python2_string(data.tobytes()) + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    pairs = _python2_string(b"data") + array + _python2_string(key.encode()) + numbers
    return b"\x80\x02}q\x00(" + pairs + b"u."


def cifar10_py(folder: Path, batches=2, n=7, protocol: int | None = None) -> Path:
    """cifar-10-batches-py; with a protocol as Python 3 writes it, else as the official one."""
    folder = folder / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data_batch_{i + 1}" for i in range(batches)] + ["test_batch"]
    for seed, name in enumerate(names):
        rows = noise_images(n, seed=seed).reshape(n, -1)
        labels = [(i + seed) % 10 for i in range(n)]
        if protocol is None:
            (folder / name).write_bytes(python2_pickle(rows, labels, "labels"))
        else:
            batch = {b"data": rows, b"labels": labels, b"batch_label": b"1 of 2"}
            (folder / name).write_bytes(pickle.dumps(batch, protocol))
    meta = {"label_names": [f"c{i}" for i in range(10)], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, 2))
    return folder.parent


def cifar100_py(folder: Path, n=7) -> Path:
    folder = folder / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("train", "test")):
        rows = noise_images(n, seed=seed).reshape(n, -1)
        fine = [(90 + i) % 100 for i in range(n)]
        batch = {"data": rows, "fine_labels": fine, "coarse_labels": [f % 20 for f in fine]}
        (folder / name).write_bytes(pickle.dumps(batch, 4))
    meta = {"fine_label_names": [f"f{i}" for i in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(meta, 4))
    return folder.parent


def encoded(image: Image.Image, form="PNG") -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def parquet(
    folder: Path,
    name="data/{part}-00000-of-00001.parquet",
    parts=None,
    names=CLASSES,
    column="image",
    words=False,
) -> Path:
    """Parquet files as Hugging Face writes them. Without ``names`` it does not tell the classes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part, n in (parts or {"train": 6, "test": 4}).items():
        images = [{"bytes": encoded(picture(i)), "path": f"{i}.png"} for i in range(n)]
        labels = [CLASSES[i % 2] if words else i % 2 for i in range(n)]
        table = pa.table({column: images, "label": labels, "caption": ["?"] * n})
        if names:
            features = {
                column: {"_type": "Image"},
                "label": {"names": list(names), "_type": "ClassLabel"},
            }
            told = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": told})
        path = folder / name.format(part=part)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=4)
    return folder


def with_metadata(folder: Path, name="metadata.csv", above=False) -> Path:
    """Pictures in train/ and test/ whose classes a table tells."""
    rows = []
    for part, n in (("train", 6), ("test", 4)):
        for i in range(n):
            save(folder / part / f"{i}.png", picture(i))
            row = f"{part}/{i}.png" if above else f"{i}.png"
            rows.append((part, row, CLASSES[i % 2]))
    for part in [""] if above else ["train", "test"]:
        listed = [(file, label) for of, file, label in rows if above or of == part]
        if name.endswith(".csv"):
            text = "file_name,label\n" + "".join(f"{f},{label}\n" for f, label in listed)
        else:
            text = "".join(
                json.dumps({"file_name": f, "label": label}) + "\n" for f, label in listed
            )
        (folder / part / name).write_text(text)
    return folder


def tiny_imagenet(folder: Path) -> Path:
    lines = []
    for k, key in enumerate(CLASSES):
        for i in range(6):
            save(folder / "train" / key / "images" / f"{key}_{i}.JPEG", picture(2 * i + k))
        (folder / "train" / key / f"{key}_boxes.txt").write_text("0\t0\t1\t1\n")
    for i in range(4):
        save(folder / "val" / "images" / f"val_{i}.JPEG", picture(i))
        lines.append(f"val_{i}.JPEG\t{CLASSES[i % 2]}\t0\t0\t1\t1\n")
        save(folder / "test" / "images" / f"test_{i}.JPEG", picture(i))
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "words.txt").write_text("cat\tdomestic cat, house cat\nwolf\twolf\n")
    return folder


def arrays(folder: Path, files: dict[str, dict[str, tuple[str, int]]] | None = None) -> Path:
    """NumPy's files: by file and name in it the kind and number of samples. Default: mnist.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    default = {
        "x_train": ("x", 60), "y_train": ("y", 60), "x_test": ("x", 30), "y_test": ("y", 30),
    }  # fmt: skip
    for name, held in (files or {"mnist.npz": default}).items():
        made = {
            key: idx_images(n, seed=n) if kind == "x" else np.arange(n) % 10
            for key, (kind, n) in held.items()
        }
        if name.endswith(".npy"):
            np.save(folder / name, next(iter(made.values())))
        else:
            np.savez(folder / name, **made)
    return folder
