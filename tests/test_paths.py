"""What the texts name is there: files, folders, modules and what is in them.

A link is looked up from its page, any other path from the project's folder, a bare ``sam.py`` or
``models/`` anywhere in the project, and a dotted name by importing it.
"""

import importlib
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FIRST = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "backends/README.md")
TEXTS = [
    *(ROOT / name for name in FIRST),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
    *(ROOT / "tutorials").glob("*.md"),
    *(ROOT / "tutorials").glob("*.py"),
]
CODE = [
    *(path for name in ("rsam_ref", "backends", "benchmarks") for path in (ROOT / name).rglob("*")),
    *(ROOT / "docs").rglob("*.py"),
]
CODE = [path for path in CODE if path.suffix in (".py", ".md")]

FOLDERS = ("rsam_ref", "tests", "docs", "backends", "benchmarks", "tutorials")
"""A path that begins with one of these is one of the project."""

EXAMPLES = {
    "mine.py",  # an implementation to check
    "net.py",  # a network to measure
    "FILE.py",
    "RECIPE.toml",
    "mypackage/counting.py",  # a backend to add
    "counting.py",
    "runs/",  # where runs are put, and what lies in one
    "recipe.toml",
    *("train/", "val/", "valid/", "validation/", "test/", "testing/", "data/"),  # in a data set
    "docs/index.html",  # in the site
    "docs/findings/*.rst",  # made for it
    "contextlib.py",  # Python's
    "ipython_kernel_config.py",
}
"""What the texts name and the project does not have."""

