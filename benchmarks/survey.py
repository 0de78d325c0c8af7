"""The checker over released packages, with a statement by hand beside each verdict.

    python -m benchmarks.survey

Every package goes into a folder of its own, under runs/survey/packages. What it calls SAM or ASAM
is given to `rsam_ref check`, the class itself where that can be done, else a few lines that make
it; and takes five steps on a small network, which are compared with the same steps written out
here in NumPy, without the checker. What is done is kept in runs/survey/rows.jsonl, as long as
neither the checker nor the row changes; the table goes into docs/survey.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.pages import put_between

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "survey"
PAGE = ROOT / "docs" / "survey.md"
MARKS = "<!-- the survey's table -->", "<!-- the end of the survey's table -->"

SAME = 1e-6
"""The largest difference of weights that is rounding: some packages take norms in float32."""

# By hand


STEPS = 5
HYPER = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
RHO = {"sam": 0.4, "asam": 1.0}
Weights = list[np.ndarray]


def problem(steps: int = STEPS) -> tuple[Weights, list[tuple[np.ndarray, np.ndarray]]]:
    """The weights of a network 3-4-2, a mini-batch for each step."""
    rng = np.random.default_rng(16)
    weights = [rng.normal(size=shape) for shape in ((4, 3), (4,), (2, 4), (2,))]
    batches = [(rng.normal(size=(8, 3)), rng.integers(2, size=8)) for _ in range(steps)]
    return weights, batches


def gradient(weights: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    """Of the mean cross entropy of softmax(W2 tanh(W1 x + b1) + b2)."""
    w1, b1, w2, b2 = weights
    hidden = np.tanh(x @ w1.T + b1)
    scores = hidden @ w2.T + b2
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    d_scores = (p - np.eye(2)[y]) / len(y)
    d_hidden = d_scores @ w2 * (1 - hidden**2)
    return [d_hidden.T @ x, d_hidden.sum(axis=0), d_scores.T @ hidden, d_scores.sum(axis=0)]


def ascent(algorithm: str, weights: Weights, g: Weights) -> Weights:
    """SAM's eps = rho g / ||g||; ASAM's rho T^2 g / ||T g|| with T = |w|."""
    if algorithm == "asam":
        norm = np.sqrt(sum(np.sum((w * d) ** 2) for w, d in zip(weights, g)))
        return [RHO["asam"] * w**2 * d / norm for w, d in zip(weights, g)]
    norm = np.sqrt(sum(np.sum(d**2) for d in g))
    return [RHO["sam"] * d / norm for d in g]


def by_hand(
    algorithm: str, lengths: list[float] | None = None, momentum: float = HYPER["momentum"]
) -> list[Weights]:
    """The weights after each step; ``lengths`` in place of lr, where it changes."""
    weights, batches = problem()
    speed = [np.zeros_like(w) for w in weights]
    after = []
    for number, (x, y) in enumerate(batches):
        eps = ascent(algorithm, weights, gradient(weights, x, y))
        g = gradient([w + e for w, e in zip(weights, eps)], x, y)
        decay = HYPER["weight_decay"]
        speed = [momentum * v + d + decay * w for v, d, w in zip(speed, g, weights)]
        lr = HYPER["lr"] if lengths is None else lengths[number]
        weights = [w - lr * v for w, v in zip(weights, speed)]
        after.append(weights)
    return after


def difference(one: list[Weights], other: list[Weights]) -> float:
    """The largest difference of any weight, after any step; infinity where one is no number."""
    largest = max(
        float(np.abs(np.asarray(a) - b).max())
        for u, v in zip(one, other, strict=True)
        for a, b in zip(u, v, strict=True)
    )
    return largest if np.isfinite(largest) else float("inf")


# The packages


@dataclass(frozen=True)
class Row:
    """Something that a package releases, and how it is made and called."""

    package: str
    name: str
    """How the row is called in the table."""
    lines: str
    """Code that ends in a function ``make``: what is driven by hand, and checked."""
    target: str = ""
    """The class itself, as module:NAME; without it, ``make`` is checked."""
    algorithm: str = "sam"
    way: str = "halves"
    """halves, closure, backward-first (and then the closure), or optax."""
    needs: tuple[str, ...] = ()
    """Modules that it needs besides."""
    own_length: bool = False
    """It chooses the step length itself, and says it in its groups."""
    dtype: str = "float64"
    """The type of the weights that it can take."""
    why: str = ""
    """Why verdict and hand differ, where they do and the verdict does not tell."""

    @property
    def id(self) -> str:
        return f"{self.package} {self.name}"


def of_class(package: str, name: str, place: str, *extra: str, **more: Any) -> Row:
    """A row of a class that takes params and a base optimizer's class, as most of them do."""
    module, cls = place.split(":")
    keywords = "".join(f", {e}" for e in extra)
    lines = f"""import torch
from {module} import {cls}


def make(params, hyper):
    return {cls}(params, torch.optim.SGD, rho=hyper.rho, lr=hyper.lr, momentum=hyper.momentum,
        weight_decay=hyper.weight_decay{keywords})
"""
    return Row(package, name, lines, **{"target": "" if extra else place, **more})


