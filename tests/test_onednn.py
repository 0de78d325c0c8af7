"""oneDNN's kernels beyond what test_numpy_kernels holds all kernels to; and finding the library."""

import gc
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsam_backends import BackendError, carried, deterministic, get_backend, threads, use_backend
from rsam_backends.numpy_kernels import blocks
from rsam_backends.onednn import loading
from rsam_ref import RSAM, SGD, models, objective
from rsam_ref.autograd import ops_nn
from rsam_ref.training import arithmetic, recipe
from tests.helpers.commands import command
from tests.test_numpy_kernels import LAYOUTS, agree, normal, values_and_gradients

needs_it = pytest.mark.onednn


@pytest.fixture
def onednn(monkeypatch):
    """oneDNN's kernels in force, on pieces so small that a few images need several, two threads."""
    monkeypatch.setattr(blocks, "PANEL", 1500)
    monkeypatch.setattr(blocks, "SMALL", 1)
    threads.set_threads(2)
    with use_backend("numpy", kernels="onednn") as backend:
        yield backend.kernel_set("onednn")
    threads.set_threads(None)


@needs_it
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize(("groups", "channels", "outputs"), [(2, 2, 3), (3, 1, 1), (4, 4, 2)])
def test_convolution_in_groups_is_its_definition(onednn, layout, groups, channels, outputs):
    x = LAYOUTS[layout](normal((5, groups * channels, 6, 7), "float32"))
    weight = normal((groups * outputs, channels, 3, 2), "float32", 1)
    bias = normal((groups * outputs,), "float32", 2)
    options = {"groups": groups, "stride": (2, 1), "padding": 1}
    agree(lambda *xs: ops_nn.conv2d(*xs, **options), [x, weight, bias], 1e-5)


@needs_it
@given(
    data=st.data(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    shape=st.tuples(*(st.integers(1, 5) for _ in range(4))),
)
def test_mean_pooling_is_its_definition(data, layout, shape):
    draw = lambda low, high: data.draw(st.integers(low, high))
    window = draw(1, shape[2]), draw(1, shape[3])
    options = {"window": window, "stride": (draw(1, 3), draw(1, 3))}
    options["padding"] = draw(0, window[0] // 2), draw(0, window[1] // 2)
    x = LAYOUTS[layout](normal(shape, "float32"))
    with use_backend("numpy", kernels="onednn"):
        agree(lambda x: ops_nn.avg_pool2d(x, **options), [x], 1e-5)


@needs_it
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("op", ["relu", "max_pool2d"])
def test_what_onednn_computes_otherwise_is_left_to_others(onednn, op, number):
    x = normal((2, 3, 4, 4), "float32")
    x[0, 0, 1, 1] = x[1, :, :2, :2] = number
    options = {"window": 2} if op == "max_pool2d" else {}
    f = lambda x: getattr(ops_nn, op)(x, **options)
    ours = values_and_gradients(f, [x], np.asarray)
    with use_backend("numpy", kernels="plain"):
        plain = values_and_gradients(f, [x], np.asarray)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_it
def test_float64_and_empty_arrays_are_left_to_others(onednn):
    from rsam_backends.onednn import OURS

    for shape, dtype in (((2, 3, 8, 8), "float64"), ((0, 3, 8, 8), "float32")):
        x, weight = np.zeros(shape, dtype), np.zeros((4, 3, 3, 3), dtype)
        assert OURS["conv2d"](x, weight) is NotImplemented
        assert OURS["max_pool2d"](x, window=2) is NotImplemented
        assert OURS["gelu"](x) is NotImplemented


@needs_it
@pytest.mark.parametrize("number", [0.5, np.nan, np.inf])
def test_batch_norm_with_its_relu_is_the_two_in_turn(onednn, number):
    x = LAYOUTS["channels last"](normal((5, 3, 4, 4), "float32"))
    x[0, 1, 2, 3] = number

    def f(x, gamma, beta):
        mean, var = ops_nn.batch_statistics(x._data)
        return ops_nn.batch_norm_relu(x, gamma, beta, mean=mean, var=var, eps=0.1)

    inputs = [x, *(normal((3,), "float32", i) for i in (1, 2))]
    with np.errstate(all="ignore"):
        ours = values_and_gradients(f, inputs, np.asarray)
        with use_backend("numpy", kernels="plain"):
            plain = values_and_gradients(f, inputs, np.asarray)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@needs_it
def test_kinks_are_held_though_norm_and_relu_are_one_op(onednn):
    from rsam_ref.sharpness.branch import Branch

    net = NETWORKS["resnet"]()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3, 8, 8), "float32"), rng.integers(0, 10, 4)
    branch = Branch(objective(net, x, y), net.weights.flat)
    assert len(branch.kept) == 7  # ReLUs
    loss, gradient = objective(net, x, y)(net.weights.flat)
    held, same = branch(net.weights.flat)
    np.testing.assert_allclose(held, loss, rtol=1e-5)
    np.testing.assert_allclose(same, gradient, rtol=1e-3, atol=1e-5)


