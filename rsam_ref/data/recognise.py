"""What a folder holds, told by the names in it: the one place that knows all kinds of data.

Imported by `dataset` and `damaged`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from rsam_ref.data import splits
from rsam_ref.data.arrays import files_of_arrays, read_arrays
from rsam_ref.data.cifar import (
    CIFAR10_BATCH,
    CIFAR10_PICKLE,
    read_cifar10,
    read_cifar10_pickles,
    read_cifar100,
    read_cifar100_pickles,
)
from rsam_ref.data.errors import DataError, because
from rsam_ref.data.folder import read_folder
from rsam_ref.data.mnist import FOLDERS as MNIST_FOLDERS
from rsam_ref.data.mnist import read_mnist, sets_in
from rsam_ref.data.parquet import parquet_files, read_parquet
from rsam_ref.data.samples import Source

LOOKED_FOR = (
    "IDX files (train-images-idx3-ubyte[.gz] ...), CIFAR-10 or CIFAR-100 (data_batch_1.bin ..., "
    "or train.bin and test.bin, or their python versions), parquet files (train-*.parquet and "
    "test-*.parquet), .npz or .npy files (x_train, y_train, x_test, y_test), or images in "
    "train/CLASS/ and val/CLASS/"
)
_BELOW = {
    "cifar-10-batches-bin": ("cifar10", read_cifar10),
    "cifar-100-binary": ("cifar100", read_cifar100),
    "cifar-10-batches-py": ("cifar10 pickles", read_cifar10_pickles),
    "cifar-100-python": ("cifar100 pickles", read_cifar100_pickles),
}
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")

Reader = Callable[[], Source]


def read_source(where: Path, skip: Collection[str] = (), *, checked: bool = True) -> Source:
    """The items and labels of the set in a folder (or in an .npz file).

    ``skip`` and ``checked`` are those of pictures: see `folder`. Raises DataError for what holds
    no set, or more than one.
    """
    if where.is_file() and where.suffix.lower() == ".npz":
        return read_arrays(where)
    if not where.exists() and where.parent.is_dir():  # the beginning of files: raw/emnist-letters
        beginning = where.name.lower().rstrip("-") + "-"
        if beginning in sets_in(path.name for path in where.parent.iterdir()):
            return read_mnist(where.parent, beginning)
    names = _names(where)
    found = _kinds(where, names, skip, checked)
    if len(found) == 1:
        return next(iter(found.values()))()
    if found:
        emnist = [kind for kind in found if kind.startswith("emnist")]
        choice = f", or name one: {where / emnist[0]}" if emnist else ""
        raise DataError(
            where,
            f"holds more than one set ({', '.join(found)}); give each a folder of its own{choice}",
        )
    raise _nothing(where, names)


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        raise DataError(folder, 'no such folder; "digits" is the set that needs none') from None
    except NotADirectoryError:
        raise DataError(folder, "is a file; unpack it and give the folder") from None
    except OSError as error:
        raise DataError(folder, f"cannot be read: {because(error)}") from None


def _kinds(
    folder: Path, names: set[str], skip: Collection[str], checked: bool
) -> dict[str, Reader]:
    """The sets that lie in a folder, by kind, and how each is read."""
    found: dict[str, Reader] = {}
    for beginning in sorted(sets_in(names)):
        found[beginning.strip("-") or "idx"] = partial(read_mnist, folder, beginning)
    if "test_batch.bin" in names or any(map(CIFAR10_BATCH.fullmatch, names)):
        found["cifar10"] = partial(read_cifar10, folder)
    if {"train.bin", "test.bin"} & names:
        found["cifar100"] = partial(read_cifar100, folder)
    batches = [name for name in names if CIFAR10_PICKLE.fullmatch(name) or name == "test_batch"]
    if any((folder / name).is_file() for name in batches):
        found["cifar10 pickles"] = partial(read_cifar10_pickles, folder)
    if "meta" in names and any((folder / name).is_file() for name in ("train", "test")):
        found["cifar100 pickles"] = partial(read_cifar100_pickles, folder)
    if tables := _tables(folder, names):
        found["parquet"] = partial(read_parquet, tables, skip, checked=checked)
    elif any(splits.is_train(name) and (folder / name).is_dir() for name in names):
        found["images"] = partial(read_folder, folder, skip, checked=checked)
    for name, (kind, reader) in _BELOW.items():
        if (folder / name).is_dir() and kind.split()[0] not in {k.split()[0] for k in found}:
            found[kind] = partial(reader, folder / name)
    for name in ("", *MNIST_FOLDERS):  # torchvision's folders
        raw = folder / name / "raw"
        if raw.is_dir():
            for beginning in sorted(sets_in(path.name for path in raw.iterdir())):
                kind = beginning.strip("-") or name or "idx"
                found.setdefault(kind, partial(read_mnist, raw, beginning))
    if not found and files_of_arrays(names):
        found["arrays"] = partial(read_arrays, folder)
    return found


def _tables(folder: Path, names: set[str]) -> Path | None:
    """The folder with parquet files: this one, or data/ or another one below it."""
    if parquet_files(folder):
        return folder
    if any(splits.is_train(name) for name in names):
        return None  # below them are the classes of a folder of images
    below = [folder / name for name in sorted(names) if name[0] != "."]
    return next((path for path in below if path.is_dir() and parquet_files(path)), None)


def _nothing(folder: Path, names: set[str]) -> DataError:
    """What does lie in a folder without a set, and what was looked for."""
    if packed := sorted(name for name in names if name.lower().endswith(_PACKED)):
        return DataError(folder / packed[0], "is still packed; unpack it here")
    folders = sorted(name for name in names if (folder / name).is_dir() and name[0] != ".")
    shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
    state = f"holds no data set but {shown}" if names else "is empty"
    if held := [name for name in folders if splits.held_out(name) is not None]:
        state = f"has {held[0]}/ but no train/ beside it"
    elif len(folders) > 1:
        state += (
            " and no train/ and val/ (if these are classes, put some pictures of each into "
            "train/CLASS/ and others into val/CLASS/)"
        )
    return DataError(folder, f"{state}; looked for {LOOKED_FOR}")
