"""The vectors: the same bytes everywhere, true, and no change or mistake goes unnoticed."""

import ast
import hashlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from decimal import Decimal, localcontext
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsam_ref import SAM
from rsam_ref.vectors import problem, verify
from rsam_ref.vectors.arithmetic import in_order, ordered
from rsam_ref.vectors.cases import ALGORITHMS, BASES, make_base
from rsam_ref.vectors.write import CHECKSUMS, FORMAT, TOLERANCES, VERSION
from tests.helpers.commands import called, command
from tests.vectors.damage import flip, flip_in_every_tensor
from tests.vectors.margins import MISTAKES, SOURCE, faults, mistaken, right_differs_by

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
FILES = ["SHA256SUMS", "float32.safetensors", "float64.safetensors", "vectors.json", "verify.py"]
TYPES = ["float64", "float32"]
OTHER_PROCESSES = [
    {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1", "RSAM_REF_THREADS": "1"},
    {"PYTHONHASHSEED": "2", "OPENBLAS_NUM_THREADS": "3", "RSAM_REF_THREADS": "3"},
    {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3", "LC_ALL": "C"},
]
a_copy_each = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lines_of(folder):
    """The verifier's lines; where it cannot go on, its script says so in one."""
    try:
        with np.errstate(all="ignore"):
            return list(verify.faults(folder))
    except Exception as error:
        return [str(error)]


@pytest.mark.parametrize("environment", OTHER_PROCESSES, ids=lambda e: " ".join(e.values()))
def test_another_process_writes_the_same_bytes(environment, vectors, tmp_path):
    done = command("vectors", "made/here", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "made/here")) == FILES
    for name in FILES:
        assert (tmp_path / "made/here" / name).read_bytes() == (vectors[0] / name).read_bytes()


def test_the_bytes_are_those_of_the_page(vectors):
    """A change of a number is a new version: the page has the checksums of this one."""
    folder, told, _ = vectors
    assert (told["format"], told["version"]) == (FORMAT, VERSION)
    assert f"format {FORMAT}, version {VERSION}" in PAGE
    for name in ("float32.safetensors", "float64.safetensors", "vectors.json"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert f"`{name}` | `{digest}`" in PAGE, f"{name}: {digest}"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 500_000


def test_the_checksums_are_those_that_sha256sum_reads(vectors):
    for line in (vectors[0] / CHECKSUMS).read_text().splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        assert hashlib.sha256((vectors[0] / found[2]).read_bytes()).hexdigest() == found[1]


def test_the_tensors_are_all_that_the_manifest_and_the_page_name(vectors):
    _, told, tensors = vectors
    for dtype, kind in told["types"].items():
        assert {n: list(t.shape) for n, t in tensors[dtype].items()} == {
            n: tensor["shape"] for n, tensor in kind["tensors"].items()
        }
        assert {str(t.dtype) for t in tensors[dtype].values()} == {dtype}
        assert all(np.isfinite(t).all() and np.abs(t).max() > 0 for t in tensors[dtype].values())
        assert kind["tolerance"] == TOLERANCES[dtype]
    cases = [f"{a}/{b}/" for a, b in product(ALGORITHMS, BASES)]
    quantities = {n.rpartition("/")[2] for n in tensors["float64"] if "/" in n}
    assert {n.rpartition("/")[0] + "/" for n in tensors["float64"] if "/" in n} == set(cases)
    for name in [*quantities, *problem.GIVEN, *ALGORITHMS, *BASES]:
        assert f"`{name}`" in PAGE, name


def test_every_number_that_is_given_is_the_same_in_both_types(vectors):
    _, told, tensors = vectors
    for name in problem.GIVEN:
        assert (tensors["float32"][name] == tensors["float64"][name]).all()
    for of_one in [*told["algorithms"].values(), *told["bases"].values()]:
        for value in of_one.values():
            assert isinstance(value, str) or float(np.float32(value)) == value


def test_no_library_of_mathematics_decides_a_bit():
    """AdamW's sqrt(1 - beta2^t) comes from the C library's pow: it is not near a tie."""
    beta1, beta2 = BASES["adamw"]["beta1"], BASES["adamw"]["beta2"]
    with localcontext() as context:
        context.prec = 60
        for t in range(1, problem.STEPS + 1):
            for beta in (beta1, beta2):
                assert Decimal(beta) ** t == Decimal(beta**t)  # exact in float64
            root = (1 - beta2**t) ** 0.5
            assert abs((1 - Decimal(beta2) ** t).sqrt() - Decimal(root)) < Decimal(
                0.3 * math.ulp(root)
            )


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40))
def test_sums_add_from_the_first_to_the_last(numbers):
    for dtype in TYPES:
        vector = ordered(numbers, dtype)
        total = product_sum = vector[0] * 0
        for each in np.asarray(vector):
            total, product_sum = total + each, product_sum + each * each
        assert in_order(vector, 0) == vector.sum(0) == total
        assert vector @ vector == product_sum
        assert str((vector @ vector).dtype) == dtype
        assert (vector @ vector) ** 0.5 == np.sqrt(product_sum)
    with pytest.raises(ValueError, match=r"0\.5"):
        vector**2


