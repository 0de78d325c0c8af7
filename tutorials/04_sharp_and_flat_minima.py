# %% [markdown]
# # 4. Sharp and flat minima
#
# Training ends where the gradient nearly vanishes. Many sets of weights are like that, with equal
# losses; what differs is the loss *around* them. At a *sharp* minimum a small change of the weights
# costs much, at a *flat* one little. SAM, in tutorial 5, looks for flat ones.
#
# The idea to take away: **flatness is what a small change of the weights costs. It can be drawn
# and measured, but all depends on what you call a small change.**

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, PINK, arrow, check, figure, show

from rsam_backends import Stream
from rsam_ref import models, no_grad, objective, sharpness
from rsam_ref.algorithms.noise import filter_scale
from rsam_ref.data import digits_split

# %% [markdown]
# ## Two measures
#
# Take two weights and the loss `w^T H w / 2`, with its minimum at 0. `H` is the *Hessian*, the
# matrix of second derivatives. We compare a ravine (curvature 1 along it, 9 across) with a bowl
# (6 both ways). Call a change of the weights `eps`; it costs `L(w + eps) - L(w)`, the *rise*.
#
# - The **worst** rise over all `eps` no longer than a radius `rho`. rsam_ref looks for it by going
#   uphill, along the gradient, from `w` and from a random place. (It may find a lower hill.)
# - The **average** rise over noise, `eps = sigma z` with normal random numbers `z`. Each draw is
#   used with both signs, so that the slope at `w` cancels.


# %%
def worst(loss_and_grad, w, rho):
    stream = Stream("starts", 0)  # the same random numbers every time
    return sharpness.rho_sharpness(loss_and_grad, w, rho=rho, restarts=1, stream=stream).rise


def average(loss, w, sigma, scale=1.0, draws=20):
    stream = Stream("draws", 0)
    noise = [sigma * scale * stream.normal(w.size, w.dtype) for _ in range(draws)]
    return np.mean([loss(w + eps) + loss(w - eps) for eps in noise]) / 2 - loss(w)


# %% [markdown]
# Theory gives `rho^2 / 2` times the largest curvature for the worst rise, `sigma^2 / 2` times the
# sum of all for the average. With `rho = 0.5`, `sigma = 0.3` that is 1.125 and 0.45 in the ravine,
# 0.75 and 0.54 in the bowl. So **by one measure the ravine is sharper, by the other the bowl.**

# %%
rho, sigma, origin, measured = 0.5, 0.3, np.zeros(2), []
turn = np.linspace(0, 2 * np.pi, 200)
ring = rho * np.array([np.cos(turn), np.sin(turn)])  # (2, 200): changes of length rho
for H in (np.diag([1.0, 9.0]), np.diag([6.0, 6.0])):
    mean = average(lambda w, H=H: w @ H @ w / 2, origin, sigma, draws=20_000)
    measured.append((worst(lambda w, H=H: (w @ H @ w / 2, H @ w), origin, rho), mean))
assert np.allclose(measured, [(1.125, 0.45), (0.75, 0.54)], rtol=0.03)


# %% tags=["hide-input"]
def contours(at, heights, x, y, levels, **labels):
    at.contourf(x, y, heights, levels, cmap="Greys", alpha=0.4, extend="both")
    drawn = at.contour(x, y, heights, levels, colors="black", linewidths=0.5)
    at.clabel(drawn, fontsize=8)
    at.grid(False)
    at.set(aspect="equal", **labels)


made, axes = figure(10, 5, 2)
x, z = np.linspace(-1, 1, 81), np.random.default_rng(1).normal(size=(2, 120))
for at, name, (a, b), found in zip(axes, ("ravine", "bowl"), ((1, 9), (6, 6)), measured):
    title = "{}: worst rise {:.3f}, average {:.2f}".format(name, *found)
    contours(at, (a * x**2 + b * x[:, None] ** 2) / 2, x, x, np.arange(0.5, 5, 0.5), title=title)
    at.plot(*(sigma * z), ".", color=PINK, ms=4, label="noise, sigma = 0.3")
    at.plot(*ring, color=ORANGE, label="length rho = 0.5")
    arrow(at, origin, (0, rho), ORANGE, "worst eps")
    at.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="first weight", ylabel="second weight")
axes[1].legend(loc="lower right", frameon=True, framealpha=1)
show(made, "04-two-measures")

