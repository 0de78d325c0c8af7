"""Vectors as `rsam-ref vectors` writes them, once for all tests; and copies to damage."""

import shutil

import pytest

from tests.vectors.margins import published


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """The folder, the manifest, the tensors of each type."""
    folder = tmp_path_factory.mktemp("published") / "vectors"
    return folder, *published(folder)


@pytest.fixture
def copied(vectors, tmp_path):
    """Copies the vectors into a new folder, as often as it is called."""
    made: list = []

    def copy():
        made.append(tmp_path / f"vectors-{len(made)}")
        shutil.copytree(vectors[0], made[-1])
        return made[-1]

    return copy
