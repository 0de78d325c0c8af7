"""Would the tests notice? Mistakes planted in a copy of the sources, one at a time.

``python -m tests.replant [part of a name ...]`` plants each mistake of `MISTAKES`, runs the tests
that should fail until the first does, and tells which it was. A mistake that no test notices ends
in exit code 1. It takes some minutes, and is no part of the test suite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PARTS = ("rsam_ref", "backends", "tests", "benchmarks", "docs", "tutorials")


class Mistake(NamedTuple):
    """``old`` becomes ``new`` in a file; these test files should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


SAM, VARIANTS = "rsam_ref/algorithms/sam.py", "rsam_ref/algorithms/variants.py"
NOISE, BASE = "rsam_ref/algorithms/noise.py", "rsam_ref/algorithms/base.py"
OPTIMIZERS, SCHEDULES = "rsam_ref/algorithms/optimizers.py", "rsam_ref/algorithms/schedules.py"
OPS, OPS_NN = "rsam_ref/autograd/ops.py", "rsam_ref/autograd/ops_nn.py"
HESSIAN = "rsam_ref/sharpness/hessian.py"
LAYERS, OBJECTIVE = "rsam_ref/nn/layers.py", "rsam_ref/nn/objective.py"
RULES = "test_limits test_against_torch"
DERIVATIVES = "test_ops test_ops_nn test_finite_differences"

MISTAKES = [
    Mistake("sam: sign", SAM, "w + eps)  # g = grad L(w + eps): it", "w - eps)  # it", RULES),
    Mistake("sam: not normalised", SAM, "rho / (norm(v) + TINY) * v", "rho * v", RULES),
    Mistake("sam: rho not shared", SAM, "radius = rho / ascent_steps", "radius = rho", RULES),
    Mistake(
        "sam: second step from w",
        SAM,
        "_, g = loss_and_grad(w + eps)",
        "_, g = loss_and_grad(w)",
        RULES,
    ),
    Mistake("sam: squared norm", SAM, "return (v @ v) ** 0.5", "return v @ v", RULES),
    Mistake("rsam: lam on the noise", SAM, "a = lam * g0 + noise", "a = g0 + lam * noise", RULES),
    Mistake(
        "rsam: gradient at w", SAM, "loss_and_grad(w + noise)  #", "loss_and_grad(w)  #", RULES
    ),
    Mistake(
        "rsam: from w + D",
        SAM,
        "eps = ascent(rho, a, w)",
        "eps = noise + ascent(rho, a, w)",
        RULES,
    ),
    Mistake(
        "rsam: noise not in the norm",
        SAM,
        "eps = ascent(rho, a, w)",
        "eps = rho / (norm(lam * g0) + TINY) * a",
        RULES,
    ),
    Mistake("asam: T once", VARIANTS, "* (scale * scaled)", "* scaled", RULES),
    Mistake(
        "noise: whole tensor",
        NOISE,
        "filters = shape[0] if len(shape) > 1 else 1",
        "filters = 1",
        "test_noise test_against_torch",
    ),
    Mistake(
        "noise: sigma squared",
        NOISE,
        "return sigma * filter_scale",
        "return sigma**2 * filter_scale",
        "test_noise test_against_torch",
    ),
    Mistake(
        "noise: mean for sum",
        NOISE,
        "(rows * rows).sum(axis=1",
        "(rows * rows).mean(axis=1",
        "test_noise test_against_torch",
    ),
    Mistake(
        "noise: same in every step",
        OPTIMIZERS,
        "key = (self.steps, self.worker) if self.worker else (self.steps,)",
        "key = (0, self.worker) if self.worker else (0,)",
        "test_noise test_optim",
    ),
    Mistake(
        "base: decay sign",
        BASE,
        "g + weight_decay * w",
        "g - weight_decay * w",
        "test_against_torch test_optim",
    ),
    Mistake(
        "base: Nesterov without g",
        BASE,
        "g + momentum * v if",
        "momentum * v if",
        "test_against_torch test_optim",
    ),
    Mistake(
        "state: velocity not saved",
        BASE,
        "self.velocity = _on_the_device(state",
        "_on_the_device(state",
        "test_optim test_run",
    ),
    Mistake(
        "state: velocity aliased",
        BASE,
        "else to_host(vector).copy()",
        "else to_host(vector)",
        "test_optim test_run",
    ),
    Mistake(
        "state: steps of the base",
        OPTIMIZERS,
        "self.base.steps += 1",
        "pass",
        "test_optim test_against_torch",
    ),
    Mistake(
        "schedule: cosine upside down",
        SCHEDULES,
        "(1 + math.cos(math.pi",
        "(1 - math.cos(math.pi",
        "test_optim test_noise",
    ),
    Mistake("ops: sub sign", OPS, "unbroadcast(-g, sy)", "unbroadcast(g, sy)", DERIVATIVES),
    Mistake(
        "ops: mul swapped",
        OPS,
        "unbroadcast(g * y, sx), lambda g: unbroadcast(g * x, sy)",
        "unbroadcast(g * x, sx), lambda g: unbroadcast(g * y, sy)",
        DERIVATIVES,
    ),
    Mistake("ops: tanh", OPS, "g * (1 - value * value)", "g * (1 - value)", DERIVATIVES),
    Mistake("ops: sqrt scale", OPS, "g / (2 * value)", "g / value", DERIVATIVES),
    Mistake(
        "ops: mean not divided",
        OPS,
        "_spread(g / count, shape, axes)",
        "_spread(g, shape, axes)",
        DERIVATIVES,
    ),
    Mistake(
        "ops: transpose back", OPS, "permute_dims(g, back)", "permute_dims(g, order)", DERIVATIVES
    ),
    Mistake("ops: relu at 0", OPS_NN, "xp.where(value != 0, g, 0)", "g", DERIVATIVES),
    Mistake(
        "ops: linear swapped",
        OPS_NN,
        "lambda g: xp.reshape(g, (-1, out)).T @ rows",
        "lambda g: 2 * xp.reshape(g, (-1, out)).T @ rows",
        DERIVATIVES,
    ),
    Mistake(
        "ops: softmax axis",
        OPS_NN,
        "g - xp.exp(value) * xp.sum(g, axis=axis",
        "g - xp.exp(value) * xp.sum(g, axis=0",
        DERIVATIVES,
    ),
    Mistake(
        "ops: conv bias",
        OPS_NN,
        "(vjp_x, vjp_weight, lambda g: xp.sum(g",
        "(vjp_x, vjp_weight, lambda g: xp.mean(g",
        DERIVATIVES,
    ),
    Mistake(
        "tape: no count of consumers",
        "rsam_ref/autograd/tensor.py",
        "if waiting[parent] > 1:",
        "if False:",
        "test_tape",
    ),
    Mistake(
        "batch norm: momentum",
        LAYERS,
        "(1 - m) * self.running_mean + m * mean",
        "m * self.running_mean + (1 - m) * mean",
        "test_nn test_models",
    ),
    Mistake(
        "batch norm: moved twice",
        OBJECTIVE,
        "        self._first = False",
        "        pass",
        "test_nn test_optim",
    ),
    Mistake(
        "batch norm: kept after a failure",
        OBJECTIVE,
        "setattr(module, name, value)",
        "pass",
        "test_optim test_nn",
    ),
    Mistake(
        "dropout: another mask",
        OBJECTIVE,
        'Stream("dropout", self.seed, self._step)',
        'Stream("dropout", self.seed, id(w) % 7, int(w.sum() * 1e6) % 99991)',
        "test_nn test_limits",
    ),
    Mistake(
        "shapes: not asked for",
        OPTIMIZERS,
        "        if not shapes:\n            raise",
        "        shapes = shapes or [w.shape]\n        if not shapes:\n            raise",
        "test_noise",
    ),
    Mistake(
        "products: one side of the difference",
        HESSIAN,
        "(ahead - behind) / (2 * h)",
        "(ahead - behind) / h",
        "test_curvature test_sharpness",
    ),
    Mistake(
        "products: block of a vector",
        HESSIAN,
        "[0 * w[: part.start], v, 0 * w[part.stop :]]",
        "[v, 0 * w[: part.start], 0 * w[part.stop :]]",
        "test_curvature",
    ),
    Mistake(
        "trace: within the span left out",
        "rsam_ref/sharpness/trace.py",
        "math.fsum(values[n][i] for values in within)",
        "0.0",
        "test_curvature test_flatness_questions",
    ),
    Mistake(
        "torch: masks drawn anew in the second pass",
        "rsam_ref/pytorch/passes.py",
        "            self._starts[self._replayed].put_back()",
        "            pass",
        "test_pytorch_equal test_pytorch_training",
    ),
    Mistake(
        "torch: batch norm moves in the second pass",
        "rsam_ref/pytorch/passes.py",
        "                buffer.copy_(values)",
        "                pass",
        "test_pytorch_equal test_pytorch_training",
    ),
]


