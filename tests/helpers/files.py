"""Data sets as they lie on disks, made up."""

import struct
from pathlib import Path

import numpy as np

SHARED = Path(__file__).parents[3] / "shared" / "data"


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()


def noise_images(n, c=3, h=32, w=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, c, h, w), dtype=np.uint8)


def cifar_bytes(images, *labels):
    columns = [np.asarray(column, np.uint8)[:, None] for column in labels]
    return np.concatenate([*columns, images.reshape(len(images), -1)], axis=1).tobytes()