@needs_it
def test_weights_may_begin_at_any_address(onednn):
    """Weights are views into one vector, so they begin at any multiple of 4 bytes."""
    flat = normal((3 + 8 * 4 * 9,), "float32")
    x = normal((3, 4, 6, 6), "float32", 1)
    agree(lambda *xs: ops_nn.conv2d(*xs), [x, flat[3:].reshape(8, 4, 3, 3)], 1e-5)


def trained(kernels, model, optimizer, steps=3):
    """The weights after some steps."""
    with use_backend("numpy", kernels=kernels):
        net = model()
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((12, 3, 8, 8), "float32"), rng.integers(0, 10, 12)
        for _ in range(steps):
            optimizer.step(objective(net, x, y), net.weights.flat)
        return net.weights.flat


NETWORKS = {
    "resnet": lambda: models.cifar_resnet(8),
    "wide resnet": lambda: models.wide_resnet(depth=10, width=2),
    "transformer": lambda: models.vit_tiny(image_size=8, patch=2, depth=2, classes=10),
    "cnn": lambda: models.cnn(size=8, channels=3),
}


@needs_it
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_training_agrees_with_the_definitions(name):
    optimizers = (RSAM(SGD(0.05, momentum=0.9), 0.05, 5e-4) for _ in range(2))
    plain, fast = (trained(k, NETWORKS[name], o) for k, o in zip(("plain", "onednn"), optimizers))
    start = NETWORKS[name]().weights.flat
    assert np.linalg.norm(fast - plain) < 1e-5 * np.linalg.norm(plain - start)


@needs_it
def test_the_number_of_threads_changes_no_bit(onednn):
    found = set()
    for n in (1, 2, 3):
        threads.set_threads(n)
        found.add(trained("onednn", NETWORKS["resnet"], SGD(0.1), steps=2).tobytes())
    assert len(found) == 1


@needs_it
def test_threads_of_the_user_s_and_what_is_freed_with_them(onednn):
    x, weight = normal((6, 3, 8, 8), "float32"), normal((4, 3, 3, 3), "float32")
    conv = carried(lambda: ops_nn.conv2d(x, weight).data)
    expected, found = conv().tobytes(), []
    for _ in range(3):
        own = [threading.Thread(target=lambda: found.append(conv().tobytes())) for _ in range(4)]
        for thread in own:
            thread.start()
        for thread in own:
            thread.join()
        gc.collect()
    assert found == [expected] * 12


@needs_it
def test_openmp_s_threads_are_as_before_afterwards(onednn):
    library = loading.library()
    if library.runtime != 2:
        pytest.skip("this oneDNN is not built for OpenMP")
    library.quick.omp_set_num_threads(3)
    inside = library.alone(library.quick.omp_get_max_threads)
    assert (inside, library.quick.omp_get_max_threads()) == (1, 3)
    with pytest.raises(ZeroDivisionError):
        library.alone(lambda: 1 / 0)
    assert library.quick.omp_get_max_threads() == 3


@needs_it
def test_an_array_that_is_too_small_for_a_primitive_is_told(onednn):
    from rsam_backends.onednn import pooling

    compute = pooling._forward((1, 2, 4, 4), (1, 2, 2, 2), pooling.MEAN, (2, 2), (2, 2), (0, 0))
    with pytest.raises(BackendError, match="pooling_forward: 8 bytes, not 128"):
        compute(src=np.zeros(2, "float32"), dst=np.zeros((2, 2, 2), "float32"))


@needs_it
def test_doctor_and_a_run_name_the_library():
    out = command("doctor").stdout
    library = loading.library()
    assert f"oneDNN {library.version} for " in out
    assert library.path in out
    for kernels in ("onednn", "fast"):
        with use_backend("numpy", kernels=kernels):
            told = arithmetic.told(recipe.Recipe())
        assert told.get("oneDNN", {}).get("version") == (library.version, None)[kernels == "fast"]


@needs_it
def test_a_library_with_its_own_threads_promises_no_bits(monkeypatch, onednn):
    with deterministic():
        pass
    monkeypatch.setattr(loading, "OWN_THREADS", (loading.library().runtime,))
    with pytest.raises(BackendError, match="has threads of its own, whose number decides bits"):
        deterministic()


@pytest.fixture
def found_anew():
    """Look for the library at the next call."""
    loading.library.cache_clear()
    yield
    loading.library.cache_clear()


FAKE = """
typedef struct { int major, minor, patch; const char *hash; unsigned cpu, gpu; } version_t;
static version_t version = {2, 6, 3, "", 2, 0};
const version_t *dnnl_version(void) { return &version; }
"""


