"""How much of SAM's inner maximum do one-step SAM, k-step SAM and R-SAM reach, over training?

    python -m benchmarks.inner_maximum

trains the network of `rsam-ref compare` (digits, 40 % of the labels replaced) with SGD, SAM and
R-SAM, five seeds each, and stops at some epochs to measure on a few mini-batches: the largest rise
of the loss within rho that long projected ascent finds, and the share of it that each method's
ascent reaches (`rsam_ref.sharpness.inner`). Everything is in float64. It writes inner.csv,
differences.csv and inner.png to --out, and may be stopped and started again: runs that were
finished are kept. About ten minutes on one core.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from rsam_backends import Stream
from rsam_ref import models
from rsam_ref.algorithms.base import SGD
from rsam_ref.algorithms.schedules import cosine
from rsam_ref.commands.terminal import progress_bar
from rsam_ref.data import digits_split
from rsam_ref.data.feed import batches
from rsam_ref.figures import STYLE, save
from rsam_ref.files import write_whole
from rsam_ref.sharpness import Landscape, inner_maximum
from rsam_ref.sharpness.figures import finish_inner, inner_panel
from rsam_ref.training import comparison as compare
from rsam_ref.training.loop import train
from rsam_ref.training.statistics import paired_interval

TRAINED = {"sgd": 0.0, "sam": 0.4, "rsam": 0.4}  # the radius that compare's validation chose
EPOCHS = (0, 1, 3, 10, 30, 60)
RHOS = (0.1, 0.4, 0.8)
SIGMAS = (1e-3, 5e-3)  # R-SAM's scale at the start of a run and at its end
MINI_BATCHES = 4
Row = dict[str, Any]


def measure(model: Any, x: Any, y: Any, settings: compare.Experiment, where: Row) -> list[Row]:
    """The shares at the model's weights, each the mean over the mini-batches."""
    seed, size = where["seed"], settings.batch_size
    sums: dict[tuple[Any, ...], list[float]] = {}
    for i, index in zip(range(MINI_BATCHES), batches(len(x), size, seed, 0)):
        batch = Landscape(model, x[index], y[index], batch_statistics=True)
        for rho in RHOS:
            found = inner_maximum(
                batch,
                model.weights.flat,
                batch.shapes,
                rho=rho,
                sigmas=SIGMAS,
                lam=settings.lam,
                stream=Stream("inner", seed, where["epoch"], i),
            )
            worst_start = min(history[-1] for history in found.ascent.histories)
            shares: dict[tuple, tuple[float, float]] = {
                ("maximum", None, found.ascent.gradients): (1.0, found.rise)
            }
            shares["worst start", None, None] = worst_start / found.rise, worst_start
            shares |= {
                (r.method, r.sigma, r.gradients): (found.share(r), r.rise) for r in found.reached
            }
            for key, (share, rise) in shares.items():
                total = sums.setdefault((rho, *key), [0.0, 0.0])
                total[0] += share / MINI_BATCHES
                total[1] += rise / MINI_BATCHES
    return [
        where
        | {"rho": rho, "method": method, "sigma": sigma, "gradients": gradients}
        | {"value": value, "rise": rise}
        for (rho, method, sigma, gradients), (value, rise) in sums.items()
    ]


def run(trained: str, seed: int, settings: compare.Experiment) -> list[Row]:
    """Train one network, as `rsam-ref compare` does, and measure at `EPOCHS`."""
    split = digits_split(seed, settings.label_noise, "float64")
    x, y = split.x_train, split.y_train
    model = models.mlp([64, *settings.hidden, 10], seed=seed, dtype="float64")
    base = SGD(cosine(settings.lr, settings.steps), settings.momentum, settings.weight_decay)
    knobs = {"rho": TRAINED[trained], "sigma": settings.sigma, "lam": settings.lam}
    optimizer = compare.METHODS[trained].make(base, knobs, settings.steps, seed)
    rows = []

    def look(epoch: int) -> None:
        if epoch in EPOCHS:
            where = {"trained": trained, "seed": seed, "epoch": epoch}
            rows.extend(measure(model, x, y, settings, where))

    look(0)
    train(
        model,
        optimizer,
        x,
        y,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=seed,
        on_epoch=lambda epoch: look(epoch.number),
    )
    return rows


