# %% [markdown]
# # 4. Sharp and flat minima
#
# Training ends where the gradient nearly vanishes. Many sets of weights are like that, with equal
# losses; what differs is the loss *around* them. At a *sharp* minimum a small change of the weights
# costs much, at a *flat* one little. SAM, in tutorial 5, looks for flat ones.
#
# The idea to take away: **flatness is what a small change of the weights costs. It can be drawn
# and measured, and all depends on what you call a small change.**

# %%
import numpy as np
from style import BLUE, GREEN, ORANGE, PINK, arrow, check, figure, show

from rsam_backends import Stream
from rsam_ref import models, no_grad, objective, sharpness
from rsam_ref.data import digits_split
from rsam_ref.noise import filter_scale

# %% [markdown]
# ## Three numbers
#
# Take two weights and the loss `w^T H w / 2`, with its minimum at 0. `H` is the *Hessian*, the
# matrix of second derivatives. We compare a ravine (curvature 1 along, 9 across) with a bowl
# (6 both ways) by the rise `L(w + eps) - L(w)`:
#
# - the **worst** rise over all `eps` no longer than a radius `rho`. The gradient at `w + eps` says
#   where it rises from there, so go there, all the way to `rho`, and ask again;
# - the **average** rise over noise `eps = sigma z`, with `z` from the normal distribution. Each
#   draw is used with both signs, so that the slope at `w` cancels;
# - the **curvature**, the largest eigenvalue of `H`. Multiply any vector by `H` again and again,
#   and it turns to the steepest direction. `H v` is a difference of two gradients, so nobody needs
#   `H` itself, which for thousands of weights has millions of entries.


# %%
def worst(loss_and_grad, w, rho, steps=20):
    eps, losses = 1e-3 * rho * np.random.default_rng(0).normal(size=w.size), []
    for _ in range(steps):
        loss, g = loss_and_grad(w + eps)
        losses.append(loss)
        eps = rho / np.sqrt(g @ g) * g
    return max(losses) - loss_and_grad(w)[0]


def average(loss, w, sigma, scale=1.0, draws=20):
    stream, rises = Stream("draws", 0), []
    for _ in range(draws):
        eps = sigma * scale * stream.normal(w.size, w.dtype)
        rises.append((loss(w + eps) + loss(w - eps)) / 2 - loss(w))
    return np.mean(rises)


def curvature(loss_and_grad, w, h=1e-7, steps=30):
    v = np.random.default_rng(0).normal(size=w.size)
    for _ in range(steps):
        v /= np.sqrt(v @ v)
        Hv = (loss_and_grad(w + h * v)[1] - loss_and_grad(w - h * v)[1]) / (2 * h)
        value, v = v @ Hv, Hv
    return value


def quadratic(H):
    return lambda w: (w @ H @ w / 2, H @ w)


# %% [markdown]
# Theory gives `rho^2 / 2` times the largest eigenvalue for the worst rise, and `sigma^2 / 2` times
# the sum of all for the average. With `rho = 0.5` and `sigma = 0.3` the worst rise is 1.125 in the
# ravine and 0.75 in the bowl, and the average is 0.45 in the ravine and 0.54 in the bowl. **The
# ravine is sharper by one measure and flatter by another.** Flatness is not one number.

# %%
rho, sigma, origin, numbers = 0.5, 0.3, np.zeros(2), {}
for name, H in (("ravine", np.diag([1.0, 9.0])), ("bowl", np.diag([6.0, 6.0]))):
    f = quadratic(H)
    mean = average(lambda w, f=f: f(w)[0], origin, sigma, draws=20_000)
    numbers[name] = worst(f, origin, rho), mean, curvature(f, origin)
    theirs = sharpness.hessian_eigenvalues(f, origin, stream=Stream("start", 0))
    assert np.isclose(theirs.values[0], curvature(f, origin))
assert np.allclose(numbers["ravine"], (1.125, 0.45, 9), rtol=0.03)
assert np.allclose(numbers["bowl"], (0.75, 0.54, 6), rtol=0.03)


