"""What the files of the package import, read from their source: nothing is run.

A file is named like its module: `rsam_ref.nn.layers`, and the door of a room, its `__init__.py`,
like the room: `rsam_ref.nn`. Imports inside functions and for the type checker count as well.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("rsam_ref", "rsam_backends")


def sources(root: Path) -> dict[str, str]:
    """Every file below the two packages: its module's name, and its text."""
    found = {}
    for base in (root, root / "backends"):
        for package in PACKAGES:
            for path in (base / package).rglob("*.py"):
                parts = path.relative_to(base).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = path.read_text(encoding="utf-8")
    return found


def imported(name: str, text: str) -> set[str]:
    """All that a file imports, `from a import b` as `a.b`, relative names written out.

    `import rsam_ref` stands for what the file then reads off it, `rsam_ref.__version__`. A file
    that is the door of a room must not import relatively: its name does not say that it is.
    """
    found, tree = set(), ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name == "rsam_ref" and alias.asname is None
                found |= read_off(alias.name, tree) if whole else {alias.name}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            place = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{place}.{alias.name}" for alias in node.names}
    return found


def read_off(name: str, tree: ast.AST) -> set[str]:
    """`name.a` for every such attribute in a file."""
    return {
        f"{name}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    }


def libraries(name: str, text: str) -> set[str]:
    """The top names alone: `numpy`, `rsam_ref`."""
    return {each.split(".")[0] for each in imported(name, text)}


def ours(name: str, text: str, known: dict[str, str]) -> set[str]:
    """The files of ours that a file imports: names that are not files stand in the file above.

    `rsam_ref.__version__` alone is no import of the package's names: any file may say the version.
    """
    found = set()
    for each in imported(name, text):
        if each.split(".")[0] not in PACKAGES or each == "rsam_ref.__version__":
            continue
        found.add(each if each in known else each.rpartition(".")[0])
    return found


def room(name: str) -> str:
    """`algorithms` for `rsam_ref.algorithms.sam`, `files` for `rsam_ref.files`; the package's own
    door is `rsam_ref`, and all of the backends are one room."""
    package, *below = name.split(".")
    return below[0] if package == "rsam_ref" and below else package


def wrong_imports(
    known: dict[str, str], rooms: dict[str, str], order: dict[str, str], alone: dict[str, str]
) -> list[str]:
    """What breaks the rules, a line each.

    Args:
        known: the files, as `sources` finds them.
        rooms: for every room, and every file that stands in none, the rooms and files that it may
            import, besides its own.
        order: for some rooms their files in order: each imports only those before it.
        alone: for some files all that they may import of ours.
    """
    wrong = [f"{each} is in no table" for each in {room(name) for name in known} - {*rooms}]
    wrong += [f"{each} is in the table, and is not there" for each in rooms if not _is(each, known)]
    for name, text in known.items():
        here, used = room(name), ours(name, text, known)
        allowed = rooms.get(here, "").split()
        for other in sorted(used - {name}):
            if other not in known:
                wrong.append(f"{name} imports {other}, which is not there")
            elif name in alone:
                if other not in alone[name].split():
                    wrong.append(f"{name} imports {other}: it may import {alone[name] or 'none'}")
            elif room(other) != here and not {room(other), other} & {*allowed}:
                wrong.append(f"{name} imports {other}: {here} may import {' '.join(allowed)}")
            elif room(other) == here and here in order and name != f"rsam_ref.{here}":
                listed = order[here].split()
                mine, its = (each.rpartition(".")[2] for each in (name, other))
                if mine in listed and its not in listed[: listed.index(mine)]:
                    wrong.append(f"{name} imports {other}: the order is {order[here]}")
    for here, files in order.items():
        there = {name.rpartition(".")[2] for name in known if name.startswith(f"rsam_ref.{here}.")}
        if there != {*files.split()}:
            wrong.append(f"{here} holds {sorted(there)}, and the order is of {files}")
    return sorted(wrong)


def _is(each: str, known: dict[str, str]) -> bool:
    return any(room(name) == each for name in known)


def circle(known: dict[str, str]) -> list[str]:
    """Files that import one another in a circle, the first of them again at the end; or none."""
    uses = {name: ours(name, text, known) - {name} for name, text in known.items()}
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
