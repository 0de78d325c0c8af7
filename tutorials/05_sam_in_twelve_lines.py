# %% [markdown]
# # 5. SAM in twelve lines
#
# SGD asks for the slope where it stands. SAM, *sharpness-aware minimization*, first goes uphill, a
# fixed distance, and asks for the slope *there*. Then it comes back and takes its step with that
# slope.
#
# The idea to take away: **a step of SAM is two gradients: the first says where to look, the second,
# found there, moves the weights from where they were.**

# %%
import numpy as np
from style import BLUE, GREEN, ORANGE, arrow, check, contours, figure, movie, note, show

from rsam_ref import SAM, SGD, models, objective
from rsam_ref.data import digits_split
from rsam_ref.training import train

# %% [markdown]
# ## Twelve lines
#
# `loss_and_grad(w)` gives a loss and its gradient, as in tutorial 2. `rho` is the distance, the
# *radius*. `1e-12` only keeps a gradient of 0 from dividing 0 by 0. We try it on the smallest
# network of tutorial 4, with two weights and the loss `(u v - 1)^2 / 2`: a ravine along the
# hyperbola `u v = 1`.


# %%
def sam(loss_and_grad, w, lr, rho):
    """One step of SAM (Foret et al., ICLR 2021): its vectors, and the new weights."""
    # 1. Where does the loss rise fastest?
    _, g0 = loss_and_grad(w)
    # 2. Go there: this direction, the length rho.
    length = (g0 @ g0) ** 0.5
    eps = rho / (length + 1e-12) * g0
    # 3. What is the slope there?
    _, g = loss_and_grad(w + eps)
    # 4. Take it back to w, and step.
    after = w - lr * g
    return g0, eps, g, after


def ravine(w):
    u, v = w
    return (u * v - 1) ** 2 / 2, (u * v - 1) * np.array([v, u])


w, lr, rho = np.array([2.0, 0.65]), 0.1, 0.5
g0, eps, g, after = sam(ravine, w, lr, rho)
assert np.isclose(eps @ eps, rho**2)

# %% [markdown]
# ## Where the equations come from
#
# **The problem.** SAM wants weights whose whole neighbourhood has a low loss. So it minimises not
# `L(w)`, but the highest loss in a disc around `w`:
#
#     min over w   of   max over ||eps|| <= rho   of   L(w + eps)
#
# **The maximum.** Near `w` the loss is about `L(w) + g0^T eps` (Taylor, first order). A scalar
# product is largest if both vectors point the same way, and it grows with their lengths. So the
# best `eps` is the *unit* vector along `g0`, times the whole radius. The length of `g0` drops out.
#
# **The minimum.** Go downhill on `L(w + eps)`. Its gradient is `g`, if `eps` is taken as given.
#
# Below, Taylor is far off about the height: it foretells 0.36 at `w + eps`, and the loss is 1.02.
# But the direction is good: the highest place of the disc has 1.04, only 8 degrees away.

# %%
turn = np.linspace(-180, 180, 3601)
along = np.arctan2(g0[1], g0[0]) + np.radians(turn)
rim = w[:, None] + rho * np.array([np.cos(along), np.sin(along)])
L0, heights = ravine(w)[0], ravine(rim)[0]
foretold, found, top = L0 + g0 @ eps, ravine(w + eps)[0], heights.argmax()
assert np.allclose((foretold, found, heights[top]), (0.36, 1.02, 1.04), atol=0.006)
assert abs(abs(turn[top]) - 8) < 0.5

# %% tags=["hide-input"]
levels, down = (0.003, 0.02, 0.1, 0.3, 0.7, 1.5, 3, 6), -lr * g
made, (left, right) = figure(12, 5.4, 2, width_ratios=(1, 1.1))
contours(left, lambda w: ravine(w)[0], (1.3, 2.7), (-0.02, 1.38), levels)
left.plot(*rim, color=ORANGE, ls=":")
for start, way, colour in (w, g0, BLUE), (w, eps, ORANGE), (w + eps, down, GREEN), (w, down, GREEN):
    arrow(left, start, start + way, colour)
note(left, w + g0, "1  g0", BLUE, "right")
note(left, w + 0.45 * eps, "2  eps", ORANGE, "right")
note(left, w + eps + 0.7 * down, "3  -lr g: found here", GREEN)
note(left, w + 0.6 * down, "4  taken here", GREEN)
for place, text in (w, "w"), (w + eps, "w + eps"), (after, "new w"):
    note(left, place, text, side="right")
