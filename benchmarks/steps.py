"""Whole training steps on the CPU, against PyTorch in both memory layouts and compiled, and others.

    python -m benchmarks.steps --out runs/steps

Each contestant has a process of its own, and they take turns; all use all cores. HIPS autograd,
JAX and tinygrad are timed where they can be imported, if need be by another Python:

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install autograd jax tinygrad
    python -m benchmarks.steps --peers-python /tmp/peers/bin/python

Our steps are timed with every set of kernels that is installed; the plain definitions against
PyTorch's default alone, for they are slow. The limit is one matrix product of as many flops as all
the products of the step, by NumPy's BLAS.

Memory is by how much a contestant's process grew at its peak, from before its network was made; for
a compiled step the compiler's memory is in it. Ctrl-C keeps the finished cases.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.duel import (
    PEERS,
    Case,
    Result,
    carry_out,
    cores,
    quartiles,
    results_table,
    tell_absent,
)

BATCHES = {"mlp": (32, 128), "cnn": (128,), "resnet20": (128,), "vit_tiny": (64,)}
METHODS = ("sgd", "sam", "rsam")
ELSEWHERE = ("hips_cpu", "jax_cpu", "tinygrad_cpu")
KERNELS = {"fast": "ours_cpu", "onednn": "ours_onednn_cpu", "plain": "ours_plain_cpu"}
COLOURS = {
    "torch_cpu": "#0072B2",
    "torch_cpu_last": "#56B4E9",
    "torch_cpu_compiled": "#F0E442",
    "hips_cpu": "#E69F00",
    "jax_cpu": "#009E73",
    "tinygrad_cpu": "#CC79A7",
    "limit_cpu": "#999999",
}


def peers_of(model: str) -> list[str]:
    peers = ["torch_cpu"]
    if model in ("cnn", "resnet20"):
        peers.append("torch_cpu_last")
    peers.append("torch_cpu_compiled")
    if model in ("mlp", "cnn"):
        peers += ELSEWHERE
    return [*peers, "limit_cpu"]


def cases(
    models: list[str], methods: list[str], peers: list[str], kernels: list[str]
) -> list[Case]:
    """All duels with others, and R-SAM's step against our own SGD's."""
    chosen = [
        Case(model, size, method, KERNELS[ours], peer)
        for model in models
        for size in BATCHES[model]
        for method in methods
        for ours in kernels
        for peer in peers_of(model)
        if peer in peers and (ours != "plain" or peer == "torch_cpu")
    ]
    chosen += [
        Case(model, size, method, "ours_cpu", "sgd_cpu")
        for model in models
        for size in BATCHES[model]
        for method in methods
        if method != "sgd"
    ]
    return chosen


def chosen(text: str, known: tuple[str, ...] | list[str], what: str) -> list[str]:
    """A comma-separated option as a list of known names."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := [name for name in names if name not in known] or ([] if names else [text]):
        raise typer.BadParameter(f"unknown {what} {wrong[0]!r}; there are {', '.join(known)}")
    return names


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    from rsam_backends import get_backend

    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": get_backend("numpy").describe(),
        "load before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def row(run: int, case: Case, result: Result) -> dict[str, Any]:
    """A finished case, as it is written down. Times in ms, memory in bytes."""
    ours, theirs = result.memory
    return {
        "run": run,
        "model": case.model,
        "batch": case.size,
        "method": case.method,
        "kernels": next((name for name, ours in KERNELS.items() if ours == case.a), ""),
        "peer": case.b,
        "ours_ms": 1e3 * result.a,
        "peer_ms": 1e3 * result.b,
        "ratio": result.ratio,
        "low": result.low,
        "high": result.high,
        "ours_bytes": ours,
        "peer_bytes": theirs,
        "memory_ratio": ours / theirs if theirs else None,
        "ratios": result.ratios,
    }


def step_of(row: dict[str, Any]) -> str:
    """A row's step in words."""
    ours = KERNELS[row["kernels"]]
    return Case(row["model"], row["batch"], row["method"], ours, row["peer"]).step


class Report:
    """The files of a benchmark, written anew after every case; never half of a file."""

    def __init__(self, out: Path | None, settings: dict[str, Any]) -> None:
        self.out = out
        self.data: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "settings": settings,
            "versions": {},
            "cases": [],
            "left_out": [],
        }
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def add(self, run: int, case: Case, result: Result) -> None:
        self.data["versions"] |= result.versions
        self.data["cases"].append(row(run, case, result))
        self.write()

    def leave_out(self, run: int, absent: dict[Case, str]) -> None:
        self.data["left_out"] += [
            {"run": run, **dataclasses.asdict(case), "reason": why} for case, why in absent.items()
        ]
        self.write()

    def write(self) -> None:
        if self.out is None:
            return
        from rsam_ref.files import whole, write_whole

        write_whole(self.out / "steps.json", json.dumps(self.data, indent=1).encode())
        rows = [{k: v for k, v in r.items() if k != "ratios"} for r in self.data["cases"]]
        if rows:
            with (
                whole(self.out / "steps.csv") as partial,
                partial.open("w", newline="") as file,
            ):
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)

    def draw(self) -> None:
        from rsam_ref import figures as plot

        if self.out is not None and any(r["peer"] in COLOURS for r in self.data["cases"]):
            plot.save(figure(self.data["cases"]), self.out / "steps.png")


