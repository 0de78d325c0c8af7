"""The tutorials as pages: solutions after their exercises, figures in words, files to take away."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from pathlib import Path

import jupytext
from nbformat.v4 import new_markdown_cell

FOLDER = Path(__file__).resolve().parents[2] / "tutorials"
FIGURES = tomllib.loads(Path(__file__).with_name("figures.toml").read_text(encoding="utf-8"))
SHOWN = re.compile(r'^(?:show|movie)\(.*"([\w-]+)"\)$', re.MULTILINE)


def read(text: str):
    """A tutorial as a notebook, for myst-nb: with downloads, solutions, and no empty promises."""
    notebook = jupytext.reads(text, fmt="py:percent")
    number = int(re.search(r"^# # (\d+)\.", text, re.MULTILINE)[1])
    [path] = FOLDER.glob(f"{number:02}_*.py")
    solved = solutions(FOLDER / "solutions" / f"{number:02}.py")
    cells, exercise = [], False
    for cell in notebook.cells:
        cells.append(cell)
        if shown := SHOWN.search(cell.source):
            cell.metadata["mystnb"] = {"image": {"alt": FIGURES[shown[1]]}}
        if exercise:  # the cell that checks it, and says "not yet" on every page
            cell.metadata["tags"] = ["remove-output"]
            exercise = False
        if "exercise" in cell.metadata.get("tags", []):
            exercise = True
            name = ast.parse(cell.source).body[0].name
            cells.append(
                new_markdown_cell(
                    '<details class="solution">\n<summary>A solution</summary>\n\n'
                    f"```python\n{solved[name]}\n```\n\n</details>"
                )
            )
    cells.insert(1, new_markdown_cell(downloads(path.stem)))
    notebook.cells = cells
    return notebook


def downloads(stem: str) -> str:
    links = ((f"{stem}.py", "script"), (f"{stem}.ipynb", "notebook"), ("style.py", "style.py"))
    script, notebook, style = (f'<a href="{file}" download>{text}</a>' for file, text in links)
    return (
        f'<p class="downloads">Take it along: the {script} or the {notebook}; '
        f"either needs {style} beside it and rsam-ref installed.</p>"
    )


def solutions(path: Path) -> dict[str, str]:
    """The source of every function of a file of solutions, by name."""
    text = path.read_text(encoding="utf-8")
    parts = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(text, node) for node in parts}


def to_take_away(path: Path):
    """A tutorial as a notebook of one's own: under each figure's cell what the figure shows.

    Notebooks have no place for an image's alternative text, so it is a text that all can read.
    """
    notebook = jupytext.read(path)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if shown := SHOWN.search(cell.source):
            cells.append(new_markdown_cell(f"*The figure:* {FIGURES[shown[1]]}"))
    notebook.cells = cells
    return notebook


def write_downloads(app, error):
    """Lay the scripts, and notebooks made of them, beside the pages."""
    out = Path(app.outdir) / "tutorials"
    if error or app.builder.name != "html" or not out.exists():
        return
    shutil.copy(FOLDER / "style.py", out)
    for path in FOLDER.glob("[0-9]*.py"):
        shutil.copy(path, out)
        jupytext.write(to_take_away(path), out / f"{path.stem}.ipynb")


def setup(app):
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