PO = "pytorch_optimizer==4.1.0"
ZIJ = "zij==0.1.1"
TORCHIUM = "torchium==0.1.5"
TORCHZERO = "torchzero==0.4.4"
MOSAIC = "mosaicml==0.32.1"
OPTAX = "optax==0.2.8"
Z = "zij.contrib.sharpness_aware"
T = "torchium.optimizers.meta_optimizers"

PO_GSAM = """import torch
from pytorch_optimizer import GSAM


class Rho:
    def __init__(self, rho):
        self.rho = rho

    def step(self):
        return self.rho


class WithLoss(GSAM):  # its closure returns (outputs, loss)
    def step(self, closure):
        return super().step(lambda: (None, torch.enable_grad()(closure)()))[1]


def make(params, hyper):
    base = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum,
        weight_decay=hyper.weight_decay)
    return WithLoss(base.param_groups, base, torch.nn.Identity(), Rho(hyper.rho)MORE)
"""
PO_WSAM = """import torch
from pytorch_optimizer import WSAM


def make(params, hyper):
    return WSAM(torch.nn.Identity(), params, torch.optim.SGD, rho=hyper.rho, lr=hyper.lr,
        momentum=hyper.momentum, weight_decay=hyper.weight_decayMORE)
"""
PO_BSAM = """from pytorch_optimizer import BSAM


def make(params, hyper):
    return BSAM(params, num_data=8, lr=hyper.lr, rho=hyper.rho, weight_decay=hyper.weight_decay)
"""
SAM_SPS = """from sam_sps import SAM_SPS


def make(params, hyper):
    return SAM_SPS(params, rho=hyper.rho, weight_decay=hyper.weight_decay)
"""
TEMPERON = """import torch
from temperon import Temperon


def make(params, hyper):
    base = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum,
        weight_decay=hyper.weight_decay)
    return Temperon(base, total_steps=100, rho=hyper.rhoMORE)
"""
SAM_PYTORCH = """import torch
from sam import SAM


def make(params, hyper):
    params = list(params)
    base = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum,
        weight_decay=hyper.weight_decay)
    return SAM(params, base, rho=hyper.rho)
"""
HEAVYBALL = """import heavyball

heavyball.utils.compile_mode = None  # compiling takes half a minute for each shape


def make(params, hyper):
    params = list(params)
    base = heavyball.SGD(params, lr=hyper.lr, beta=hyper.momentum,
        weight_decay=hyper.weight_decay)
    return heavyball.SAMWrapper(params, base, ball=hyper.rho)
"""
MOSAICML = """import ast
import sys
from pathlib import Path

import torch

# The package loads composer and all that this needs; its optimizer needs torch alone.
FILE = "composer/algorithms/sam/sam.py"
text = next(file for place in sys.path if (file := Path(place) / FILE).exists()).read_text()
(only,) = [node for node in ast.parse(text).body if getattr(node, "name", "") == "SAMOptimizer"]
exec(compile(ast.Module([only], []), FILE, "exec"))


class Called(SAMOptimizer):  # its trainer's closure takes ddp_sync and loss_dict
    def step(self, closure):
        return super().step(lambda **_: closure())


def make(params, hyper):
    base = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum,
        weight_decay=hyper.weight_decay)
    return Called(base, rho=hyper.rhoMORE)
"""
TZ = """import torchzero as tz


def make(params, hyper):
    return tz.Optimizer(params, tz.m.KIND(rho=hyper.rho), tz.m.WeightDecay(hyper.weight_decay),
        tz.m.HeavyBall(hyper.momentumMORE), tz.m.LR(hyper.lr))
"""
OPTAX_SAM = """import jax
import optax
from optax import contrib

jax.config.update("jax_enable_x64", True)


def make(hyper):
    base = optax.chain(
        optax.add_decayed_weights(hyper.weight_decay), optax.sgd(hyper.lr, momentum=hyper.momentum)
    )
    return contrib.sam(base, ASCENT, sync_period=2)
"""
NORMALIZED = "optax.chain(contrib.normalize(), optax.sgd(hyper.rho))"
ROWS = [
    of_class(PO, "SAM", "pytorch_optimizer:SAM"),
    of_class(PO, "SAM, use_gc", "pytorch_optimizer:SAM", "use_gc=True"),
    Row(PO, "WSAM", PO_WSAM.replace("MORE", ""), "pytorch_optimizer:WSAM"),
    Row(
        PO,
        "WSAM, gamma 0.5, decouple=False",
        PO_WSAM.replace("MORE", ", gamma=0.5, decouple=False"),
    ),
    Row(PO, "GSAM", PO_GSAM.replace("MORE", ""), way="closure"),
    Row(PO, "GSAM, alpha 0", PO_GSAM.replace("MORE", ", alpha=0.0"), way="closure"),
    of_class(PO, "LookSAM", "pytorch_optimizer:LookSAM", way="backward-first"),
    of_class(PO, "LookSAM, k=1", "pytorch_optimizer:LookSAM", "k=1", way="backward-first"),
    of_class(PO, "FriendlySAM", "pytorch_optimizer:FriendlySAM"),
    of_class(PO, "FriendlySAM, sigma 0", "pytorch_optimizer:FriendlySAM", "sigma=0.0"),
    Row(PO, "BSAM", PO_BSAM, "pytorch_optimizer:BSAM", way="backward-first"),
    of_class(ZIJ, "SAM", f"{Z}.sam:SAM"),
    of_class(ZIJ, "ASAM", f"{Z}.asam:ASAM", algorithm="asam"),
    of_class(ZIJ, "GSAM", f"{Z}.gsam:GSAM", way="closure"),
    of_class(ZIJ, "WSAM", f"{Z}.wsam:WSAM"),
    of_class(
        "unifiedsam==1.0.0",
        "unifiedSAM, lambd 1",
        "unifiedsam:unifiedSAM",
        "lambd=1.0",
        why="on the step with one group, which is SAM's; that the rho of a group is ignored, and "
        "the other faults, do not show in these five",
    ),
    of_class("unifiedsam==1.0.0", "unifiedSAM, lambd 0.5", "unifiedsam:unifiedSAM", "lambd=0.5"),
    Row(
        "sam-sps==1.0.0",
        "SAM_SPS",
        SAM_SPS,
        "sam_sps:SAM_SPS",
        way="closure",
        own_length=True,
    ),
    Row("temperon==0.1.1", "Temperon", TEMPERON.replace("MORE", ""), way="closure"),
    Row(
        "temperon==0.1.1",
        "Temperon, tail_frac 1",
        TEMPERON.replace("MORE", ", tail_frac=1.0"),
        way="closure",
    ),
    Row("sam-pytorch==0.0.1", "SAM", SAM_PYTORCH, "sam:SAM", way="closure"),
    Row(
        "heavyball==3.2.1",
        "SAMWrapper",
        HEAVYBALL,
        algorithm="asam",
        way="closure",
        needs=("opt_einsum",),
    ),
    Row(TORCHZERO, "SAM", TZ.replace("KIND", "SAM").replace("MORE", ""), way="closure"),
    Row(
        TORCHZERO,
        "ASAM",
        TZ.replace("KIND", "ASAM").replace("MORE", ""),
        algorithm="asam",
        way="closure",
    ),
    Row(MOSAIC, "SAMOptimizer", MOSAICML.replace("MORE", ""), way="closure"),
    Row(
        MOSAIC,
        "SAMOptimizer, interval 2",
        MOSAICML.replace("MORE", ", interval=2"),
        way="closure",
    ),
    of_class(TORCHIUM, "SAM", f"{T}:SAM", dtype="float32"),
    of_class(TORCHIUM, "GSAM", f"{T}:GSAM", dtype="float32"),
    of_class(TORCHIUM, "ASAM", f"{T}:ASAM", algorithm="asam", dtype="float32"),
    Row(
        OPTAX,
        "contrib.sam with normalize()",
        OPTAX_SAM.replace("ASCENT", NORMALIZED),
        way="optax",
        needs=("jax", "absl"),
    ),
    Row(
        OPTAX,
        "contrib.sam without normalize()",
        OPTAX_SAM.replace("ASCENT", "optax.sgd(hyper.rho)"),
        way="optax",
        needs=("jax", "absl"),
    ),
]

