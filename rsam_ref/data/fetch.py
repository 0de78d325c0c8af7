"""Fetching the public data sets, with their published checksums.

Sources: fashion-mnist's README (Zalando), https://www.cs.toronto.edu/~kriz/cifar.html, and for
MNIST, whose own site no longer gives the files out, the mirrors and checksums that torchvision
uses. The checksums are MD5, as published: they show a damaged file, not a forged one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsam_ref.data.errors import DataError, because

TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 16

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class File:
    """A file to fetch: its name, its size in bytes and its MD5."""

    name: str
    size: int
    md5: str


@dataclass(frozen=True)
class Remote:
    """A set's files, the addresses that each may be had from, and what an archive unpacks to.

    Each mirror is an address that a file's name is put behind. ``members`` are the sizes in bytes
    of the files that an archive unpacks to in ``folder``; 0 where any will do.
    """

    mirrors: tuple[str, ...]
    files: tuple[File, ...]
    folder: str = ""
    members: Mapping[str, int] = field(default_factory=dict)


_TORONTO = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

REMOTES = {
    "mnist": Remote(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (
            File("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            File("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            File("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            File("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
    ),
    "fashion-mnist": Remote(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            File("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            File("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            File("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            File("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
    ),
    "cifar10": Remote(
        _TORONTO,
        (File("cifar-10-binary.tar.gz", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),),
        "cifar-10-batches-bin",
        {f"data_batch_{i}.bin": 10_000 * 3073 for i in range(1, 6)}
        | {"test_batch.bin": 10_000 * 3073, "batches.meta.txt": 0},
    ),
    "cifar100": Remote(
        _TORONTO,
        (File("cifar-100-binary.tar.gz", 168_513_733, "03b5dce01913d631647c71ecec9e9cb8"),),
        "cifar-100-binary",
        {
            "train.bin": 50_000 * 3074,
            "test.bin": 10_000 * 3074,
            "fine_label_names.txt": 0,
            "coarse_label_names.txt": 0,
        },
    ),
}


def fetch(
    name: str,
    into: str | Path,
    *,
    progress: Progress | None = None,
    mirrors: Sequence[str] | None = None,
) -> Path:
    """Fetch a set into the folder ``into``/``name``, which is returned, for `load_dataset`.

    name: mnist, fashion-mnist, cifar10 or cifar100 (the last two are unpacked there).
    progress: called with the bytes that are there, the bytes of the whole file, and its name.
    mirrors: addresses to try instead of the known ones; a file's name is put behind each.

    What is there and right stays. A download that was broken off (by Ctrl-C, a full disk, a lost
    connection) lies in NAME.part and is gone on with by the next call. Raises ValueError for an
    unknown name, and DataError with one line that says where to get the file and where to put it.
    """
    if name not in REMOTES:
        raise ValueError(f"the sets to fetch are {', '.join(REMOTES)}, not {name!r}")
    remote, folder = REMOTES[name], Path(into) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if remote.folder and _complete(remote, folder / remote.folder):
            return folder
        missing = [file for file in remote.files if not _right(folder / file.name, file, progress)]
        for i, file in enumerate(missing):
            _get(file, folder, mirrors or remote.mirrors, progress, missing[i:])
        if remote.folder:
            _unpack(folder / remote.files[0].name, folder, remote)
    except OSError as error:
        raise DataError(
            error.filename or folder, f"{because(error)}; mend that, and fetch {name} again"
        ) from None
    return folder


def _complete(remote: Remote, folder: Path) -> bool:
    sizes = {name: _size(folder / name) for name in remote.members}
    return all(
        sizes[name] == size if size else sizes[name] for name, size in remote.members.items()
    )


def _right(path: Path, file: File, progress: Progress | None) -> bool:
    """Whether a file is there and is what it should be. A wrong one is removed."""
    if not path.exists():
        return False
    if path.stat().st_size == file.size and _md5(path) == file.md5:
        if progress is not None:
            progress(file.size, file.size, file.name)
        return True
    path.unlink()
    return False


def _md5(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class _MirrorError(Exception):
    """Why a mirror did not give a file."""


def _get(
    file: File,
    folder: Path,
    mirrors: Sequence[str],
    progress: Progress | None,
    missing: Sequence[File],
) -> None:
    """Download one file from the first mirror that gives it, check it, and put it in its place."""
    part = folder / f"{file.name}.part"
    reasons = []
    for mirror in mirrors:
        try:
            _download(mirror + file.name, part, file, progress)
        except _MirrorError as error:
            reasons.append(f"{mirror}{file.name}: {error}")
        else:
            os.replace(part, folder / file.name)
            return
    wanted = ", ".join(mirrors[0] + other.name for other in missing)
    raise DataError(
        folder / file.name,
        f"could not be fetched ({'; '.join(reasons)}). Get {wanted} elsewhere and put "
        f"{'it' if len(missing) == 1 else 'them'}, under the same name, into {folder.absolute()}, "
        "then run this again",
    )


def _download(url: str, part: Path, file: File, progress: Progress | None) -> None:
    """Bring ``part`` to the whole, right file. It goes on from what is there.

    An address that breaks off is asked again as long as there is more of the file each time.
    """
    old = part.exists()
    while True:
        before = _size(part)
        problem = _receive(url, part, file, progress)
        have = _size(part)
        if have == file.size:
            if (got := _md5(part)) == file.md5:
                return
            part.unlink()
            problem = f"wrong contents, removed: MD5 expected {file.md5}, got {got}"
            if not old:
                raise _MirrorError(problem)
            old = False  # the fault may lie in what was there before: once more from the start
        elif have <= before:
            raise _MirrorError(problem)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path, file: File, progress: Progress | None) -> str:
    """Ask once for what ``part`` lacks and write it there. Says why it is not whole, if it is not.

    An OSError is the disk's; the network's are in the answer.
    """
    if (have := _size(part)) > file.size:
        part.unlink()
        have = 0
    if have == file.size:
        return ""
    headers = {"User-Agent": "rsam-ref"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        reply = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the server has no such range
            part.unlink()
            return _receive(url, part, file, progress)
        return f"HTTP {error.code} {error.reason}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _why(error)
    with reply:
        total = reply.headers.get("Content-Length")
        if reply.status == 206:
            span, _, total = reply.headers.get("Content-Range", "").partition("/")
            if span != f"bytes {have}-{file.size - 1}":
                return f"it gives another range than it was asked for ({span or 'unnamed'})"
        else:
            have = 0
        if total and total.isdigit() and int(total) != file.size:
            return f"it has {total} bytes, not {file.size}"
        with open(part, "ab" if have else "wb") as out:
            while have < file.size:
                try:
                    block = reply.read(_BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    return f"broke off at byte {have} of {file.size} ({_why(error)})"
                if not block:
                    return f"broke off at byte {have} of {file.size}"
                out.write(block[: file.size - have])
                have += len(block)
                if progress is not None:
                    progress(min(have, file.size), file.size, file.name)
    return ""


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer for {TIMEOUT} seconds"
    return because(reason) if isinstance(reason, OSError) else str(reason) or type(reason).__name__


def _unpack(archive: Path, folder: Path, remote: Remote) -> None:
    """The members of an archive that are expected, and no others, into folder/remote.folder.

    Only the contents are taken, from regular files: no paths, links, owners or permissions.
    """
    wanted = {f"{remote.folder}/{name}": name for name in remote.members}
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as scratch:
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    contents = tar.extractfile(member) if member.isreg() else None
                    if contents is not None and member.name in wanted:
                        with open(Path(scratch, wanted.pop(member.name)), "wb") as out:
                            shutil.copyfileobj(contents, out)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(archive, f"cannot be unpacked ({error}); remove it") from None
        if wanted:
            raise DataError(archive, f"lacks {', '.join(wanted)}; remove it")
        (folder / remote.folder).mkdir(exist_ok=True)
        for name in remote.members:
            os.replace(Path(scratch, name), folder / remote.folder / name)
