"""Released packages that measure flatness, beside exact values on three small networks.

    python -m benchmarks.flatness_survey

Every package goes into a folder of its own, under runs/flatness_survey/packages, without its
dependencies but for those that packages.py names. Weights, data and exact values are made once
(problem.py); each row of packages.py runs in a process of its own, on each of the networks, and
judge.py says what came of it. What is done is kept in runs/flatness_survey/rows.jsonl until the
survey's code changes; the tables go into docs/flatness-packages.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.flatness_survey import judge
from benchmarks.flatness_survey.packages import CURVATURE, NEEDS, OURS, PLANE, ROWS, Case, Row
from benchmarks.pages import put_between

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "flatness_survey"
PAGE = ROOT / "docs" / "flatness-packages.md"
MARKS = "<!-- the survey's tables -->", "<!-- the end of the survey's tables -->"
NETWORKS = ("relu", "tanh", "bn")
SECONDS = 900


# One row, on one network


def install(package: str) -> Path:
    """The package's own folder. Raises RuntimeError with the reason why it cannot be installed."""
    folder = RUNS / "packages" / package.replace("==", "-")
    done = folder / ".installed"
    if package == OURS or done.exists():
        return folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--target", str(folder), package, *NEEDS[package]]
    run = subprocess.run(pip, capture_output=True, text=True, timeout=SECONDS)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
        raise RuntimeError((lines or run.stderr.splitlines() or ["pip fails"])[-1])
    done.touch()
    return folder


def measure(row: Row) -> dict[str, dict[str, Any]]:
    """What is known of a row by network, measured in the package's own process, in one thread."""
    try:
        folder = install(row.package)
    except (RuntimeError, subprocess.SubprocessError) as error:
        return not_run(f"does not install: {error}")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    ask = ["-m", "benchmarks.flatness_survey", "--drive", row.id]
    try:
        run = subprocess.run(
            [sys.executable, *ask],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=env,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return not_run(f"it takes more than {SECONDS // 60} minutes")
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"ends with {run.returncode}"]
        return not_run(lines[-1].replace(str(ROOT), ""))
    return json.loads(run.stdout.splitlines()[-1])


def not_run(why: str) -> dict[str, dict[str, Any]]:
    """The answer on every network of a package that cannot be asked."""
    return {network: {"raised": why} for network in NETWORKS}


def drive(row: Row) -> dict[str, dict[str, Any]]:
    """Run a row on each network (in the package's own process); an error is an answer, too."""
    found = {}
    for network in NETWORKS:
        try:
            found[network] = judged(row, network)
        except Exception as error:
            told = (str(error).splitlines() or [""])[0]
            found[network] = {"raised": f"{type(error).__name__}: {told}"}
    return found


def judged(row: Row, network: str) -> dict[str, Any]:
    """What a row says of a network, and what is to be said of that."""
    import torch

    from benchmarks.flatness_survey.problem import copied, losses_at

    kept = np.load(RUNS / f"{network}.npz")
    reference, x, y = copied(network, RUNS / f"{network}.npz")
    model, _, _ = copied(network, RUNS / f"{network}.npz")
    dtype = getattr(torch, row.dtype)
    model.to(dtype).train(not row.evaluates)
    case = Case(model, x.to(dtype), y, kept["hessian"], network)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (what packages draw from)
    before = judge.state(model)
    watched = judge.watch(model) if row.kind == PLANE else judge.Watched()
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        said = row.run(case)
    seconds = time.perf_counter() - start
    found: dict[str, Any] = {"seconds": seconds}
    found["changed"] = said.get("changed", judge.changed(before, judge.state(model)))
    if "points" in said:
        watched = judge.Watched(said["points"])
    if "losses" in said:
        shapes = [tuple(p.shape) for p in reference.parameters()]
        losses = np.asarray(said["losses"])
        found |= judge.plane(
            watched,
            losses,
            kept["w"],
            shapes,
            lambda points: losses_at(reference, x, y, points),
            row.snake,
        )
    else:
        found |= curvature(said, {name: kept[name] for name in ("values", "trace", *TRACES)})
    return found


TRACES = ("ggn", "fisher")


def curvature(said: dict[str, Any], exact: dict[str, Any]) -> dict[str, Any]:
    """The relative errors of eigenvalues and traces; a refusal stays in words."""
    values = [float(v) for v in said.get("values", [])]
    found: dict[str, Any] = {"errors": judge.relative_errors(values, list(exact["values"]))}
    for name in ("trace", *TRACES):
        told = said.get(name)
        if told is not None and not isinstance(told, str):
            told = judge.relative_error(float(told), float(exact[name]))
        found[name] = told
    return found


# The tables


