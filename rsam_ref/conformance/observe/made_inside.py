"""Settings in an optimizer that is made inside something else: by a training step that keeps it, by
a module's configure_optimizers.

Its users change them there from step to step, in its groups and attributes. So does the check,
where a place that goes by a setting's name holds what its maker was given.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from rsam_ref.conformance.observe.names import setting_of
from rsam_ref.conformance.observe.places import Place, is_config, places, write
from rsam_ref.conformance.observe.problem import Hyper

Kept = tuple[Any, Place, str]
"""What holds a setting, where in it, and which."""


def objects_in(values: Iterable[Any]) -> Iterator[Any]:
    """Those of the values that are objects with attributes, and those in lists and dicts of them.

    A number that is kept in a dict has no owner on whom anybody would change it.
    """
    for value in values:
        if isinstance(value, Mapping):
            yield from objects_in(v for v in list(value.values()) if not isinstance(v, Mapping))
        elif isinstance(value, list | tuple):
            yield from objects_in(v for v in value if not isinstance(v, Mapping | list | tuple))
        elif is_config(value):
            yield value


def kept_in(owners: Iterable[Any], given: Hyper, settings: Collection[str]) -> list[Kept]:
    """Where the owners keep these settings, as they were given."""
    found: list[Kept] = []
    for owner in owners:
        for place, value in places(owner, _groups(owner)):
            setting = setting_of(place.name)
            if setting is None or setting not in settings:
                continue
            if math.isclose(value, getattr(given, setting), rel_tol=1e-6):
                found.append((owner, place, setting))
    return found


def change(kept: Iterable[Kept], hyper: Hyper) -> None:
    """Write the settings of a step there."""
    for owner, place, setting in kept:
        write(owner, _groups(owner), place, getattr(hyper, setting))


def _groups(owner: Any) -> list[dict[str, Any]]:
    groups = getattr(owner, "param_groups", None)
    return groups if isinstance(groups, list) else []
