"""What a training step does, in numbers that are the same on every run: no timing.

    python -m benchmarks.counts            # count, and say what differs from counts.json
    python -m benchmarks.counts --write    # count, and make these the numbers to hold to

tests/test_counts.py holds every later version to benchmarks/counts.json. The numbers of a step are:

passes                  calls of loss_and_grad
forward, backward       ops, and calls of their vjps, by the op's name
product_flops           2 m n k for every product of (m, k) and (k, n): every ``@`` and np.matmul in
                        rsam_ref and rsam_backends, in definitions, kernels and optimizers
value_bytes             the values that ops made, without those that are views of an input
gradient_bytes          likewise the gradients that vjps made
peak_bytes              the most memory in use at a time, from before the model was made: weights,
                        batch, optimizer, what the kernels keep, values (by tracemalloc)
left_bytes              how much more is in use after three further steps

The first five are exact. Memory holds Python's own objects too, so it has a margin (`MARGIN`). All
is counted in a process of its own with one thread, without the collector of cycles, whose modules
are compiled with every ``@`` as a call.
"""

from __future__ import annotations

import ast
import builtins
import gc
import importlib.abc
import importlib.machinery
import json
import math
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import Annotated, Any

import typer

FILE = Path(__file__).with_name("counts.json")
COMMAND = "python -m benchmarks.counts --write"
MARGIN = {"peak_bytes": (0.02, 64 << 10), "left_bytes": (0.0, 64 << 10)}
"""A number may differ by the larger of a share of it and so many bytes."""

BATCHES = {"mlp": 128, "cnn": 16, "resnet20": 16, "vit_tiny": 8}
METHODS = ("sgd", "sam", "rsam")
VECTORS = {"sgd": 3, "sam": 6, "rsam": 8}
"""Vectors as long as the weights that a step holds while it goes back through the graph: weights,
velocity, gradient; with SAM also the first gradient, the perturbation and the perturbed weights;
with R-SAM the draw and the ascent direction as well."""

Counts = dict[str, Any]


class Flops:
    """Counts products while it is on."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, a: Any, b: Any, result: Any) -> None:
        """For a product over the last axis of ``a``: 2 flops for each term of each sum."""
        self.total += 2 * math.prod(getattr(result, "shape", ())) * a.shape[-1]

    def product(self, a: Any, b: Any) -> Any:
        """``a @ b``."""
        result = a @ b
        self.add(a, b, result)
        return result


class _AsCalls(ast.NodeTransformer):
    """``a @ b`` as ``__product__(a, b)``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        call = ast.Call(ast.Name("__product__", ast.Load()), [node.left, node.right], [])
        return ast.copy_location(call, node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        if isinstance(node.op, ast.MatMult):
            raise SyntaxError("counts.py cannot count @=; write a = a @ b")
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = getattr(node.func, "attr", "")
        if name in UNCOUNTED:
            raise SyntaxError(f"counts.py does not count {name}; teach it, or write a product as @")
        return node


UNCOUNTED = {"dot", "einsum", "inner", "tensordot", "vdot", "sgemm", "dgemm", "matvec", "vecmat"}


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = _AsCalls().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname.split(".")[0] not in ("rsam_ref", "rsam_backends"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def _count_products() -> Flops:
    """From now on, and for modules that are not loaded yet."""
    import numpy as np

    loaded = [name for name in sys.modules if name.split(".")[0] in ("rsam_ref", "rsam_backends")]
    assert not loaded, loaded
    flops = Flops()
    plain = np.matmul

    def matmul(a: Any, b: Any, *rest: Any, **options: Any) -> Any:
        result = plain(a, b, *rest, **options)
        flops.add(a, b, result)
        return result

    np.matmul = matmul  # type: ignore[assignment]
    vars(builtins)["__product__"] = flops.product
    sys.meta_path.insert(0, _Finder())
    return flops


def _count(model: str, method: str, flops: Flops) -> Counts:
    """Three steps that settle memory, three for what is left, one that is counted."""
    from benchmarks.contestants import LAM, LR, MOMENTUM, RHO, SIGMA, VIT, WEIGHT_DECAY, batch
    from rsam_ref import RSAM, SAM, SGD, models, objective
    from rsam_ref.training.profiling import intercepted

    def make(size: int) -> Any:
        """A function that takes a step, given something to wrap around its objective."""
        net: Any = {
            "mlp": lambda: models.mlp([784, 256, 256, 10]),
            "cnn": models.cnn,
            "resnet20": models.resnet20,
            "vit_tiny": lambda: models.vit_tiny(classes=10, **VIT),
        }[model]()
        x, y = batch(model, size)
        base = SGD(LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        optimizer: Any = {
            "sgd": lambda: base,
            "sam": lambda: SAM(base, RHO),
            "rsam": lambda: RSAM(base, RHO, SIGMA, LAM),
        }[method]()

        def step(around: Any = lambda batch: batch) -> None:
            optimizer.step(around(objective(net, x, y)), net.weights.flat)

        return net, step

    gc.disable()
    make(2)[1]()  # loads what is loaded at first use
    tracemalloc.start()
    net, step = make(BATCHES[model])
    for _ in range(3):
        step()
    settled, peak = tracemalloc.get_traced_memory()
    for _ in range(3):
        step()
    left = tracemalloc.get_traced_memory()[0] - settled
    tracemalloc.stop()

    import numpy as np

    calls: dict[str, Counter[str]] = {"forward": Counter(), "backward": Counter()}
    made: Counter[str] = Counter()
    passes = 0

    def bytes_of(result: Any, inputs: list[Any]) -> int:
        arrays = result if isinstance(result, tuple) else (result,)
        return sum(
            array.nbytes
            for array in arrays
            if isinstance(array, np.ndarray)
            and not any(np.may_share_memory(array, x) for x in inputs)
        )

    def around(label: tuple[str, str], work: Any) -> Any:
        name, phase = label
        calls[phase][name] += 1
        result = work()
        inputs = [x for x in _arrays_of(work) if isinstance(x, np.ndarray)]
        is_op = phase == "forward" and isinstance(result, tuple) and len(result) == 2
        value = result[0] if is_op and not isinstance(result[1], np.ndarray) else result
        made[phase] += bytes_of(value, inputs)
        return result

    class Passes:
        def __init__(self, batch: Any) -> None:
            self.batch = batch

        def __call__(self, w: Any) -> Any:
            nonlocal passes
            passes += 1
            return self.batch(w)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.batch, name)

    flops.total = 0
    with intercepted(around):
        step(Passes)
    gc.enable()
    return {
        "batch": BATCHES[model],
        "weights": net.weights.flat.size,
        "passes": passes,
        "forward": dict(sorted(calls["forward"].items())),
        "backward": dict(sorted(calls["backward"].items())),
        "product_flops": flops.total,
        "value_bytes": made["forward"],
        "gradient_bytes": made["backward"],
        "peak_bytes": peak,
        "left_bytes": left,
    }


def _arrays_of(work: Any) -> list[Any]:
    """What a call that `intercepted` hands over works on: the arrays, or the gradient."""
    cells = dict(zip(work.__code__.co_freevars, work.__closure__ or ()))
    found: list[Any] = []
    for name in ("arrays", "g"):
        if name in cells:
            value = cells[name].cell_contents
            found += value if isinstance(value, tuple) else (value,)
    return found


def child() -> None:
    """Count everything in this process, and print it."""
    flops = _count_products()
    counts = {
        f"{model} {method}": _count(model, method, flops) for model in BATCHES for method in METHODS
    }
    print(json.dumps(counts))


def count() -> dict[str, Counts]:
    """All cases, in a process of its own."""
    one = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "MKL", "OMP")}
    settings = {"RSAM_REF_THREADS": "1", "RSAM_REF_KERNELS": "fast", "RSAM_REF_BACKEND": "numpy"}
    done = subprocess.run(
        [sys.executable, "-c", "from benchmarks.counts import child; child()"],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, **one, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"counting failed:\n{done.stderr}")
    return json.loads(done.stdout)


