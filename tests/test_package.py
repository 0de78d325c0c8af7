"""The package as it is shipped and imported."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import replant
from tests.helpers import imports

ROOT = Path(__file__).parent.parent

# Who may import whom. For every room, and for every file that stands in none, the rooms and single
# files of ours that it may import, besides what is in the same room. A file or a room that is not
# here is a mistake.
ROOMS = {
    "rsam_backends": "",
    "files": "",
    "loading": "",
    "launched": "",
    "batched": "",
    "figures": "files",
    "data": "rsam_backends files",
    "algorithms": "rsam_backends",
    "autograd": "rsam_backends",
    "nn": "rsam_backends autograd rsam_ref.algorithms.protocol",
    "models": "rsam_backends autograd nn loading",
    "training": "rsam_backends data algorithms autograd nn models files figures loading launched",
    "sharpness": "rsam_backends data algorithms autograd nn models training files figures",
    "conformance": "rsam_backends algorithms autograd nn files figures loading",
    "teaching": "rsam_backends data algorithms autograd nn models training files figures"
    " rsam_ref.conformance",  # its door, for the catalogue of findings
    "pytorch": "rsam_backends algorithms data training nn models autograd files figures sharpness"
    " batched",
    "vectors": "rsam_backends algorithms files",
    "jax": "rsam_backends algorithms data sharpness batched",
    "commands": "rsam_backends data algorithms autograd nn models training files figures"
    " sharpness conformance teaching pytorch jax vectors loading launched",
    "rsam_ref": "rsam_backends algorithms autograd nn models",  # the door: the public names
    "__main__": "commands",
}

# Rooms whose files stand in an order: each imports only those before it.
ORDER = {
    "autograd": "errors tensor op ops ops_nn",
    "nn": "shards mpi initializers passes weights module layers outputs faults objective"
    " batch_parts workers recompute",
}

# Files that may import less than their room, and all that they may import.
ALONE = {
    "rsam_ref.algorithms.settings": "",
    "rsam_ref.algorithms.sam": "rsam_ref.algorithms.settings",
    "rsam_ref.algorithms.variants": "rsam_ref.algorithms.sam rsam_ref.algorithms.settings",
    "rsam_ref.algorithms.noise": "rsam_backends rsam_backends.base",
    "rsam_ref.data.errors": "",
    "rsam_ref.vectors.verify": "",
    "rsam_ref.algorithms.relatives.form": "rsam_ref.algorithms.sam",
}

# Optimizers and objectives for PyTorch know the algorithms alone; beside them, `runs` reads runs,
# and `network` takes measures.
TORCH = {"bases", "draw", "optimizers", "order", "passes", "settings", "trace", "vectors"}
TORCH |= {
    "wrapper",
    "objectives",
    "layout",
    "filters",
    "scaling",
    "batches",
    "derivatives",
    "scores",
    "interrupts",
}
for stem in TORCH:
    ALONE[f"rsam_ref.pytorch.{stem}"] = (
        "rsam_backends rsam_backends.base rsam_ref.algorithms.noise rsam_ref.algorithms.sam"
        " rsam_ref.algorithms.schedules rsam_ref.algorithms.settings"
        " rsam_ref.algorithms.variants rsam_ref.batched "
        + " ".join(f"rsam_ref.pytorch.{other}" for other in sorted(TORCH))
    )

# In JAX likewise, but for what takes measures.
TREES = {"around", "axes", "batches", "checks", "devices", "draw", "flat", "gradients"}
TREES |= {"objectives", "optimizers", "parts", "settings", "vectors"}
for stem in TREES:
    ALONE[f"rsam_ref.jax.{stem}"] = (
        "rsam_backends.base rsam_ref.algorithms rsam_ref.algorithms.noise rsam_ref.algorithms.sam"
        " rsam_ref.algorithms.schedules rsam_ref.algorithms.settings rsam_ref.algorithms.variants"
        " rsam_ref.batched " + " ".join(f"rsam_ref.jax.{other}" for other in sorted(TREES))
    )

# A rule of one of SAM's relatives knows its form, and no array library unless it stands here.
RELATIVES = ROOT / "rsam_ref" / "algorithms" / "relatives"
WITH_ARRAYS = {"le_sam", "sparse_sam"}
for path in RELATIVES.glob("*.py"):
    if path.stem not in {"__init__", "form", "optimizer"}:
        ALONE[f"rsam_ref.algorithms.relatives.{path.stem}"] = (
            "rsam_ref.algorithms.relatives.form rsam_ref.algorithms.sam"
            " rsam_ref.algorithms.settings" + (" rsam_backends" if path.stem in WITH_ARRAYS else "")
        )

# Where an array library may be named: readers of files, the checker, which judges on the host, in
# NumPy, whatever is judged, the vectors, which are the same bits everywhere, and the rooms for
# PyTorch and JAX. The backends are elsewhere.
NAME_AN_ARRAY_LIBRARY = {"data", "conformance", "pytorch", "vectors", "jax"}
ARRAY_LIBRARIES = {"numpy", "cupy", "dpnp", "torch", "jax"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_exactly_two_packages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"rsam_ref", "rsam_backends"}
    assert "rsam_ref/data/digits/images-idx3-ubyte.gz" in names
    assert "rsam_ref/py.typed" in names
    page = (ROOT / "rsam_ref/teaching/interactive").glob("*.*")
    assert {path.relative_to(ROOT).as_posix() for path in page} <= set(names)
    assert not [name for name in names if name.endswith((".pkl", ".npy", ".npz"))]


def test_the_tutorials_come_out_of_the_wheel_and_run(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    environment.pop("RSAM_TUTORIAL_FIGURES", None)

    def python(*words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "11 tutorials" in python("-m", "rsam_ref", "tutorials", "mine")
    copied = {p.relative_to(tmp_path / "mine") for p in (tmp_path / "mine").rglob("*.*")}
    tutorials = ROOT / "tutorials"
    originals = (p for p in tutorials.rglob("*.*") if p.parent.name != "__pycache__")
    assert copied == {p.relative_to(tutorials) for p in originals}
    told = python("mine/01_a_derivative_by_hand.py")
    assert re.search(r"^The tutorial has 1 figure\. To save them: ", told, re.MULTILINE), told


def test_an_index_shows_the_readme_without_links_that_lead_nowhere(wheel):
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
    text = archive.read(name).decode("utf-8")
    assert "\nDescription-Content-Type: text/markdown\n" in text
    assert "# rsam-ref" in text
    assert "Eleven tutorials, from a derivative by hand" in text
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks)
    assert [link for link in links if not re.match("https?:|#", link)] == []


def test_links_of_the_readme_are_absolute_once_there_is_an_address(monkeypatch):
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    monkeypatch.syspath_prepend(str(ROOT))
    from hatch_build import for_an_index

    text = "![a](b.png)\n[c](d/e.md#f) [g](https://h.org) [i](#j)\n"
    assert for_an_index(text, None) == "c [g](https://h.org) [i](#j)\n"
    assert for_an_index(text, "https://x.org/y/") == (
        "![a](https://x.org/y/raw/main/b.png)\n"
        "[c](https://x.org/y/blob/main/d/e.md#f) [g](https://h.org) [i](#j)\n"
    )


def test_the_wheel_works_away_from_the_source(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, '.'); import rsam_ref, rsam_backends;"
        "from rsam_ref.data import digits;"
        "assert rsam_ref.__file__.startswith(sys.argv[1]), rsam_ref.__file__;"
        "print(digits()[0].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "(1797, 8, 8)", done.stderr


def test_imports_run_one_way():
    assert imports.wrong_imports(imports.sources(ROOT), ROOMS, ORDER, ALONE) == []


def test_no_files_import_one_another_in_a_circle():
    assert imports.circle(imports.sources(ROOT)) == []


# Made-up files that keep the rules, and one file more that breaks them: what is said of it.
KEPT = {
    "rsam_backends": "from rsam_backends.base import Array",
    "rsam_backends.base": "import numpy",
    "rsam_ref": "from rsam_ref.low import door\n__version__ = '1'",
    "rsam_ref.low": "from rsam_ref.low.second import f",
    "rsam_ref.low.first": "from rsam_backends import xp",
    "rsam_ref.low.second": "from rsam_ref.low import first",
    "rsam_ref.high": "from rsam_ref import __version__",
    "rsam_ref.high.only": "import rsam_ref.low.first\nimport rsam_ref\nrsam_ref.__version__",
    "rsam_ref.high.pure": "import math",
}
KEPT_ROOMS = {"rsam_backends": "", "rsam_ref": "low", "low": "rsam_backends", "high": "low"}
BROKEN = {
    "a higher room": ("rsam_ref.low.first", "from rsam_ref.high.only import f"),
    "a higher room by its name": ("rsam_ref.low.first", "from rsam_ref import high"),
    "a room, relatively": ("rsam_ref.low.first", "from ..high.only import f"),
    "inside a function": ("rsam_ref.low.first", "def f():\n    import rsam_ref.high.only"),
    "for the types": ("rsam_ref.low.first", "if TYPE_CHECKING:\n    import rsam_ref.high"),
    "the package's door": ("rsam_ref.high.only", "from rsam_ref import door"),
    "the whole door": ("rsam_ref.high.only", "import rsam_ref\nrsam_ref.door()"),
    "the door by another name": ("rsam_ref.high.only", "import rsam_ref as r"),
    "a later file": ("rsam_ref.low.first", "from rsam_ref.low.second import f"),
    "the room's own door": ("rsam_ref.low.second", "from rsam_ref.low import f"),
    "a file not in the order": ("rsam_ref.low.third", ""),
    "ours, from the backends": ("rsam_backends.base", "import rsam_ref.low.first"),
    "anything, from a file alone": ("rsam_ref.high.pure", "from rsam_backends import xp"),
    "its own room, from a file alone": ("rsam_ref.high.pure", "from rsam_ref.high import only"),
    "an unknown room": ("rsam_ref.cellar.wine", ""),
    "an unknown file": ("rsam_ref.loft", ""),
    "what is not there": ("rsam_ref.high.only", "from rsam_ref.gone.away import f"),
}


def kept_or_not(files):
    order, alone = {"low": "first second"}, {"rsam_ref.high.pure": ""}
    return imports.wrong_imports(files, KEPT_ROOMS, order, alone)


def test_imports_that_keep_the_rules_are_let_pass():
    assert kept_or_not(KEPT) == []
    assert imports.circle(KEPT) == []


@pytest.mark.parametrize("broken", BROKEN)
def test_each_rule_of_imports_can_be_broken(broken):
    name, text = BROKEN[broken]
    wrong = kept_or_not({**KEPT, name: text})
    assert len(wrong) == 1, wrong
    assert imports.room(name) in wrong[0]


def test_a_table_of_rooms_that_are_gone_is_told():
    files = {name: text for name, text in KEPT.items() if imports.room(name) != "high"}
    assert kept_or_not(files) == ["high is in the table, and is not there"]


def test_a_circle_of_imports_is_found():
    files = {**KEPT, "rsam_ref.high.pure": "def f():\n    from rsam_ref.high import only"}
    files["rsam_ref.high.only"] = "from rsam_ref.high.pure import f"
    assert set(imports.circle(files)) == {"rsam_ref.high.pure", "rsam_ref.high.only"}


def test_only_backends_and_data_readers_name_an_array_library():
    for name, text in imports.sources(ROOT).items():
        if imports.room(name) not in {"rsam_backends", *NAME_AN_ARRAY_LIBRARY}:
            named = imports.libraries(name, text) & ARRAY_LIBRARIES
            assert not named, f"{name} imports {named}"


def test_no_pickle_is_ever_loaded():
    for name, text in imports.sources(ROOT).items():
        assert not imports.libraries(name, text) & {"pickle", "shelve", "joblib"}, name
        assert "allow_pickle=True" not in text, name


def test_the_import_is_lean():
    code = "import sys, rsam_ref; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"matplotlib", "torch", "cupy", "dpnp", "scipy", "typer", "rich", "PIL"}
    assert not heavy & set(done.stdout.split())


def test_the_versions_agree():
    import rsam_ref

    assert f"version: {rsam_ref.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {rsam_ref.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("mistake", replant.MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_to_plant_has_its_place_and_its_tests(mistake):
    assert (ROOT / mistake.file).read_text(encoding="utf-8").count(mistake.old) >= 1
    assert all((ROOT / f"tests/{name}.py").exists() for name in mistake.tests.split())