right.plot(turn, heights, color="black", label="the loss")
right.plot(turn, L0 + g0 @ eps * np.cos(np.radians(turn)), color=BLUE, label="Taylor's guess")
right.plot((0, 0), (foretold, found), "o--", color=ORANGE, label="both at w + eps")
right.set(xlabel="angle from eps (degrees)", ylabel="loss on the rim")
right.legend()
show(made, "05-step")

# %% [markdown]
# ## Where is the second-order term?
#
# `eps` changes with `w`. So the chain rule gives the gradient of `L(w + eps)` a second part:
#
#     rho / ||g0||  H  (the part of g across g0)          H: the Hessian at w
#
# SAM leaves it out. One reason is the price: `H v` takes two more gradients, before and behind `w`.
# The better one is that **at the true top of the disc it is 0**: there `g` points straight outward,
# or one could slide along the rim and get higher. The gradient of the true maximum is `g` alone.
#
# It is not always small: on the network of tutorial 2 after 10 epochs it has 0.04 of the length of
# `g` at `rho = 0.05`, but 0.7 at `rho = 0.3`. One step misses the top by more there (tutorial 6).


# %%
def left_out(loss_and_grad, w, rho, h=1e-5):
    g0, _, g, _ = sam(loss_and_grad, w, 0, rho)
    across = g - (g @ g0) / (g0 @ g0) * g0
    Hv = (loss_and_grad(w + h * across)[1] - loss_and_grad(w - h * across)[1]) / (2 * h)
    return rho / (g0 @ g0) ** 0.5 * Hv


around = w + 1e-5 * np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
losses = np.array([ravine(place + sam(ravine, place, 0, rho)[1])[0] for place in around])
assert np.allclose((losses[:2] - losses[2:]) / 2e-5, g + left_out(ravine, w, rho))

data = digits_split(seed=0, dtype="float64")
model = models.mlp([64, 64, 10], seed=0, dtype="float64")
train(model, SGD(lr=0.1), data.x_train, data.y_train, epochs=10)
trained, f = model.weights.flat, objective(model, data.x_train, data.y_train)
for radius, share in (0.05, 0.04), (0.3, 0.7):
    term, g = left_out(f, trained, radius), sam(f, trained, 0, radius)[2]
    assert np.isclose((term @ term / (g @ g)) ** 0.5, share, rtol=0.2)

# %% [markdown]
# ## Why SAM does not stay where it is sharp
#
# SGD and SAM go down the ravine from the same place, with `lr = 0.05`. After 20 steps SGD has
# arrived: the loss is 0, and the curvature across, `u^2 + v^2`, is 15.7. SAM cannot stop: there is
# always a place higher within `rho`, and the slope there throws it across the ravine. It hovers.
# And that slope is not quite across. Where the ravine is flatter its walls are lower, and downhill
# leads there too. So SAM drifts. After 120 steps the curvature is 2.3; on the hyperbola 2 is least.
#
# Two warnings. The floor of the ravine is **one and the same network function** (tutorial 4), so no
# test image can show that anything is gained. And SGD moves on as well if its steps are too large
# to settle: with `lr = 0.15` its curvature ends at 9.1.

# %%
paths, sharp = {}, {}
for name, radius, step in ("SGD", 0.0, 0.05), ("SAM", 0.4, 0.05), ("large steps", 0.0, 0.15):
    path = [np.array([4, 0.6])]
    for _ in range(120):
        path.append(sam(ravine, path[-1], step, radius)[3])
    paths[name], sharp[name] = np.array(path), [place @ place for place in path]
assert ravine(paths["SGD"][20])[0] < 1e-20 < 1e-5 < ravine(paths["SAM"][120])[0]
assert np.allclose(sharp["SGD"][20:], 15.7, atol=0.05)
assert np.allclose((sharp["SAM"][120], sharp["large steps"][120]), (2.3, 9.1), atol=0.1)

# %% tags=["hide-input"]
made, at = figure(8.5, 4.6)
contours(at, lambda w: ravine(w)[0], (0.4, 4.6), (-0.5, 1.6), levels)
(black,), (green,) = at.plot([], [], "k.-", label="SGD"), at.plot([], [], color=GREEN, label="SAM")
(out,) = at.plot([], [], "o-", color=ORANGE, lw=2.5, markevery=[1], label="its eps")
at.legend(loc="upper right", frameon=True)
steps = [*range(20), *range(20, 120, 5), *[120] * 8]


