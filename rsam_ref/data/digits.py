"""The embedded handwritten digits, and the problem that `rsam-ref compare` solves with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.idx import read_idx


@dataclass(frozen=True)
class Split:
    """Training, validation and test samples: inputs (N, d), labels (N,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images (1797, 8, 8) with whole values 0 .. 16, and labels (1797,).

    E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0 (see ATTRIBUTION.md).
    """
    folder = Path(__file__).parent / "digits"
    images = read_idx(folder / "images-idx3-ubyte.gz")
    labels = read_idx(folder / "labels-idx1-ubyte.gz")
    return images, labels.astype(np.int64)


def with_noise(labels: np.ndarray, share: float, classes: int, stream: Stream) -> np.ndarray:
    """Labels (N,) of which a share is replaced by a class drawn at random, maybe the right one."""
    noisy = labels.copy()
    wrong = stream.permutation(len(labels))[: round(share * len(labels))]
    noisy[wrong] = stream.integers(0, classes, len(wrong))
    return noisy


def digits_split(seed: int, label_noise: float = 0.0, dtype: str = "float32") -> Split:
    """Half of the digits to train on (898), a quarter to choose settings (449), a quarter to test.

    ``seed`` decides which are which. ``label_noise`` is the share of training labels that are
    replaced by a class drawn at random (it may be the right one); the others stay clean. Inputs are
    shifted and scaled to mean 0 and standard deviation 1 over all pixels of the training samples.
    """
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label noise is a share and lies in [0, 1], not {label_noise}")
    images, labels = digits()
    x = images.reshape(len(images), -1).astype(dtype)  # (1797, 64)
    stream = Stream("split", seed)
    order = stream.permutation(len(x))
    train, val, test = np.split(order, [len(x) // 2, len(x) * 3 // 4])
    x = (x - x[train].mean()) / x[train].std()
    y_train = with_noise(labels[train], label_noise, 10, stream)
    return Split(x[train], y_train, x[val], labels[val], x[test], labels[test])
