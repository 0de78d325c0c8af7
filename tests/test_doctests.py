"""The examples in the docstrings of the public names run, and print what they say."""

import doctest

import pytest

import rsam_ref
from rsam_ref import models

SHOWN = {
    name: getattr(rsam_ref, name)
    for name in rsam_ref.__all__
    if name not in ("models", "Trace", "GraphError", "ShapeError")  # nothing that is called
} | {"models.mlp": models.mlp}


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_prints_what_it_says(name):
    [test] = doctest.DocTestFinder(recurse=False).find(SHOWN[name], name)
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)