def cells_of(row: Row, record: dict[str, Any]) -> list[str]:
    """What a row's table shows of it on one network, but for the time."""
    wide = 5 if row.kind == CURVATURE else 6
    if "raised" in record:
        told = textwrap.shorten(record["raised"], 90, placeholder=" ...").replace("|", "/")
        return [f"raises {told}", *[""] * (wide - 1)]
    left = ", ".join(record["changed"]) or "nothing"
    if row.kind == CURVATURE:
        errors = " ".join("-" if e is None else f"{e:.0e}" for e in record["errors"])
        if not any(e is not None for e in record["errors"]):
            errors = ""
        return [errors, *[_number(record[name]) for name in ("trace", *TRACES)], left]
    if record.get("constant"):
        first = ["every value is L(w)", "", "", ""]
    else:
        moved = [n for n, on in _moved(record) if on]
        first = [
            record["normalised"],
            ", ".join(moved) or "no",
            f"{record['cosine']:.3f}",
            record["centre"],
        ]
    return [*first, _number(record["loss_error"]), left]


def _moved(record: dict[str, Any]) -> list[tuple[str, bool]]:
    one_axis, statistics = record["one_axis_moves"], record["statistics_moved"]
    return [("one-axis parameters", one_axis), ("statistics", statistics)]


def _number(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return "not a number" if np.isinf(value) else f"{value:.0e}"


HEADS = {
    "curvature": "| package | settings | network | relative errors of the five largest eigenvalues "
    "| of the trace | of the GGN's | of the Fisher's | changed afterwards | s |",
    "plane": "| package | settings | network | normalised | moves besides | cosine of the two "
    "| centre | error of the losses | changed afterwards | s |",
}


def table(kind: str, found: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The rows of a kind in Markdown; networks of which the same is told share a line."""
    head = HEADS[kind]
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row in ROWS:
        told: dict[tuple[str, ...], list[str]] = {}
        for network in NETWORKS if row.kind == kind else ():
            if (record := found.get((row.id, network))) is not None:
                told.setdefault(tuple(cells_of(row, record)), []).append(network)
        for cells, networks in told.items():
            seconds = [found[row.id, network].get("seconds") for network in networks]
            longest = max((s for s in seconds if s is not None), default=None)
            name = row.package.replace("==", " ")
            told_time = "" if longest is None else f"{longest:.1f}"
            shown = [name, row.settings, ", ".join(networks), *cells, told_time]
            lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def exact_table() -> str:
    """The networks' own numbers."""
    head = "| network | weights | loss | five largest | lowest | trace | trace of GGN | of Fisher |"
    lines = [head, "|---" * 8 + "|"]
    for network in NETWORKS:
        kept = np.load(RUNS / f"{network}.npz")
        five = " ".join(f"{v:.5f}" for v in kept["values"])
        rest = [f"{float(kept[name]):.4f}" for name in ("lowest", "trace", *TRACES)]
        cells = [network, str(len(kept["w"])), f"{float(kept['loss']):.4f}", five, *rest]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(found: dict[tuple[str, str], dict[str, Any]], page: Path) -> None:
    """Put the tables where the page has its marks."""
    day = datetime.now(UTC).strftime("%d %B %Y").lstrip("0")
    words = (
        f"{day}; Python {platform.python_version()}, PyTorch {version('torch')}, "
        f"NumPy {np.__version__}, SciPy {version('scipy')}, rsam-ref {version('rsam-ref')}."
    )
    parts = [words, exact_table(), "Planes:", table("plane", found)]
    parts += ["Curvature:", table("curvature", found)]
    put_between(page, MARKS, "\n" + "\n\n".join(parts) + "\n")


# The command


def fingerprint() -> str:
    """Changes when the survey's code does, or how ours measures."""
    files = [*Path(__file__).parent.glob("*.py"), *(ROOT / "rsam_ref" / "sharpness").glob("*.py")]
    files.remove(Path(__file__))
    return hashlib.sha256(b"".join(f.read_bytes() for f in sorted(files))).hexdigest()[:16]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--keep", action="store_true", help="rows of earlier code count")
    parser.add_argument("--drive", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.drive:
        row = next(row for row in ROWS if row.id == asked.drive)
        print(json.dumps(drive(row)))
        return
    console = Console()
    RUNS.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        if not (file := RUNS / f"{network}.npz").exists():
            from benchmarks.flatness_survey.problem import keep

            console.print(f"{network}: weights and exact values ...", highlight=False)
            keep(network, file)
    store = RUNS / "rows.jsonl"
    lines = store.read_text().splitlines() if store.exists() else []
    kept = {(r["row"], r["network"]): r for r in map(json.loads, lines)}
    code = fingerprint()
    for number, row in enumerate(ROWS, start=1):
        old = kept.get((row.id, NETWORKS[0]))
        if asked.only not in row.id or (old and (asked.keep or old["print"] == code)):
            continue
        console.print(f"{number}/{len(ROWS)} {row.id} ...", highlight=False)
        for network, told in measure(row).items():
            record = {"row": row.id, "network": network, "print": code, **told}
            kept[row.id, network] = record
            with store.open("a") as file_of_rows:
                file_of_rows.write(json.dumps(record) + "\n")
            console.print(f"    {network}: {' | '.join(cells_of(row, record))}", highlight=False)
    if missing := [row.id for row in ROWS if (row.id, NETWORKS[0]) not in kept]:
        console.print(f"the page stays as it is: {len(missing)} of {len(ROWS)} rows were not run")
        return
    write(kept, PAGE)
    console.print(f"the tables are in {PAGE.name}")


if __name__ == "__main__":
    main()
