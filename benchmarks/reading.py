"""Reading pictures: ours against PIL in a loop, and an epoch with what is read while a step runs.

    python -m benchmarks.reading
    python -m benchmarks.reading --before FOLDER

writes 384 JPEG files of 500 x 375 pixels and the same bytes as parquet, then times, each contestant
in a process of its own and in turn (`duel`): all of them in batches of 64 at 224 pixels from the
folder and from parquet, against `Image.open ... resize` in a loop; and training at 64 pixels, the
next batches prepared while a step runs, against the same work in turn. With ``--before`` also
training by the checkout in FOLDER. Every timing begins with nothing prepared. Some minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.duel import AbsentError, cores, duel

COUNT, SIZE, BATCH = 384, 224, 64
SMALL, EPOCHS = 64, 3  # pixels of the training's pictures; several epochs, as in a run
DATA, BEFORE = "RSAM_READING", "RSAM_READING_BEFORE"

Step = Callable[[], Any]

DUELS = {
    "all from the folder, against PIL in a loop": ("folder_ours", "folder_pil"),
    "all from parquet, against PIL in a loop": ("parquet_ours", "folder_pil"),
    "3 epochs, next batches prepared, against in turn": ("epoch_ours", "epoch_in_turn"),
    "3 epochs, now against before": ("epoch_ours", "epoch_before"),
}


# The contestants. Nothing of ours is imported before `_before` had its say.


def _samples(kind: str, size: int) -> Any:
    from rsam_ref.data import load_dataset

    return load_dataset(Path(os.environ[DATA]) / kind, image_size=size)


def _batches(kind: str) -> Step:
    from rsam_ref.data.feed import batches

    samples = _samples(kind, SIZE).train

    def step() -> None:
        for batch in batches(COUNT, BATCH, 0, 0):
            samples.take(batch)

    return step


def folder_ours() -> Step:
    return _batches("folder")


def parquet_ours() -> Step:
    try:
        return _batches("parquet")
    except ValueError as error:
        raise ImportError(str(error)) from None


def folder_pil() -> Step:
    """What a loop of one's own does: the same box, filter and constants."""
    from PIL import Image

    from rsam_ref.data.augment import central_box
    from rsam_ref.data.feed import batches
    from rsam_ref.data.pictures import IMAGENET_MEAN, IMAGENET_STD

    files = sorted((Path(os.environ[DATA]) / "folder" / "train").glob("*/*.jpg"))
    mean, std = (np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def step() -> None:
        for batch in batches(COUNT, BATCH, 0, 0):
            images = []
            for i in batch:
                with Image.open(files[i]) as image:
                    rgb = image.convert("RGB")
                box = central_box(*rgb.size, SIZE)
                part = rgb.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
                pixels = (np.asarray(part, np.float32) - mean) / std
                images.append(pixels.transpose(2, 0, 1))
            np.stack(images)

    return step


def _epochs(ahead: bool, bounded: tuple[int, ...] = (EPOCHS,)) -> Step:
    """SGD on a small network for some epochs, a test after each."""
    from rsam_ref import SGD, models, objective
    from rsam_ref.autograd.ops_nn import cross_entropy
    from rsam_ref.data import load_dataset
    from rsam_ref.data.feed import Feed, in_order

    data = load_dataset(Path(os.environ[DATA]) / "folder", image_size=SMALL)
    model = models.make_model("cnn", shape=data.shape, classes=2, seed=0)
    optimizer = SGD(0.01)

    def step() -> None:
        feed = Feed(data.train, BATCH, 0, *bounded)
        for number in range(EPOCHS * feed.per_epoch):
            x, y = feed(number) if ahead else feed.prepare(number)
            optimizer.step(objective(model, x, y, cross_entropy), model.weights.flat)
            if (number + 1) % feed.per_epoch == 0:
                for _ in in_order(data.test):
                    pass
        feed.close()

    return step


def epoch_ours() -> Step:
    return _epochs(ahead=True)


def epoch_in_turn() -> Step:
    return _epochs(ahead=False)


def epoch_before() -> Step:
    if BEFORE not in os.environ:
        raise ImportError("no checkout of the version before: give --before FOLDER")
    folder = Path(os.environ[BEFORE])
    sys.path[:0] = [str(folder), str(folder / "backends")]
    import rsam_ref

    assert Path(rsam_ref.__file__).is_relative_to(folder)
    return _epochs(ahead=True, bounded=())  # it could not be told where the end is


# The data


def write(folder: Path) -> None:
    """The pictures, in a folder and, where pyarrow is, in parquet files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(COUNT):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noise = rng.integers(-12, 13, (375, 500, 3))
        pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
        for part in ("train", "val") if i < BATCH else ("train",):
            path = folder / "folder" / part / "ab"[i % 2] / f"{i:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=90)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return
    (folder / "parquet").mkdir()
    for part in ("train", "val"):
        files = sorted((folder / "folder" / part).glob("*/*.jpg"))
        images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        labels = ["ab".index(file.parent.name) for file in files]
        pq.write_table(
            pa.table({"image": images, "label": labels}), folder / "parquet" / f"{part}.parquet"
        )


def main(
    before: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A checkout of the version before.")
    ] = None,
    blocks: Annotated[int, typer.Option(help="Pairs of timings.")] = 9,
) -> None:
    console = Console()
    if before is not None:
        os.environ[BEFORE] = str(before.resolve())
    right = {"justify": "right", "no_wrap": True}
    table = Table("what", *(f"{who} (ms)" for who in ("ours", "other")), "ratio", "quartiles")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = right["justify"], True  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[DATA] = scratch
        write(Path(scratch))
        for what, (a, b) in DUELS.items():
            try:
                result = duel(f"benchmarks.reading:{a}", f"benchmarks.reading:{b}", blocks=blocks)
            except AbsentError as absent:
                console.print(f"Left out, {what}: {absent}", highlight=False, soft_wrap=True)
                continue
            row = (f"{result.a * 1e3:.0f}", f"{result.b * 1e3:.0f}", f"{result.ratio:.2f}")
            table.add_row(what, *row, f"{result.low:.2f} to {result.high:.2f}")
            console.print(f"{what}: {row[2]}", highlight=False)
    console.print(
        f"{COUNT} JPEG files of 500 x 375, {BATCH} a batch, {SIZE} pixels (training {SMALL}); "
        f"{cores()} cores",
        highlight=False,
    )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
