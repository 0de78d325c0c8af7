"""Every kind of data, what we do with it and what torchvision's class for it does: the table.

    python -m tests.helpers.data_kinds

writes every kind into a folder of its own, loads it, and puts the table into docs/data.md. What
torchvision does is measured by `tests.frameworks.data_elsewhere` where torchvision is installed
(`make frameworks`), and kept beside this file with its version; elsewhere the kept answers stand.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pages import put_between
from rsam_ref.data import DataError, find_damaged, load_dataset
from tests.helpers import data_sets as made
from tests.helpers import elsewhere

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
KEPT = Path(__file__).with_suffix(".json")
BEGIN, END = "<!-- the table of kinds -->\n", "<!-- its end -->\n"


@dataclass(frozen=True)
class Kind:
    """A kind of data: how it is written, torchvision's class, and a picture to look at."""

    title: str
    write: Callable[[Path], Path]
    theirs: str = "ImageFolder"
    look_at: str = ""


def _after(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Folders of classes that are changed then."""

    def write(folder: Path) -> Path:
        made.class_folders(folder)
        change(folder)
        return folder

    return write


def _hidden(folder: Path) -> None:
    hidden = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    made.save(folder / "train" / "cat" / "0.png", hidden)


def _deep(folder: Path) -> None:
    deep = Image.fromarray(np.full((16, 16), 4095, np.uint16))
    made.save(folder / "train" / "cat" / "0.png", deep)


def _cut(folder: Path) -> None:
    path = folder / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:900])


def _grey(folder: Path) -> None:
    for i in (3, 4, 5):
        made.save(folder / "train" / "cat" / f"{i}.pgm", made.picture(i).convert("L"))
        (folder / "train" / "cat" / f"{i}.png").unlink()


def _suffixes(folder: Path) -> None:
    for i, form in enumerate(("jfif", "avif", "jp2")):
        made.save(folder / "train" / "cat" / f"{i}.{form}", made.picture(i))
        (folder / "train" / "cat" / f"{i}.png").unlink()


def _no_test_sample(folder: Path) -> None:
    for path in (folder / "val" / "dog").iterdir():
        path.unlink()


def _whole_cifar10(folder: Path) -> Path:
    return made.cifar10_py(folder, batches=5, n=10)


def _pickle(folder: Path) -> Path:
    """A harmless one that asks for a class of Python's own."""
    _whole_cifar10(folder)
    path = folder / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(b"\x80\x02ccollections\nOrderedDict\n)R.")
    return folder


KINDS = [
    Kind("MNIST, its own names", made.mnist, "MNIST"),
    Kind(
        "MNIST, torchvision's root",
        lambda folder: made.mnist(folder, *[f"MNIST/raw/{{part}}-{k}-ubyte" for k in made.IDX]),
        "MNIST",
    ),
    Kind(
        "MNIST, names with a dot (Kaggle)",
        lambda folder: made.mnist(
            folder, *[f"{{part}}-{k.replace('-i', '.i')}-ubyte" for k in made.IDX]
        ),
        "MNIST",
    ),
    Kind(
        "MNIST, folders of the files' names",
        lambda folder: made.mnist(
            folder, *[f"{{part}}-{k}-ubyte/{{part}}-{k}-ubyte" for k in made.IDX]
        ),
        "MNIST",
    ),
    Kind(
        "QMNIST, labels of 8 columns", lambda f: made.qmnist(f / "QMNIST/raw").parents[1], "QMNIST"
    ),
    Kind(
        "EMNIST letters, stored transposed",
        lambda folder: made.emnist(folder / "EMNIST/raw").parents[1],
        "EMNIST",
    ),
    Kind(
        "EMNIST letters under MNIST's names",
        lambda folder: made.mnist(
            folder, *[f"MNIST/raw/{{part}}-{k}-ubyte" for k in made.IDX], classes=26, first=1
        ),
        "MNIST",
    ),
    Kind("CIFAR-10, python version", _whole_cifar10, "CIFAR10"),
    Kind("CIFAR-100, python version", lambda f: made.cifar100_py(f, n=100), "CIFAR100"),
    Kind("CIFAR-10, a pickle that asks for more", _pickle, "CIFAR10"),
    Kind("mnist.npz (Keras)", made.arrays, "(none)"),
    Kind("Hugging Face's parquet", made.parquet, "(none)"),
    Kind("Hugging Face's folder with metadata.csv", made.with_metadata),
    Kind("folders of classes, train/ and val/", made.class_folders),
    Kind(
        "pictures in folders below a class's",
        lambda f: made.class_folders(f, name="{part}/{key}/more/{i}.png"),
    ),
    Kind("Tiny ImageNet", made.tiny_imagenet),
    Kind("half of a class in .pgm", _after(_grey)),
    Kind("half of a class in .jfif, .avif, .jp2", _after(_suffixes)),
    Kind("Train/ and valid/", lambda f: made.class_folders(f, {"Train": 6, "valid": 4})),
    Kind("val/ and test/", lambda f: made.class_folders(f, {"train": 6, "val": 4, "test": 3})),
    Kind("a class without a picture to test on", _after(_no_test_sample)),
    Kind(
        "a class folder that is a link to nowhere",
        _after(lambda f: (f / "train" / "wolf").symlink_to("gone")),
    ),
    Kind(
        "a text beside the pictures",
        _after(lambda f: (f / "train" / "cat" / "notes.txt").write_text("?")),
    ),
    Kind("12 bits in a 16-bit file", _after(_deep), look_at="train/cat/0.png"),
    Kind("colours hidden under alpha 0", _after(_hidden), look_at="train/cat/0.png"),
    Kind("a damaged picture", _after(_cut), look_at="train/cat/0.png"),
    Kind("folders of classes without train/ and val/", lambda f: made.class_folders(f, {".": 4})),
]


def shortened(message: str) -> str:
    """The first clause of an error."""
    first = message.splitlines()[0].split(";")[0].split(". ")[0]
    return first if len(first) <= 90 else f"{first[:87]}..."


def ours(kind: Kind, folder: Path) -> str:
    """What `load_dataset` does: how many it reads, what it tells, or the error."""
    where = kind.write(folder)
    told = ""
    try:
        data = load_dataset(where, image_size=16 if _encoded(kind) else None)
        if kind.look_at:
            found = np.flatnonzero(data.train.names == kind.look_at)  # type: ignore[attr-defined]
            try:
                pixels = data.train.pixels(found, None)  # type: ignore[attr-defined]
                told = f"; the picture's mean is {pixels.mean():.0f} of 255"
            except DataError:
                damaged = find_damaged(where)
                told = f"; refused when it is used; `--skip-damaged` leaves out {len(damaged)}"
    except DataError as error:
        return "refused: " + shortened(str(error).replace(f"{error.path}: ", ""))
    notes = "".join(f"; told: {note}" for note in data.notes)
    return f"{len(data.train)} and {len(data.test)} of {len(data.classes)} classes{told}{notes}"


def _encoded(kind: Kind) -> bool:
    return kind.theirs == "ImageFolder" or "parquet" in kind.title


def table() -> str:
    """The table in Markdown."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    lines = [
        f"| kind of data | rsam-ref | torchvision {kept['version']} |",
        "|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for i, kind in enumerate(KINDS):
            (folder := Path(scratch, str(i), "set")).mkdir(parents=True)
            answer = ours(kind, folder).replace("|", "/")
            lines.append(f"| {kind.title} | {answer} | {kept['answers'].get(kind.title, '')} |")
    return "\n".join(lines) + "\n"


def in_the_page() -> str:
    """The table as docs/data.md has it."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def measured() -> dict[str, object] | None:
    """What torchvision does here; None where it is not installed."""
    return elsewhere.answer_of("tests.frameworks.data_elsewhere") if elsewhere.there() else None


def main() -> None:
    if (found := measured()) is not None:
        KEPT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    put_between(PAGE, (BEGIN, END), table())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
