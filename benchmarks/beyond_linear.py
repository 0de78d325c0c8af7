"""Do the paper's architectures learn more than a linear classifier, on a few thousand pictures?

    python -m benchmarks.beyond_linear --cifar DIR --pictures DIR

trains a linear classifier (the best of three learning rates, which favours it), resnet20 and
vit_tiny with R-SAM, on CIFAR-10 in binary (any number of records) and on a folder of pictures
(train/CLASS/, val/CLASS/), and prints the test accuracies. It may be stopped and started again: the
runs go on from their checkpoints in --out. With 4,000 and 600 pictures it takes about half an hour
on two cores.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rsam_ref.training import recipe
from rsam_ref.training.run import Run

LINEAR = {"model": "mlp", "model_options": {"hidden": []}, "optimizer": "sgd", "epochs": 30}
RATES = (1e-4, 1e-3, 1e-2)


def recipes(data: str, pictures: bool) -> dict[str, dict[str, Any]]:
    """The runs on a data set, by name."""
    common: dict[str, Any] = {"data": data, "augment": "crop-flip"}
    if pictures:
        common["image_size"] = 32
    runs = {f"linear, lr {lr:g}": LINEAR | common | {"lr": lr} for lr in RATES}
    for name in ("resnet20", "vit-tiny"):
        runs[name] = recipe.preset(f"cifar-{name}")[0] | common
        if pictures:  # fewer samples, so more epochs for as many steps
            runs[name] |= {"epochs": 30, "batch_size": 64, "warmup_steps": 0}
    return runs


def accuracy(folder: Path, settings: dict[str, Any]) -> tuple[float, int, float]:
    """Train, or go on; test accuracy, test samples, seconds."""
    if (folder / "recipe.toml").exists():
        run = Run.resume(folder)
    else:
        run = Run.start(folder, recipe.check(settings, str(folder)))
    if not run.go(on_row=lambda row: print(".", end="", flush=True)):
        raise typer.Exit(1)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return last["test_accuracy"], len(run.data.test), run.seconds


def main(
    cifar: Annotated[Path, typer.Option(help="CIFAR-10 in binary.")],
    pictures: Annotated[Path, typer.Option(help="A folder of pictures: train/CLASS/, val/CLASS/.")],
    out: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs/beyond-linear"),
) -> None:
    table = Table("data", "model", "test accuracy (%)", "standard error", "seconds")
    for data, is_folder in ((cifar, False), (pictures, True)):
        best: dict[str, tuple[float, int, float]] = {}
        for name, settings in recipes(str(data.resolve()), is_folder).items():
            folder = out / data.name / name.replace(", ", "-").replace(" ", "-")
            result = accuracy(folder, settings)
            model = name.split(",")[0]
            best[model] = max(best.get(model, result), result)
        for model, (right, n, seconds) in best.items():
            error = math.sqrt(right * (1 - right) / n)
            table.add_row(
                data.name, model, f"{100 * right:.1f}", f"{100 * error:.1f}", f"{seconds:.0f}"
            )
    print()
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
