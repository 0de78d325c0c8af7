"""The site's pages and what makes them. The site itself is built by `make docs`, not here."""

import ast
import importlib
import json
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from rsam_ref import RSAM, SAM, SGD, models, objective
from rsam_ref.conformance import CATALOGUE
from rsam_ref.teaching.interactive.state import check_state
from rsam_ref.training.recipe import Recipe

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ALGORITHMS = sorted(set((DOCS / "algorithms").glob("*.md")) - {DOCS / "algorithms" / "README.md"})
RELATIVES = sorted(
    set((DOCS / "algorithms/relatives").glob("*.md")) - {DOCS / "algorithms/relatives/README.md"}
)
PAGES = [
    *DOCS.rglob("*.md"),
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / name / "README.md" for name in ("backends", "tutorials")),
]
HEADINGS = [
    "What it is",
    "Update rule",
    "Usage",
    "Implementation details",
    "Other readings",
    "Results",
    "References",
]


@pytest.fixture
def site(monkeypatch):
    """Imports a module of docs/site; skips where the site's libraries are not installed."""

    def load(name, *needs):
        for library in needs:
            pytest.importorskip(library, reason=f"{library} is not installed: make docs does so")
        monkeypatch.syspath_prepend(str(DOCS / "site"))
        monkeypatch.delitem(sys.modules, name, raising=False)
        try:
            return importlib.import_module(name)
        finally:
            sys.modules.pop(name, None)

    return load


