# %% [markdown]
# # 9. The same code on a GPU
#
# A GPU, the *device*, is a second computer in yours. It has its own memory, and does arithmetic on
# long arrays when your program, on the *host*, asks for it. You need tutorial 7, but no GPU.
#
# The idea to take away: **write array code against one name, and it runs on both. Then keep a step
# on the device: what spoils it is not arithmetic but copying and waiting.**

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, PINK, check, figure, show

from rsam_backends import BackendError, use_backend, xp
from rsam_ref import RSAM, SGD, models, objective
from rsam_ref.algorithms.sam import norm, rsam_gradient
from rsam_ref.data import digits_split

# %% [markdown]
# ## One name
#
# `xp` has NumPy's names, and `use_backend` says whose functions they are: NumPy's, or those of
# CuPy, which is NumPy over again for NVIDIA's GPUs. All of rsam_ref is written so. Here are five
# steps on the host and on a GPU. If that does not work, the cell (or `rsam-ref doctor`) says why.

# %%
data, ends = digits_split(seed=0), {}
for name in ("numpy", "cupy"):
    try:
        with use_backend(name) as backend:
            assert isinstance(xp.zeros(3), np.ndarray) == (name == "numpy")
            net, rsam = models.mlp([64, 32, 10], seed=0), RSAM(SGD(lr=0.1), rho=0.1)
            for _ in range(5):
                rsam.step(objective(net, data.x_train[:64], data.y_train[:64]), net.weights.flat)
            ends[name] = backend.to_host(net.weights.flat)
    except BackendError as error:  # no CuPy, no driver, or no GPU
        print(f"{name} does not work here:", str(error).partition("\n")[0])
print("Five steps were taken with", *ends)
assert all(np.allclose(end, ends["numpy"], atol=1e-3) for end in ends.values())

# %% [markdown]
# ## A device by hand
#
# To see what crosses between host and device, we build a toy. Like CuPy's, its arrays refuse to mix
# with the host's. A log takes down what the host asks for. An *upload* brings an array over, a
# *kernel* is one operation on whole arrays, and a *download* brings a result back; for that the
# host must *wait*. **Python asks for a download without a word** whenever it needs a plain number
# from an array, as for `float(a)`, or a yes or no, as for `if a > 1:`.


# %%
class OnDevice(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, hidden):
        self._hidden = hidden  # a NumPy array in truth, and NumPy does the arithmetic

    def __array_ufunc__(self, operation, _, *inputs, **options):  # for + - @ > and their like
        if any(isinstance(a, np.ndarray) for a in inputs):
            raise TypeError("one array is on the host: bring it over with to_device")
        LOG.append("kernel")
        return OnDevice(operation(*(getattr(a, "_hidden", a) for a in inputs)))

    def __array__(self, *_, **__):
        raise TypeError("this array is on the device: ask for it with to_host")

    def __float__(self):
        return float(to_host(self))

    def __bool__(self):
        return bool(to_host(self))


def to_device(array):
    LOG.append("upload")
    return OnDevice(np.array(array))


def to_host(array):
    LOG.extend(["wait", "download"])
    return array._hidden.copy()


LOG = []

# %% [markdown]
# ## A step that stays there
#
# A single layer will do: 64 weights, and `x @ w` shall be 1 for a digit from 5 on, else -1.
# `put` brings arrays to where `w` is. `rsam_gradient` is what rsam_ref itself uses. It needs no
# `xp`: with operators alone it runs on whatever has them, and lands where NumPy does.
#
# A step is 27 kernels and 3 uploads: the draw, the images and the labels. **No download, no wait.**
# (`rho` is a plain number and travels with a kernel.) Now somebody adds a line. `np.asarray(g)`, or
# `g` plus an array of the host, is harmless: it fails at once. `print(float(trace.loss))` or
# `if norm(g) > 1:` works, and asks for a download and a wait in every step.


# %%
def step(put, w, start):
    """One R-SAM step on 64 images: the new w, and the trace."""
    LOG.append("batch")
    z = put(np.random.default_rng(start).standard_normal(64, "float32"))
    x, y = put(data.x_train[start : start + 64]), put(labels[start : start + 64])

    def loss_and_grad(w):
        miss = x @ w - y  # (64,)
        return miss @ miss / 64, miss @ x / 32

    noise = 1e-2 * norm(w) * z  # all of w is one filter
    trace = rsam_gradient(loss_and_grad, w, noise, rho=0.1)
    return w - 0.01 * trace.gradient, trace


def asked(work):
    """How many kernels, uploads, downloads and waits ``work`` asks for, given w on the device."""
    there = to_device(w)
    LOG.clear()
    work(there)
    return tuple(LOG.count(what) for what in ("kernel", "upload", "download", "wait"))


labels = np.where(data.y_train >= 5, 1, -1).astype("float32")
w = 0.1 * np.random.default_rng(0).standard_normal(64, "float32")
there, trace = step(to_device, to_device(w), 0)
assert np.allclose(to_host(there), step(np.asarray, w, 0)[0], atol=1e-6)
assert asked(lambda w: step(to_device, w, 0)) == (27, 3, 0, 0)
assert asked(lambda w: float(step(to_device, w, 0)[1].loss)) == (27, 3, 1, 1)
assert asked(lambda w: bool(norm(step(to_device, w, 0)[1].gradient) > 1))[1:] == (3, 1, 1)
np.testing.assert_raises(TypeError, np.asarray, trace.gradient)
np.testing.assert_raises(TypeError, np.add, trace.gradient, w)

