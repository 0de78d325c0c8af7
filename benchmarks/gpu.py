"""Whole training steps on a GPU, against PyTorch eager on the same GPU.

    python -m benchmarks.gpu

Every step ends by waiting for the device; the two take turns, each in a process of its own. TF32 is
off on both sides (CuPy's default; PyTorch is told).
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.duel import Case, show

CASES = [
    Case(model, size, method, "ours_gpu", "torch_gpu")
    for model in ("mlp", "cnn", "resnet20")
    for size in (128, 1024)
    for method in ("sgd", "rsam")
]


def main() -> int:
    from rsam_backends import BackendError, get_backend

    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    try:
        described = get_backend("cupy").describe()
    except BackendError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 1
    import torch

    if not torch.cuda.is_available():
        print(
            f"benchmarks.gpu: PyTorch {torch.__version__} sees no GPU; install a CUDA build of it",
            file=sys.stderr,
        )
        return 1
    show(CASES, "; ".join([*described.values(), f"PyTorch {torch.__version__}"]), goal=1.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