def without_code(text):
    return re.sub(r"^(```+|~~~+).*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text):
    return re.findall(r"^(#+) (.*)$", without_code(text), re.MULTILINE)


def snippets(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def anchor(heading):
    """As GitHub makes it."""
    plain = re.sub(r"[`*]|\]\(.*?\)|\[", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda path: path.stem)
def test_an_algorithms_page_has_the_headings_in_order(path):
    found = headings(path.read_text(encoding="utf-8"))
    assert [level for level, _ in found] == ["#"] + ["##"] * len(HEADINGS)
    assert [title for _, title in found[1:]] == HEADINGS


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda path: path.stem)
def test_an_algorithms_usage_runs(path):
    parts = path.read_text(encoding="utf-8").split("\n## ")
    [usage] = [part for part in parts if part.startswith("Usage\n")]
    assert snippets(usage)
    assert "assert " in usage
    namespace = {"__name__": path.stem}
    for snippet in snippets(usage):
        exec(compile(snippet, path.name, "exec"), namespace)


@pytest.mark.parametrize("path", RELATIVES, ids=lambda path: path.stem)
def test_a_relatives_page_is_made_from_its_rule(path, site):
    pages = site("relatives")
    text = pages.expanded(path.read_text(encoding="utf-8"))
    found = headings(text)
    assert [title for level, title in found if level == "##"] == HEADINGS
    [usage] = [part for part in text.split("\n## ") if part.startswith("Usage\n")]
    [snippet] = snippets(usage)
    exec(compile(snippet, path.name, "exec"), {"__name__": path.stem})


def test_every_relative_has_its_page_and_its_rows(site):
    pages = site("relatives")
    told = {page.stem for page in RELATIVES}
    readme = pages.expanded((DOCS / "algorithms/relatives/README.md").read_text("utf-8"))
    rsam = pages.expanded((DOCS / "algorithms/rsam.md").read_text("utf-8"))
    for relative in pages.RELATIVES.values():
        file = relative.rule.__module__.rpartition(".")[2].replace("_", "-")
        assert file in told
        for text in (readme, rsam):
            assert f"[{relative.title}](/docs/algorithms/relatives/{file}.md)" in text
    assert len(told) == len({r.rule.__module__ for r in pages.RELATIVES.values()})


def test_what_an_optimizer_may_be_given_is_as_told():
    namespace = {"__name__": "algorithms"}
    for snippet in snippets((DOCS / "api" / "algorithms.md").read_text(encoding="utf-8")):
        exec(compile(snippet, "algorithms.md", "exec"), namespace)
    model = models.mlp([4, 3], seed=0)
    told = objective(model, np.ones((2, 4), "float32"), np.array([0, 1]))
    for optimizer in (RSAM(SGD(lr=0.1), rho=0.1), SAM(SGD(lr=0.1), rho=0.1)):
        trace = optimizer.step(namespace["Scaled"](told, 2), model.weights.flat)
        assert trace.adversarial_loss > trace.loss
        with pytest.raises((TypeError, RuntimeError), match="objective"):
            optimizer.step(lambda w: told(w), model.weights.flat)


def test_what_a_teacher_shows_runs(capsys):
    for snippet in snippets((DOCS / "teaching.md").read_text(encoding="utf-8")):
        exec(compile(snippet, "teaching.md", "exec"), {"__name__": "teaching"})
    assert re.search(r"^perturbation +\(\d+,\) 0\.300$", capsys.readouterr().out, re.MULTILINE)


def test_a_teacher_gets_the_slides_and_the_pages(site, tmp_path):
    teaching = site("teaching", "sphinx")
    (tmp_path / "docs").mkdir()
    builder = types.SimpleNamespace(name="html")
    env = types.SimpleNamespace(found_docs={teaching.PAGE})
    teaching.write_files(types.SimpleNamespace(builder=builder, env=env, outdir=tmp_path), None)
    written = {path.name for path in (tmp_path / "docs" / "teaching").iterdir()}
    linked = set()
    made = (
        (teaching.Handouts, ()),
        (teaching.Slides, ("rsam", "sam")),
        (teaching.Interactive, ()),
    )
    for directive, arguments in made:
        for argument in arguments or ("",):
            [node] = directive.run(types.SimpleNamespace(arguments=[argument]))
            linked |= set(re.findall(r'(?:href|src)="teaching/(.*?)"', node.astext()))
    assert linked == written
    assert len(written) == 6 + 4 + 4 + 1


def test_every_algorithm_has_its_page_in_the_list_and_in_the_contents():
    listed = re.findall(r"\]\((\S+?\.md)\)", (DOCS / "algorithms/README.md").read_text("utf-8"))
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    assert {path.name for path in ALGORITHMS} | {"relatives/README.md"} == set(listed)
    for path in ALGORITHMS:
        assert f"\nalgorithms/{path.stem}\n" in contents


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    entries = set()
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", contents, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                name = re.sub(r"^.*<(.*)>$", r"\1", line)
                entries.add(name[1:] if name.startswith("/") else f"docs/{name}")
    assert "tutorials/[0-9]*" in entries
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES}
    assert entries - {"tutorials/[0-9]*"} == pages - {"docs/index"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(path):
    text = without_code(path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, fragment = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.exists(), target
        assert place.is_relative_to(ROOT), target
        if "=" in fragment and place.name == "interactive.md":
            check_state(fragment)
        elif fragment and place.suffix == ".md":
            there = [anchor(title) for _, title in headings(place.read_text(encoding="utf-8"))]
            assert fragment in there, target


def test_no_page_names_a_code_that_the_checker_does_not_have():
    groups = {code.split(".")[0] for code in CATALOGUE} - {"data"}
    for path in PAGES:
        for name in re.findall(r"`([a-z-]+\.[a-z0-9-]+)`", path.read_text(encoding="utf-8")):
            first, _, rest = name.partition(".")
            if first in groups and rest not in ("py", "md", "png", "csv", "json", "toml", "svg"):
                assert name in CATALOGUE, f"{path.name}: {name}"


def test_every_code_has_its_entry(site):
    findings = site("findings", "sphinx")
    shown = json.loads(findings.EVIDENCE.read_text(encoding="utf-8"))
    assert shown.keys() | findings.NOT_SHOWN.keys() == CATALOGUE.keys()
    assert not shown.keys() & findings.NOT_SHOWN.keys()
    assert list(shown) == [code for code in CATALOGUE if code in shown]
    assert {code.split(".")[0] for code in CATALOGUE} == findings.GROUPS.keys()
    for code in CATALOGUE:
        assert findings.how_it_shows(code, shown)


def test_every_code_has_a_page_of_its_own(site, tmp_path, monkeypatch):
    findings = site("findings", "sphinx")
    monkeypatch.setattr(findings, "FOLDER", tmp_path / "findings")
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "of-a-code.that-is-gone.rst").write_text("")
    findings.write_pages(None)
    written = {path.stem: path.read_text("utf-8") for path in findings.FOLDER.iterdir()}
    assert written.keys() == CATALOGUE.keys()
    assert all(f"\n.. finding:: {code}\n" in text for code, text in written.items())
    listed = findings.Findings
    groups = listed.run(types.SimpleNamespace(group=lambda name: listed.group(None, name)))
    items = [item for group in groups for item in group.findall(lambda n: n.tagname == "list_item")]
    assert sorted(code for item in items for code in item["ids"]) == sorted(CATALOGUE)


def test_the_evidence_is_that_of_the_check(site):
    """For a few planted mistakes; `python -m tests.conformance.evidence` takes minutes for all."""
    from rsam_ref.conformance import check
    from tests.conformance.evidence import rounded
    from tests.conformance.plants import PLANTS

    shown = json.loads(site("findings", "sphinx").EVIDENCE.read_text(encoding="utf-8"))
    plants = {plant.name: plant for plant in PLANTS}
    for code in ("ascent.wrong-radius", "noise.fixed-length"):
        plant = plants[shown[code]["plant"]]
        report = check(plant.subject, plant.algorithm, form=plant.form)
        [finding] = [f for f in report.findings if f.code == code]
        assert shown[code]["evidence"].keys() == finding.evidence.keys()
        first = next(iter(shown[code]["evidence"].values()))
        assert first == pytest.approx(rounded(next(iter(finding.evidence.values()))), rel=0.1)


def test_every_command_is_on_the_page_of_commands(site):
    helps = site("commands", "sphinx").helps()
    top = re.findall(r"^    rsam-ref (\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert {f"rsam-ref {name}" for name in top} <= helps.keys()
    for name, text in helps.items():
        assert text.startswith(f"Usage: {name} ")
        assert max(map(len, text.splitlines())) <= 90


def test_commands_and_options_are_in_the_index_under_their_names(site):
    commands = site("commands", "sphinx")
    entered = {word for context in commands.contexts().values() for word in commands.names(context)}
    assert {"predict", "data fetch", "--image-size", "--init"} <= entered
    assert "--help" not in entered
    sections = commands.Commands.run(None)
    [trained] = [section for section in sections if section["ids"] == ["rsam-ref-train"]]
    [index] = [node for node in trained.children if node.tagname == "index"]
    assert ("single", "--image-size", "rsam-ref-train", "main", None) in index["entries"]


def test_the_search_is_held_to_what_users_type(site):
    search = site("search")
    index = {
        "docnames": ["docs/commands", "docs/api/training", "docs/trained"],
        "alltitles": {"Fine-tune": [[2, "fine-tune"]], "rsam-ref predict": [[0, "p"]]},
        "indexentries": {"--image-size": [[0, "t", True]], "predict": [[0, "p", True]]},
        "objects": {"rsam_ref.training.trained": [[1, 0, 1, "", "load_trained"]]},
    }
    for query in ("load_trained", "--image-size", "predict", "fine-tune"):
        assert search.SOUGHT[query] in search.found(index, query)
        empty = {**index, "alltitles": {}, "indexentries": {}, "objects": {}}
        assert search.found(empty, query) == set()
    assert search.found(index, "tun") == set()


def test_every_op_and_every_layer_is_in_the_api():
    from rsam_ref import nn
    from rsam_ref.autograd import ops, ops_nn

    def listed(name):
        text = (DOCS / "api" / name).read_text(encoding="utf-8")
        return set(
            re.findall(r"^\.\. auto(?:class|function):: (?:\w+\.)*(\w+)$", text, re.MULTILINE)
        )

    made = {
        name
        for module in (ops, ops_nn)
        for name, value in vars(module).items()
        if hasattr(value, "__wrapped__") and value.__module__ == module.__name__ and name[0] != "_"
    }
    assert {"add", "conv2d", "cross_entropy"} <= made
    tensors = {"dropout", "embedding", "patches"}  # functions of ops
    assert made - {"batch_statistics"} | tensors <= listed("autograd.md")
    assert set(nn.__all__) <= listed("nn.md")


def test_every_setting_of_a_recipe_is_told(site):
    rows = site("tables", "sphinx", "yaml").settings()
    assert [row[0] for row in rows] == list(Recipe.model_fields)
    kinds = {kind for _, kind, _, _ in rows}
    assert not [kind for kind in kinds if re.search(r"[\[\]|]|\b[A-Z]", kind)], kinds


def test_the_citations_are_those_of_the_file(site):
    tables = site("tables", "sphinx", "yaml")
    text = tables.Citations.markdown(None)
    for title in re.findall(r"title: \"?(.*?)\"?$", (ROOT / "CITATION.cff").read_text(), re.M):
        assert title in text
    assert text.count("@inproceedings{") == 2
    assert "author = {Foret, Pierre and Kleiner, Ariel" in text


def test_a_tutorial_as_a_notebook_has_its_solutions_and_downloads(site):
    tutorials = site("tutorials", "sphinx", "jupytext")
    for path in (ROOT / "tutorials").glob("0[1-3]_*.py"):
        notebook = tutorials.read(path.read_text(encoding="utf-8"))
        sources = [cell.source for cell in notebook.cells]
        assert path.name in sources[1]
        after = [sources[i + 1] for i, text in enumerate(sources) if "): ..." in text]
        assert len(after) == 2
        assert all(text.startswith('<details class="solution">') for text in after)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tutorials").glob("[0-9]*.py")), ids=lambda p: p.stem
)
def test_every_figure_of_a_tutorial_is_told_in_words(site, path):
    text = path.read_text(encoding="utf-8")
    names = re.findall(r'"(\d\d-[\w-]+)"\)$', text, re.MULTILINE)
    tutorials = site("tutorials", "sphinx", "jupytext")
    cells = tutorials.read(text).cells
    told = [cell.metadata["mystnb"]["image"]["alt"] for cell in cells if "mystnb" in cell.metadata]
    assert told == [tutorials.FIGURES[name] for name in names]
    assert names
    begun = [name for name in tutorials.FIGURES if name.startswith(f"{path.name[:2]}-")]
    assert names == begun, "all of them, in their order"


def test_a_notebook_to_take_away_tells_its_figures_in_words(site):
    tutorials = site("tutorials", "sphinx", "jupytext")
    [path] = (ROOT / "tutorials").glob("02_*.py")
    cells = tutorials.to_take_away(path).cells
    shown = [i for i, cell in enumerate(cells) if tutorials.SHOWN.search(cell.source)]
    assert shown
    for i in shown:
        name = tutorials.SHOWN.search(cells[i].source)[1]
        assert cells[i + 1].cell_type == "markdown"
        assert cells[i + 1].source == f"*The figure:* {tutorials.FIGURES[name]}"
    assert sum(cell.source.startswith("*The figure:*") for cell in cells) == len(shown)


def test_outputs_are_kept_until_code_changes(site, tmp_path):
    execution = site("execution")
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "rsam_ref").mkdir()
    style, module = tmp_path / "tutorials" / "style.py", tmp_path / "rsam_ref" / "sam.py"
    style.write_text("WIDTH = 3\n")
    module.write_text('def f(x):\n    """Doubles."""\n    return 2 * x\n')
    first = execution.cache_folder(tmp_path)
    first.mkdir(parents=True)
    module.write_text('def f(x):\n    """Twice x."""\n    return 2 * x  # as it says\n')
    assert execution.cache_folder(tmp_path) == first
    module.write_text('def f(x):\n    """Twice x."""\n    return 3 * x\n')
    second = execution.cache_folder(tmp_path)
    assert second != first
    assert not first.exists(), "what was kept for other code is removed"
    style.write_text("WIDTH = 4\n")
    assert execution.cache_folder(tmp_path) != second