def differences(rows: list[Row]) -> list[Row]:
    """What each method reaches beyond one-step SAM, in points of per cent, paired by seed."""
    found = []
    ordered = sorted(rows, key=lambda row: row["seed"])
    for trained in TRAINED:
        for epoch in EPOCHS:
            for rho in RHOS:
                here = [
                    r
                    for r in ordered
                    if (r["trained"], r["epoch"], r["rho"]) == (trained, epoch, rho)
                ]
                sam = [r["value"] for r in here if (r["method"], r["gradients"]) == ("sam", 1)]
                for key in dict.fromkeys((r["method"], r["sigma"], r["gradients"]) for r in here):
                    if key[0] in ("maximum", "worst start") or key == ("sam", None, 1):
                        continue
                    own = [
                        r["value"] for r in here if (r["method"], r["sigma"], r["gradients"]) == key
                    ]
                    interval = paired_interval(own, sam)
                    found.append(
                        {"trained": trained, "epoch": epoch, "rho": rho}
                        | dict(zip(("method", "sigma", "gradients"), key))
                        | {
                            "points": 100 * interval.mean,
                            "low": 100 * interval.low,
                            "high": 100 * interval.high,
                        }
                    )
    return found


def figure(rows: list[Row]) -> Figure:
    """Rows: what trained the network; columns: the radius; along: the epoch."""
    titles = {"sgd": "SGD", "sam": "SAM, rho 0.4", "rsam": "R-SAM, rho 0.4"}
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(10, 9), layout="constrained")
        shape = len(TRAINED), len(RHOS)
        panels = drawn.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        for line, trained in zip(panels, TRAINED):
            for axes, rho in zip(line, RHOS):
                own = [
                    {**r, "place": EPOCHS.index(r["epoch"])}
                    for r in rows
                    if (r["trained"], r["rho"]) == (trained, rho)
                ]
                inner_panel(axes, own, "place", SIGMAS)
                axes.set_title(f"trained by {titles[trained]}; radius {rho:g}", fontsize=10)
                axes.set_xticks(range(len(EPOCHS)), [str(epoch) for epoch in EPOCHS])
        for axes in panels[-1]:
            axes.set_xlabel("epoch")
        seeds = len({row["seed"] for row in rows})
        finish_inner(drawn, panels, f"mean and 95 % interval over {seeds} seeds")
        return drawn


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show(rows: list[Row]) -> None:
    """R-SAM against SAM in numbers: the difference at every epoch."""
    for sigma in SIGMAS:
        table = Table(
            "trained by",
            "radius",
            *(f"epoch {epoch}" for epoch in EPOCHS),
            title=f"R-SAM, sigma {sigma:g}, less SAM: points of the inner maximum, 95 % interval",
        )
        for trained in TRAINED:
            for rho in RHOS:
                own = [
                    r
                    for r in rows
                    if (r["trained"], r["rho"], r["method"], r["sigma"])
                    == (trained, rho, "rsam", sigma)
                ]
                cells = [f"{r['points']:+.1f} [{r['low']:+.1f}, {r['high']:+.1f}]" for r in own]
                table.add_row(trained, f"{rho:g}", *cells)
        Console(width=150).print(table)


def main(
    out: Annotated[Path, typer.Option(help="Where runs and results go.")] = Path(
        "runs/inner-maximum"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds for each method.")] = 5,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    settings = compare.Experiment()
    runs = [(trained, seed) for seed in range(seeds) for trained in TRAINED]
    rows: list[Row] = []
    with progress_bar() as progress:
        for trained, seed in progress.track(runs, description="runs"):
            file = out / f"{trained}-{seed}.json"
            if not file.exists():
                write_whole(file, json.dumps(run(trained, seed, settings)).encode())
            rows += json.loads(file.read_text(encoding="utf-8"))
    rows = [row for row in rows if math.isfinite(row["value"])]
    compared = differences(rows)
    write_csv(out / "inner.csv", rows)
    write_csv(out / "differences.csv", compared)
    save(figure(rows), out / "inner.png")
    show(compared)
    agreement = [row["value"] for row in rows if row["method"] == "worst start"]
    print(
        f"The least successful start of projected ascent reaches {min(agreement):.0%} of the best "
        f"at worst, {sum(agreement) / len(agreement):.0%} in the mean."
    )
    print(f"Wrote inner.csv, differences.csv and inner.png to {out}/")


if __name__ == "__main__":
    typer.run(main)