NOT_RUN = [
    (
        "tf_keras==2.21.0",
        "SharpnessAwareMinimization",
        "it needs TensorFlow, on which the checker runs no Keras model",
    ),
]


# One row


def install(row: Row) -> Path:
    """The package's own folder. Raises RuntimeError with the reason why it cannot be installed."""
    folder = RUNS / "packages" / row.package.replace("==", "-")
    done = folder / ".installed"
    if done.exists():
        return folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    more = [need for need in row.needs if importlib.util.find_spec(need) is None]
    for what in (["--no-deps", row.package], *[[need] for need in more]):
        run = subprocess.run(
            [*pip, "--target", str(folder), *what], capture_output=True, text=True, timeout=600
        )
        if run.returncode:
            lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
            raise RuntimeError((lines or run.stderr.splitlines() or ["pip fails"])[-1])
    done.touch()
    return folder


def in_folder(folder: Path, *arguments: str, seconds: int = 300) -> subprocess.CompletedProcess:
    """Python with the package, in one thread."""
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        timeout=seconds,
    )


def checked(row: Row, folder: Path, file: Path) -> dict[str, Any]:
    """What the checker says."""
    target = row.target or f"{file}:make"
    ask = ["-m", "rsam_ref", "check", target, "--algorithm", row.algorithm, "--json"]
    run = in_folder(folder, *ask)
    if run.returncode not in (0, 1) or not run.stdout.strip():
        lines = (run.stderr.strip() or run.stdout.strip() or "no answer").splitlines()
        reason = lines[-1].partition("could not check ")[2] or lines[-1]
        return {"verdict": "not checked", "reason": reason.replace(str(RUNS), "")}
    report = json.loads(run.stdout)
    return {
        "verdict": report["verdict"],
        "conforms": run.returncode == 0,
        "recognised": report["algorithm"],
        "findings": [f["code"] for f in report["findings"] if not f["note"]],
        "notes": [f["code"] for f in report["findings"] if f["note"]],
        "not_done": {k: v for k, v in report["probes"].items() if v.startswith("not done")},
    }


