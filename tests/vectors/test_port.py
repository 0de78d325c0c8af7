"""The port to C++ passes the vectors, and what is wrong, in them or in it, is noticed by it."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.vectors.damage import flip, flip_in_every_tensor

PORT = Path(__file__).parents[2] / "docs" / "vectors" / "port.cpp"
COMPILER = next((c for c in ("g++", "clang++", "c++") if shutil.which(c)), None)
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++, clang++) is here")

MISTAKES = {
    "rho squared": ("rho / (norm(direction)", "rho * rho / (norm(direction)"),
    "from w + D": (
        "batch.loss_and_grad(w + eps, q",
        "batch.loss_and_grad(noise.empty() ? w + eps : w + noise + eps, q",
    ),
    "lam ignored": ('setting("lam") * g0', "T(1) * g0"),
    "filters are tensors": ("{4, 3, 2}, {1, 4, 1}, {2, 4, 2}", "{1, 12, 2}, {1, 4, 1}, {1, 8, 2}"),
    "not restored": (
        "optimizer.move(w,",
        'if (q.count("perturbation")) { w = w + q["perturbation"]; } optimizer.move(w,',
    ),
    "velocity from dampened": ("* velocity + g;", "* velocity + T(0.5) * g;"),
}


def built(source: Path, folder: Path, *options: str) -> Path:
    program = folder / "port"
    command = [str(COMPILER), "-std=c++17", *options, str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="session")
def port(tmp_path_factory):
    return built(PORT, tmp_path_factory.mktemp("port"), "-O1", "-ffp-contract=off")


def run(program, folder):
    return subprocess.run(
        [program, folder], capture_output=True, text=True, errors="replace", check=False
    )


def test_the_port_has_every_bit(port, vectors):
    """In the order of sums that the page states, the numbers are the same, not only near."""
    done = run(port, vectors[0])
    assert done.returncode == 0, done.stdout
    told = "27 cases; largest difference within the tolerance: 0.0e+00\n"
    assert done.stdout == f"float64: {told}float32: {told}All steps of all cases agree.\n"


def test_the_port_passes_with_other_orders_and_fused_sums(vectors, tmp_path):
    program = built(PORT, tmp_path, "-O3", "-ffast-math", "-march=native")
    done = run(program, vectors[0])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_port_is_refused_in_both_types(mistake, vectors, tmp_path):
    old, new = MISTAKES[mistake]
    text = PORT.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "port.cpp").write_text(text.replace(old, new), encoding="utf-8")
    done = run(built(tmp_path / "port.cpp", tmp_path, "-O0"), vectors[0])
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if "off by" in line]
    assert {line.partition(" ")[0] for line in lines} == {"float64", "float32"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_changed_bit_in_any_tensor_is_noticed(dtype, port, copied):
    folder = copied()
    names = flip_in_every_tensor(folder, f"{dtype}.safetensors", random.Random(0))
    done = run(port, folder)
    assert done.returncode == 1
    told = {line.partition(": not the numbers")[0] for line in done.stdout.splitlines()}
    assert {f"{dtype} {name}" for name in names} <= told


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["SHA256SUMS", "float64.safetensors", "vectors.json"]),
    byte=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
@example(name="vectors.json", byte=421, bit=0)  # "sigma", R-SAM's, by another name
def test_one_changed_bit_anywhere_is_noticed(port, copied, name, byte, bit):
    folder = copied()
    flip(folder, name, byte, bit)
    done = run(port, folder)
    assert done.returncode == 1, "an exit by a signal is negative"
    assert done.stdout.splitlines()[-1].endswith((" fault", " faults"))


@pytest.mark.parametrize("name", ["SHA256SUMS", "float32.safetensors", "vectors.json"])
def test_a_file_that_is_gone_or_cut_is_told(name, port, copied):
    folder = copied()
    contents = (folder / name).read_bytes()
    for left in (contents[:-7], contents[:5], b"", None):
        (folder / name).unlink() if left is None else (folder / name).write_bytes(left)
        done = run(port, folder)
        assert done.returncode == 1
        assert name in done.stdout or name == "SHA256SUMS"
        assert done.stdout.splitlines()[-1].endswith((" fault", " faults"))
