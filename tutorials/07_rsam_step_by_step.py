# %% [markdown]
# # 7. R-SAM step by step
#
# SAM trusts the gradient at one point, `w`; tutorial 6 showed where that misleads. R-SAM makes a
# random move first, a *draw* `D`, and looks there:
#
#     D   = sigma s z                     a draw around w: z is normal, s the size of each filter
#     g0  = grad L(w + D)                 the first gradient, there
#     a   = lam g0 + D                    the direction: the gradient and the draw
#     eps = rho a / (||a|| + 1e-12)       its length: the radius, from w
#     g   = grad L(w + eps)               the second gradient moves w, as in SAM
#
# The idea to take away: **R-SAM is SAM with a draw in two places: where the first gradient is
# taken, and in the direction of the ascent.** We shall measure how much the second one weighs.

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, PINK, arrow, check, contours, figure, note, show

from rsam_backends import Stream
from rsam_ref import RSAM, SGD, Tensor, models, objective, rsam_gradient, sam_gradient
from rsam_ref.algorithms import schedules
from rsam_ref.algorithms.noise import filter_noise, filter_scale
from rsam_ref.data import digits_split
from rsam_ref.teaching import step, surfaces
from rsam_ref.training import train

# %% [markdown]
# ## The draw
#
# A weight of 1 and one of 0.01 should not get the same noise. As in tutorial 4, the unit is the
# *filter*, the weights of one output: a row of a matrix (outputs, inputs). `s` is the length of the
# row, for each weight in it. A bias is one filter as a whole. So a row of 64 weights moves by about
# 8 sigma of its length (the squares add up, and 8 is the root of 64): at `sigma = 0.0025` by 2 %.


# %%
def scale(arrays):
    rows = [W.reshape(-1, W.shape[-1]) for W in arrays]  # a bias becomes one row
    return np.concatenate([np.repeat(np.sqrt((W**2).sum(axis=1)), W.shape[1]) for W in rows])


network = models.mlp([64, 64, 10], seed=0, dtype="float64").weights
D = 0.0025 * scale(network.views(network.flat)) * Stream("noise", 0).normal(4810, "float64")
assert np.allclose(scale(network.views(network.flat)), filter_scale(network.flat, network.shapes))
moved, rows = (np.sqrt((network.views(v)[0] ** 2).sum(axis=1)) for v in (D, network.flat))
assert np.allclose((np.mean(moved / rows), 8 * 0.0025), 2 / 100, rtol=0.05)

# %% tags=["hide-input"]
W = np.random.default_rng(0).normal(size=(6, 6)) * [[0.1], [0.2], [0.4], [0.8], [1.6], [0.5]]
s, z = scale([W]).reshape(6, 6), np.random.default_rng(3).normal(size=(6, 6))
made, axes = figure(11, 3, 4)
titles = "size of w: rows are filters", "s: length of the row", "size of z", "size of D = sigma s z"
for at, sizes, title in zip(axes, (W, s, z, s * z), titles):
    at.imshow(abs(sizes), cmap="RdPu")
    at.set(title=title, xticks=[], yticks=[])
show(made, "07-draw")

# %% [markdown]
# ## The step
#
# Now two weights, one row, on a valley with ripples. The mean of `g0` over all draws would be the
# gradient of a *smoothed* loss, in which small ripples cancel; one draw is one sample of it. As it
# was found at `w + D`, the way from `w` to a place uphill of there is first `D`, then along `g0`:
# that is `a`. It is cut to the radius. Note that `eps` starts at `w`, not at `w + D`.
#
# `rsam_gradient` does this, and its `Trace` has all by name; `loss` is the one at `w + D`. Draw
# again, and the step is another one: of 200 draws about half lead higher than SAM, in this place.


# %%
def rsam(loss_and_grad, w, D, lr, rho, lam):
    g0 = loss_and_grad(w + D)[1]
    a = lam * g0 + D
    eps = rho / ((a @ a) ** 0.5 + 1e-12) * a
    g = loss_and_grad(w + eps)[1]  # from w, not from w + D
    return g0, a, eps, g, w - lr * g


def hills(w):
    loss = surfaces.valley(leaf := Tensor(w, requires_grad=True))
    loss.backward()
    return loss.item(), leaf.grad


w, lr, rho, sigma, lam = np.array([0.3, 0.8]), 0.4, 0.5, 0.25, 2.0
D = sigma * scale([w]) * Stream("noise", 14).normal(2, "float64")
g0, a, eps, g, after = rsam(hills, w, D, lr, rho, lam)
trace = rsam_gradient(hills, w, D, rho=rho, lam=lam)
theirs = trace.noise, trace.ascent_gradient, trace.perturbation, trace.gradient
assert all(map(np.array_equal, (D, g0, eps, g), theirs))
assert (trace.loss, trace.adversarial_loss) == (hills(w + D)[0], hills(w + eps)[0])
others = [step.two_weights(seed=k, lam=lam).trace for k in range(200)]
sams = step.two_weights(algorithm="sam").trace
assert 0.4 < np.mean([t.adversarial_loss > sams.adversarial_loss for t in others]) < 0.6