def held_by_hand(row: Row, folder: Path, file: Path) -> dict[str, Any]:
    """How far its five steps are from those by hand."""
    ask = ["--drive", str(file), "--way", row.way, "--rho", str(RHO[row.algorithm])]
    ask += ["--dtype", row.dtype]
    run = in_folder(folder, "-m", "benchmarks.survey", *ask)
    if run.returncode:
        return {"error": None, "raised": run.stderr.strip().splitlines()[-1]}
    driven = json.loads(run.stdout.splitlines()[-1])
    found: dict[str, Any] = {"error": difference(driven["weights"], by_hand(row.algorithm))}
    if row.own_length:
        lengths = driven["lr"]
        found["own_length"] = difference(
            driven["weights"], by_hand(row.algorithm, lengths, momentum=0.0)
        )
    return found


def survey(row: Row) -> dict[str, Any]:
    """Everything that is known of a row."""
    try:
        folder = install(row)
    except (RuntimeError, subprocess.SubprocessError) as error:
        return {"verdict": f"does not install: {error}"}
    file = folder / f"survey_{''.join(c if c.isalnum() else '_' for c in row.name)}.py"
    file.write_text(row.lines)
    start = time.monotonic()
    try:
        said = checked(row, folder, file)
    except subprocess.TimeoutExpired:
        said = {"verdict": "not checked", "reason": "it takes more than five minutes"}
    seconds = time.monotonic() - start
    try:
        hand = held_by_hand(row, folder, file)
    except subprocess.TimeoutExpired:
        hand = {"error": None, "raised": "it takes more than five minutes"}
    return {**said, "seconds": round(seconds, 1), "hand": hand}


