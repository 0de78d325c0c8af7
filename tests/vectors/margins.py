"""Why the vectors' tolerances are what they are; `python -m tests.vectors.margins` prints it.

From below: how far right code comes that adds in another order. From above: how near the nearest of
the mistakes comes. Both with the verifier that goes along with the vectors, run with its sums in
drawn orders, and with mistakes planted in its text.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import types
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from rsam_ref.vectors import verify
from rsam_ref.vectors.write import write

SOURCE = Path(verify.__file__).read_text(encoding="utf-8")

BY_TENSOR = "np.repeat([norm(p) for p in np.split(a, [12, 16, 24])], [12, 4, 8, 2]).astype(a.dtype)"
AT_EPS = (
    'found["gradient"] + told["bases"][base]["weight_decay"] * found.get("perturbation", 0 * w)'
)
COLUMNS = """
    parts = np.split(w, [12, 16, 24])
    columns = [np.linalg.norm(parts[0].reshape(4, 3), axis=0), norm(parts[1])]
    columns += [np.linalg.norm(parts[2].reshape(2, 4), axis=0), norm(parts[3])]
    shapes = (4, 3), (4,), (2, 4), (2,)
    scale = [np.broadcast_to(c, s).ravel() for c, s in zip(columns, shapes)]
    return np.concatenate(scale).astype(w.dtype)
    filters ="""
EACH_BIAS = "[3, 6, 9, 12, 13, 14, 15, 16, 20, 24, 25]"

MISTAKES = {
    "the ascent goes down": ('s["rho"] * a /', '-s["rho"] * a /'),
    "rho squared": ('s["rho"] * a /', 's["rho"] ** 2 * a /'),
    "not normalised": ("a / (norm(a) + 1e-12)", "a"),
    "the squared norm": ("(norm(a) + 1e-12)", "(a @ a + 1e-12)"),
    "the norm by tensor": ("(norm(a) + 1e-12)", f"({BY_TENSOR} + 1e-12)"),
    "the second gradient at w": ('L(w + q["perturbation"])', "L(w)"),
    "not restored: from w + eps": (
        "[base], w,",
        '[base], w + found.get("perturbation", 0),',
    ),
    "weight decay at w + eps": ('found["gradient"], state', f"{AT_EPS}, state"),
    "the first draw in all steps": (
        "L, w, z)\n        state",
        'L, w, tensors["z"][0])\n        state',
    ),
    "the first batch in all steps": ("x=x, target", 'x=tensors["x"][0], target'),
    "the noise stays in the second pass": (
        'L(w + q["perturbation"])',
        'L(w + noise + q["perturbation"])',
    ),
    "the first gradient at w": ("L(w + noise)", "L(w)"),
    "lam ignored": ('s["lam"] * g0 + noise', "g0 + noise"),
    "lam on the noise": ('s["lam"] * g0 + noise', 'g0 + s["lam"] * noise'),
    "the noise left out of the direction": ('s["lam"] * g0 + noise', "g0"),
    "the noise subtracted": ('s["lam"] * g0 + noise', 's["lam"] * g0 - noise'),
    "the noise not normalised with it": (
        's["rho"] * a / (norm(a) + 1e-12)',
        's["rho"] * a / (norm(g0) + 1e-12)',
    ),
    "sigma as a variance": ('s["sigma"] * scale', 's["sigma"] ** 0.5 * scale'),
    "the noise as large everywhere": ("else filter_scale(w)", "else 1"),
    "filters are columns": ("\n    filters =", COLUMNS),
    "filters are tensors": ("[3, 6, 9, 12, 16, 20, 24]", "[12, 16, 24]"),
    "each bias a filter": ("[3, 6, 9, 12, 16, 20, 24]", EACH_BIAS),
    "ball: in every direction": ("1 / norm(z) if", "1 if"),
    "asam: T once": ('s["rho"] * T * T * g0', 's["rho"] * T * g0'),
    "asam: T not in the norm": ("norm(T * g0)", "norm(g0)"),
    "asam: no eta": ('abs(w) + s["eta"]', "abs(w)"),
    "k-step: the whole radius twice": ('s["rho"] / 2', 's["rho"]'),
    "k-step: the second ascent from w": (
        '"second_ascent_gradient"] = L(w + eps)',
        '"second_ascent_gradient"] = L(w)',
    ),
    "k-step: the ascent starts again": ('eps = eps + s["rho"]', 'eps = s["rho"]'),
    "momentum dampened": ('state["velocity"] + g', 'state["velocity"] + (1 - s["momentum"]) * g'),
    "no momentum": ('s["momentum"] * state["velocity"]', "0"),
    "nesterov ignored": ('if s["nesterov"]', "if False"),
    "no weight decay": ('s["weight_decay"] * w', "0 * w"),
    "adamw: decay in the gradient": ("    m =", '    g = g + s["weight_decay"] * w\n    m ='),
    "adamw: decay without lr": ('(1 - s["lr"] * s["weight_decay"])', '(1 - s["weight_decay"])'),
    "adamw: decay after the step": (
        '(1 - s["lr"] * s["weight_decay"]) * w - s["lr"] * step',
        '(1 - s["lr"] * s["weight_decay"]) * (w - s["lr"] * step)',
    ),
    "adamw: no first correction": ('m / (1 - s["beta1"] ** t)', "m"),
    "adamw: no second correction": ('v / (1 - s["beta2"] ** t)', "v"),
    "adamw: eps under the root": (
        '(np.sqrt(v / (1 - s["beta2"] ** t)) + s["eps"])',
        'np.sqrt(v / (1 - s["beta2"] ** t) + s["eps"])',
    ),
    "adamw: eps before the correction": (
        '(np.sqrt(v / (1 - s["beta2"] ** t)) + s["eps"])',
        '((np.sqrt(v) + s["eps"]) / (1 - s["beta2"] ** t) ** 0.5)',
    ),
    "adamw: steps from 0": ("state, t + 1", "state, t + 2"),
}
"""What becomes what in the verifier's text, wherever it stands."""