# %% tags=["hide-input"]
levels, turn, down = np.linspace(-0.4, 3.6, 21), np.linspace(0, 2 * np.pi, 200), -lr * g
arrows = [
    (0, w, D, PINK, "1  D", 0.7, "right"),
    (0, w + D, lam * g0, BLUE, "2  lam g0", 0.6, "left"),
    (1, w, a, GREY, "3  a", 1, "right"),
    (1, w, eps, ORANGE, "4  eps", 0.6, "right"),
    (2, w + eps, down, GREEN, "5  -lr g", 1, "left"),
    (2, w, down, GREEN, "6  the same", 0.6, "right"),
]
made, axes = figure(15, 4.2, 4)
looks = "look at a random neighbour", "turn that way", "step, from w"
titles = *looks, "200 draws; the star is SAM's"
for k, (at, title) in enumerate(zip(axes, titles)):
    contours(at, lambda v: surfaces.valley(Tensor(v.T)).data.T, (-1.0, 1.4), (-0.1, 2.3), levels)
    at.plot(w[0] + rho * np.cos(turn), w[1] + rho * np.sin(turn), color=ORANGE, ls=":")
    at.set(title=title, ylabel="")
    note(at, w, "w", side="right")
    for stage, start, way, colour, text, share, side in arrows * (k < 3):
        if stage <= k:
            arrow(at, start, start + way, colour)
        if stage == k:
            note(at, start + share * way, text, colour, side)
axes[3].plot(*np.transpose([w + t.perturbation for t in others]), "o", color=ORANGE, alpha=0.2)
axes[3].plot(*(w + sams.perturbation), "k*", ms=14)
note(axes[0], w + D, "w + D")
show(made, "07-step")

# %% [markdown]
# ## How much of the direction is the draw?
#
# With thousands of weights a draw is nearly at right angles to any gradient. So the angle between
# `a` and `g0` follows from the lengths of `D` and `lam g0`. We train with SGD and measure on
# mini-batches, with `lam = 2`. At `sigma = 0.0025` it begins at 3 degrees. As the network learns,
# `g0` shrinks and `D` does not: after 60 epochs it is 23 degrees. If 40 % of the labels are random,
# `g0` stays long, and it is 4.5. A turned direction climbs less: at the end, within `rho = 0.05`,
# R-SAM's rise is 0.9 of SAM's, the cosine of such an angle. docs/flatness.md finds no larger rise
# than SAM's at any radius. What that means for new images is another question, for tutorial 8.

# %%
turned = {}
for replaced in (0.4, 0.0):
    data = digits_split(seed=0, label_noise=replaced, dtype="float64")
    model = models.mlp([64, 64, 10], seed=0, dtype="float64")
    v, shapes = model.weights.flat, model.weights.shapes
    x, y = data.x_train[:896], data.y_train[:896]
    batches = [objective(model, x[i::14], y[i::14]) for i in range(5)]
    for epoch in range(60):
        train(model, SGD(lr=0.1), x, y, epochs=min(epoch, 1), seed=epoch)
        for size in (0.0005, 0.0025, 0.01):
            D = filter_noise(v, shapes, sigma=size, stream=Stream("noise", epoch))
            found = [step.angle(2 * g0 + D, g0) for g0 in (f(v + D)[1] for f in batches)]
            turned.setdefault((replaced, size), []).append(np.mean(found))
ends = [np.median(turned[replaced, 0.0025][-10:]) for replaced in (0.0, 0.4)]
assert np.allclose((turned[0.0, 0.0025][0], *ends), (3, 23, 4.5), atol=(1, 6, 1.5))
D = filter_noise(v, shapes, sigma=0.0025, stream=Stream("noise", 0))
sams = [sam_gradient(f, v, rho=0.05) for f in batches]
traces = [rsam_gradient(f, v, D, rho=0.05, lam=2.0) for f in batches]
rises = [sum(t.adversarial_loss - s.loss for t, s in zip(ts, sams)) for ts in (traces, sams)]
assert np.allclose((rises[0] / rises[1], np.cos(np.radians(23))), 0.9, atol=0.07)

# %% tags=["hide-input"]
made, at = figure(7.5, 4)
for ((replaced, size), line), width in zip(turned.items(), (1, 2, 4, 1, 2, 4)):
    label = f"sigma {size:g}" + ", 40 % of labels random" * (replaced > 0)
    at.plot(line, ":" if replaced else "-", color=PINK, lw=width, label=label)