def drive(file: Path, way: str, rho: float, dtype: str) -> None:
    """Take the steps, and print the weights after each (in the package's own process)."""
    spec = importlib.util.spec_from_file_location("made", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hyper = SimpleNamespace(rho=rho, **HYPER)
    if way == "optax":
        weights, lengths = _drive_optax(module.make, hyper)
    else:
        weights, lengths = _drive_torch(module.make, hyper, way, dtype)
    print(json.dumps({"weights": weights, "lr": lengths}))


def _drive_torch(make: Any, hyper: Any, way: str, dtype: str) -> tuple[list[Any], list[float]]:
    import torch

    start, batches = problem()
    kind = getattr(torch, dtype)
    params = [torch.nn.Parameter(torch.tensor(w, dtype=kind)) for w in start]
    optimizer = make(params, hyper)
    after, lengths = [], []
    for inputs, classes in batches:
        x, y = torch.tensor(inputs, dtype=kind), torch.tensor(classes)

        def closure(backward=True, x=x, y=y):
            w1, b1, w2, b2 = params
            scores = torch.tanh(x @ w1.T + b1) @ w2.T + b2
            loss = torch.nn.functional.cross_entropy(scores, y)
            if backward:
                optimizer.zero_grad()
                loss.backward()
            return loss

        if way in ("halves", "backward-first"):
            closure()
        if way == "halves":
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        else:
            optimizer.step(closure)
        after.append([p.detach().numpy().tolist() for p in params])
        lengths.append(optimizer.param_groups[0].get("lr"))
    return after, lengths


def _drive_optax(make: Any, hyper: Any) -> tuple[list[Any], list[float]]:
    jnp, optax = map(importlib.import_module, ("jax.numpy", "optax"))
    start, batches = problem()
    optimizer = make(hyper)
    params = [jnp.asarray(w) for w in start]
    state = optimizer.init(params)
    after = []
    for x, y in batches:
        for _ in range(2):
            g = gradient([np.asarray(p) for p in params], x, y)
            updates, state = optimizer.update([jnp.asarray(d) for d in g], state, params)
            params = optax.apply_updates(params, updates)
        after.append([np.asarray(p).tolist() for p in params])
    return after, []


# The table


def agreement(row: Row, found: dict[str, Any]) -> str:
    """yes, or why checker and hand say different things."""
    name = row.algorithm.upper()
    hand = found.get("hand")
    if hand is None:
        return "nothing to compare"
    error = hand["error"]
    if error is None:
        return row.why or f"no steps to compare: {hand['raised']}"
    right = error < SAME
    if found["verdict"] == "not checked":
        return row.why or f"the checker could not tell: {found['reason']}"
    around = "faults around" in found["verdict"]
    if (found["conforms"] or around) == right:
        if not (around and right):
            return "yes"
        return f"on the step, which is {name}'s; its faults do not show in these five"
    if "own_length" in hand and hand["own_length"] < SAME:
        return (
            f"on the direction: by hand with the step length that it chooses, and no momentum, "
            f"{hand['own_length']:.0e}"
        )
    return row.why


def table(found: dict[str, dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = "| package | what | asked | verdict | findings | by hand, max abs(dw) | agree? |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for row in ROWS:
        if (record := found.get(row.id)) is None:
            continue
        codes = [f"`{code}`" for code in record.get("findings", [])]
        notes = [f"`{code}`" for code in record.get("notes", [])]
        told = ", ".join(codes)
        if notes:
            told += ("; " if told else "") + ("notes " if notes[1:] else "note ") + ", ".join(notes)
        hand = record.get("hand") or {}
        error = hand.get("error")
        shown = f"raises {hand['raised']}" if hand.get("raised") else "not run"
        if error is not None:
            shown = f"{error:.0e}"
        cells = [
            row.package.replace("==", " "),
            row.name,
            row.algorithm.upper(),
            record["verdict"],
            told,
            shown,
            agreement(row, record),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    for package, name, reason in NOT_RUN:
        where = package.replace("==", " ")
        lines.append(f"| {where} | {name} | SAM | not run | | not run | not run: {reason} |")
    return "\n".join(lines)


def write(found: dict[str, dict[str, Any]], page: Path = PAGE) -> None:
    """Put the table where the page has its marks."""
    torch = version("torch")
    day = datetime.now(UTC).strftime("%d %B %Y").lstrip("0")
    words = (
        f"{day}; Python {sys.version.split()[0]}, PyTorch {torch}, NumPy {np.__version__}, "
        f"rsam-ref {version('rsam-ref')}."
    )
    put_between(page, MARKS, f"\n{words}\n\n{table(found)}\n")


def fingerprint(row: Row, checker: str) -> str:
    """Changes when the checker or what the row runs does."""
    ran = {key: value for key, value in asdict(row).items() if key != "why"}
    return hashlib.sha256((checker + json.dumps(ran, sort_keys=True)).encode()).hexdigest()[:16]


def _checker() -> str:
    files = sorted((ROOT / "rsam_ref" / "conformance").rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--keep", action="store_true", help="rows of an earlier checker count")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", default="halves", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float64", help=argparse.SUPPRESS)
    parser.add_argument("--rho", type=float, default=RHO["sam"], help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.drive:
        drive(asked.drive, asked.way, asked.rho, asked.dtype)
        return
    console = Console()
    RUNS.mkdir(parents=True, exist_ok=True)
    store = RUNS / "rows.jsonl"
    lines = store.read_text().splitlines() if store.exists() else []
    kept = {record["row"]: record for record in map(json.loads, lines)}
    checker = _checker()
    for number, row in enumerate(ROWS, start=1):
        print_of = fingerprint(row, checker)
        old = kept.get(row.id)
        if asked.only not in row.id or (old and (asked.keep or old["print"] == print_of)):
            continue
        console.print(f"{number}/{len(ROWS)} {row.id} ...", highlight=False)
        record = {"row": row.id, "print": print_of, **survey(row)}
        kept[row.id] = record
        with store.open("a") as file:
            file.write(json.dumps(record) + "\n")
        console.print(
            f"    {record['verdict']}, {record.get('seconds', 0)} s; by hand "
            f"{(record.get('hand') or {}).get('error')}",
            highlight=False,
        )
    write(kept)
    console.print(f"the table is in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
