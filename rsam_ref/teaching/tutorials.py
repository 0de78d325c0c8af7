"""The tutorials as files: where they are in an installed package or a checkout, and copies."""

from __future__ import annotations

import errno
from pathlib import Path

from rsam_ref.files import write_whole

INSTALLED = Path(__file__).with_name("tutorials")
"""Where a wheel has them."""

CHECKOUT = Path(__file__).parents[2] / "tutorials"
"""Where they are written; an editable install has them there alone."""

FILES = ("README.md", "*.py", "solutions/*.py")


def originals() -> dict[str, Path]:
    """Every file by its name inside the folder. Raises FileNotFoundError where there are none."""
    folder = INSTALLED if INSTALLED.is_dir() else CHECKOUT
    found = [path for pattern in FILES for path in sorted(folder.glob(pattern))]
    if not found:
        told = "the tutorials are not there; install rsam-ref again, or clone the repository"
        raise FileNotFoundError(errno.ENOENT, told, str(folder))
    return {path.relative_to(folder).as_posix(): path for path in found}


def copy(folder: Path) -> list[Path]:
    """Copy every file into a folder, which is made where it is not; returns their paths.

    A file that is there with the same contents is left. FileExistsError, and nothing is written,
    where one is there with others: it may hold somebody's answers.
    """
    made = {folder / name: path.read_bytes() for name, path in originals().items()}
    for path, contents in made.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != contents):
            told = "is there with other contents; nothing was written: give another folder"
            raise FileExistsError(errno.EEXIST, told, str(path))
    (folder / "solutions").mkdir(parents=True, exist_ok=True)
    for path, contents in made.items():
        if not path.exists():
            write_whole(path, contents)
    return list(made)
