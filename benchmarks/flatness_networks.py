"""All measures of flatness of a ResNet-18 on 512 images, and three packages beside them.

    python -m benchmarks.flatness_networks [--data DIR] [--threads 2] [--products 12] [--probes 6]

The network is torchvision's own, with 10 classes, 11.2 million weights, after some steps of SGD.
The images are 32 x 32, CIFAR-10's where DIR holds them (in binary), random ones otherwise. Every
job has a process of its own: a training step on all images at once (SGD with momentum), whose peak
memory the others are held against; the command with all its measures; and for ours, PyHessian,
hessian-eigenthings and curvlinops the largest eigenvalue by so many ``--products`` with the Hessian
and the trace by so many ``--probes``. Seconds are those of the clock and of the processor: on a
machine with other work the first say more of that work. What is done is kept in
runs/flatness_networks/jobs.json; ``--anew`` does it again. The tables go into docs/flatness.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.flatness_survey.__main__ import install
from benchmarks.pages import put_between

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "flatness_networks"
PAGE = ROOT / "docs" / "flatness.md"
MARKS = "<!-- the networks' tables -->", "<!-- the end of the networks' tables -->"
IMAGES, BATCH, STEPS = 512, 128, 60
PACKAGES = {
    "pyhessian": "pyhessian==0.1",
    "hessian-eigenthings": "hessian-eigenthings==1.0.0a5",
    "curvlinops": "curvlinops-for-pytorch==3.0.1",
}
ELSEWHERE = Path(os.environ.get("RSAM_REF_ELSEWHERE", Path(sys.prefix) / "elsewhere"))


# The network and its images: what --batches-from and the packages ask for


def make() -> Any:
    """torchvision's ResNet-18 with 10 classes."""
    import torch

    from tests.helpers.elsewhere import declare_operators

    declare_operators()
    sys.path.append(str(ELSEWHERE))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return import_module("torchvision").models.resnet18(num_classes=10)


def images() -> tuple[Any, Any]:
    """512 images (512, 3, 32, 32) and their labels, in float32."""
    import torch

    folder = os.environ.get("FLATNESS_NETWORKS_DATA", "")
    if not folder:
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(IMAGES, 3, 32, 32, generator=draws)
        return x, torch.randint(0, 10, (IMAGES,), generator=draws)
    from rsam_ref.data import load_dataset

    train = load_dataset(Path(folder), seed=0).train
    index = range(IMAGES)
    return torch.as_tensor(train.take(list(index))), torch.as_tensor(train.labels[:IMAGES])


def batches() -> list[Any]:
    """The images, 128 at a time."""
    x, y = images()
    return list(zip(x.split(BATCH), y.split(BATCH)))


def trained() -> Any:
    """The network with the weights that are kept."""
    from safetensors.torch import load_file

    model = make()
    model.load_state_dict(load_file(RUNS / "weights.safetensors"))
    return model


# The jobs, each in a process of its own


def train(asked: Any) -> dict[str, Any]:
    """Some steps of SGD on the batches in turn; the weights are kept."""
    import torch
    from safetensors.torch import save_file

    model, parts = make(), batches()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for i in range(STEPS):
        x, y = parts[i % len(parts)]
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
    save_file(model.state_dict(), RUNS / "weights.safetensors")
    return {"loss": float(loss.detach())}


def training_step(asked: Any) -> dict[str, Any]:
    """Two steps on all images at once, the second timed."""
    import torch

    model, (x, y) = trained(), images()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    found: dict[str, Any] = {}
    for _ in range(2):
        with Timed() as found["step"]:
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            sgd.step()
    return {"step": found["step"].seconds()}


def everything(asked: Any) -> dict[str, Any]:
    """The command with all measures; how often each asked, and how long it took."""
    from rsam_ref.commands.main import app
    from rsam_ref.pytorch import network, objectives
    from rsam_ref.sharpness import survey

    found: dict[str, dict[str, Any]] = {}
    now: list[dict[str, Any]] = [{}]

    def counted(cls: Any, name: str, kind: str, share: Callable[..., float]) -> None:
        plain = getattr(cls, name)

        def asked_for(self: Any, *args: Any) -> Any:
            now[0][kind] = now[0].get(kind, 0.0) + share(self, *args)
            return plain(self, *args)

        setattr(cls, name, asked_for)

    def of_all(objective: Any) -> float:
        return sum(len(batch[1]) for batch in objective._batches) / IMAGES

    counted(objectives.Objective, "__call__", "gradients", lambda o, *_: of_all(o))
    counted(objectives.Objective, "loss", "losses", lambda o, *_: of_all(o))
    counted(
        objectives._Kept,
        "__call__",
        "products",
        lambda kept, vectors: len(vectors) * of_all(kept.objective),
    )
    plain = survey.survey

    def timed(measure: str, subject: Any) -> Any:
        now[0] = found.setdefault(measure, {})
        with Timed() as took:
            yield from plain(measure, subject)
        now[0].update(took.seconds(), peak=_peak())
        print(measure, json.dumps(now[0]), file=sys.stderr, flush=True)

    survey.survey = network.survey = timed
    command = ["sharpness", f"{__file__}:trained", "--batches-from", "batches"]
    command += ["--samples", str(IMAGES), "--out", str(RUNS / "measured"), "--seed", "0"]
    command += [part for name in survey.MEASURES for part in ("--measure", name)]
    command += ["--threads", str(asked.threads)]
    with Timed() as took:
        app(command, standalone_mode=False)
    return {"measures": found, **took.seconds()}