LINK = re.compile(r"\[([^]\[]*)\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w./<-])(?:{'|'.join(FOLDERS)})/[\w./*\[\]-]*")
BARE = re.compile(r"(?<![\w./*-])[A-Za-z_]\w*\.(?:py|toml|cu)\b(?![\w/])")
FOLDER = re.compile(r"`([A-Za-z_]\w*/)`")
DOTTED = re.compile(r"(?<![\w./\"-])(?:rsam_ref|rsam_backends|benchmarks|tests)(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"^(?:# )?from ((?:rsam_ref|rsam_backends)[\w.]*) import \(?([\w, ]+)", re.M)


def links(text: str) -> list[tuple[str, str]]:
    """Every relative link of a Markdown text: (what is shown, where it leads)."""
    return [(a, b) for a, b in LINK.findall(text) if not re.match(r"\w+:|#", b)]


def paths(text: str) -> list[str]:
    """Every path from the project's folder, links apart; a sentence's full stop is none of it."""
    return [found.rstrip(".-").rstrip("[") for found in PATH.findall(LINK.sub(r"\1", text))]


def bare_names(text: str) -> list[str]:
    """Every name of a file or folder that stands without the folder that it is in."""
    text = LINK.sub(r"\1", text)
    return BARE.findall(text) + FOLDER.findall(text)


def dotted(text: str) -> list[str]:
    """Every dotted name, and what is imported from one; a file's or a page's name is none."""
    found = [name for name in DOTTED.findall(text) if not re.search(r"\.(md|py|toml|json)$", name)]
    for module, names in IMPORT.findall(text):
        found += [
            f"{module}.{name.strip().split()[0]}" for name in names.split(",") if name.strip()
        ]
    return found


def is_there(path: str) -> bool:
    """Whether a path from the project's folder, or a pattern of paths, is that of something."""
    return path in EXAMPLES or any(ROOT.glob(path.rstrip("/").replace("**.", "**/*.")))


def everything() -> set[str]:
    """The names of all files and folders of the project; a folder's ends with a stroke."""
    found = set()
    for _, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in ("build", "runs")]
        found |= {f"{name}/" for name in folders} | set(files)
    return found


def resolves(name: str) -> bool:
    """Whether a dotted name is that of a module, or of something in one."""
    if name.startswith(("benchmarks.", "tests.")):  # not imported: they need what they measure
        return is_there(name.replace(".", "/") + ".py")
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(("rsam_ref", "rsam_backends")):
                return True  # it needs JAX, which is not installed
            continue
        for part in parts[n:]:
            if not hasattr(thing, part):
                return part in getattr(thing, "__annotations__", {})
            thing = getattr(thing, part)
        return True
    return False


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_what_a_text_names_is_there(path):
    text = path.read_text(encoding="utf-8")
    known = everything() | EXAMPLES
    assert [p for p in paths(text) if not is_there(p)] == []
    assert [name for name in bare_names(text) if name not in known] == []
    assert [name for name in dotted(text) if not resolves(name)] == []


@pytest.mark.parametrize("path", [p for p in TEXTS if p.suffix == ".md"], ids=named)
def test_a_link_that_shows_a_files_name_leads_to_it(path):
    for shown, target in links(path.read_text(encoding="utf-8")):
        place = (path.parent / target.partition("#")[0]).resolve()
        assert place.exists(), target
        if re.fullmatch(r"`?[\w./]+\.(py|toml|md|json|csv)`?|`?[\w./]+/`?", shown):
            assert place.as_posix().endswith(shown.strip("`./")), f"{shown} leads to {target}"


def test_what_a_comment_or_a_docstring_names_is_there():
    known = everything() | EXAMPLES
    wrong = []
    for path in CODE:
        text = path.read_text(encoding="utf-8")
        missing = [p for p in paths(text) if Path(p).suffix and not is_there(p)]
        missing += [name for name in BARE.findall(text) if name not in known]
        wrong += [f"{named(path)}: {name}" for name in missing]
    assert wrong == []


def test_the_map_has_every_room_and_every_file_in_its_room():
    """The rows of README's map: a folder of rsam_ref, then what lies in it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Map")[2]
    rooms = {}
    for line in text.partition("\n## ")[0].splitlines():
        if row := re.match(r"^ {6}(\w+)/ +(.*)$", line):
            rooms[row[1]] = row[2]
    package = ROOT / "rsam_ref"
    assert set(rooms) == {p.parent.name for p in package.glob("*/__init__.py")}
    for room, told in rooms.items():
        for name in re.findall(r"\b\w+\.py\b|\b\w+/", told):
            assert (package / room / name).exists(), f"{room}/{name}"


def test_every_page_of_the_api_names_modules_that_are_there():
    """`automodule`, `autoclass` and the like, which are built only by `make docs`."""
    for path in (ROOT / "docs" / "api").glob("*.md"):
        current = ""
        for kind, name in re.findall(
            r"^\.\. (currentmodule|module|auto\w+):: (\S+)$", path.read_text(encoding="utf-8"), re.M
        ):
            if kind in ("currentmodule", "automodule"):
                current = name
                assert resolves(name), f"{path.name}: {name}"
            else:
                assert resolves(name) or resolves(f"{current}.{name}"), f"{path.name}: {name}"


MADE_UP = """
[sam.py](../rsam_ref/algorithms/sam.py), [a page](nowhere.md#here), [out](https://x.org/a.py) and
`rsam_ref/sam.py`, docs/step.png. `python -m benchmarks.nothing`, `rsam_ref.nothing.at_all`,
`rsam_ref.nn.Module`; `optim.py` beside `engines/`, `tests/test_[a-z]*.py`

    from rsam_ref.algorithms.sam import sam_gradient, no_gradient
    python train.py --save runs/rsam_ref/x.png https://x.org/docs/a.md
"""


def test_the_finder_finds():
    assert links(MADE_UP) == [
        ("sam.py", "../rsam_ref/algorithms/sam.py"),
        ("a page", "nowhere.md#here"),
    ]
    assert paths(MADE_UP) == ["rsam_ref/sam.py", "docs/step.png", "tests/test_[a-z]*.py"]
    assert [is_there(path) for path in paths(MADE_UP)] == [False, True, True]
    assert bare_names(MADE_UP) == ["sam.py", "optim.py", "train.py", "engines/"]
    assert {"sam.py", "models/", "kernels.cu"} <= everything()
    assert not {"optim.py", "engines/"} & everything()
    names = ["benchmarks.nothing", "rsam_ref.nothing.at_all", "rsam_ref.nn.Module"]
    names += ["rsam_ref.algorithms.sam"]
    assert dotted(MADE_UP) == names
    assert [resolves(name) for name in names] == [False, False, True, True]
    imported = "from rsam_ref.algorithms.sam import sam_gradient, no_gradient"
    assert [resolves(name) for name in dotted(imported)[1:]] == [True, False]
    assert resolves("rsam_ref.algorithms.sam.Trace.noise")
    assert not resolves("rsam_ref.algorithms.sam.Trace.noises")


def test_the_texts_are_those_that_readers_see():
    assert {"README.md", "docs/install.md", "tutorials/README.md"} <= {named(p) for p in TEXTS}
    assert len(TEXTS) > 30
    assert len(CODE) > 100
