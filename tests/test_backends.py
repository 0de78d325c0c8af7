"""The switch between array libraries, tried with a backend that is registered for the occasion.

``mirror`` is NumPy under another name, found as any installed backend is: through an entry point of
a distribution on the path. ``broken`` is one whose library is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rsam_ref
from rsam_backends import (
    BackendError,
    Stream,
    available_backends,
    current_backend,
    erf,
    forbid_waiting,
    freeze,
    get_backend,
    kernel_trial,
    memory_used,
    quiet,
    random,
    scatter_add,
    selftest,
    sliding_windows,
    switch,
    synchronize,
    threads,
    to_device,
    to_host,
    use_backend,
    xp,
)
from rsam_backends.numpy_backend import QUICK
from rsam_ref.algorithms import base, noise
from rsam_ref.algorithms.noise import filter_scale
from rsam_ref.autograd import ops, ops_nn
from tests.conftest import why_no_onednn

anything: Any = xp  # with names that no backend is known to have

MODULE = """
import types

import numpy

from rsam_backends import BackendError
from rsam_backends.numpy_backend import NumpyBackend


class Mirror(NumpyBackend):
    name = "mirror"
    namespace = types.SimpleNamespace(**vars(numpy), mirrored=lambda: "mirrored")

    def __init__(self, device=0):
        super().__init__(0)
        self.device = device
        self.activated = 0
        self.kernels = {"tanh": lambda x: NotImplemented}

    def activate(self):
        self.activated += 1


class Broken(Mirror):
    def __init__(self, device=0):
        raise BackendError("the library is missing: install it")


class Copied(numpy.ndarray):
    def __getitem__(self, index):
        return super().__getitem__(index).copy()


class Copying(Mirror):
    name = "copying"
    namespace = types.SimpleNamespace(
        **{**vars(numpy), "zeros": lambda *a, **o: numpy.zeros(*a, **o).view(Copied)}
    )


class Wrong(Mirror):
    name = "wrong"
    namespace = types.SimpleNamespace(**{**vars(numpy), "maximum": numpy.minimum})


class Lacking(Mirror):
    name = "lacking"
    namespace = types.SimpleNamespace(zeros=numpy.zeros)


class Scaling(Mirror):
    name = "scaling"

    def to_host(self, array):
        return numpy.asarray(array) * numpy.float32(1.01)


class Raising(Mirror):
    def __init__(self, device=0):
        raise RuntimeError("boom\\nsecond line")


class WithKernels(Mirror):
    name = "kernels"
    extra = {}

    def __init__(self, device=0):
        super().__init__(device)
        self.kernels = {"relu": relu, "sum": relu, **self.extra}


def relu(x):
    return numpy.maximum(x, 0), (lambda g: g * (x > 0),)


class WrongGradient(WithKernels):
    name = "wrong gradient"
    extra = {"relu": lambda x: (numpy.maximum(x, 0), (lambda g: g,))}


class WrongValue(WithKernels):
    name = "wrong value"
    extra = {"linear": lambda x, w, b: (x @ w.T, (None, None, None))}


class WrongScale(WithKernels):
    name = "wrong scale"
    extra = {"filter_scale": lambda w, shapes: 0 * w + 7}


class Failing(WithKernels):
    name = "failing"
    extra = {"relu": lambda x: 1 / 0}