def figure(rows: list[dict[str, Any]]) -> Any:
    """A bar for every case, with the quartiles of all its blocks, in all runs together."""
    import matplotlib
    from matplotlib.figure import Figure

    from rsam_ref.figures import STYLE

    groups: dict[str, dict[str, list[float]]] = {}
    for r in rows:
        if r["peer"] in COLOURS:
            groups.setdefault(step_of(r), {}).setdefault(r["peer"], []).extend(r["ratios"])
    bars = sum(map(len, groups.values()))
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x", "axes.axisbelow": True}):
        height = 1.4 + 0.21 * bars + 0.16 * len(groups)
        figure = Figure(figsize=(8.5, height), layout="constrained")
        axes = figure.subplots()
        at, ticks = 0.0, []
        for name, peers in groups.items():
            ticks.append((at + (len(peers) - 1) / 2, name))
            for peer, ratios in peers.items():
                low, median, high = quartiles(ratios)
                spread = [[median - low], [high - median]]
                error = {"ecolor": "black", "elinewidth": 0.9, "capsize": 2}
                axes.barh(at, median, xerr=spread, color=COLOURS[peer], height=0.8, error_kw=error)
                axes.text(high * 1.04, at, f"{median:.2f}", va="center", fontsize=8)
                at += 1
            at += 0.8
        axes.axvline(1, color="black", lw=1.2, ls="--", label="the goal, 1")
        for peer, colour in COLOURS.items():
            if any(peer in peers for peers in groups.values()):
                axes.bar(1, 0, color=colour, label=PEERS[peer])
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.3), high * 1.3)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks(*map(list, zip(*ticks)))
        axes.invert_yaxis()
        axes.set(xlabel="time of a step, ours / theirs (median and quartiles; less is better)")
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        return figure


def against_own_sgd(results: dict[Case, Result]) -> Table:
    table = Table("step", "ms", "SGD's (ms)", "times SGD's", "quartiles", title="Our own SGD step")
    for case, r in results.items():
        table.add_row(
            case.step,
            f"{r.a * 1e3:.2f}",
            f"{r.b * 1e3:.2f}",
            f"{r.ratio:.2f}",
            f"{r.low:.2f} to {r.high:.2f}",
        )
    return table


def repeated(rows: list[dict[str, Any]], runs: int) -> Table:
    """The ratios of several runs side by side, and how far they lie apart."""
    heads = [f"run {run + 1}" for run in range(runs)]
    table = Table("step", "against", *heads, "largest / smallest", "quartiles", title="The runs")
    found: dict[str, list[dict[str, Any]]] = {}
    for r in rows:
        key = f"{step_of(r)}|{PEERS[r['peer']]}"
        found.setdefault(key, []).append(r)
    for key, several in found.items():
        if len(several) == runs:
            ratios = [r["ratio"] for r in several]
            overlap = max(r["low"] for r in several) <= min(r["high"] for r in several)
            table.add_row(
                *key.split("|"),
                *(f"{ratio:.2f}" for ratio in ratios),
                f"{max(ratios) / min(ratios):.2f}",
                "overlap" if overlap else "lie apart",
            )
    return table


def main(
    models: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(BATCHES),
    methods: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(METHODS),
    peers: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(COLOURS),
    kernels: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(KERNELS),
    blocks: Annotated[int, typer.Option(help="Pairs of blocks for every case.", min=1)] = 15,
    repeat: Annotated[int, typer.Option(help="Separate runs, to be compared.", min=1)] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where steps.json, steps.csv and steps.png go.")
    ] = None,
    peers_python: Annotated[
        str, typer.Option(help="The Python for HIPS autograd, JAX and tinygrad.")
    ] = sys.executable,
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    names = chosen(models, list(BATCHES), "model")
    wanted = cases(
        names,
        chosen(methods, METHODS, "method"),
        chosen(peers, list(COLOURS), "peer"),
        chosen(kernels, list(KERNELS), "set of kernels"),
    )
    settings = {"models": models, "methods": methods, "kernels": kernels, "blocks": blocks}
    settings["repeat"] = repeat
    report = Report(out, settings)
    told = report.data["machine"]
    console.print(
        f"{told['processor']}, {told['cores']} cores, Python {told['python']}, "
        f"{told['numpy']['library']}, {told['numpy']['BLAS']}",
        soft_wrap=True,
        highlight=False,
    )

    def python_of(who: str) -> str:
        return peers_python if who in ELSEWHERE else sys.executable

    try:
        for run in range(repeat):
            results: dict[Case, Result] = {}

            def keep(case: Case, result: Result, run: int = run, results: Any = results) -> None:
                results[case] = result
                report.add(run, case, result)

            stopped = True
            try:
                absent = carry_out(
                    wanted, console, blocks=blocks, python_of=python_of, on_result=keep
                )
                stopped = False
            finally:
                title = "Time of a step, ours / theirs; the goal is at most 1"
                title += f" (run {run + 1} of {repeat})" if repeat > 1 else ""
                title += " (stopped)" if stopped else ""
                others = {case: r for case, r in results.items() if case.b != "sgd_cpu"}
                own = {case: r for case, r in results.items() if case.b == "sgd_cpu"}
                if others:
                    console.print(results_table(others, title))
                if own:
                    console.print(against_own_sgd(own))
            tell_absent(absent, console)
            report.leave_out(run, absent)
    except KeyboardInterrupt:
        console.print("Interrupted; the finished cases are kept.")
        raise typer.Exit(1) from None
    finally:
        report.draw()
        if out is not None:
            written = ", ".join(sorted(file.name for file in out.glob("steps.*")))
            console.print(f"Wrote {written} to {out}/")
    if repeat > 1:
        console.print(repeated(report.data["cases"], repeat))


if __name__ == "__main__":
    typer.run(main)