# %% tags=["hide-input"]
def contours(at, heights, x, y, levels, **labels):
    at.contourf(x, y, heights, levels, cmap="Greys", alpha=0.5, extend="both")
    drawn = at.contour(x, y, heights, levels, colors="black", linewidths=0.5)
    at.clabel(drawn, fontsize=8)
    at.grid(False)
    at.set(aspect="equal", **labels)


def disc(at, centre, tip, colour, text, place):
    angle = np.linspace(0, 2 * np.pi, 200)
    at.plot(centre[0] + rho * np.cos(angle), centre[1] + rho * np.sin(angle), color=colour)
    arrow(at, centre, centre + tip, colour)
    at.text(*place, text, color=colour, size=9, bbox={"fc": "white", "ec": "none", "pad": 1})


made, axes = figure(10, 4.7, 2)
x, z = np.linspace(-1, 1, 81), np.random.default_rng(1).normal(size=(120, 2))
for at, name, (a, b) in zip(axes, numbers, ((1, 9), (6, 6))):
    heights = (a * x**2 + b * x[:, None] ** 2) / 2
    title = "{}: worst {:.3g}, average {:.2f}, curvature {:.0f}".format(name, *numbers[name])
    contours(at, heights, x, x, np.arange(0.5, 5, 0.5), title=title, xlabel="first weight")
    at.plot(*(sigma * z).T, ".", color=PINK, ms=4)
    at.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    disc(at, origin, np.array([0, rho]), ORANGE, "eps: the worst within rho", (0.05, 0.55))
axes[0].set(ylabel="second weight")
show(made, "04-three-numbers")

# %% [markdown]
# ## The same function, sharp and flat
#
# Here is the smallest network with a ReLU: `f(x) = v max(0, u x)`. For one image, `x = 1` with the
# value 1, the loss is `(u v - 1)^2 / 2`. It vanishes along the hyperbola `u v = 1`. At `(1, 1)` and
# at `(4, 1/4)` the network is **the same function**, since `v / c` undoes what `c u` did. Yet the
# curvature, `u^2 + v^2`, is 2 at the first and 16.06 at the second place: a step of equal length is
# a large one for a weight of 1/4.
#
# The remedy (Li et al., NeurIPS 2018) is to measure a step in units of what it changes: draw a
# direction `d` and give each of its *filters*, the weights of one output, the length of the same
# filter of `w`. Here each weight is a filter, so `w` moves by `t d w`. Now the lines are equal.


# %%
def relu_loss(w):
    miss = w[0] * w[1] - 1
    return miss**2 / 2, miss * w[::-1]


even, uneven, d = np.array([1, 1.0]), np.array([4, 0.25]), np.array([0.6, 0.8])
assert np.isclose(curvature(relu_loss, even), 2, rtol=1e-3)
assert np.isclose(curvature(relu_loss, uneven), 16.06, rtol=1e-3)
for t in (-0.5, 0.2, 0.5):
    assert relu_loss(uneven + t * d)[0] > 4 * relu_loss(even + t * d)[0]
    assert np.isclose(relu_loss(uneven + t * d * uneven)[0], relu_loss(even + t * d * even)[0])

# %% tags=["hide-input"]
made, at = figure(8.5, 4.1)
x, y = np.linspace(0.3, 4.8, 91), np.linspace(-0.45, 1.65, 61)
heights = (x * y[:, None] - 1) ** 2 / 2
contours(at, heights, x, y, (0.02, 0.1, 0.3, 0.7, 1.5, 3, 6), xlabel="weight u", ylabel="weight v")
at.plot(x, 1 / x, color=GREEN, lw=2.5, label="u v = 1: all the same function")
at.set(ylim=(y[0], y[-1]))
at.legend(loc="upper right", frameon=True)
disc(at, even, rho * d, BLUE, "(1, 1)", (0.72, 0.8))
disc(at, uneven, rho * d, ORANGE, "(4, 1/4)", (3.8, 0.05))
show(made, "04-same-function")