"""

ENTRY_POINTS = """
[rsam_ref.backends]
mirror = mirror_backend:Mirror
broken = mirror_backend:Broken
copying = mirror_backend:Copying
wrong = mirror_backend:Wrong
lacking = mirror_backend:Lacking
scaling = mirror_backend:Scaling
raising = mirror_backend:Raising
kernels = mirror_backend:WithKernels
wrong gradient = mirror_backend:WrongGradient
wrong value = mirror_backend:WrongValue
wrong scale = mirror_backend:WrongScale
failing = mirror_backend:Failing
gone = mirror_backend.nowhere:Gone
"""

SEVEN = {
    "relu": lambda x: (x * 0 + 7, (lambda g: g,)),
    "tanh": lambda x: NotImplemented,
    "filter_scale": lambda w, shapes: 0 * w + 7 if len(shapes) == 1 else NotImplemented,
}
"""Kernels whose work can be seen, for a backend that was tried already."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that looks like an installation of the two backends; on the path."""
    folder = tmp_path_factory.mktemp("backends")
    (folder / "mirror_backend.py").write_text(MODULE)
    info = folder / "mirror_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mirror-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(autouse=True)
def home(folder):
    """Every test begins and ends with NumPy."""
    use_backend("numpy")
    yield
    use_backend("numpy")


def name():
    return current_backend().name


# Choosing


def test_numpy_is_there_from_the_start():
    assert name() == "numpy"
    assert xp.zeros is np.zeros
    assert available_backends()["numpy"] == "rsam_backends.numpy_backend:NumpyBackend"


def test_as_a_call_it_switches_for_good():
    use_backend("mirror")
    assert name() == "mirror"
    assert anything.mirrored() == "mirrored"
    use_backend("numpy")
    assert name() == "numpy"


def test_as_a_block_it_switches_for_its_length_also_nested():
    seen: list[Any] = []
    with use_backend("mirror") as backend:
        seen.append((name(), backend is current_backend()))
        with use_backend("numpy"):
            seen.append(name())
            with use_backend("mirror", device=1):
                seen.append((name(), current_backend().device))
            seen.append(name())
        seen.append((name(), current_backend().device))
    assert seen == [("mirror", True), "numpy", ("mirror", 1), "numpy", ("mirror", 0)]
    assert name() == "numpy"


def test_a_block_that_fails_switches_back():
    with pytest.raises(ZeroDivisionError), use_backend("mirror"):
        _ = 1 / 0
    assert name() == "numpy"


def test_names_of_one_backend_do_not_stay_with_the_next():
    with use_backend("mirror"):
        assert anything.mirrored() == "mirrored"
    with pytest.raises(AttributeError, match="mirrored"):
        anything.mirrored()
    with pytest.raises(AttributeError, match="no_such_function"):
        anything.no_such_function()


def test_the_choice_belongs_to_the_thread():
    found = {}

    def work():
        found["at first"] = name()
        with use_backend("mirror", device=2):
            found["inside"] = current_backend().device
            switched.set()
            checked.wait(10)
        found["after"] = name()

    switched, checked = threading.Event(), threading.Event()
    use_backend("mirror")
    thread = threading.Thread(target=work)
    thread.start()
    switched.wait(10)
    assert (name(), current_backend().device) == ("mirror", 0)
    checked.set()
    thread.join()
    assert found == {"at first": "numpy", "inside": 2, "after": "numpy"}


def test_every_switch_activates():
    backend: Any = get_backend("mirror")
    before = backend.activated
    with use_backend("mirror"), use_backend("numpy"):
        pass  # entered once, and come back to once
    assert backend.activated == before + 2


# Finding


def test_a_backend_is_made_once_for_each_device():
    assert get_backend("numpy") is get_backend("numpy", 0)
    assert get_backend("mirror") is get_backend("mirror")
    assert get_backend("mirror", 1) is not get_backend("mirror")


