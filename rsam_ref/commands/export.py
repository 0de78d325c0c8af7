"""The command ``rsam-ref export``: a trained model for another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rsam_ref.commands.terminal import Run, say, usage_errors

Option = typer.Option

SUFFIXES = {"safetensors": ".safetensors", "torch": ".pt", "npz": ".npz"}


def export(
    run: Run,
    format: Annotated[
        str | None,
        Option(help="safetensors, torch or npz.  [default: by the name of --out, or safetensors]"),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="[default: exported.safetensors in the run]")
    ] = None,
) -> None:
    """Write a trained model's weights for PyTorch, or for anything that reads safetensors or npz.

    Names, shapes and their order are those of the PyTorch model that the last lines make: batch
    norm's counters are there, so load_state_dict takes the file as it is. The run is not changed;
    of one that still trains, the newest checkpoint is taken.
    """
    from rsam_ref.data.weight_files import write_npz, write_safetensors
    from rsam_ref.training.exchange import describe, for_pytorch
    from rsam_ref.training.trained import load_trained

    with usage_errors():
        kind = _format(format, out)
    trained = load_trained(run)
    path = out or trained.folder / f"exported{SUFFIXES[kind]}"
    if path.exists():
        raise ValueError(f"{path} is there already; remove it, or give another file with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = for_pytorch(trained)
    told = describe(trained)
    if kind == "safetensors":
        write_safetensors(path, arrays, told)
    elif kind == "npz":
        write_npz(path, arrays)
    else:
        _write_torch(path, arrays)
    say(
        f"Wrote {len(arrays)} arrays, {trained.model.weights.flat.size:,} weights of step "
        f"{told['step']}, to {path}"
    )
    _tell(path, kind, told)


def _format(given: str | None, out: Path | None) -> str:
    """What is asked for, by its name or by the file's."""
    by_suffix = {".pth": "torch"} | {suffix: kind for kind, suffix in SUFFIXES.items()}
    told = by_suffix.get(out.suffix) if out else None
    if given in SUFFIXES and told is not None and told != given:
        raise ValueError(f"--format {given} and --out {out}: name it *{SUFFIXES[given]}")
    kind = given or (told if out else "safetensors")
    if kind is None or kind not in SUFFIXES:
        asked = f"--format {given}" if given else f"--out {out}"
        raise ValueError(f"{asked}: the format is one of {', '.join(SUFFIXES)}")
    return kind


def _write_torch(path: Path, arrays: dict[str, Any]) -> None:
    try:
        from rsam_ref.pytorch.state_files import write_torch
    except ImportError:
        raise ValueError(
            "--format torch needs PyTorch: pip install 'rsam-ref[torch]'; PyTorch also reads "
            "safetensors"
        ) from None
    write_torch(path, arrays)


def _tell(path: Path, kind: str, told: dict[str, Any]) -> None:
    """How PyTorch takes the weights, and what the model's inputs are."""
    reads = {
        "torch": ("import torch", f"torch.load({str(path)!r}, weights_only=True)"),
        "safetensors": ("from safetensors.torch import load_file", f"load_file({str(path)!r})"),
        "npz": (
            "import numpy, torch",
            f"{{k: torch.tensor(v) for k, v in numpy.load({str(path)!r}).items()}}",
        ),
    }
    imported, read = reads[kind]
    say("In PyTorch:")
    for line in [imported, *told["pytorch"], f"model.load_state_dict({read})", "model.eval()"]:
        say(f"    {line}")
    say(
        f"Inputs are (N, {', '.join(map(str, told['shape']))}): (x - mean) / std, where x are the "
        f"pixels as the data hold them, mean {told['mean']} and std {told['std']} of the channels."
    )