def test_the_gradient_is_the_losss(vectors):
    tensors = vectors[2]["float64"]
    for t in range(problem.STEPS):
        loss_and_grad = problem.objective(tensors["x"][t], tensors["target"][t])
        w, numeric = tensors["w0"].copy(), np.zeros(problem.WEIGHTS)
        for i in range(problem.WEIGHTS):
            step = np.eye(problem.WEIGHTS)[i] * 1e-6
            numeric[i] = (loss_and_grad(w + step)[0] - loss_and_grad(w - step)[0]) / 2e-6
        np.testing.assert_allclose(loss_and_grad(w)[1], numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("algorithm", ["sam", "k-step-sam", "asam"])
def test_the_packages_own_optimizers_arrive_there(algorithm, base, vectors):
    tensors = vectors[2]["float64"]
    w, given = tensors["w0"].copy(), {**ALGORITHMS[algorithm]}
    optimizer = SAM(make_base(base), adaptive=algorithm == "asam", **given)
    for t in range(problem.STEPS):
        optimizer.step(problem.objective(tensors["x"][t], tensors["target"][t]), w)
        np.testing.assert_allclose(w, tensors[f"{algorithm}/{base}/w"][t], rtol=1e-12, atol=1e-12)


def test_the_verifier_runs_by_itself(vectors, tmp_path):
    script = vectors[0] / "verify.py"
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "All steps of all cases agree.\n"
    tree = ast.parse(SOURCE)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports}
    ours = {"numpy", "numpy.linalg", "safetensors.numpy"}
    assert {name for name in names if name not in sys.stdlib_module_names} == ours
    code = [range(n.lineno, n.end_lineno + 1) for n in tree.body[1:] if n not in imports]
    text = SOURCE.splitlines()
    assert len([i for lines in code for i in lines if text[i - 1].strip()]) < 80