@pytest.mark.parametrize(
    ("wanted", "error", "match"),
    [
        (("nonsense",), ValueError, "unknown backend 'nonsense'.*mirror.*numpy"),
        (("",), ValueError, "unknown backend ''"),
        (("broken",), BackendError, "install it"),
        (("numpy", 3), ValueError, "device 3"),
    ],
)
def test_a_backend_that_cannot_be_had_changes_nothing(wanted, error, match):
    use_backend("mirror")
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(error, match=match):
            use_backend(*wanted)
    assert name() == "mirror"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("copying", "what is written into views is lost, so a model's weights stay 0"),
        ("wrong", r"the weights are 0\.\d away from NumPy's"),
        ("lacking", r"nothing comes \(AttributeError: .*reshape"),
    ],
)
def test_a_backend_that_trains_otherwise_than_numpy_is_refused(wanted, reason):
    """Without the trial a model on it is built, and trains, without an error."""
    said = f"the {wanted} backend fails at a step of a two-layer network: {reason}.*README"
    for _ in range(2):
        with pytest.raises(BackendError, match=said) as refused, use_backend(wanted):
            pass
        assert "\n" not in str(refused.value)
    assert name() == "numpy"


WRONG = {
    "wrong gradient": r"kernel relu is wrong: its gradient at input 1 is not the definition's",
    "wrong value": r"kernel linear is wrong: its value is not the definition's",
    "wrong scale": r"kernel filter_scale is wrong: its value is another",
    "failing": r"kernel relu is wrong: nothing comes \(ZeroDivisionError: division by zero\)",
    "scaling": r"backend fails at its first array: to_host\(to_device\(x\)\) is not x",
    "raising": r"backend: making it fails \(RuntimeError: boom second line\)",
    "gone": r"backend: No module named 'mirror_backend\.nowhere.*\(mirror_backend\.nowhere:Gone\)",
}


@pytest.mark.parametrize("wanted", WRONG)
def test_a_backend_that_is_wrong_elsewhere_is_refused_in_one_line(wanted):
    with pytest.raises(BackendError, match=WRONG[wanted]) as refused:
        use_backend(wanted)
    assert str(refused.value).startswith(f"the {wanted} backend")
    assert "\n" not in str(refused.value)


def test_it_is_told_which_kernels_were_tried():
    told = selftest.trial(get_backend("kernels")).describe()
    assert told["kernels tried"] == "relu: values and gradients are right"
    assert told["kernels not tried"] == "sum"


DEFINITIONS = {
    name: getattr(module, name)
    for name in (*kernel_trial.EXAMPLES, *kernel_trial.PLAIN)
    for module in (ops, ops_nn, noise, base)
    if hasattr(module, name)
}


def test_the_examples_of_kernels_are_the_definitions(monkeypatch):
    """What a kernel is held to is written once more; here the definitions are held to it."""
    assert DEFINITIONS.keys() == kernel_trial.EXAMPLES.keys() | kernel_trial.PLAIN.keys()
    backend = get_backend("mirror")
    monkeypatch.setattr(backend, "kernels", {n: unwrap(f) for n, f in DEFINITIONS.items()})
    assert kernel_trial.trial_of_kernels(backend) == (sorted(DEFINITIONS), [])
    for kernels in ("fast", "onednn") if not why_no_onednn() else ("fast",):
        monkeypatch.setattr(backend, "kernels", get_backend("numpy").kernel_set(kernels))
        assert "conv2d" in kernel_trial.trial_of_kernels(backend)[0]


def test_a_devices_kernels_are_right(double_backend):
    if double_backend.kernels:
        right, untried = kernel_trial.trial_of_kernels(double_backend)
        assert (right, untried) == (sorted(double_backend.kernels), [])


@pytest.mark.parametrize("device", ["cpu", 0.5, None, True, [0]])
def test_a_device_is_a_number(device):
    with pytest.raises(ValueError, match="a device is a whole number, 0 for the first, not"):
        use_backend("mirror", device=device)


def test_kernels_without_a_name_are_refused():
    with pytest.raises(ValueError, match="not ''"):
        use_backend("numpy", kernels="")


def test_a_backend_is_tried_once_in_a_process(monkeypatch):
    tried: list[Any] = []
    monkeypatch.setattr(selftest, "trial", tried.append)
    for _ in range(2):
        with use_backend("mirror", device=7) as backend:
            pass
    assert tried == [backend]


