"""Folders of images, one sub-folder a class, as ImageNet and Tiny ImageNet are kept.

Pictures may lie in folders below their class's, as torchvision's ImageFolder takes them. Classes
may also be told by a table beside the pictures: see `metadata`. Imported by `recognise`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from rsam_ref.data import metadata, splits
from rsam_ref.data.augment import pillow
from rsam_ref.data.errors import DamagedImage, DataError, because, read_lines
from rsam_ref.data.names import class_names
from rsam_ref.data.notes import Notes
from rsam_ref.data.pictures import SUFFIXES, is_picture
from rsam_ref.data.samples import Pictures, Source, listed

ANNOTATIONS = "val_annotations.txt"
"""Tiny ImageNet's: file, class and four numbers a line, beside a folder of all the images."""

Listed = list[tuple[str, str]]
"""Names of pictures below the folder of the set, and each one's class."""


class Files(Pictures):
    """Pictures that are files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: dict[str, int] = {}

    def size(self, name: str) -> int:
        """Of the file, which is looked up now."""
        return _size(self.folder / name)

    def path(self, name: str) -> Path:
        """The file."""
        return self.folder / name

    def open(self, name: str) -> Path:
        """The file, which Pillow opens."""
        return self.folder / name

    def changed(self, name: str) -> bool:
        """Whether the file is gone, or of another size."""
        try:
            return (self.folder / name).stat().st_size != self.sizes[name]
        except OSError:
            return True


def read_folder(folder: Path, skip: Collection[str] = (), *, checked: bool = True) -> Source:
    """The names of the image files of the parts train and val (or another name of `splits`).

    Classes are the sub-folders of the first in alphabetical order, by their names in classes.tsv
    (or Tiny ImageNet's words.txt) where it has them, or the labels of a metadata.csv. Files named
    in ``skip`` are left out. With ``checked`` an empty file and a link that leads nowhere are
    errors; without, they are listed.
    """
    pillow()  # it is missed here rather than in the first batch
    notes = Notes()
    parts = [entry.name for entry in _entries(folder) if entry.is_dir()]
    train, test, unused = splits.choose(folder, parts)
    for part in unused:
        count = sum(len(files) for _, _, files in os.walk(folder / part))
        notes.tell(f"{part}/ is not used ({count:,} files): {test}/ is tested on")
    whole = metadata.read(folder, [train, test])
    tables = {part: _table(folder, part, whole) for part in (train, test)}
    found = {
        part: _by_table(folder, part, table, notes) if table else _by_folders(folder, part, notes)
        for part, table in tables.items()
    }
    order = metadata.in_order if tables[train] else sorted
    keys = order({key for _, key in found[train]})
    number = {key: i for i, key in enumerate(keys)}
    for name, key in found[test]:
        if key not in number:
            raise DataError(folder / name, f"is of the class {key}, which {train}/ does not have")
    pictures = Files(folder)
    items = {}
    for part in (train, test):
        kept = [(name, number[key]) for name, key in found[part] if name not in skip]
        if checked:
            pictures.sizes |= {name: pictures.size(name) for name, _ in kept}
        items[part] = listed(kept)
    names = _class_names(folder, keys)
    return Source(
        folder.resolve().name,
        tuple(names.get(key, key) for key in keys),
        items[train],
        items[test],
        pictures,
        notes.lines,
    )


def _class_names(folder: Path, keys: list[str]) -> dict[str, str]:
    if (path := folder / "classes.tsv").exists():
        return class_names(path)
    if (path := folder / "words.txt").exists():  # Tiny ImageNet's, of all of WordNet
        names = class_names(path)
        return {key: names[key] for key in keys if key in names}
    return {}


def _table(folder: Path, part: str, whole: metadata.Labels | None) -> metadata.Labels | None:
    """The table that tells the classes of a part's pictures, that of the ``whole`` set or its own.

    None where folders tell them.
    """
    if whole:
        return metadata.of_part(whole, part)
    if (folder / part / ANNOTATIONS).exists():
        return _annotations(folder / part / ANNOTATIONS)
    return metadata.read(folder / part, [])


def _by_table(folder: Path, part: str, labels: metadata.Labels, notes: Notes) -> Listed:
    """The pictures that a table names; all others are left out."""
    for name in _pictures(folder, part, notes):
        if name.removeprefix(f"{part}/") not in labels.by_name:
            notes.leave_out(name, f"not in {labels.path.name}")
    pictures = [(f"{part}/{name}", label) for name, label in labels.by_name.items()]
    for name, _ in pictures:
        if not os.path.lexists(folder / name):
            raise DataError(labels.path, f"names {name}, which is not there")
    if not pictures:
        raise DataError(labels.path, "names no picture")
    return pictures


def _annotations(path: Path) -> metadata.Labels:
    found = {}
    for number, line in enumerate(read_lines(path), 1):
        name, tab, rest = line.partition("\t")
        if not tab:
            raise DataError(path, f"line {number} is not a file, a tab and a class")
        found[f"images/{name}"] = rest.split("\t")[0]
    return metadata.Labels(path, found)


def _by_folders(folder: Path, part: str, notes: Notes) -> Listed:
    """The pictures in the sub-folders of a part, each a class."""
    pictures: Listed = []
    loose = 0
    classes = False
    for entry in _entries(folder / part):
        name = f"{part}/{entry.name}"
        if entry.is_dir():
            classes = True
            found = [(below, entry.name) for below in _pictures(folder, name, notes)]
            if splits.is_train(part) and not found:
                raise DataError(entry.path, "has no image that Pillow can read")
            pictures += found
        elif entry.is_symlink() and not os.path.exists(entry.path):
            notes.leave_out(name, "links that lead nowhere")
        elif is_picture(Path(entry.path)):
            loose += 1
            notes.leave_out(name, "in no class's folder")
        else:
            notes.leave_out(name, "no pictures")
    if not classes and splits.is_train(part):
        raise DataError(folder / part, f"has no sub-folders; each class needs one{_way_out(loose)}")
    if not pictures:
        raise DataError(folder / part, f"has no image in a sub-folder of a class{_way_out(loose)}")
    return pictures


def _way_out(loose: int) -> str:
    if not loose:
        return ""
    return (
        f"; {loose:,} pictures lie in it directly: move each into a folder of its class, or list "
        "them in a metadata.csv beside them (file_name,label)"
    )


def _pictures(folder: Path, below: str, notes: Notes, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of the pictures in a folder and in those below it; the rest is counted."""
    here = os.path.realpath(folder / below)
    folders = []
    for entry in _entries(folder / below, hidden=True):
        name = f"{below}/{entry.name}"
        if entry.name[0] == ".":
            notes.leave_out(name, "hidden")
        elif entry.is_dir():
            folders.append(name)
        elif entry.name in metadata.NAMES or entry.name == ANNOTATIONS:
            continue
        elif is_picture(Path(entry.path)) if entry.is_file() else _called_like_one(entry):
            yield name
        elif entry.is_symlink() and not os.path.exists(entry.path):
            notes.leave_out(name, "links that lead nowhere")
        else:
            notes.leave_out(name, "no pictures")
    for name in folders:
        if os.path.realpath(folder / name) in (*above, here):
            notes.leave_out(name, "links to a folder above them")
        else:
            yield from _pictures(folder, name, notes, (*above, here))


def _called_like_one(entry: os.DirEntry[str]) -> bool:
    """Whether what is no file is called like a picture. It is not opened: it may be a pipe."""
    return entry.name.lower().endswith(SUFFIXES)


def _size(file: Path) -> int:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DamagedImage(file, f"cannot be read: {because(error)}", "mend that") from None
    if not file.is_file():
        raise DamagedImage(file, "is named like an image but is no file", "remove or rename it")
    if size == 0:
        raise DamagedImage(file, "is empty")
    return size


def _entries(folder: Path, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden entries unless they are asked for."""
    try:
        with os.scandir(folder) as found:
            shown = (e for e in found if hidden or e.name[0] != ".")
            return sorted(shown, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(folder, f"cannot be read: {because(error)}") from None