def test_the_verifier_ends_in_lines_and_exit_code_1(copied):
    folder = copied()
    flip(folder, "vectors.json", 0, 0)
    for name, more in (("vectors.json", "cannot go on"), ("verify.py", "")):
        flip(folder, name, 3, 2)
        done = subprocess.run(
            [sys.executable, vector_script(folder), folder],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert f"{name}: not the bytes" in done.stdout
        assert "Traceback" not in done.stderr
        assert more in done.stdout


def vector_script(folder):
    """A verifier that is whole, whatever has happened to the one in the folder."""
    whole = folder.parent / "whole.py"
    whole.write_text(SOURCE, encoding="utf-8")
    return whole


@pytest.mark.parametrize("dtype", TYPES)
def test_one_changed_bit_in_any_tensor_is_noticed(dtype, vectors, copied):
    for seed in range(3):
        folder = copied()
        names = flip_in_every_tensor(folder, f"{dtype}.safetensors", random.Random(seed))
        told = {line.partition(": not the numbers")[0] for line in lines_of(folder)}
        assert {f"{dtype} {name}" for name in names} <= told
        assert set(names) == set(vectors[1]["types"][dtype]["tensors"])


@a_copy_each
@given(name=st.sampled_from(FILES), byte=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_one_changed_bit_anywhere_is_noticed(copied, name, byte, bit):
    folder = copied()
    flip(folder, name, byte, bit)
    assert lines_of(folder)


def settings_told():
    return [
        (kind, name, setting)
        for kind, of in (("algorithms", ALGORITHMS), ("bases", BASES))
        for name, values in of.items()
        for setting in values
        if setting != "optimizer"
    ]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("kind", "name", "setting"), settings_told())
def test_another_setting_is_noticed_by_the_steps(kind, name, setting, dtype, vectors):
    """Whatever the checksums say: no setting is one that does not matter."""
    changed = json.loads(json.dumps(vectors[1]))
    value = changed[kind][name][setting]
    if setting == "ascent_steps":  # the verifier is written for 2
        return
    changed[kind][name][setting] = not value if setting == "nesterov" else value * 1.01
    wrong = faults(verify, changed, vectors[2][dtype], TOLERANCES[dtype])
    assert len(wrong) >= 3
    assert all(name in line.split("/") for line in wrong)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_quantity_is_compared_with_what_is_recomputed(dtype, vectors):
    _, told, tensors = vectors
    tolerance = TOLERANCES[dtype]
    for name in tensors[dtype]:
        changed = {**tensors[dtype], name: tensors[dtype][name].copy()}
        row = changed[name][-1:]
        if "/" in name:
            row += 3 * tolerance * np.abs(row).max()
            algorithm, base, quantity = name.split("/")
            line = verify.fault_of_case(told, changed, algorithm, base, tolerance)
            assert line.startswith(f"{quantity}, step 5: off by "), name
        else:
            row += 0.125
            assert faults(verify, told, changed, tolerance), name


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_by_far(mistake, dtype, vectors):
    module = mistaken(mistake)
    assert faults(module, vectors[1], vectors[2][dtype], 50 * TOLERANCES[dtype])


@pytest.mark.parametrize(("lower", "dtype"), [("float32", "float64"), ("float16", "float32")])
def test_a_lower_precision_is_refused(lower, dtype, vectors):
    tensors = dict(vectors[2][dtype])
    tensors |= {name: tensors[name].astype(lower) for name in problem.GIVEN}
    assert len(faults(verify, vectors[1], tensors, TOLERANCES[dtype])) == 27


def test_a_higher_precision_passes(vectors):
    tensors = dict(vectors[2]["float32"])
    tensors |= {name: tensors[name].astype("float64") for name in problem.GIVEN}
    assert faults(verify, vectors[1], tensors, TOLERANCES["float32"]) == []


def test_the_page_counts_the_mistakes():
    assert f"| {len(MISTAKES)} mistakes, each at least |" in PAGE


@pytest.mark.parametrize("dtype", TYPES)
def test_right_code_that_adds_in_another_order_passes_by_far(dtype, vectors):
    largest = right_differs_by(vectors[1], vectors[2][dtype], orders=5)
    assert 0 < largest < TOLERANCES[dtype] / 20


def test_what_is_there_is_not_overwritten(vectors, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert called("vectors", tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = called("vectors", tmp_path)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    (tmp_path / "vectors.json").write_text("{}")
    (tmp_path / "verify.py").unlink()
    refused = called("vectors", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "vectors.json: is there with other contents; nothing was written" in refused.stderr
    assert (tmp_path / "vectors.json").read_text() == "{}"
    assert not (tmp_path / "verify.py").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "locked/below"])
def test_where_nothing_can_be_written_one_line_says_so(place, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir(mode=0o500)
    if place.startswith("locked") and os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    refused = called("vectors", tmp_path / place)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"rsam-ref: {tmp_path / place}")
    assert refused.stderr.count("\n") == 1


def test_a_folder_must_be_named():
    assert called("vectors").returncode == 2


LESS = {
    "no type": lambda told: told.update(types={}),
    "no algorithm": lambda told: told.update(algorithms={}),
    "an algorithm less": lambda told: told["algorithms"].pop("rsam"),
    "a base less": lambda told: told["bases"].popitem(),
    "another version": lambda told: told.update(version=2),
}


@pytest.mark.parametrize("less", LESS)
def test_less_than_all_cases_does_not_pass_even_with_new_checksums(less, vectors, tmp_path):
    folder = shutil.copytree(vectors[0], tmp_path / "less")
    told = json.loads((folder / "vectors.json").read_text("utf-8"))
    LESS[less](told)
    (folder / "vectors.json").write_text(json.dumps(told), "utf-8")
    names = [name for name in FILES if name != CHECKSUMS]
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / CHECKSUMS).write_text("".join(sums), "utf-8")
    assert "not the cases of version 1" in lines_of(folder)[0]