def run(code, folder, **environment):
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_names_the_backend_that_every_thread_starts_with(folder):
    code = """
import threading
from rsam_backends import current_backend, use_backend, xp
names = [current_backend().name, xp.mirrored()]
use_backend("numpy")
thread = threading.Thread(target=lambda: names.append(current_backend().name))
thread.start(); thread.join()
print(*names, current_backend().name)
"""
    done = run(code, folder, RSAM_REF_BACKEND="mirror")
    assert done.stdout.split() == ["mirror", "mirrored", "mirror", "numpy"], done.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nonsense", "unknown backend 'nonsense'"), ("broken", "the library is missing")],
)
def test_a_backend_of_the_environment_that_fails_says_so_at_first_use(folder, name, reason):
    """The import succeeds, so that the command line can say in one line what is wrong."""
    code = (
        "import rsam_ref, rsam_backends as b; print(b.current_backend().name)\n"
        "for use in (lambda: b.xp.zeros(3), lambda: b.to_device([1.0]), b.synchronize):\n"
        "    try: use()\n"
        "    except b.BackendError as error: print(error)\n"
        "b.use_backend('numpy'); print(b.xp.zeros(1))"
    )
    done = run(code, folder, RSAM_REF_BACKEND=name)
    lines = done.stdout.splitlines()
    assert lines[0] == name, done.stderr
    assert len(lines) == 5
    assert all(f"RSAM_REF_BACKEND={name}" in line and reason in line for line in lines[1:4])
    assert lines[4] == "[0.]"


def test_kernels_of_the_environment_that_do_not_exist_are_told_at_first_use(folder):
    code = (
        "import rsam_ref, rsam_backends as b\n"
        "try: b.xp.zeros(3)\n"
        "except b.BackendError as error: print(error)\n"
        "b.use_backend('numpy', kernels='fast'); print(b.xp.zeros(1))"
    )
    done = run(code, folder, RSAM_REF_KERNELS="slow")
    assert done.stdout.splitlines() == [
        "RSAM_REF_KERNELS=slow: kernels are 'fast' or 'plain' (the definitions alone), "
        "or 'onednn' on numpy, not 'slow'",
        "[0.]",
    ], done.stderr


@pytest.mark.parametrize("package", ["rsam_ref", "rsam_backends"])
def test_an_import_brings_nothing_heavy(folder, package):
    done = run(f"import sys, {package}; print(*sys.modules)", folder, RSAM_REF_BACKEND="numpy")
    modules = set(done.stdout.split())
    assert package in modules, done.stderr
    assert not modules & {"matplotlib", "torch", "cupy", "scipy.special", "mirror_backend"}
    if package == "rsam_backends":
        assert "rsam_ref" not in modules


# What a backend does


@pytest.mark.parametrize("backend", ["numpy", "mirror"])
def test_the_functions_beyond_the_standard_names(backend):
    use_backend(backend)
    a = to_device([1, 2, 3], "float32")
    assert a.dtype == np.float32
    assert isinstance(to_host(a), np.ndarray)
    target = xp.zeros(3)
    scatter_add(target, xp.array([0, 2, 2]), xp.array([1.0, 2.0, 4.0]))
    assert target.tolist() == [1.0, 0.0, 6.0]
    images = xp.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)
    windows = sliding_windows(images, (3, 2), (2, 1))
    assert windows.shape == (2, 3, 2, 3, 3, 2)
    assert np.shares_memory(windows, images)
    assert windows[1, 2, 1, 2].tolist() == images[1, 2, 2:5, 2:4].tolist()
    assert erf(xp.array([0.0, 1.0])).tolist() == pytest.approx([0.0, 0.8427007929497149])
    freeze(a)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 5
    with quiet(), forbid_waiting():
        assert xp.isinf(a * 3e38).tolist() == [False, True, True]
    synchronize()
    assert memory_used() == 0