# %% [markdown]
# ## Two minima of a network
#
# Now the network of tutorial 2 with its 4,810 weights. We train it twice from the same start until
# the loss on all training images is below 0.02: in small steps (`lr = 0.1`, 82 epochs) and in large
# ones (`lr = 1`, 10 epochs). A third one is the first, *rescaled*: `W1` and `b1` times 4, `W2` over
# 4. It gives the same scores, bit for bit, as 4 is a power of two.


# %%
def train(data, lr, until):
    """The loss of all training images as a function; the weights that SGD found; epochs."""
    model = models.mlp([64, 64, 10], seed=0, dtype="float64")
    f, w = sharpness.Landscape(model, data.x_train, data.y_train), model.weights.flat
    for epoch in range(500):
        if f.loss(w) < until:
            break
        for batch in np.split(np.random.default_rng(epoch).permutation(898)[:896], 14):
            w -= lr * objective(model, data.x_train[batch], data.y_train[batch])(w)[1]
    return f, w.copy(), epoch


def rescaled(w, c):
    W1, b1, W2, b2 = f.model.weights.views(w)
    return np.concatenate([(W1.T * c).T.ravel(), b1 * c, (W2 / c).ravel(), b2])


data = digits_split(seed=0, dtype="float64")
f, small, epochs = train(data, 0.1, 0.02)
_, large, epochs_large = train(data, 1.0, 0.02)
networks = {"small steps": small, "rescaled": rescaled(small, 4), "large steps": large}
assert small.shape == (4810,)
assert np.allclose((epochs, epochs_large), (82, 10), atol=2)
assert f.loss(networks["rescaled"]) == f.loss(small) < 0.02

# %% [markdown]
# How do you look at a function of 4,810 weights? Along a line `w + t d` with a random direction
# `d`, or over a plane, with two. Steps of equal length make the rescaled network look sharper.
# Filter by filter its line is that of the first one, bit for bit. (Biases stay, as in the paper.)

# %% tags=["hide-input"]
made, (left, right, *planes) = figure(14, 3.5, 4)
t, z = np.linspace(-1, 1, 21), Stream("direction", 1).normal(4810, "float64")
lines, equal = {}, {}
for (name, w), colour, dash in zip(networks.items(), (BLUE, PINK, ORANGE), ("-", "--", "-")):
    d1, d2 = (
        sharpness.filter_normalised_direction(w, f.shapes, Stream("direction", k)) for k in (1, 2)
    )
    lines[name] = sharpness.loss_along(f.loss, w, d1, t)
    equal[name] = sharpness.loss_along(f.loss, w, 10 / np.sqrt(z @ z) * z, t)
    left.plot(10 * t, equal[name], dash, color=colour, label=name)
    right.plot(t, lines[name], dash, color=colour)
    if name != "rescaled":
        levels, at = (0.05, 0.1, 0.2, 0.5, 1, 2, 4), planes.pop(0)
        plane = sharpness.loss_over_plane(f.loss, w, d1, d2, t, t)
        contours(at, plane, t, t, levels, title=name, xlabel="step along d1", ylabel="along d2")
left.set(xlabel="length of the step", ylabel="loss", ylim=(0, 8), title="equal steps")
right.set(xlabel="step along d1", ylim=(0, 2.5), title="in units of each filter")
left.legend(loc="upper center")
show(made, "04-lines-and-planes")
assert equal["rescaled"].max() > 3 * equal["small steps"].max()
assert np.array_equal(lines["rescaled"], lines["small steps"])