def committed() -> dict[str, Counts]:
    return json.loads(FILE.read_text())


def differences(case: str, expected: Counts, found: Counts) -> list[str]:
    """What changed, a line each."""
    if not expected or not found:
        return [f"{case}: {'not counted before' if found else 'no longer counted'}"]
    lines = []
    for key in expected.keys() | found.keys():
        before, now = expected.get(key), found.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            lines += [
                f"{case}: {name} {key}: {before.get(name, 0)} calls before, {now.get(name, 0)} now"
                for name in sorted(before.keys() | now.keys())
                if before.get(name, 0) != now.get(name, 0)
            ]
        elif before is None or now is None:
            lines.append(f"{case}: {key}: {before} before, {now} now")
        else:
            share, absolute = MARGIN.get(key, (0.0, 0))
            if abs(now - before) > max(share * before, absolute):
                change = f" ({now / before - 1:+.1%})" if before > 0 else ""
                lines.append(f"{case}: {key}: {before:,} before, {now:,} now{change}")
    return sorted(lines)


def table(counts: dict[str, Counts]) -> Any:
    from rich.table import Column, Table

    heads = ("passes", "ops", "vjps", "Gflop", "values", "gradients", "peak", "vectors", "ratio")
    shown = Table(
        Column("step", no_wrap=True),
        "batch",
        *(Column(head, justify="right", no_wrap=True) for head in heads),
        title="One step on one thread; bytes in MB",
    )
    for case, c in counts.items():
        vectors = 4 * c["weights"] * VECTORS[case.split()[1]]
        ratio = (c["peak_bytes"] - vectors) * c["passes"] / c["value_bytes"]
        shown.add_row(
            case,
            str(c["batch"]),
            str(c["passes"]),
            str(sum(c["forward"].values())),
            str(sum(c["backward"].values())),
            f"{c['product_flops'] / 1e9:.3f}",
            *(f"{c[key] / 1e6:.1f}" for key in ("value_bytes", "gradient_bytes", "peak_bytes")),
            f"{vectors / 1e6:.1f}",
            f"{ratio:.2f}",
        )
    shown.caption = (
        "values and gradients: made in the whole step; vectors: as long as the weights, which the "
        "method needs; ratio: the rest of the peak to the values of one pass"
    )
    return shown


def main(
    write: Annotated[bool, typer.Option("--write", help="Make these the numbers.")] = False,
) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    found = count()
    console.print(table(found))
    before = committed() if FILE.exists() else {}
    lines = [
        line
        for case in {**before, **found}
        for line in differences(case, before.get(case, {}), found.get(case, {}))
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    if write:
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        console.print(f"Wrote {FILE}")
    elif lines:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