# %% [markdown]
# ## Why one wait matters
#
# The host does not stay until a kernel is done. It puts it into a *queue* and goes on, to the next
# batch, while the device empties the queue. But when a line wants a number, the host stands still
# until the queue is empty. And then the *device* stands still, since nothing is in the queue.
#
# **The picture is a drawing and not a measurement.** It takes the toy's log of three steps and a
# made-up clock: 20 units to prepare a batch, 1 to ask for a kernel or an upload, 2 to do it. By
# this clock the steps take 201 units, and 243 if each ends with `float(trace.loss)`.


# %% tags=["hide-input"]
def drawn(at, height, log):
    host = device = 0
    for event in log:
        if event == "batch":
            at.barh(height, 20, left=host, color=GREY, ec="white")
            host += 20
            colours = iter([PINK] * 8 + [BLUE] * 6 + [ORANGE] * 8 + [BLUE] * 6 + [GREEN] * 2)
        elif event == "wait":
            at.barh(height, device - host, left=host, color="white", ec="black", hatch="///")
            host = device
        elif event != "download":
            host, device, colour = host + 1, max(host + 1, device) + 2, next(colours)
            at.barh(height, 1, left=host - 1, color=colour)
            at.barh(height - 1, 2, left=device - 2, color=colour, ec="white", lw=0.5)
    return device


made, at = figure(12, 4)
asked(lambda w: step(to_device, w, 0))
assert drawn(at, 4, LOG * 3) == 201
asked(lambda w: float(step(to_device, w, 0)[1].loss))
assert drawn(at, 1, LOG * 3) == 243
notes = "next batch", "draw", "gradient", "ascent", "gradient", "descent", "float(loss)", "idle"
places = (10, 4.5), (29, 2.4), (43, 2.4), (57, 2.4), (71, 2.4), (86, 2.4), (65, 1.5), (92, -0.1)
for place, note in zip(places, notes):
    at.text(*place, note, ha="center")
at.set(yticks=(0, 1, 3, 4), yticklabels=["device", "host"] * 2, xlabel="made-up time (a drawing)")
show(made, "09-queue")

# %% [markdown]
# ## Equal up to rounding, in few kernels
#
# Another device adds in another order, and each sum is rounded. The same 10,000 float32 numbers,
# added one by one in 200 orders, give different sums, though by less than 1e-4 of the sum. So
# compare devices with a tolerance. Noise and first weights are drawn on the host, hence equal to
# the bit: a GPU's own random numbers differ from model to model.
#
# Each kernel costs the host a call, however short the array. In `resnet20` 39 of 59 tensors hold
# at most 64 numbers. SAM's ascent takes 239 kernels tensor by tensor, and 7 on the flat vector.
# `tests/device` holds rsam_ref to all this with a larger toy. **No GPU has run it yet.**


# %%
def ascent(parts):
    factor = 0.1 / (sum(g @ g for g in parts) ** 0.5 + 1e-12)
    return [g + factor * g for g in parts]  # w + eps, with g in place of w: only the count matters


terms = np.random.default_rng(0).standard_normal(10_000, "float32") ** 2
sums = np.array([np.cumsum(np.random.default_rng(k).permutation(terms))[-1] for k in range(200)])
assert 0 < np.ptp(sums) < 1e-4 * sums.mean()
sizes = [np.prod(shape) for shape in models.resnet20(seed=0).weights.shapes]
assert (len(sizes), sum(size <= 64 for size in sizes)) == (59, 39)
assert asked(lambda _: ascent([to_device(np.ones(size)) for size in sizes]))[0] == 239
assert asked(lambda w: ascent([w]))[0] == 7
made, (left, right) = figure(11, 3, 2)
left.hist((sums / terms.sum(dtype="float64") - 1) * 1e6, 25, color=BLUE)
left.set(xlabel="error of the sum, in millionths", ylabel="number of orders")
right.bar(range(59), sizes, color=GREY)
right.set(yscale="log", xlabel="tensors of resnet20, in their order", ylabel="numbers in it")
show(made, "09-sums")

# %% [markdown]
# ## What to look at
#
# - First picture: below, the host waits for the loss (hatched), and then the device for the host.
# - Second picture: the sums scatter by some millionths; most tensors are tiny (logarithmic scale).
#
# ## Try this
#
# - If you have PyTorch: `step(torch.as_tensor, torch.as_tensor(w), 0)`. Its arrays have operators.
# - Let preparing a batch take 5 units, then 60. When does the wait cost most?
#
# ## Exercises
#
# **1.** Shorten `g` to the length `limit` if it is longer, else leave it as it is, without a wait.
# Besides operators the toy knows functions that go number by number, such as `xp.minimum(a, b)`.
#
# **2.** `losses` lie on the device. Return their mean as a Python number, with one download.


# %% tags=["exercise"]
def clip(g, limit): ...


# %%
def exercise_1(short):
    assert isinstance(short, OnDevice), "it stays on the device"
    for limit in (0.5, 2.0):  # w has a length of 0.8
        assert asked(lambda g, limit=limit: clip(g, limit))[1:] == (0, 0, 0), "if, max, float ask"
        assert np.allclose(to_host(clip(to_device(w), limit)), SGD(1, clip_norm=limit).clip(w))


check(exercise_1, clip(to_device(w), 0.5))


# %% tags=["exercise"]
def mean(losses): ...


# %%
def exercise_2(answer):
    assert (answer, LOG.count("download")) == (2.5, 1), "add up there, and read once"


LOG.clear()
check(exercise_2, mean([to_device(np.float32(loss)) for loss in (4, 3, 2, 1)]))