WHOLE = '<link rel="stylesheet" href="a.css"><h1 id="top">A</h1><a href="https://x.org">out</a>'


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("b.html", '<a href="a.html#top">A</a>', None),
        ("b.html", '<script src="https://x.org/x.js"></script>', "loads https://x.org/x.js"),
        ("b.html", '<img src="//x.org/x.png">', "loads //x.org/x.png"),
        ("b.html", '<img srcset="a.png 1x, http://x.org/2.png 2x">', "loads http://x.org/2.png"),
        ("b.html", '<link rel="preconnect" href="https://x.org">', "loads https://x.org"),
        ("b.html", "<style>@import 'https://x.org/x.css';</style>", "loads https://x.org/x.css"),
        ("b.html", '<p style="background: url(http://x.org/1.png)">', "loads http://x.org/1.png"),
        ("b.html", "<script>fetch('https://x.org/x')</script>", "loads https://x.org/x"),
        ("b.css", "@font-face { src: url('https://x.org/f.woff') }", "loads https://x.org/f.woff"),
        ("b.js", 's.src = "https://x.org/x.js"', "loads https://x.org/x.js"),
        ("b.html", '<a href="c.html">C</a>', "links to c.html, which is not there"),
        ("b.html", '<a href="a.html#end">A</a>', "links to a.html#end, where there is no such"),
        ("b.html", '<img src="c.png">', "links to c.png, which is not there"),
    ],
)
def test_a_built_site_is_looked_through(site, tmp_path, name, text, told):
    offline = site("offline")
    (tmp_path / "a.html").write_text(WHOLE)
    (tmp_path / "a.css").write_text("p { background: url(data:image/png;base64,AA) }")
    (tmp_path / name).write_text(text)
    found = offline.look_through(tmp_path)
    if told is None:
        assert found == []
    else:
        assert any(f"{name}: {told}" in line for line in found), found