def test_xp_has_numpys_names():
    for function in (
        "zeros",
        "empty_like",
        "exp",
        "sqrt",
        "where",
        "einsum",
        "argmax",
        "pi",
        "nan",
    ):
        assert getattr(xp, function) is getattr(np, function)
    assert xp.float32 is np.float32
    assert xp.linalg.norm is np.linalg.norm


@pytest.fixture
def seven(monkeypatch):
    monkeypatch.setattr(get_backend("mirror"), "kernels", SEVEN)


def test_a_backends_kernel_runs_in_place_of_the_definition(seven):
    x, w = rsam_ref.Tensor([-1.0, 2.0]), np.array([3.0, 4.0])
    with use_backend("mirror"):
        assert ops_nn.relu(x).data.tolist() == [7.0, 7.0]
        assert filter_scale(w, [(1, 2)]).tolist() == [7.0, 7.0]
    assert ops_nn.relu(x).data.tolist() == [0.0, 2.0]
    assert filter_scale(w, [(1, 2)]).tolist() == [5.0, 5.0]


def test_a_kernel_that_declines_leaves_the_work_to_the_definition(seven):
    x, w = rsam_ref.Tensor([0.0]), np.array([3.0, 4.0])
    with use_backend("mirror"):
        assert ops.tanh(x).data.tolist() == [0.0]
        assert filter_scale(w, [(1, 1), (1, 1)]).tolist() == [3.0, 4.0]


# Streams

# The numbers of one key: runs of earlier versions can be repeated only as long as they stay.
KEY = ("noise", 7, 3)
GOLDEN = {
    "normal, double": (
        lambda s: s.normal(4, "float64"),
        [1.2337533225271202, -0.11218205931817478, -1.775145373813331, -1.495638994311801],
    ),
    "normal": (
        lambda s: s.normal(4),
        [0.06220271438360214, -1.6643338203430176, -0.5149866342544556, 2.0588340759277344],
    ),
    "uniform": (
        lambda s: s.uniform(4, -1.0, 1.0),
        [-0.9132769107818604, 0.46501243114471436, -0.20793402194976807, 0.7715673446655273],
    ),
    "keep mask": (lambda s: s.keep_mask((12,), 0.5), [1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1]),
    "permutation": (lambda s: s.permutation(8), [4, 7, 2, 0, 6, 3, 5, 1]),
    "integers": (lambda s: s.integers(0, 100, 6), [4, 73, 39, 88, 37, 20]),
}