at.set(xlabel="epoch", ylabel="angle between a and g0 (degrees)")
at.legend()
show(made, "07-share")

# %% [markdown]
# ## Limits, schedules, and other readings
#
# - `rho = 0` is SGD alone, and `sigma = 0` with `lam = 1` is SAM, both bit for bit.
# - **`lam` is not free of scale.** With 8 times the loss, `lam = 2` acts like 16; SAM's `eps` stays
#   the same. So a sum over the batch in place of the mean makes another algorithm of R-SAM.
# - `sigma` and `rho` may be schedules. In public code, it seems the authors', a vision transformer
#   has `sigma` rise from 0.0005 to 0.0025 along half a cosine, and after a warm-up `rho` fall with
#   `lr` from 2.5 to 1.5. What they used for CIFAR we do not know.
# - Public code has other algorithms under this name. rsam_ref calls them `stacked` (`D` stays in
#   both passes: `eps = D + rho g0 / ||g0||`), `gradient` (no `D` in the direction: `eps = rho g0 /
#   ||g0||`) and `ball` (`D = sigma z / ||z||`, whatever the filters). Renyi SAM, Riemannian SAM and
#   RST, where a coin decides between SAM and SGD, are something else altogether.

# %%
f, size = batches[0], schedules.rsam_sigma(0.0005, 100)
radius = schedules.rsam_rho(schedules.linear(0.1, 100), 0.1, warmup_steps=0)
assert np.allclose((size(0), size(100), radius(0), radius(100)), (0.0005, 0.0025, 2.5, 1.5))
first = filter_noise(v, shapes, sigma=0.0005, stream=Stream("noise", 0, 0))  # seed 0, step 0
RSAM(SGD(lr=0.1), rho=0.1, sigma=size, lam=2.0, seed=0).step(f, stepped := v.copy())
assert np.array_equal(stepped, rsam(f, v, first, 0.1, 0.1, 2.0)[4])
assert np.array_equal(rsam_gradient(f, v, D, rho=0).gradient, f(v)[1])
silent, sams = rsam_gradient(f, v, 0 * v, rho=0.1, lam=1), sam_gradient(f, v, rho=0.1)
assert np.array_equal(silent.gradient, sams.gradient)
louder = rsam_gradient(lambda v: (8 * f(v)[0], 8 * f(v)[1]), v, D, rho=0.1, lam=2)
assert np.array_equal(louder.perturbation, rsam_gradient(f, v, D, rho=0.1, lam=16).perturbation)
for name, stays in ("stacked", 1), ("gradient", 0):
    t = RSAM(SGD(lr=0.1), rho=0.1, sigma=0.001, variant=name).step(f, v.copy())
    up = 0.1 * t.ascent_gradient / (t.ascent_gradient @ t.ascent_gradient) ** 0.5
    assert np.allclose(t.perturbation, stays * t.noise + up)

# %% [markdown]
# ## What to look at
#
# - First picture: a row of small weights gets a small draw, in all its places.
# - Second: `eps` ends on the circle around `w`. Over 200 draws it turns by more than a right angle.
#
# ## Try this
#
# - Give the second picture `lam = 10`, then 0.1. What becomes of the 200 places? Or slide `lam`
#   [in it](../docs/interactive.md#surface=ripples&method=rsam&draws=1).
#
# ## Exercises
#
# **1.** A convolution's weights have four axes (outputs, inputs, height, width). A filter is all
# that makes one output; an array with one axis is one filter. Return `s`, in the array's shape.


# %% tags=["exercise"]
def scale_of(array): ...


# %%
def exercise_1(found):
    assert found.shape == kernel.shape, "one number for each weight"
    for array in (kernel, kernel[:, :, 0, 0], kernel[:, 0, 0, 0]):
        s = filter_scale(array.ravel(), [array.shape]).reshape(array.shape)
        assert np.allclose(scale_of(array), s), f"not the lengths of the filters of {array.shape}"


kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
check(exercise_1, scale_of(kernel))

# %% [markdown]
# **2.** Which `sigma` puts `a` at a given angle to `g0`, in degrees? `s` is, for each weight, the
# length of its filter. (How long is `D`, about? What has a right angle to do with a tangent?)


# %% tags=["exercise"]
def sigma_for(degrees, g0, s, lam): ...


# %%
def exercise_2(sigma):
    for degrees, lam in (20, 2.0), (45, 2.0), (60, 0.5):
        D = sigma_for(degrees, g0, s, lam) * s * Stream("noise", 7).normal(v.size, "float64")
        turned = step.angle(lam * g0 + D, g0)
        assert abs(turned - degrees) < 3, f"{turned}, {degrees=}"


s, g0 = filter_scale(v, shapes), f(v)[1]
check(exercise_2, sigma_for(20, g0, s, 2.0))
