"""What goes wrong with data, said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class DataError(ValueError):
    """Data that is not what it should be. The message names the file and what to do, in one line.

    ``path`` is the file or folder, ``reason`` what is wrong with it and how it is mended.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        super().__init__(" ".join(f"{path}: {reason}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is: it holds the message, not the reason that it was made of."""
        return _as_it_was, (type(self), str(self), vars(self))


def _as_it_was(kind: type[DataError], message: str, state: dict[str, Any]) -> DataError:
    """A copy of an error, such as one that another process has raised."""
    error = kind.__new__(kind, message)
    vars(error).update(state)
    return error


class DamagedImage(DataError):  # noqa: N818  (a kind of DataError)
    """A picture that cannot be read. ``what`` is wrong with it, without what to do.

    ``changed`` says whether the file is another than when the data set was loaded.
    """

    def __init__(self, path: str | Path, what: str, remedy: str = "") -> None:
        self.what = " ".join(what.split())
        self.remedy = remedy or "remove it or get it again"
        self.changed = False
        super().__init__(path, f"{what}; {self.remedy}")


_POINTER = b"version https://git-lfs.github.com/"


def is_pointer(path: str | Path) -> bool:
    """Whether a file is what Git LFS leaves in the place of the one that it stands for."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def refuse_pointer(path: str | Path) -> None:
    """Raise DataError for a pointer of Git LFS."""
    if is_pointer(path):
        raise DataError(path, "is a pointer of Git LFS, not the file itself; get it: git lfs pull")


def because(error: OSError) -> str:
    """What the system says about a file, in words."""
    return (error.strerror or str(error)).lower()


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """The contents of a file, or its first ``most`` bytes. DataError where it cannot be read."""
    refuse_pointer(path)
    try:
        with open(path, "rb") as file:
            return file.read(-1 if most is None else most)
    except IsADirectoryError:
        raise DataError(path, "is a folder where a file should be") from None
    except OSError as error:
        raise DataError(path, f"cannot be read: {because(error)}") from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file in UTF-8, without the blank ones at its end."""
    raw = read_bytes(path)
    try:
        return raw.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(path, f"is no text in UTF-8: byte {error.start} is wrong") from None
