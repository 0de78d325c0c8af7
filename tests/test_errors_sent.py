"""An error that another process has raised, such as rank 0, is here what it was there."""

import copy
import importlib
import pickle
import re
from pathlib import Path

import rsam_backends
import rsam_ref
from rsam_ref.data.errors import DamagedImage

GIVEN = {
    "rsam_ref.data.errors.DataError": ("a/file", "is damaged;  get it   again"),
    "rsam_ref.data.errors.DamagedImage": ("a/picture.png", "is cut short"),
    "rsam_ref.training.checkpoint.CheckpointError": (Path("a/step"), "is damaged"),
    "rsam_ref.training.checkpoint.UnreadableError": ("a/step", "cannot be read"),
}
"""What the errors are made of that are not made of one message."""

DEFINED = re.compile(r"^class (\w+)\(\w*(?:Error|Exception)\)", re.MULTILINE)


def errors():
    """One of every exception class of the project whose module can be imported here."""
    found = {}
    for package in (rsam_ref, rsam_backends):
        root = Path(package.__path__[0])
        for path in root.rglob("*.py"):
            names = DEFINED.findall(path.read_text(encoding="utf-8"))
            module = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
            for name in names:
                try:
                    kind = getattr(importlib.import_module(module), name)
                except ImportError:  # of an optional library
                    continue
                found[f"{module}.{name}"] = kind(*GIVEN.get(f"{module}.{name}", ("a message",)))
    return found


def test_every_error_of_the_project_survives_being_sent():
    found = errors()
    assert found.keys() >= {*GIVEN, "rsam_ref.training.run.RunError"}
    for name, error in found.items():
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(other) is type(error), name
            assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_what_was_learned_of_a_picture_later_is_sent_too():
    error = DamagedImage("a/picture.png", "is cut short", "remove it")
    error.changed = True
    other = pickle.loads(pickle.dumps(error))
    assert (other.path, other.what) == (Path("a/picture.png"), "is cut short")
    assert (other.remedy, other.changed) == ("remove it", True)
