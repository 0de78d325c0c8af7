"""Where the parquet files of a set lie, and whether they are all there: told by their names alone.

Imported by `parquet` and `recognise`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rsam_ref.data import splits
from rsam_ref.data.errors import DataError

_FILE = re.compile(r"(?P<part>[A-Za-z]+)([-_.].*)?\.parquet")
_SHARD = re.compile(r"(?P<series>.+)-(?P<index>\d+)-of-(?P<total>\d+)([-.].*)?\.parquet")


@dataclass(frozen=True)
class Tables:
    """The parquet files of one set, by its parts.

    ``home`` is the folder that they lie in, themselves or in one for each part. ``base`` is the
    one that names of pictures are given below.
    """

    home: Path
    base: Path
    parts: dict[str, list[Path]]


def table_sets(folder: Path) -> list[Tables]:
    """The sets of parquet files in a folder and in those below it.

    Files are called PART-00000-of-00001.parquet or PART/0000.parquet. Two folders down, only
    sets are looked at that lie below no other.
    """
    homes: dict[Path, dict[str, list[Path]]] = {}
    for path in _parquet_files(folder):
        named = _FILE.fullmatch(path.name)
        in_part = path.parent != folder and splits.is_part(path.parent.name)
        home = path.parent.parent if in_part else path.parent
        for part in (named["part"] if named else "", path.parent.name):
            if splits.is_part(part):
                homes.setdefault(home, {}).setdefault(part, []).append(path)
                break
    shown = {
        home: parts
        for home, parts in homes.items()
        if folder in (home, home.parent) or homes.keys().isdisjoint((folder, home.parent))
    }
    return [Tables(home, _base(folder, parts), parts) for home, parts in shown.items()]


def _parquet_files(folder: Path) -> Iterator[Path]:
    """The parquet files of a folder and of those at most two below it, in the order of names."""
    yield from sorted(folder.glob("*.parquet"))
    first = _folders(folder)
    deeper = not any(splits.is_train(below.name) for below in first)  # else these hold classes
    for below in first:
        yield from sorted(below.glob("*.parquet"))
        for deep in _folders(below) if deeper else []:
            yield from sorted(deep.glob("*.parquet"))


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden."""
    return sorted(p for p in folder.glob("*") if p.name[0] != "." and p.is_dir())


def _base(folder: Path, parts: dict[str, list[Path]]) -> Path:
    """The folder itself, or the one below it where all files lie two folders down."""
    below = [path.relative_to(folder).parts for files in parts.values() for path in files]
    return folder / below[0][0] if all(len(names) == 3 for names in below) else folder


def check_shards(home: Path, part: str, files: list[Path]) -> list[str]:
    """Each part is there once and whole: by the folders of its files and the numbers they bear.

    The names of the series of numbered files: one, as a rule. DataError for what is missing, or
    stands there twice.
    """
    folders = dict.fromkeys(path.parent for path in files)
    if len(folders) > 1:
        raise DataError(home, f"has {part} in {' and in '.join(map(str, folders))}; keep one")
    series: dict[str, dict[int, dict[int, str]]] = {}  # number of files -> number of one -> name
    for path in files:
        shard = _SHARD.fullmatch(path.name)
        name, total, index = path.stem, 0, 0  # a file without numbers
        if shard:
            name, total, index = shard["series"], int(shard["total"]), int(shard["index"])
        there = series.setdefault(name, {}).setdefault(total, {})
        if index in there:
            raise DataError(path, f"has the number of {there[index]}; keep one of them")
        there[index] = path.name
    for name, by_total in series.items():
        if len(by_total) > 1:
            shown = " and ".join(next(iter(there.values())) for there in by_total.values())
            raise DataError(
                home, f"has {name} more than once, cut into files otherwise ({shown}); keep one"
            )
        for total, there in by_total.items():
            if len(there) < total:
                missing = [f"{i:05d}" for i in range(total) if i not in there]
                more = ", ..." if len(missing) > 5 else ""
                raise DataError(
                    home,
                    f"has {len(there)} of the {total} files of {name}; missing are "
                    f"{', '.join(missing[:5])}{more}: get them",
                )
    return [name for name, by_total in series.items() if 0 not in by_total]