def test_the_sites_code_is_small():
    for path in [DOCS / "conf.py", DOCS / "build.py", *(DOCS / "site").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 180, path
        assert ast.get_docstring(ast.parse(text)), path


def test_nothing_built_is_kept_in_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert "build/" in ignored
    assert not [p for p in DOCS.rglob("*") if p.suffix in (".html", ".ipynb")], os.fspath(DOCS)


def test_every_message_of_troubleshooting_is_one_that_is_printed():
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    assert len(messages) > 15
    printed = set()
    for path in [*(ROOT / "rsam_ref").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                printed.add(node.value)
    assert [m for m in messages if not any(m in text for text in printed)] == []


def test_runs_are_paired_by_seed_as_told(tmp_path, capsys):
    table = tmp_path / "runs.csv"
    rows = ["run,optimizer,seed,test_accuracy,test_loss,seconds"]
    rows += ["a,sgd,1,0.5,1,1", "b,rsam,1,0.75,1,1", "c,sgd,2,0.5,1,1", "d,rsam,2,0.625,1,1"]
    table.write_text("\n".join(rows) + "\n")
    [snippet] = snippets((DOCS / "many-runs.md").read_text(encoding="utf-8"))
    exec(compile(snippet, "many-runs.md", "exec"), {"table": table})
    assert float(capsys.readouterr().out) == 0.1875


def test_every_environment_variable_is_told():
    told = set(re.findall(r"`(RSAM_\w+)`", (DOCS / "commands.md").read_text(encoding="utf-8")))
    sources = [*(ROOT / "rsam_ref").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]
    sources.append(ROOT / "tutorials" / "style.py")
    read = {name for p in sources for name in re.findall(r"RSAM_[A-Z_]+", p.read_text("utf-8"))}
    assert read == told
