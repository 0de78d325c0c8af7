"""dpnp as a user meets it: commands on it, runs that change devices, what is said without it.

The ops and the training of every model are in the files of those; they run on this device as well
(`make test-intel`).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import signal
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from rsam_backends import (
    BackendError,
    dpnp_device,
    forbid_waiting,
    gather,
    get_backend,
    memory_used,
    sliding_windows,
    to_device,
    to_host,
    use_backend,
    xp,
)
from rsam_backends.dpnp_backend import DpnpBackend
from rsam_backends.positions import positions
from rsam_ref import RSAM, SGD, Tensor, models
from rsam_ref.autograd import ops_nn
from rsam_ref.nn.batch_parts import Sharded
from rsam_ref.training import recipe
from rsam_ref.training.evaluation import evaluate_on, samples_for
from rsam_ref.training.predictor import load_predictor
from rsam_ref.training.run import Run
from tests.helpers.commands import called, command

intel = pytest.mark.intel
TRAIN = ("train", "--model", "mlp", "--optimizer", "rsam", "--batch-size", "256", "--epochs", "2")


def trained(folder, *options):
    done = called(*TRAIN, "--out", folder, *options)
    use_backend("numpy")  # a command chooses for its process
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def on_numpy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "numpy"
    trained(folder, "--backend", "numpy")
    return folder


@intel
def test_a_run_begun_on_numpy_ends_on_dpnp_and_says_that_bits_may_differ(on_numpy, tmp_path):
    half = tmp_path / "half"
    run = Run.start(half, recipe.of_run(on_numpy))
    assert not run.go(on_step=lambda step: step == 5 and os.kill(os.getpid(), signal.SIGINT))
    done = called("train", "--resume", half, "--backend", "dpnp")
    use_backend("numpy")
    assert done.returncode == 0, done.stderr
    assert "backend: numpy, now dpnp" in " ".join((done.stdout + done.stderr).split())
    sessions = json.loads((half / "run.json").read_text())["sessions"]
    assert [session["backend"] for session in sessions] == ["numpy", "dpnp"]
    ends = [load_file(folder / "model.safetensors") for folder in (half, on_numpy)]
    for name, values in ends[1].items():
        np.testing.assert_allclose(ends[0][name], values, atol=1e-5, err_msg=name)


MEASURES = "--measure worst --measure average --samples 64 --draws 2 --rho 0.1 --sigma 0.001"
MEASURES += " --steps 10 --restarts 1"


@intel
def test_training_and_sharpness_find_what_they_find_on_numpy(on_numpy, tmp_path):
    trained(tmp_path / "dpnp", "--backend", "dpnp")
    ours, expected = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "dpnp", on_numpy)
    )
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5, err_msg=name)
    measured = []
    for backend in ("dpnp", "numpy"):
        out = tmp_path / f"sharpness-{backend}"
        done = called("sharpness", on_numpy, *MEASURES.split(), "--out", out, "--backend", backend)
        use_backend("numpy")
        assert done.returncode == 0, done.stderr
        measured.append([row["value"] for row in json.loads((out / "sharpness.json").read_text())])
    assert len(measured[0]) == 2
    np.testing.assert_allclose(*measured, rtol=1e-2)


@intel
def test_a_run_is_evaluated_as_on_numpy(on_numpy):
    """Where every score is finite, nobody is left to be counted apart."""
    found = []
    for backend in ("dpnp", "numpy"):
        with use_backend(backend):
            predictor = load_predictor(on_numpy)
            found.append(evaluate_on(predictor, samples_for(predictor).samples))
    assert found[0].confusion == found[1].confusion
    assert found[0].unscored == found[1].unscored == [0] * 10


@intel
def test_shards_in_threads_with_copies_of_the_model_train_alike():
    x = np.random.default_rng(0).standard_normal((6, 1, 8, 8), dtype="float32")
    ends = []
    for backend in ("dpnp", "numpy"):
        with use_backend(backend, kernels="plain"):
            model = models.cnn(size=8, width=2, seed=1)
            optimizer = RSAM(SGD(0.1, momentum=0.9), 0.1, 0.01)
            for _ in range(3):
                parts = Sharded(
                    model, to_device(x), to_device(np.arange(6)), ops_nn.cross_entropy, [0, 1, 2]
                )
                optimizer.step(parts, model.weights.flat)
            ends.append(to_host(model.weights.flat))
    np.testing.assert_allclose(*ends, atol=1e-6)


@intel
def test_a_device_is_told_with_its_driver_and_what_it_can():
    done = called("doctor")
    assert done.returncode == 0
    told = done.stdout.split("dpnp: ")[1]
    assert told.startswith("works")
    assert "trial: a step of a two-layer network equals NumPy's" in told
    for line in ("device: ", "driver: ", "aspects: "):
        assert line in told


@intel
def test_a_number_without_a_device():
    with pytest.raises(BackendError, match=r"no device 99; there are 0: \w+"):
        get_backend("dpnp", 99)


@intel
def test_float64_where_the_device_has_none_is_one_line():
    """Without the line dpnp makes float32 of it silently. The processor has float64, so it is told
    that it had not."""
    backend = DpnpBackend()
    device = SimpleNamespace(name="Arc", has_aspect_fp64=False)
    backend.opened = dataclasses.replace(backend.opened, device=device)
    said = r"^the dpnp backend: Arc computes no float64 .*; give .*float32"
    asked = [
        lambda: backend.to_device(np.ones(2)),
        lambda: backend.to_device([1.0], "float64"),
        lambda: backend.namespace.zeros(3, dtype="float64"),
        lambda: backend.namespace.asarray([1.0], dtype=np.float64),
    ]
    for ask in asked:
        with pytest.raises(BackendError, match=said):
            ask()
    assert backend.to_device(np.ones(2, "float32")).dtype == "float32"
    assert backend.to_device(np.arange(2)).dtype == "int64"


@intel
def test_memory_is_what_arrays_hold():
    with use_backend("dpnp"):
        before = memory_used()
        a = xp.zeros(1000, dtype="float32")
        view = a[10:].reshape(9, 110)
        assert memory_used() - before == 4000
        del a
        assert memory_used() - before == 4000  # the view holds it
        del view
        assert memory_used() == before


@intel
def test_an_embedding_learns_without_a_wait():
    """Its gradient adds several rows at one place: on the device, in a fixed order."""
    index = np.array([[0, 2, 2], [2, 4, 0]])
    table = np.arange(10.0).reshape(5, 2)

    def gradient():
        rows = Tensor(to_device(table), requires_grad=True)
        where = to_device(index)
        with forbid_waiting():
            out = ops_nn.embedding(rows, where)
            (out * out).sum().backward()
        return to_host(rows.grad)

    with use_backend("dpnp"):
        found = gradient()
    np.testing.assert_array_equal(found, gradient())


@intel
def test_every_index_of_numpys_is_read():
    x = np.arange(4 * 5 * 6 * 3.0).reshape(4, 5, 6, 3)
    for index in INDICES.values():
        with use_backend("dpnp"):
            parts = [to_device(part) if isinstance(part, np.ndarray) else part for part in index]
            found = to_host(gather(to_device(x), tuple(parts)))
        np.testing.assert_array_equal(found, x[index])


@intel
@pytest.mark.parametrize(
    ("shape", "window", "stride"),
    [
        ((1, 1, 5, 2), (3, 1), (1, 3)),
        ((1, 1, 5, 2), (3, 2), (1, 1)),
        ((2, 1, 1, 8), (1, 3), (1, 1)),
        ((2, 1, 3, 6), (3, 3), (1, 1)),
        ((1, 1, 4, 5), (3, 1), (1, 2)),
        ((2, 2, 1, 18), (1, 4), (1, 5)),
        ((2, 2, 5, 5), (3, 3), (2, 2)),
    ],
)
def test_windows_along_one_axis_are_copied_as_they_are(shape, window, stride):
    """dpnp 0.20 copies some views that overlap along one axis wrongly."""
    x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    expected = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    expected = expected[:, :, :: stride[0], :: stride[1]]
    with use_backend("dpnp"):
        windows = sliding_windows(to_device(x), window, stride)
        copied = to_host(xp.asarray(windows, order="C", copy=True))
        summed = to_host(xp.sum(windows, axis=(4, 5)))
    np.testing.assert_array_equal(copied, expected)
    np.testing.assert_array_equal(summed, expected.sum(axis=(4, 5)))


@intel
def test_values_of_a_frozen_tensor_do_not_change():
    with use_backend("dpnp"):
        weights = models.mlp([2, 3, 2], seed=0).weights
        data = Tensor([1.0, 2.0]).data
        with pytest.raises(ValueError, match="read-only"):
            data[0] = 5
        weights.flat[0] = 1


# Without the device as well


def test_without_dpnp_it_is_said_what_to_install(no_drivers, monkeypatch):
    monkeypatch.setitem(sys.modules, "dpctl", None)
    with pytest.raises(BackendError, match=r"^the dpnp backend: .*pip install 'rsam-ref\[intel\]'"):
        dpnp_device.open_device(0)


@pytest.fixture
def no_drivers(monkeypatch):
    """As where nobody named a driver; what the test names is forgotten."""
    for name in (dpnp_device.DRIVERS, dpnp_device.SELECTOR):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_driver_that_pip_installed_is_named_once(no_drivers, monkeypatch, tmp_path):
    class Package:
        files = (PurePosixPath("../../libintelocl.so"),)

        def locate_file(self, file):
            return tmp_path / "lib" / "site-packages" / file

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Package())
    driver = tmp_path.resolve() / "libintelocl.so"
    assert dpnp_device.name_the_driver() == driver
    assert os.environ[dpnp_device.DRIVERS] == str(driver)
    assert dpnp_device.name_the_driver() is None


@pytest.fixture
def no_device(no_drivers, monkeypatch):
    """As where dpnp is installed, and SYCL finds nothing."""
    for name in ("dpnp", "dpnp.scipy", "dpnp.scipy.special"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(scipy=None))
    monkeypatch.setitem(sys.modules, "dpctl", SimpleNamespace(get_devices=lambda: []))
    monkeypatch.setattr(dpnp_device, "installed_driver", lambda: Path("/pip/libintelocl.so"))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OCL_ICD_FILENAMES", "", "and OCL_ICD_FILENAMES= names no driver that works; unset it"),
        ("OCL_ICD_FILENAMES", "/none.so", "and OCL_ICD_FILENAMES=/none.so names no driver"),
        ("OCL_ICD_FILENAMES", "/pip/libintelocl.so", "neither a GPU nor a driver for the proc"),
        ("ONEAPI_DEVICE_SELECTOR", "opencl:gpu", "of those that ONEAPI_DEVICE_SELECTOR=opencl:gpu"),
        (None, None, "because dpnp was used before rsam-ref named its driver; call use_backend"),
    ],
)
def test_without_a_device_it_is_said_why(no_device, variable, value, said, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, value)
    with pytest.raises(BackendError) as refused:
        dpnp_device.open_device(0)
    assert str(refused.value).startswith(f"the dpnp backend: SYCL finds no device, {said}")


@pytest.mark.parametrize("value", ["bogus", "", "opencl", "opencl:npu", "bogus:cpu", "*:cpu;x"])
def test_a_choice_of_devices_at_which_sycl_would_end_is_told(no_device, value, monkeypatch):
    monkeypatch.setenv("ONEAPI_DEVICE_SELECTOR", value)
    with pytest.raises(BackendError, match="is no choice of devices; unset it, or write it as"):
        dpnp_device.open_device(0)


@pytest.mark.parametrize("value", ["*:cpu", "opencl:cpu,gpu", "!cuda:*;level_zero:0,1.2", "*:*.*"])
def test_choices_of_devices_that_sycl_takes(value, no_device, monkeypatch):
    monkeypatch.setenv("ONEAPI_DEVICE_SELECTOR", value)
    dpnp_device.check_selector()


BREAKING = """
from rsam_backends.numpy_backend import NumpyBackend
import os, signal, sys