def plant(mistake: Mistake, copy: Path) -> str:
    """Plant it, run its tests, take it out; which test failed, or what is wrong with the mistake."""
    path = copy / mistake.file
    before = path.read_text(encoding="utf-8")
    if before.count(mistake.old) < 1:
        return "NOT PLANTED: its place is gone"
    path.write_text(before.replace(mistake.old, mistake.new, 1), encoding="utf-8")
    files = [f"tests/{name}.py" for name in mistake.tests.split()]
    paths = os.pathsep.join([str(copy), str(copy / "backends")])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run(
        [*command, "--no-cov", *files],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": paths, "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    path.write_text(before, encoding="utf-8")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 1 and failed:
        return failed[0].split(" - ")[0].removeprefix("FAILED tests/")
    return "NOT NOTICED" if done.returncode == 0 else f"NO TEST RAN: {done.stdout[-300:]}"


def main(parts: list[str]) -> int:
    chosen = [m for m in MISTAKES if not parts or any(part in m.name for part in parts)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in PARTS:
            ignore = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / part, copy / part, ignore=ignore)
        for name in (
            "pyproject.toml",
            "hatch_build.py",
            "README.md",
            "CHANGELOG.md",
            "CITATION.cff",
        ):
            shutil.copy(ROOT / name, copy / name)
        for mistake in chosen:
            said = plant(mistake, copy)
            missed += said.startswith("NO")
            print(f"{mistake.name:34} {said}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mistakes were noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