@pytest.mark.parametrize("backend", ["numpy", "mirror"])
@pytest.mark.parametrize(("draw", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_a_streams_numbers_are_these(draw, expected, backend):
    use_backend(backend)
    assert to_host(draw(Stream(*KEY))).tolist() == expected


def test_a_stream_goes_on_and_begins_again():
    stream = Stream(*KEY)
    first, second = stream.normal(5), stream.normal(5)
    assert first.tobytes() != second.tobytes()
    assert first.tobytes() == Stream(*KEY).normal(5).tobytes()
    both = Stream(*KEY).normal((2, 5))
    assert both.tobytes() == first.tobytes() + second.tobytes()


@pytest.mark.parametrize("n", [random.FEW - 5, random.FEW + 5], ids=["ziggurat", "Box-Muller"])
def test_many_draws_are_the_same_on_any_number_of_threads(n):
    """Their blocks are drawn at the same time, each by a generator of its own."""
    drawn = []
    for count in (1, 2, 5):
        threads.set_threads(count)
        try:
            stream = Stream(*KEY)
            drawn.append([stream.normal(n), stream.normal(n)])
        finally:
            threads.set_threads(None)
    for again in drawn[1:]:
        assert [a.tobytes() for a in again] == [a.tobytes() for a in drawn[0]]
    everything = np.concatenate([a.reshape(-1) for a in drawn[0]])
    assert np.unique(everything).size > 0.95 * everything.size  # float32: some meet by chance
    assert abs(everything.mean()) < 5 / everything.size**0.5
    longer = Stream(*KEY).normal(n + 1 if n < random.FEW else n + 3 * random.BLOCK)
    assert drawn[0][0][: random.BLOCK].tobytes() == longer[: random.BLOCK].tobytes()


KEYS = [
    (),
    ("a",),
    ("a", 0),
    ("b", 0),
    (0,),
    (0, 0),
    (7,),
    (7, 0),
    (7, 0, 0),
    (7, 3),
    (3, 7),
    (73,),
    (7 + 3 * 2**32,),
]


def test_streams_of_different_keys_are_different():
    drawn: dict[bytes, list[tuple]] = {}
    for key in KEYS:
        drawn.setdefault(Stream(*key).normal(8).tobytes(), []).append(key)
    assert [keys for keys in drawn.values() if len(keys) > 1] == []


@pytest.mark.parametrize("key", [(-1,), (0, -3)])
def test_a_key_below_zero_is_an_error(key):
    with pytest.raises(ValueError, match=r"whole number >= 0, not -"):
        Stream(*key)


def test_the_shapes_and_types_of_the_draws():
    stream = Stream(1)
    assert stream.normal((2, 3)).dtype == np.float32
    assert stream.normal((2, 3), "float64").shape == (2, 3)
    uniform = stream.uniform(10_000, -0.5, 1.5, "float64")
    assert -0.5 <= uniform.min() < -0.49
    assert 1.49 < uniform.max() < 1.5
    mask = stream.keep_mask((100, 100), 0.8, "float64")
    assert set(mask.ravel().tolist()) == {0.0, 1.0}
    assert abs(mask.mean() - 0.8) < 0.02
    assert sorted(stream.permutation(9).tolist()) == list(range(9))
    integers = stream.integers(2, 5, 1000)
    assert set(integers.tolist()) == {2, 3, 4}


def test_the_readmes_example_is_a_backend():
    readme = (Path(__file__).parent.parent / "backends" / "README.md").read_text()
    example = readme.split("```python\n")[1].split("```")[0]
    assert len(example.splitlines()) < 100
    module: dict = {}
    exec(example, module)
    switch._instances["counting", 0] = backend = module["CountingBackend"]()
    with use_backend("numpy", kernels="plain"):
        expected = train_a_little()
    with use_backend("counting"):
        assert train_a_little() == expected
    assert backend.uploads > 0
    with pytest.raises(BackendError, match="no device 1"):
        module["CountingBackend"](1)


def train_a_little() -> bytes:
    model = rsam_ref.models.cnn(size=8, width=2, seed=0)
    optimizer = rsam_ref.RSAM(rsam_ref.SGD(0.1), 0.1)
    batch = rsam_ref.objective(model, np.ones((2, 1, 8, 8)), np.array([1, 2]))
    optimizer.step(batch, model.weights.flat)
    return to_host(model.weights.flat).tobytes()


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": (0, 2), "keepdims": True}])
@pytest.mark.parametrize("name", ["sum", "max"])
def test_the_quick_names_give_what_numpys_give(name, options):
    rng = np.random.default_rng(0)
    for x in (
        rng.standard_normal((3, 4, 5)),
        rng.integers(0, 2, (2, 3, 4)) > 0,
        np.ones((1, 2, 3), "float32"),
    ):
        quick, numpys = (f(x, **options) for f in (QUICK[name], getattr(np, name)))
        np.testing.assert_array_equal(quick, numpys)
        assert quick.dtype == numpys.dtype


def test_kinds_of_types_are_numpys():
    for dtype in map(np.dtype, ("float16", "float64", "int8", "uint32", "bool", "complex64")):
        for kind in ("real floating", "integral", ("integral", "bool"), "complex floating"):
            assert QUICK["isdtype"](dtype, kind) == np.isdtype(dtype, kind)
