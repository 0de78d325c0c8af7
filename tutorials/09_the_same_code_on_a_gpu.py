# %% [markdown]
# # 9. The same code on a GPU
#
# A GPU is a second computer inside yours. Your program runs on the *host*. The GPU, the *device*,
# has its own memory and does simple arithmetic on long arrays when the host asks for it. You need
# NumPy and the R-SAM step of tutorial 7, but no GPU.
#
# The idea to take away: **write array code against one name, and it runs on both. Then keep a step
# on the device: what spoils it is not arithmetic but copying and waiting.**

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, PINK, check, figure, show

from rsam_backends import use_backend, xp
from rsam_ref import RSAM, SGD, models, objective, rsam_gradient
from rsam_ref.data import digits_split
from rsam_ref.sam import norm

data = digits_split(seed=0)

# %% [markdown]
# ## One name
#
# `xp` has NumPy's names, and `use_backend` says whose functions they are: `xp.exp` is `np.exp`
# under "numpy" and `cupy.exp` under "cupy". (CuPy is NumPy's functions on an NVIDIA GPU.) All of
# rsam_ref is written so. The cell takes five steps on the host, and on the GPU if one works here.
# If not, it says why. `rsam-ref doctor` says it too, and what to install.


# %%
def five_steps(name):
    with use_backend(name) as backend:
        model, optimizer = models.mlp([64, 32, 10], seed=0), RSAM(SGD(lr=0.1), rho=0.1)
        for _ in range(5):
            f = objective(model, data.x_train[:64], data.y_train[:64])
            optimizer.step(f, model.weights.flat)
        return backend.to_host(model.weights.flat)


with use_backend("numpy"):
    assert xp.exp is np.exp
here = five_steps("numpy")
try:
    there = five_steps("cupy")
except Exception as error:  # no CuPy, no driver, no GPU, or one that fails
    print("No GPU is used:", str(error).partition("\n")[0])
else:
    assert np.allclose(here, there, atol=1e-3)
    print("Five steps on the GPU agree with the host's.")

# %% [markdown]
# ## A device by hand
#
# To see what crosses between host and device, we build a toy. As with CuPy, its arrays refuse to be
# mixed with the host's. A log takes down what the host asks for. An *upload* brings an array over,
# a *kernel* is one operation on whole arrays, and a *download* brings a result back; for that the
# host must *wait*. **Python asks for a download without a word** whenever it needs a plain number
# from an array, as for `float(a)`, or a yes or no, as for `if a > 1:`.

# %%
LOG = []