# %% [markdown]
# ## The same function, sharp and flat
#
# Here is the smallest network with a ReLU: `f(x) = v max(0, u x)`. For one image, `x = 1` with the
# value 1, the loss is `(u v - 1)^2 / 2`. It vanishes along the curve `u v = 1`. At `(1, 1)` and at
# `(4, 1/4)` the network is **the same function**: `u` is 4 times as large, and `v` undoes it. Yet
# the worst rise within `rho = 0.5` is 0.35 at the first place and 2.07 at the second: a step of 0.5
# is small for a weight of 4, but not for one of 1/4.
#
# The remedy: measure a step in units of what it changes. Here a change `eps` becomes `eps w`,
# weight by weight, and both places rise alike. In a network take the *filter*, the weights that
# make one output (a row of `W1`): in a random direction `d` give each its length in `w`.


# %%
def two_weights(w):
    return (w[0] * w[1] - 1) ** 2 / 2  # w[0] is u, w[1] is v


even, uneven = np.array([[1.0], [1]]), np.array([[4], [0.25]])
assert np.allclose([two_weights(w + ring).max() for w in (even, uneven)], (0.35, 2.07), atol=0.005)
assert np.allclose(two_weights(even + ring * even), two_weights(uneven + ring * uneven))

# %% tags=["hide-input"]
made, at = figure(10, 4.2)
x, y = np.linspace(0.3, 6.2, 119), np.linspace(-0.45, 1.65, 61)
contours(at, two_weights((x, y[:, None])), x, y, (0.02, 0.1, 0.3, 0.7, 1.5, 3, 6))
at.plot(x, 1 / x, color=GREY, lw=3, label="u v = 1: loss 0, one function")
for w, text, label in ((even, "(1, 1)", "steps"), (uneven, "(4, 1/4)", "_")):
    at.plot(*(w + ring), color=ORANGE, lw=2, label=label + " of length 0.5")
    at.plot(*(w + ring * w), "--", color=PINK, lw=2, label=label + " in units of each weight")
    at.plot(*w, "o", color="black")
    at.annotate(text, w[:, 0], (6, 5), textcoords="offset points", weight="bold")
at.set(ylim=(y[0], y[-1]), xlabel="weight u", ylabel="weight v")
at.legend(loc="upper right", frameon=True, framealpha=1)
show(made, "04-same-function")

# %% [markdown]
# ## Two minima of a network
#
# Now the network of tutorial 2 with its 4,810 weights, and its loss `f` on all training images. We
# train it twice from the same start until `f` is below 0.02: in small steps (`lr = 0.1`, for 85
# epochs) and in large ones (`lr = 1`, for 10). A third one is the first, *rescaled*: `W1` and `b1`
# times 4, `W2` over 4. It gives the same scores, bit for bit, as 4 is a power of two.

# %%
data = digits_split(seed=0, dtype="float64")
model = models.mlp([64, 64, 10], seed=0, dtype="float64")
f = sharpness.Landscape(model, data.x_train, data.y_train)  # f(w), or f.loss(w) without gradient
start = model.weights.flat.copy()


def train(lr, epochs):
    w = start.copy()
    for epoch in range(epochs):
        for batch in np.random.default_rng(epoch).permutation(898)[:896].reshape(14, 64):
            w -= lr * objective(model, data.x_train[batch], data.y_train[batch])(w)[1]
    return w


small, large = train(0.1, 85), train(1, 10)
W1, b1, W2, b2 = model.weights.views(small)
c = np.full(64, 4.0)  # a factor for each hidden value
rescaled = np.concatenate([(c[:, None] * W1).ravel(), c * b1, (W2 / c).ravel(), b2])
networks = {"small steps": small, "rescaled": rescaled, "large steps": large}
assert f.loss(rescaled) == f.loss(small) < 0.02 > f.loss(large)

# %% [markdown]
# How do you look at a function of 4,810 weights? Along a line `w + t d` with a random direction
# `d`, or over a plane, with two. With steps of equal length the rescaled network looks sharper. In
# units of each filter its line is that of the first one, bit for bit. (Biases stay where they are.)

# %% tags=["hide-input"]
made, (left, right, *planes) = figure(13, 3.6, 4)
t, z = np.linspace(-1, 1, 21), Stream("direction", 1).normal(4810, "float64")
lines, levels = [], (0.05, 0.1, 0.2, 0.5, 1, 2, 4)
for (name, w), colour, dash in zip(networks.items(), (BLUE, GREY, GREEN), ("-", "--", "-")):
    streams = Stream("direction", 1), Stream("direction", 2)
    d1, d2 = (sharpness.filter_normalised_direction(w, f.shapes, s) for s in streams)
    lines.append([sharpness.loss_along(f.loss, w, d, t) for d in (10 / np.sqrt(z @ z) * z, d1)])
    for at, line in zip((left, right), lines[-1]):
        at.plot(t, line, dash, color=colour, lw=2.5, label=name)
    if name != "rescaled":
        plane, at = sharpness.loss_over_plane(f.loss, w, d1, d2, t, t), planes.pop(0)
        contours(at, plane, t, t, levels, title=name, xlabel="along d1", ylabel="along d2")
