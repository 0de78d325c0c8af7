"""What a folder holds, told by the names in it: the one place that knows all kinds of data.

Imported by `dataset` and `damaged`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
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
from rsam_ref.data.parquet import read_parquet
from rsam_ref.data.parquet_files import table_sets
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
LOOKED_INTO = 100  # folders below one without a set, where one may lie
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")

_FILES = (".gz", ".npz", ".npy", ".parquet", ".csv", ".bin")

Reader = Callable[[], Source]


@dataclass(frozen=True)
class Found:
    """A set that lies in a folder: ``where`` is what to give to have this one, and no other."""

    where: Path
    read: Reader


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
    if len(found) > 1:
        raise _several(where, found)
    for of in found.values():
        source = of.read()
        return replace(source, notes=(*source.notes, *_passed_over(where, names, found)))
    raise _nothing(where, names)


def holds_a_set(folder: Path) -> bool:
    """Whether a folder holds what `read_source` reads, or more than one such set."""
    try:
        return bool(_kinds(folder, {path.name for path in folder.iterdir()}, (), False))
    except OSError:
        return False


def _names(folder: Path) -> set[str]:
    packed = folder.name.lower().endswith(_PACKED)
    a_file = packed or folder.suffix.lower() in _FILES
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        if a_file:
            raise DataError(
                folder, "no such file; a set is given by its folder, unpacked, or as one .npz"
            ) from None
        raise DataError(folder, 'no such folder; "digits" is the set that needs none') from None
    except NotADirectoryError:
        todo = "unpack it and give the folder" if packed else f"give its folder, {folder.parent}"
        raise DataError(folder, f"is a file; {todo}") from None
    except OSError as error:
        raise DataError(folder, f"cannot be read: {because(error)}") from None


def _kinds(folder: Path, names: set[str], skip: Collection[str], checked: bool) -> dict[str, Found]:
    """The sets that lie in a folder, by kind, and how each is read."""
    found: dict[str, Found] = {}
    for beginning in sorted(sets_in(names)):
        kind = beginning.strip("-")
        found[kind or "idx"] = Found(folder / kind, partial(read_mnist, folder, beginning))
    if "test_batch.bin" in names or any(map(CIFAR10_BATCH.fullmatch, names)):
        found["cifar10"] = Found(folder, partial(read_cifar10, folder))
    if {"train.bin", "test.bin"} & names:
        found["cifar100"] = Found(folder, partial(read_cifar100, folder))
    batches = [name for name in names if CIFAR10_PICKLE.fullmatch(name) or name == "test_batch"]
    if any((folder / name).is_file() for name in batches):
        found["cifar10 pickles"] = Found(folder, partial(read_cifar10_pickles, folder))
    if "meta" in names and any((folder / name).is_file() for name in ("train", "test")):
        found["cifar100 pickles"] = Found(folder, partial(read_cifar100_pickles, folder))
    sets = table_sets(folder)
    for tables in sets:
        below = len(sets) > 1 and tables.home != folder
        kind = f"parquet in {tables.home.relative_to(folder)}/" if below else "parquet"
        found[kind] = Found(tables.home, partial(read_parquet, tables, skip, checked=checked))
    if not sets and _folder_to_train_on(folder, names):
        found["images"] = Found(folder, partial(read_folder, folder, skip, checked=checked))
    for name, (kind, read) in _BELOW.items():
        if (folder / name).is_dir() and kind.split()[0] not in {k.split()[0] for k in found}:
            found[kind] = Found(folder / name, partial(read, folder / name))
    for name in ("", *MNIST_FOLDERS):  # torchvision's folders
        raw = folder / name / "raw"
        if raw.is_dir():
            for beginning in sorted(sets_in(path.name for path in raw.iterdir())):
                kind = beginning.strip("-")
                where = raw / kind if kind or not name else folder / name
                found.setdefault(
                    kind or name or "idx", Found(where, partial(read_mnist, raw, beginning))
                )
    if not found and files_of_arrays(names):
        found["arrays"] = Found(folder, partial(read_arrays, folder))
    return found


def _folder_to_train_on(folder: Path, names: set[str]) -> str | None:
    """The name of the folder of pictures to train on, if there is one."""
    return next((n for n in sorted(names) if splits.is_train(n) and (folder / n).is_dir()), None)


def _several(folder: Path, found: dict[str, Found]) -> DataError:
    """What to do where several sets lie in a folder: name one, or part them."""
    below = [str(of.where) for of in found.values() if of.where != folder]
    todo = "give each a folder of its own" if len(below) < len(found) else ""
    choice = f"name one: {_some(below, ' or ')}" if below else ""
    return DataError(
        folder,
        f"holds more than one set ({_some(list(found))}); "
        f"{', or '.join(part for part in (todo, choice) if part)}",
    )


def _passed_over(folder: Path, names: set[str], found: dict[str, Found]) -> list[str]:
    """Notes on what else lies in a folder and may be meant, beside the one set that is read."""
    kind = next(iter(found))
    taken = {"images": "the folders of pictures", "parquet": "the parquet files"}.get(kind, kind)
    notes = []
    if kind != "arrays" and folder.is_dir() and (files := files_of_arrays(names)):
        notes.append(f"{_some(files)} not read, but {taken}")
    train = _folder_to_train_on(folder, names)
    if kind == "parquet" and train:
        entries = [path.name for path in (folder / train).iterdir()]
        if entries and not any(name.endswith(".parquet") for name in entries):
            notes.append(f"{train}/ not read, but {taken}")
    return notes


def _some(names: list[str], between: str = ", ") -> str:
    """The first of some names, and how many there are in all."""
    more = f"{between}... ({len(names)} in all)" if len(names) > 4 else ""
    return between.join(names[:4]) + more


def _nothing(folder: Path, names: set[str]) -> DataError:
    """What does lie in a folder without a set, and what was looked for."""
    if packed := sorted(name for name in names if name.lower().endswith(_PACKED)):
        return DataError(folder / packed[0], "is still packed; unpack it here")
    folders = sorted(name for name in names if (folder / name).is_dir() and name[0] != ".")
    shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
    state = f"holds no data set but {shown}" if names else "is empty"
    if held := [name for name in folders if splits.held_out(name) is not None]:
        state = f"has {held[0]}/ but no train/ beside it"
    elif sets := [name for name in folders[:LOOKED_INTO] if holds_a_set(folder / name)]:
        below = [str(folder / name) for name in sets]
        return DataError(folder, f"holds no data set itself; give {_some(below, ' or ')}")
    elif len(folders) > 1:
        state += (
            " and no train/ and val/ (if these are classes, put some pictures of each into "
            "train/CLASS/ and others into val/CLASS/)"
        )
    return DataError(folder, f"{state}; looked for {LOOKED_FOR}")