class OnDevice(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in the toy's memory. (In truth NumPy holds it, and does the arithmetic.)"""

    def __init__(self, hidden):
        self._hidden = hidden

    def __array_ufunc__(self, operation, _, *inputs, **options):
        """NumPy calls this for `+ - * / @ ** >`, and for np.minimum and its like."""
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


# %% [markdown]
# ## A step that stays there
#
# The smallest network will do: 64 weights, and `x @ w` shall be 1 for a digit from 5 on, else -1.
# `put` brings arrays to where `w` is. `rsam_gradient` is what rsam_ref itself uses. It needs not
# even `xp`: with operators alone it runs on whatever has them.
#
# A step is 27 kernels and 3 uploads: the draw, the images and the labels. **No download, no wait.**
# (`rho` and the learning rate are plain numbers and travel with a kernel.) The toy lands where
# NumPy does, bit for bit, since NumPy is inside.
#
# Now somebody adds a line. `print(float(trace.loss))` or `if norm(g) > 1:` asks for one download
# and one wait a step. `np.asarray(g)`, or `g` plus an array of the host, is refused. That is the
# harmless kind: it fails at once. The first kind runs and gives the right numbers.


# %%
def step(put, w, start):
    """One R-SAM step on 64 images: the new w, and the trace."""
    LOG.append("batch")
    z = put(np.random.default_rng(start).standard_normal(64, "float32"))
    x, y = put(data.x_train[start : start + 64]), put(labels[start : start + 64])

    def loss_and_grad(w):
        LOG.append("pass begins")
        miss = x @ w - y  # (64,)
        loss, g = miss @ miss / 64, miss @ x / 32
        LOG.append("pass ends")
        return loss, g

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
assert asked(lambda w: step(to_device, w, 0)) == (27, 3, 0, 0)
assert asked(lambda w: float(step(to_device, w, 0)[1].loss)) == (27, 3, 1, 1)
assert asked(lambda w: bool(norm(step(to_device, w, 0)[1].gradient) > 1))[1:] == (3, 1, 1)
there, trace = step(to_device, to_device(w), 0)
assert np.array_equal(to_host(there), step(np.asarray, w, 0)[0])
for wrong in (np.asarray, lambda g: g + w):
    try:
        raise AssertionError(f"let through: {wrong(trace.gradient)}")
    except TypeError as error:
        assert "to_" in str(error)

# %% [markdown]
# ## Why one wait matters
#
# The host does not stay with a kernel until it is done. It puts it into a *queue* and goes on; the
# device works the queue off. While the device computes, the host is already at the next batch. But
# when a line wants a number, the host stands still until the queue is empty. And then the *device*
# stands still, since nothing is in the queue.
#
# **The picture is a drawing and not a measurement.** It takes the toy's log of three steps and a
# made-up clock: 20 units to prepare a batch, 1 to ask for a kernel or an upload, 2 to do it. By
# this clock the steps take 201 units, and 243 if each ends with `float(trace.loss)`.


# %% tags=["hide-input"]
def drawn(at, height, log):
    """Draw a log by the made-up clock; returns when all is done."""
    host = device = 0
    for event in log:
        if event == "batch":
            at.barh(height, 20, left=host, color=GREY, ec="white")
            host, colours = host + 20, [PINK, BLUE, ORANGE, BLUE, GREEN]
        elif event.startswith("pass"):
            colours = colours[1:]
        elif event == "wait":
            at.barh(height, device - host, left=host, color="white", ec="black", hatch="///")
            host = device
        elif event in ("upload", "kernel"):
            host, device = host + 1, max(host + 1, device) + 2
            at.barh(height, 1, left=host - 1, color=colours[0])
            at.barh(height - 1, 2, left=device - 2, color=colours[0], ec="white", lw=0.5)
    return device


made, at = figure(12, 4)
for height, reads, units in ((3.6, False, 201), (1, True, 243)):
    there = to_device(w)
    LOG.clear()
    for start in (0, 64, 128):
        there, trace = step(to_device, there, start)
        float(trace.loss) if reads else None
    assert drawn(at, height, LOG) == units
for place, text in ((10, "batch"), (29, "draw"), (43, "gradient"), (57, "ascent"), (71, "gradient")):
    at.text(place, 1.6, text, ha="center")
at.set(yticks=(0, 1, 2.6, 3.6), yticklabels=["device", "host"] * 2, xlabel="made-up units of time")
show(made, "09-queue")

# %% [markdown]
# ## Equal up to rounding, in few kernels
#
# Another device adds in another order, and each sum is rounded. The same 10,000 float32 numbers,
# added one by one in 200 orders, give more than 20 different sums, apart by less than 1e-4 of the
# sum. So results of two devices are compared with a tolerance. What must be equal to the bit is
# drawn on the host: a GPU's own random numbers differ from model to model.
#
# Each kernel costs the host a call, however short the array. In `resnet20` 39 of 59 tensors hold
# at most 64 numbers. The ascent takes 239 kernels tensor by tensor, and 7 on the flat vector.


# %%
def ascent(parts):
    factor = 0.1 / (sum(g @ g for g in parts) ** 0.5 + 1e-12)
    return [g + factor * g for g in parts]


random = np.random.default_rng(0)
terms = random.standard_normal(10_000, "float32") ** 2
sums = np.array([np.cumsum(random.permutation(terms))[-1] for _ in range(200)])
assert len(set(sums)) > 20 and np.ptp(sums) < 1e-4 * sums.mean()
weights = models.resnet20(seed=0).weights
tensors = [to_device(tensor.ravel()) for tensor in weights.views(weights.flat)]
sizes = np.array([tensor._hidden.size for tensor in tensors])
assert (len(sizes), (sizes <= 64).sum()) == (59, 39)
flat = to_device(weights.flat)
assert asked(lambda _: ascent(tensors))[0] == 239
assert asked(lambda _: ascent([flat]))[0] == 7