class Shuffled(np.ndarray):
    """An array that adds in an order drawn anew for every sum."""

    source = np.random.default_rng(0)

    def sum(self, axis=None):
        terms = self.ravel() if axis is None else np.moveaxis(self, axis, 0)
        total = np.zeros(terms.shape[1:], self.dtype).view(Shuffled)
        for i in self.source.permutation(len(terms)):
            total = total + terms[i]
        return total

    def __matmul__(self, other):
        if self.ndim == 1:
            return (self * other).sum()
        return (self.view(Shuffled)[:, :, None] * other[None]).sum(1)


def mistaken(name: str) -> Any:
    """The verifier as a module, with a mistake."""
    old, new = MISTAKES[name]
    assert old in SOURCE, f"{name}: the verifier no longer says {old}"
    return _loaded(SOURCE.replace(old, new))


def _loaded(text: str) -> Any:
    module: Any = types.ModuleType("verify_changed")
    exec(compile(text, "verify_changed", "exec"), module.__dict__)
    return module


def published(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The manifest of vectors that are written into a folder, and the tensors of each type."""
    write(folder)
    told = json.loads((folder / "vectors.json").read_text(encoding="utf-8"))
    return told, {dtype: load_file(folder / f"{dtype}.safetensors") for dtype in told["types"]}


def faults(module: Any, told: dict[str, Any], tensors: dict[str, Any], tolerance: float) -> list:
    """The verifier's lines for all cases of a type."""
    found = []
    for algorithm, base in product(told["algorithms"], told["bases"]):
        line = module.fault_of_case(told, tensors, algorithm, base, tolerance)
        found += [f"{algorithm}/{base}/{line}"] if line else []
    return found


def right_differs_by(told: dict[str, Any], tensors: dict[str, Any], orders: int) -> float:
    """The largest difference of any quantity, over so many draws of all sums' orders."""
    shuffled = dict(tensors)
    for name in ("w0", "x", "target", "z"):
        shuffled[name] = tensors[name].view(Shuffled)
    module, largest = _loaded(SOURCE), 0.0
    module.norm = lambda v: np.sqrt(v @ v)  # NumPy's own adds by itself
    for _ in range(orders):
        while lines := faults(module, told, shuffled, largest):
            largest = 1.05 * max(map(figure, lines))
    return largest


def mistake_differs_by(name: str, told: dict[str, Any], tensors: dict[str, Any]) -> float:
    """How far a mistake's worst case is off where it is first noticed; 0 if it is not noticed."""
    tolerance = told["types"][str(tensors["w0"].dtype)]["tolerance"]
    return max(map(figure, faults(mistaken(name), told, tensors, tolerance)), default=0.0)


def figure(line: str) -> float:
    found = re.search(r"off by (\S+)", line)
    assert found is not None, line
    return float(found[1])


def main(orders: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        told, tensors = published(Path(folder))
    print(f"{'':42}" + "".join(f"{dtype:>12}" for dtype in tensors))
    right = [right_differs_by(told, of_type, orders) for of_type in tensors.values()]
    print(f"{f'right code, {orders} orders of its sums':42}" + "".join(f"{r:12.1e}" for r in right))
    tolerances = [kind["tolerance"] for kind in told["types"].values()]
    print(f"{'the tolerance':42}" + "".join(f"{t:12.1e}" for t in tolerances))
    for name in MISTAKES:
        off = [mistake_differs_by(name, told, t) for t in tensors.values()]
        print(f"{name:42}" + "".join(f"{o:12.1e}" for o in off))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
