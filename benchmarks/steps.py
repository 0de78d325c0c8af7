"""Whole training steps on the CPU, against PyTorch eager in both of its memory layouts.

    python -m benchmarks.steps

Each contestant has a process of its own, and they take turns. Both sides use all cores.
"""

from __future__ import annotations

from benchmarks.duel import Case, show

CASES = [
    Case(model, size, method, "ours_cpu", peer)
    for model, size in (
        ("mlp", 32),
        ("mlp", 128),
        ("cnn", 128),
        ("resnet20", 128),
        ("vit_tiny", 64),
    )
    for method in ("sgd", "rsam")
    for peer in (
        ("torch_cpu", "torch_cpu_last") if model in ("cnn", "resnet20") else ("torch_cpu",)
    )
]


def main() -> None:
    import torch

    from rsam_backends import get_backend

    described = [*get_backend("numpy").describe().values(), f"PyTorch {torch.__version__}"]
    show(CASES, "; ".join(described), goal=1.0)


if __name__ == "__main__":
    main()
