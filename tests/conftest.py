"""How the tests run: examples are not timed, few each, and the same ones on every run in CI."""

from __future__ import annotations

import os
import shutil

# The arrays are small, and tests run side by side: several BLAS threads would only wait for each
# other. Set here, before NumPy is loaded; the processes that tests start inherit it.
for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

from rsam_backends import BackendError, get_backend, switch, use_backend
from rsam_backends.cupy_kernels import make_kernels
from tests.device.double import COUNTS, DoubleBackend
from tests.device.emulator import Emulator

settings.register_profile(
    "rsam-ref", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("rsam-ref")
torch.set_num_threads(1)


def why_no_gpu() -> str | None:
    """Why the tests marked `gpu` cannot run here; None where they can."""
    try:
        get_backend("cupy")
    except BackendError as error:
        return str(error)
    return None


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = why_no_gpu() if marked else None
    for item in marked if reason else []:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    """The CUDA kernels, compiled for the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA kernels for the CPU with")
    return Emulator(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def double_backend(tmp_path_factory):
    """The device double, registered as a backend; it runs the CUDA kernels where there is a g++."""
    backend = DoubleBackend()
    if shutil.which("g++") is not None:
        emulator = Emulator(tmp_path_factory.mktemp("kernels"))
        backend.kernels = make_kernels(backend.namespace, emulator.launch)
    switch._instances["double", 0] = backend
    return backend


@pytest.fixture(
    scope="module",
    params=["numpy", "plain", "double", pytest.param("cupy", marks=pytest.mark.gpu)],
)
def device(request):
    """Every backend in turn: the host with its kernels and with the plain definitions, the device
    double, and a GPU where there is one."""
    if request.param == "double":
        request.getfixturevalue("double_backend")
    plain = request.param == "plain"
    with use_backend("numpy" if plain else request.param, kernels="plain" if plain else "fast"):
        COUNTS.reset()
        yield "numpy" if plain else request.param