left.set(xlabel="along d, of length 10", ylabel="loss", title="the same d for all")
right.set(xlabel="along d1", title="d1 in units of each filter")
left.legend(loc="upper center")
show(made, "04-lines-and-planes")
assert lines[1][0].max() > 3 * lines[0][0].max()
assert np.array_equal(lines[1][1], lines[0][1])

# %% [markdown]
# | | small steps | the same, rescaled | large steps |
# |---|---|---|---|
# | worst rise, `rho = 0.3` | 0.26 | 4.1 | 0.05 |
# | average rise, `sigma = 0.1` | 0.15 | 1.6 | 0.07 |
# | average rise, `sigma = 0.05`, in units of each filter | 0.062 | 0.062 | 0.040 |
# | test images read rightly (%) | 96 | 96 | 97 |
#
# (In units of each filter: `eps = sigma s z`, `s` the filter's length; a bias is a filter here.)
# By each measure the large steps ended flatter. But the second column *is* the first network, and
# its worst rise is about 16 times as large. So **sharpness in plain units cannot by itself say how
# well a network reads new images.** Units of each filter mend this case; not all: see "Try this".

# %%
table = []
for w in networks.values():
    model.weights.flat[...] = w
    with no_grad():
        read = 100 / 450 * np.sum(model(data.x_test).data.argmax(axis=1) == data.y_test)
    in_units = average(f.loss, w, 0.05, filter_scale(w, f.shapes))
    table.append((worst(f, w, 0.3), average(f.loss, w, 0.1), in_units, read))
expected = [(0.26, 0.15, 0.062, 96), (4.1, 1.6, 0.062, 96), (0.05, 0.07, 0.040, 97)]
assert np.allclose(table, expected, rtol=0.05), table
assert abs(table[1][0] / table[0][0] - 16) < 1
stream = Stream("draws", 0)
ours = sharpness.average_sharpness(f.loss, w, f.shapes, sigma=0.05, draws=20, stream=stream)
assert np.isclose(ours.mean, in_units)

# %% [markdown]
# ## What to look at
#
# - First picture: across the ravine is worst; in the bowl all ways are. The average sees all ways.
# - Second picture: at `(4, 1/4)` pink dashes follow the valley, the orange line runs up its walls.
# - Last picture: on the left the dashed line looks like a sharper minimum than the blue one, yet it
#   is the same network. The planes show 2 directions of 4,810; where large steps ended is wider.
# - 96 and 97 % of 450 test images differ by no more than chance. That flat networks read new
#   images better is not shown here; tutorial 8 asks it of SAM.
#
# ## Try this
#
# - Train the first network for 86 epochs. Which measures stay, and which moves? And other seeds?
# - Let `c = 2.0 ** np.random.default_rng(0).integers(-2, 3, 64)`. Do the right lines still agree?
# - Read Li et al. (NeurIPS 2018) on units of filters, Dinh et al. (ICML 2017) on rescaling.
#
# ## Exercises
#
# **1.** For the loss `w^T H w / 2`, with any symmetric `H`, find the mean rise at 0 under noise
# `sigma s z` without a draw. `s` is a vector, the scale of each weight.


# %% tags=["exercise"]
def mean_rise(H, sigma, s): ...


# %%
def exercise_1(rise):
    drawn = average(lambda w: w @ tilted @ w / 2, origin, 0.3, scales, draws=20_000)
    assert np.isclose(rise, drawn, rtol=0.05), f"{rise}, but draws give {drawn}"


tilted, scales = np.array([[3.0, 2.0], [2.0, 5.0]]), np.array([2.0, 0.5])
check(exercise_1, mean_rise(tilted, 0.3, scales))

# %% [markdown]
# **2.** Write the scaling of a direction for one layer: give each row of `D` (O, I) the length of
# the same row of `W` (O, I).


# %% tags=["exercise"]
def scaled_rows(D, W): ...


# %%
def exercise_2(scaled):
    assert np.allclose(scaled.ravel(), d1[:4096]), "a filter is a row: what one output has"


check(exercise_2, scaled_rows(z[:4096].reshape(64, 64), large[:4096].reshape(64, 64)))