class Ending(NumpyBackend):
    def __init__(self, device=0):
        print("first\\nlast", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
"""


def test_doctor_survives_a_library_that_ends_its_process(tmp_path):
    (tmp_path / "ending.py").write_text(BREAKING)
    (tmp_path / "ending-1.dist-info").mkdir()
    entries = tmp_path / "ending-1.dist-info" / "entry_points.txt"
    entries.write_text("[rsam_ref.backends]\nzz = ending:Ending\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = command("doctor", PYTHONPATH=path, ONEAPI_DEVICE_SELECTOR="bogus")
    assert done.returncode == 0, done.stderr
    assert "zz: broken\n    its process is ended by SIGABRT: last" in done.stdout
    assert "dpnp: not here" in done.stdout


INDICES = {
    "an array": (A := np.array([0, -1, 2]),),
    "behind a slice": (slice(None), A),
    "around a slice": (A, slice(None), A),
    "two that broadcast": (A, np.array([[1], [2]])),
    "between slices": (slice(1, 3), A, np.array([[1], [2]])),
    "with a new axis": (A, slice(None), np.array([[1], [2]]), None),
    "behind an ellipsis": (..., A),
    "around an ellipsis": (A, ..., A),
    "a number beside it": (1, slice(None), A),
    "a number next to it": (1, A),
    "a slice backwards": (slice(None, None, -1), A, ...),
    "a mask": (np.array([True, False, True, True]),),
    "a mask of two axes": (slice(None), np.eye(5, 6) > 0),
    "a mask and an array": (np.array([True, False, True, True]), slice(None), A),
    "small numbers": (np.full(2, 200, "uint8") - 198, 1, 2, slice(0, 2)),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_positions_are_where_numpy_reads(index):
    x = np.arange(4 * 5 * 6 * 3).reshape(4, 5, 6, 3)
    np.testing.assert_array_equal(positions(np, x.shape, index), x[index])


def test_too_many_indices_are_an_error():
    with pytest.raises(IndexError, match="3 indices for an array of 2 axes"):
        positions(np, (2, 3), (A, A, 0))