def draw(frame):
    k = steps[frame]
    black.set_data(*paths["SGD"][: k + 1].T)
    green.set_data(*paths["SAM"][: k + 1].T)
    out.set_data(*(paths["SAM"][k] + np.outer((0, 1), sam(ravine, paths["SAM"][k], 0, 0.4)[1])).T)
    at.set_title(f"step {k}: curvature {sharp['SGD'][k]:.1f} and {sharp['SAM'][k]:.1f}")


movie(made, draw, len(steps), "05-ravine")

# %% [markdown]
# ## The same on a network, and three mistakes
#
# Our twelve lines know only `loss_and_grad`, so they train the network as well. `SAM(SGD(lr))` in
# rsam_ref does the same with the function `sam_gradient`, and its steps are the same, bit for bit.
# (Momentum, as in tutorial 2, would only change step 4.) What others got wrong, at `rho = 0.1`:
#
# - **A norm for each layer.** This network has 4 arrays of weights, so `eps` becomes 2 times as
#   long as `rho`, and points elsewhere: its cosine with the right one is 0.8.
# - **Another batch in the second pass.** `eps` leads uphill for its own batch, less for another.
# - **Going back by subtraction.** In floating point `(w + eps) - eps` is not always `w`. Keep a
#   copy, and let it be one: a second name for the same array goes along to `w + eps`, and stays.

# %%
ours, optimizer = trained.copy(), SAM(SGD(lr=0.1), rho=0.1)
for i in range(0, 896, 64):
    f = objective(model, data.x_train[i : i + 64], data.y_train[i : i + 64])
    g0, eps, g, ours = sam(f, ours, 0.1, 0.1)
    trace = optimizer.step(f, trained)
    theirs = trace.ascent_gradient, trace.perturbation, trace.gradient, trained
    assert all(map(np.array_equal, theirs, (g0, eps, g, ours)))

wrong = np.concatenate([0.1 * v / (v @ v) ** 0.5 for v in np.split(g0, (4096, 4160, 4800))])
assert np.allclose((wrong @ wrong, wrong @ eps), ((2 * 0.1) ** 2, 0.8 * 2 * 0.1**2), rtol=0.05)

# %% [markdown]
# ## What to look at
#
# - First picture: `g` is longer than `g0`: the step crosses the ravine. It leans to the flat end.
# - Beside it: SAM needs only that both curves have their tops at about the same angle.
# - The movie: SGD stops. SAM jumps from side to side, and drifts to where the ravine is wide.
#
# ## Try this
#
# - Let `rho` be 0.1 and 0.6 in the movie. How fast does SAM drift, and how close does it come?
# - [Move `w`](../docs/interactive.md#surface=ravine&method=sam) to `(2, 0.5)`. And right beside it?
#
# ## Exercises
#
# **1.** On the parabola `L(x) = h x^2 / 2` SAM ends up jumping between `d` and `-d`. Find `d`, for
# `lr h < 2`, where SGD settles. (Write one step from `d` to `-d`.)


# %% tags=["exercise"]
def hover(h, lr, rho): ...


# %%
def exercise_1(_):
    for h, lr, rho in (4, 0.1, 0.3), (1, 0.5, 0.2), (3, 0.5, 0.1):
        d = np.array([hover(h, lr, rho)])
        x = sam(lambda x, h=h: (0, h * x), d, lr, rho)[3]
        assert np.isclose(x, -d), f"from {d} SAM goes to {x}: {h=}, {lr=}, {rho=}"


check(exercise_1, hover(4, 0.1, 0.3))

# %% [markdown]
# **2.** Most libraries keep weights as a list of arrays and change them in place. `gradients()`
# gives a list of gradients, at what `arrays` hold. Return SAM's second gradients, and leave the
# arrays as they were, to the last bit.


# %% tags=["exercise"]
def sam_in_place(gradients, arrays, rho): ...


# %%
def exercise_2(found):
    assert np.array_equal(np.concatenate(arrays), w), "the weights are not what they were"
    assert np.allclose(np.concatenate(found), sam(ravine, w, 0, rho)[2]), "not SAM's gradient"


arrays = [w[:1].copy(), w[1:].copy()]
check(exercise_2, sam_in_place(lambda: np.split(ravine(np.concatenate(arrays))[1], 2), arrays, rho))