def made_of(code: str, folder: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to make a library with")
    (folder / "fake.c").write_text(code)
    made = folder / "libdnnl.so.2"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", made, folder / "fake.c"], check=True)
    return made


def library_of_version_2(folder: Path) -> Path:
    return made_of(FAKE, folder)


def something_else(folder: Path) -> Path:
    return Path(sys.modules["_ctypes"].__file__ or "")


def a_text(folder: Path) -> Path:
    (folder / "libdnnl.so.3").write_text("no library at all, but a text of some length" * 100)
    return folder / "libdnnl.so.3"


def without_functions(folder: Path) -> Path:
    return made_of(FAKE.replace("{2, 6, 3", "{3, 6, 3"), folder)


def without_a_version(folder: Path) -> Path:
    return made_of("void *dnnl_version(void) { return 0; }", folder)


def ending_its_process(folder: Path) -> Path:
    """As one of which the end is missing does, once it is loaded."""
    return made_of(
        "#include <signal.h>\n__attribute__((constructor)) void f(void) { raise(SIGBUS); }", folder
    )


WRONG = {
    library_of_version_2: "is of version 2.6.3, whose C API is another; unset RSAM_REF_ONEDNN",
    something_else: "is another library; unset RSAM_REF_ONEDNN, or let it name a libdnnl",
    a_text: "cannot be loaded (invalid ELF header); unset RSAM_REF_ONEDNN",
    lambda folder: folder / "nowhere.so": "cannot be loaded (cannot open shared object file",
    without_functions: "has no function dnnl_engine_create; unset RSAM_REF_ONEDNN",
    without_a_version: "tells no version; unset RSAM_REF_ONEDNN",
    ending_its_process: "is damaged: a process that loads it is ended by SIGBUS; unset RSAM_REF",
}


WRONG_IDS = ["old", "other", "text", "none", "lacking", "null", "damaged"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the messages are Linux's")
@pytest.mark.parametrize(("make", "told"), WRONG.items(), ids=WRONG_IDS)
def test_a_library_that_does_not_do_is_told_in_one_line(
    make, told, tmp_path, monkeypatch, found_anew
):
    path = str(make(tmp_path))
    monkeypatch.setenv(loading.ENVIRONMENT, path)
    with pytest.raises(BackendError) as caught:
        use_backend("numpy", kernels="onednn")
    assert str(caught.value).startswith(f"oneDNN: {path} {told}")
    assert "\n" not in str(caught.value)
    done = command("profile", "mlp", "--kernels", "onednn")
    assert done.returncode == 1
    assert done.stderr.strip() == f"rsam-ref: {caught.value}"
    assert "kernels onednn: not here: " in command("doctor").stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the library is made by gcc")
def test_a_run_without_onednn_does_not_touch_it(tmp_path, found_anew):
    broken = str(ending_its_process(tmp_path))
    train = "train", "--epochs", "1", "--limit", "64", "--out", str(tmp_path / "run")
    done = command(*train, **{loading.ENVIRONMENT: broken})
    assert done.returncode == 0, done.stderr
    refused = command(
        *train[:-1], str(tmp_path / "none"), "--kernels", "onednn", **{loading.ENVIRONMENT: broken}
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"rsam-ref: oneDNN: {broken} is damaged")
    assert not (tmp_path / "none").exists()


@needs_it
@pytest.mark.parametrize("named", ["libmine.so", "./libmine.so", "~/libmine.so"])
def test_a_library_is_found_in_the_folder_and_at_home(named, tmp_path, monkeypatch, found_anew):
    found = [path for path in loading._candidates() if Path(path).exists()]
    if not found:
        pytest.skip("the system's loader alone knows where the library is")
    (tmp_path / "libmine.so").symlink_to(found[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(loading.ENVIRONMENT, named)
    assert Path(loading.library().path) == tmp_path / "libmine.so"


def test_without_a_library_it_is_told_how_to_get_one(monkeypatch, found_anew):
    monkeypatch.delenv(loading.ENVIRONMENT, raising=False)
    monkeypatch.setattr(loading, "_candidates", lambda: iter(()))
    with pytest.raises(BackendError, match=r"^oneDNN is not installed.*'rsam-ref\[onednn\]'"):
        get_backend("numpy").kernel_set("onednn")


def test_kernels_of_the_environment_are_told_at_first_use(tmp_path):
    environment = os.environ | {"RSAM_REF_KERNELS": "onednn", loading.ENVIRONMENT: "nowhere.so"}
    code = "import rsam_backends as b; print('loaded'); b.xp.zeros(1)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "loaded\n"
    assert "BackendError: RSAM_REF_KERNELS=onednn: oneDNN: nowhere.so cannot be" in done.stderr


def test_other_backends_have_no_such_kernels(double_backend):
    with pytest.raises(ValueError, match="kernels 'onednn' are numpy's; the double backend"):
        use_backend("double", kernels="onednn")