def ours(asked: Any) -> dict[str, Any]:
    from rsam_backends import Stream
    from rsam_ref.pytorch import objective
    from rsam_ref.sharpness import hessian_eigenvalues
    from rsam_ref.sharpness.hessian import product_at
    from rsam_ref.sharpness.trace import hutchinson

    loss = objective(trained(), _criterion(), batches())
    w = loss.w
    with Timed() as first:
        stream = Stream("lanczos", 0)
        limits = {"iterations": asked.products, "tolerance": 0.0}
        found = hessian_eigenvalues(loss, w, stream=stream, **limits)
    with Timed() as second:
        product = product_at(loss, w, keep=False)
        trace = hutchinson(product, w, probes=asked.probes, stream=Stream("trace", 0))
    value = {"value": found.values[0], "bound": found.bounds[0]}
    return {"eigenvalue": first.seconds() | value, "trace": second.seconds() | _of(trace.total)}


def _of(estimate: Any) -> dict[str, float]:
    low, high = estimate.interval
    return {"value": estimate.mean, "low": low, "high": high}


def pyhessian(asked: Any) -> dict[str, Any]:
    hessian = import_module("pyhessian").hessian(
        trained().eval(), _criterion(), dataloader=batches(), cuda=False
    )
    with Timed() as first:  # a step of its power iteration is one product
        [value] = hessian.eigenvalues(maxIter=asked.products, tol=0, top_n=1)[0]
    with Timed() as second:
        traces = hessian.trace(maxIter=asked.probes, tol=0)
    told = float(sum(traces) / len(traces))
    return {
        "eigenvalue": first.seconds() | {"value": float(value)},
        "trace": second.seconds() | {"value": told},
    }


def eigenthings(asked: Any) -> dict[str, Any]:
    package = import_module("hessian_eigenthings")
    operator = package.HessianOperator(
        trained().eval(), batches(), package.supervised_loss(_criterion())
    )
    with Timed() as first:
        more = {"max_iter": asked.products, "reorthogonalize": True, "which": "LA", "seed": 0}
        value = package.lanczos(operator, k=1, tol=0.0, **more).eigenvalues[0]
    with Timed() as second:
        trace = package.trace(operator, num_matvecs=asked.probes, method="hutchinson", seed=0)
    return {
        "eigenvalue": first.seconds() | {"value": float(value)},
        "trace": second.seconds() | {"value": float(trace.estimate)},
    }


def curvlinops(asked: Any) -> dict[str, Any]:
    import numpy as np
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    package = import_module("curvlinops")
    model = trained().eval()
    operator = package.HessianLinearOperator(
        model, _criterion(), list(model.parameters()), batches(), check_deterministic=False
    )
    counts = 0
    plain = operator.to_scipy()

    def product(v: Any) -> Any:
        nonlocal counts
        counts += 1
        return plain @ v

    from scipy.sparse.linalg import LinearOperator

    counted = LinearOperator(plain.shape, product, dtype=np.float32)
    with Timed() as first:  # one round of ARPACK, with as many vectors as it may have products
        try:
            options = {"k": 1, "which": "LA", "ncv": asked.products, "maxiter": 1}
            values = eigsh(counted, return_eigenvectors=False, tol=1e-2, **options)
        except ArpackNoConvergence as error:
            values = error.eigenvalues
    products = counts
    with Timed() as second:
        told = float(package.hutchinson_trace(operator, num_matvecs=asked.probes))
    value = float(values[0]) if len(values) else None
    return {
        "eigenvalue": first.seconds() | {"value": value, "products": products},
        "trace": second.seconds() | {"value": told},
    }


JOBS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "train": train,
    "training step": training_step,
    "all measures": everything,
    "rsam-ref": ours,
    "pyhessian": pyhessian,
    "hessian-eigenthings": eigenthings,
    "curvlinops": curvlinops,
}


def _criterion() -> Any:
    from torch import nn

    return nn.CrossEntropyLoss()


class Timed:
    """A block whose seconds are taken, by the clock and by the processor."""

    def __enter__(self) -> Timed:
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.end = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        wall, cpu = (end - start for start, end in zip(self.start, self.end))
        return {"wall": wall, "cpu": cpu}


