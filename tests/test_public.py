"""What users import and type stays, unless the table of public names is changed with it."""

import json

import pytest

from tests.helpers import public_names

KEPT = json.loads(public_names.TABLE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", public_names.MODULES)
def test_the_public_names_are_those_of_the_table(module):
    assert public_names.names(module) == KEPT["names"][module]


def test_the_commands_are_those_of_the_table():
    assert public_names.commands() == KEPT["commands"]
