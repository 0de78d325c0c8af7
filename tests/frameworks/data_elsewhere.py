"""What torchvision's classes do with every kind of data; prints them as a line of JSON."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.helpers.data_kinds import KINDS, Kind, shortened
from tests.helpers.elsewhere import declare_operators


def theirs(kind: Kind, folder: Path) -> str:
    """What the class for this kind of data does with the part that is trained on."""
    from torchvision import datasets

    where = kind.write(folder)
    if kind.theirs == "(none)":
        return "no class for it"
    arguments = {
        "QMNIST": {"what": "train"},
        "EMNIST": {"split": "letters"},
        "ImageFolder": None,
    }.get(kind.theirs, {})
    try:
        if arguments is None:
            train = where / "train"
            found = datasets.ImageFolder(train if train.is_dir() else where)
        elif kind.theirs.startswith("CIFAR"):
            return f"{kind.theirs}: {_cifar(getattr(datasets, kind.theirs), where)}"
        else:
            found = getattr(datasets, kind.theirs)(where, **arguments)
        looked = ""
        if kind.look_at:
            index = [Path(path) for path, _ in found.samples].index(where / kind.look_at)
            mean = np.asarray(found[index][0]).mean()
            looked = f"; the picture's mean is {mean:.0f} of 255"
        elif kind.theirs == "EMNIST":
            stored = np.asarray(found.data[0])
            upright = np.array_equal(np.asarray(found[0][0]), stored.T)
            looked = "" if upright else "; left transposed"
        told = f"{len(found)} of {len(found.classes)} classes{looked}"
    except Exception as error:  # whatever it says is the answer
        told = f"{type(error).__name__}: {shortened(str(error).replace(f'{where}/', ''))}"
    return f"{kind.theirs}: {told}".replace(str(where), "the folder").replace("|", "/")


def _cifar(of: Any, where: Path) -> str:
    """What it does with files that are not the official ones, with its checksums and without."""
    try:
        of(where)
        checked = "reads them"
    except RuntimeError as error:
        checked = shortened(str(error))

    class Unchecked(of):
        def _check_integrity(self) -> bool:
            return True

    from torchvision.datasets import cifar

    with mock.patch.object(cifar, "check_integrity", return_value=True):
        try:
            found = Unchecked(where)
            after = f"{len(found)} of {len(found.classes)} classes"
        except Exception as error:
            after = f"unpickled, then {type(error).__name__}: {error}"
    return f"{checked} (official checksums alone); without its check {after}"


def main() -> None:
    declare_operators()
    import torchvision

    warnings.simplefilter("ignore")
    answers = {}
    with tempfile.TemporaryDirectory() as scratch:
        for i, kind in enumerate(KINDS):
            (folder := Path(scratch, str(i), "set")).mkdir(parents=True)
            answers[kind.title] = theirs(kind, folder)
    print(json.dumps({"version": torchvision.__version__.split("+")[0], "answers": answers}))


if __name__ == "__main__":
    main()