def _peak() -> float:
    """The largest memory that this process held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def drive(name: str, asked: Any) -> None:
    """One job, in this process; the last line printed is what came of it."""
    import torch

    torch.set_num_threads(asked.threads)
    before = _peak()
    found = JOBS[name](asked)
    print(json.dumps(found | {"peak": _peak(), "before": before}))


def asked_for(name: str, asked: Any) -> dict[str, Any]:
    """One job in a process of its own; the reason where it fails."""
    paths = [str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
    if name in PACKAGES:
        paths.insert(0, str(install(PACKAGES[name])))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    env |= {"OMP_NUM_THREADS": str(asked.threads), "FLATNESS_NETWORKS_DATA": asked.data}
    ask = [sys.executable, "-m", "benchmarks.flatness_networks", "--job", name]
    for option in ("threads", "products", "probes"):
        ask += [f"--{option}", str(getattr(asked, option))]
    run = subprocess.run(ask, capture_output=True, text=True, cwd=ROOT, env=env)
    (RUNS / f"{name.replace(' ', '-')}.txt").write_text(run.stdout + run.stderr)
    if run.returncode:
        return {"raised": (run.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    return json.loads(run.stdout.splitlines()[-1])


# The tables


def tables(done: dict[str, dict[str, Any]], asked: Any) -> str:
    """What was found, in Markdown, of the jobs that were done."""
    parts = [of_step(done["training step"], asked.threads)]
    if "all measures" in done:
        parts.append(of_measures(done["all measures"], done["training step"]))
    if any(name in done for name in ("rsam-ref", *PACKAGES)):
        parts.append(of_packages(done, asked))
    return "\n" + "\n\n".join(parts) + "\n"


def of_step(step: dict[str, Any], threads: int) -> str:
    """What a training step takes, which the rest is told in."""
    return (
        f"{threads} {'thread' if threads == 1 else 'threads'}; one training step on the {IMAGES} "
        f"images: {step['step']['wall']:.1f} s by the clock, {step['step']['cpu']:.1f} s of the "
        f"processor, {step['peak']:.0f} MB at most."
    )


def of_measures(whole: dict[str, Any], step: dict[str, Any]) -> str:
    """What every measure asked for and took."""
    if "raised" in whole:
        return f"All measures: raises {whole['raised']}"
    told = [
        f"All measures: {whole['wall'] / 60:.1f} minutes by the clock, {whole['cpu'] / 60:.1f} of "
        f"the processor, {whole['peak']:.0f} MB at most, {whole['peak'] / step['peak']:.2f} times "
        "the training step's.",
        "",
        "| measure | losses | gradients | products | s of the processor | in training steps |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in whole["measures"].items():
        counts = [f"{row.get(kind, 0):.3g}" for kind in ("losses", "gradients", "products")]
        steps = row["cpu"] / step["step"]["cpu"]
        told.append(f"| `{name}` | {' | '.join(counts)} | {row['cpu']:.0f} | {steps:.1f} |")
    return "\n".join(told)


def of_packages(done: dict[str, dict[str, Any]], asked: Any) -> str:
    """The largest eigenvalue and the trace, by as many products each."""
    told = [
        f"| | largest eigenvalue, {asked.products} products | s of the processor | "
        f"trace, {asked.probes} probes | s | peak, in training steps' |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("rsam-ref", *PACKAGES):
        row = done.get(name, {"raised": "not run"})
        if "raised" in row:
            told.append(f"| {name} | {row['raised'].replace('|', '/')} |" + " |" * 4)
            continue
        first, second = row["eigenvalue"], row["trace"]
        value = "none" if first["value"] is None else f"{first['value']:.6g}"
        if "bound" in first:
            value += f" ± {first['bound']:.1g}"
        if first.get("products", asked.products) != asked.products:
            value += f", {first['products']} products"
        trace = f"{second['value']:.4g}"
        if "low" in second:
            trace += f" ({second['low']:.3g} to {second['high']:.3g})"
        peak = f"{row['peak'] / done['training step']['peak']:.2f}"
        cells = [name, value, f"{first['cpu']:.0f}", trace, f"{second['cpu']:.0f}", peak]
        told.append(f"| {' | '.join(cells)} |")
    return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="", help="CIFAR-10 in binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--products", type=int, default=12)
    parser.add_argument("--probes", type=int, default=6)
    parser.add_argument("--only", choices=JOBS, action="append", help="a job; repeatable")
    parser.add_argument("--anew", action="store_true", help="what is kept does not count")
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job:
        drive(asked.job, asked)
        return
    console = Console()
    RUNS.mkdir(parents=True, exist_ok=True)
    store = RUNS / "jobs.json"
    done = {} if asked.anew or not store.exists() else json.loads(store.read_text())
    if "all measures" not in done:  # what the command has kept does not count either
        shutil.rmtree(RUNS / "measured", ignore_errors=True)
    for name in JOBS:
        if name not in done and name in (asked.only or JOBS):
            console.print(f"{name} ...", highlight=False)
            done[name] = asked_for(name, asked)
            store.write_text(json.dumps(done))
    text = tables(done, asked)
    print(text)
    put_between(PAGE, MARKS, text)


if __name__ == "__main__":
    main()