# %% [markdown]
# ## The three numbers of the network
#
# | | small steps | the same, rescaled | large steps |
# |---|---|---|---|
# | worst rise within `rho = 0.3` | 0.26 | 4.1 | 0.05 |
# | average rise, `sigma = 0.1` | 0.16 | 1.6 | 0.07 |
# | curvature | 2.9 | 24 | 0.7 |
# | average, `sigma = 0.05` in units of each filter | 0.062 | 0.062 | 0.040 |
# | test images read rightly (%) | 96 | 96 | 97 |
#
# All measures call the end of the large steps flatter. But the second column *is* the first
# network, and by the worst rise it is 16 times as sharp. So **sharpness in plain units cannot by
# itself say how well a network reads new images** (Dinh et al., ICML 2017). And units of each
# filter cure no more than a common factor: with one factor for each hidden value, from 1/4 to 4,
# the scores are the same again, but the average goes from 0.062 to about 1.


# %%
def in_filters(w):
    return average(f.loss, w, 0.05, filter_scale(w, f.shapes))


rows = []
for w in networks.values():
    f.model.weights.flat[...] = w
    with no_grad():
        read = f.model(data.x_test).data.argmax(axis=1) == data.y_test
    rise = worst(f, w, 0.3)
    rows.append((rise, average(f.loss, w, 0.1), curvature(f, w), in_filters(w), 100 * read.mean()))
    start, draws = Stream("start", 0), Stream("draws", 0)
    theirs = sharpness.rho_sharpness(f, w, rho=0.3, restarts=0, stream=start).rise
    assert np.isclose(theirs, rise, rtol=0.05)
    theirs = sharpness.average_sharpness(f.loss, w, f.shapes, sigma=0.05, draws=20, stream=draws)
    assert np.isclose(theirs.mean, in_filters(w))
table = np.array(rows)
assert np.allclose(table[0], (0.26, 0.16, 2.9, 0.062, 96), rtol=0.1)
assert np.allclose(table[1], (4.1, 1.6, 24, 0.062, 96), rtol=0.1)
assert np.allclose(table[2], (0.05, 0.07, 0.7, 0.040, 97), rtol=0.2)
assert abs(table[1, 0] / table[0, 0] - 16) < 2
assert np.array_equal(table[0, 3:], table[1, 3:])
other = rescaled(small, 2.0 ** np.random.default_rng(0).integers(-2, 3, 64))
assert f.loss(other) == f.loss(small)
assert 0.8 < in_filters(other) < 1.3

# %% [markdown]
# ## What to look at
#
# - First picture: the worst place lies across the ravine. Along it little happens; the average
#   sees that, the worst case does not.
# - Last picture: on the left the dashed line looks like a sharper minimum. It is the blue one. The
#   planes show 2 directions of 4,810; in them the end of the large steps is wider.
# - 96 and 97 % are within noise, with 450 test images. That flat networks read new images better
#   is not shown here, and not proven in general. Tutorial 8 asks it of SAM.
#
# ## Try this
#
# - Train with `digits_split(seed=0, label_noise=0.4, dtype="float64")` until 0.5, with `lr` 0.1 and
#   0.5. Which is flatter, which reads test images better? Is it so with other seeds?
# - Let `h` be 6e-5 in `curvature`, and take other seeds. A ReLU has a kink, where the gradient
#   jumps; a difference across one can be taken for a large curvature. Draw `curvature` against `h`.
#
# ## Exercises
#
# **1.** For the loss `w^T H w / 2`, with any symmetric `H`, find the mean rise at 0 under noise
# `sigma s z` without a draw. `s` is a vector, the scale of each weight.


# %% tags=["exercise"]
def mean_rise(H, sigma, s): ...


# %%
def exercise_1(rise):
    drawn = average(lambda w: quadratic(tilted)(w)[0], origin, 0.3, scales, draws=20_000)
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
    assert scaled.shape == (64, 64)
    assert np.allclose(scaled, ours[:4096].reshape(64, 64)), (
        "a filter is a row: what one output has"
    )


W = small[:4096].reshape(64, 64)
ours = sharpness.filter_normalised_direction(small, f.shapes, Stream("direction", 1))
check(exercise_2, scaled_rows(z[:4096].reshape(64, 64), W))
