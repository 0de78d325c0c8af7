"""How the tests run: examples are not timed, few each, and the same ones on every run in CI."""

from __future__ import annotations

import os
import shutil
from functools import partial

# The arrays are small, and tests run side by side: several BLAS threads would only wait for each
# other. Set here for the processes that tests start, which inherit it; NumPy may be loaded here
# already, by our own pytest plugin, and then the variables come too late for it.
for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

from rsam_backends import BackendError, get_backend, switch, use_backend
from rsam_backends.cupy_kernels import make_kernels
from tests.device.double import COUNTS, DoubleBackend
from tests.device.emulator import Emulator

in_ci = bool(os.environ.get("CI"))
settings.register_profile("all", deadline=None, max_examples=25 if in_ci else 50, derandomize=in_ci)
settings.register_profile("quick", deadline=None, max_examples=5, derandomize=True)
torch.set_num_threads(1)
threadpool_limits(1, user_api="blas")  # from now on

# What `make quick` runs, `pytest -m quick`: the mathematics, and who may import whom.
QUICK = {
    "test_against_torch",
    "test_finite_differences",
    "test_limits",
    "test_nn",
    "test_noise",
    "test_ops",
    "test_ops_nn",
    "test_optim",
    "test_package",
    "test_portable",
    "test_public",
    "test_smoke",
    "test_tape",
}
LEFT_OUT = (
    "quick: the mathematics alone. Left out: models, data, training and its runs, the commands, the"
    " checker's planted mistakes, the device double, the wheel, documents and tutorials, and most"
    " drawn examples. All: make test"
)


def only_quick(config) -> bool:
    return config.option.markexpr == "quick"


def pytest_configure(config):
    few = only_quick(config) or config.option.markexpr == "intel"
    settings.load_profile("quick" if few else "all")


def pytest_terminal_summary(terminalreporter, config):
    if only_quick(config):
        terminalreporter.write_line(LEFT_OUT)


def pytest_ignore_collect(collection_path, config):
    """Files that have nothing for `-m quick` are not even loaded for it."""
    name = collection_path.name
    return True if only_quick(config) and is_test_file(name) and name[:-3] not in QUICK else None


def is_test_file(name):
    return name.startswith("test_") and name.endswith(".py")


DEVICES = {"gpu": "cupy", "intel": "dpnp"}
"""The backend that the tests with a mark need."""


def why_not(backend: str) -> str | None:
    """Why tests that need this backend cannot run here; None where they can."""
    try:
        get_backend(backend)
    except BackendError as error:
        return str(error)
    return None


def why_no_onednn() -> str | None:
    """Why the tests marked `onednn` cannot run here; None where they can."""
    try:
        get_backend("numpy").kernel_set("onednn")
    except BackendError as error:
        return str(error)
    return None


def takes_long(item) -> bool:
    """What even the quick files have of the device double and of programs that are started."""
    values = getattr(item, "callspec", None)
    devices = ("double", "cupy", "dpnp", "onednn")
    on_device = values is not None and values.params.get("device") in devices
    return on_device or "wheel" in item.fixturenames


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in QUICK and not takes_long(item):
            item.add_marker(pytest.mark.quick)
    reasons = {mark: partial(why_not, backend) for mark, backend in DEVICES.items()}
    for mark, reason_of in (reasons | {"onednn": why_no_onednn}).items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = reason_of() if marked else None
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
    params=[
        *("numpy", "plain", "double"),
        pytest.param("onednn", marks=pytest.mark.onednn),
        pytest.param("cupy", marks=pytest.mark.gpu),
        pytest.param("dpnp", marks=pytest.mark.intel),
    ],
)
def device(request):
    """Every backend in turn: the host with its kernels, with the plain definitions and with
    oneDNN's kernels, the device double, and real devices where there are any."""
    if request.param == "double":
        request.getfixturevalue("double_backend")
    of_host = request.param in ("plain", "onednn")
    name, kernels = ("numpy", request.param) if of_host else (request.param, "fast")
    with use_backend(name, kernels=kernels):
        COUNTS.reset()
        yield name
