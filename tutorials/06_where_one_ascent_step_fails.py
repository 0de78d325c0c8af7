# %% [markdown]
# # 6. Where one ascent step fails
#
# How high does the loss rise within a radius `rho` of the weights `w`? That is the *inner maximum*:
# the largest `L(w + eps)` with `||eps|| <= rho`. SAM (tutorial 5) does not search for it. It goes
# along the gradient at `w`, all the way to the radius.
#
# The idea to take away: **one step finds the maximum only if the gradient, where the step ends, has
# not turned.** We see why it turns, and what more steps or random draws can do about it.

# %%
from functools import partial

import numpy as np
from style import BLUE, GREEN, ORANGE, PINK, arrow, check, contours, figure, note, show

from rsam_backends import Stream
from rsam_ref import SGD, models, objective, sam_gradient, sharpness
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.data import digits_split
from rsam_ref.training import train

# %% [markdown]
# ## A ravine with ripples
#
# To the ravine of tutorial 4, `(x^2 + 9 y^2) / 2`, we add ripples, `0.3 cos(8 x) cos(8 y)`. With 2
# weights the maximum is found by trying 5,760 places on the disc. The *share* of a method is the
# rise at its `w + eps` in per cent of the largest. At `w = (0.2, 0.1)`, `rho = 0.5` SAM's is 41 %:
# the gradient knows the nearest ripple, and nothing of the wall of the ravine behind it.


# %%
def rippled(w, height=0.3):
    """The loss at w (..., 2), and its gradient (..., 2)."""
    x, y = w[..., 0], w[..., 1]
    loss = (x**2 + 9 * y**2) / 2 + height * np.cos(8 * x) * np.cos(8 * y)
    in_x = x - 8 * height * np.sin(8 * x) * np.cos(8 * y)
    in_y = 9 * y - 8 * height * np.cos(8 * x) * np.sin(8 * y)
    return loss, np.stack([in_x, in_y], axis=-1)


def unit(v):
    return v / np.sqrt((v * v).sum(axis=-1, keepdims=True))


def share(f, w, eps, rho):
    """The rise at w + eps in per cent of the largest on the disc; w and eps are (..., 2)."""
    highest = f(w[..., None, :] + rho * disc)[0].max(axis=-1)
    return 100 * (f(w + eps)[0] - f(w)[0]) / (highest - f(w)[0])


angles, rho = np.linspace(0, 2 * np.pi, 180), 0.5
circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (180, 2)
disc = (np.linspace(0, 1, 32)[:, None, None] * circle).reshape(5_760, 2)
w = place = np.array([0.2, 0.1])  # the exercises come back to this place
assert abs(share(rippled, w, rho * unit(rippled(w)[1]), rho) - 41) < 1

# %% [markdown]
# ## More steps
#
# With thousands of weights nobody tries all places. *Projected gradient ascent* climbs: go along
# the gradient; if that leaves the disc, come back to its rim; if the loss did not rise, stay, and
# halve the step. It ends on *a* top, so start it in several places and keep the best. Here three of
# five starts find the maximum, two end on ripples, at 13 and 58 %. *k-step SAM* takes `k` steps of
# `rho / k`, each along the gradient where it has come to: 5 steps end on a ripple, at 14 %.


# %%
def climb(f, w, eps, rho, steps=30):
    """Projected gradient ascent from w + eps: the loss that it reaches, and its eps."""
    length, (loss, g) = rho, f(w + eps)
    for _ in range(steps):
        trial = eps + length * unit(g)
        trial *= min(1, rho / np.sqrt(trial @ trial))
        trial_loss, trial_g = f(w + trial)
        if trial_loss > loss:
            eps, loss, g, length = trial, trial_loss, trial_g, min(2 * length, 4 * rho)
        else:
            length /= 2
    return loss, eps


starts = rho * np.array([(0, 0), *circle[[20, 65, 110, 155]]])
losses, tops = zip(*(climb(rippled, w, eps, rho) for eps in starts))
sam5 = sam_gradient(rippled, w, rho=rho, ascent_steps=5).perturbation
shares = [share(rippled, w, eps, rho) for eps in (*tops, sam5)]
assert np.allclose(np.sort(shares), (13, 14, 58, 100, 100, 100), atol=0.6)
given = {"rho": rho, "starts": starts[1:], "restarts": 0, "stream": Stream("starts", 0)}
assert np.isclose(sharpness.rho_sharpness(rippled, w, **given).rise, max(losses) - rippled(w)[0])

# %% [markdown]
# ## Many draws, and one
#
# Two things turn the gradient: the *ripples*, and the *bend* of the ravine itself. Random draws
# tell which. Average the gradients at `w + D` over many draws `D = 0.2 z`, with `z` from the normal
# distribution: that is the gradient of a smoother loss, the mean of `L(w + D)`. In it the ripples
# have `exp(-64 * 0.2^2)`, or 8 %, of their height. But the gradient of the ravine is linear in `w`,
# so its average is what it is at `w`. **Averaging takes away ripples, not the bend.**
#
# R-SAM (tutorial 7) takes **one** draw, so it costs what SAM costs, and adds it to the direction:
# `a = lam g0 + D`, `g0` the gradient at `w + D`, `lam` a number. At 400 places, over 200 draws:
#
# | share (%) of `eps` along the | ravine | with ripples |
# |---|---|---|
# | gradient at `w` (SAM) | 97 | 80 |
# | mean of 200 gradients at `w + D` | 96 | 95 |
# | one gradient at `w + D` | 92 | 82 |
# | `a` of R-SAM, `lam = 2` | 92 | 81 |
#
# With ripples the average is far better than SAM, one draw hardly. Without, one draw is worse.

# %%
ravine, smooth = partial(rippled, height=0), partial(rippled, height=0.3 * 0.08)  # exp(-64 * 0.2^2)
many = 0.2 * np.random.default_rng(0).normal(size=(80_000, 2))
for f, averaged in ((rippled, smooth), (ravine, ravine)):
    assert np.allclose(f(w + many)[1].mean(axis=0), averaged(w)[1], atol=0.05)
side, D = np.linspace(-1, 1, 20), many.reshape(200, 400, 2)
places = np.stack(np.meshgrid(side, side), axis=-1).reshape(400, 2)
for f, expected in ((ravine, (97, 96, 92, 92)), (rippled, (80, 95, 82, 81))):
    g = f(places + D)[1]
    directions = f(places)[1], g.mean(axis=0), g, 2 * g + D
    shares = [share(f, places, rho * unit(a), rho).mean() for a in directions]
    assert np.allclose(shares, expected, atol=1)

# %% tags=["hide-input"]
made, axes = figure(13.5, 5.2, 3)
titles = "w + eps, as rho grows to 0.5", "12 places w + D, their gradients", "the smoother loss"
radii, levels = np.linspace(0.02, 0.5, 25), np.linspace(-3, 5, 70)
highest = np.array([r * disc[np.argmax(rippled(w + r * disc)[0])] for r in radii])
for at, f, title in zip(axes, (rippled, rippled, smooth), titles):
    contours(at, lambda v, f=f: f(v.T)[0].T + 1, (-0.45, 0.85), (-0.52, 0.78), levels)
    at.plot(*(w + rho * circle).T, ":", color="black")
    at.plot(*(w + highest[-1]), "*", color="black", ms=14, label="true maximum")
    note(at, w, "w", side="right")
    at.set(title=title)
axes[0].plot(*(w + highest).T, ".", color="black", ms=4)
axes[0].plot(*(w + tops).T, "x", color=GREEN, mew=2, label="projected ascent, 5 starts")
for label, look, k in (("SAM", "o:", 1), ("SAM in 5 steps", "s:", 5)):
    ends = [sam_gradient(rippled, w, rho=r, ascent_steps=k).perturbation for r in radii]
    axes[0].plot(*(w + ends).T, look, color=BLUE, markevery=[-1], label=label)
for spot in w + many[:12]:
    axes[1].plot(*spot, "o", color=PINK)
    arrow(axes[1], spot, spot + 0.2 * unit(rippled(spot)[1]), BLUE)
arrow(axes[2], w, w + rho * unit(smooth(w)[1]), BLUE, "mean")
made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
show(made, "06-ripples")

# %% [markdown]
# ## On a network
#
# Now the network of tutorial 2 after 10 epochs, in the midst of training; the loss of 256 images;
# R-SAM's draws, `sigma` in units of each filter (tutorial 4). Does the gradient turn? By ripples,
# or by bend? What does each method reach? `inner_maximum` climbs as above, and gives the shares.

# %%
data = digits_split(seed=0, dtype="float64")
model = models.mlp([64, 64, 10], seed=0, dtype="float64")
train(model, SGD(0.1), data.x_train, data.y_train, epochs=10)
w, shapes = model.weights.flat, model.weights.shapes
f = objective(model, data.x_train[:256], data.y_train[:256])
(loss, g), rhos, sigmas = f(w), (0.05, 0.1, 0.2, 0.4, 0.8), (0.001, 0.005, 0.02, 0.1)
turned, means, stream = [], [], Stream("draws", 0)
for sigma in sigmas:
    draws = [filter_noise(w, shapes, sigma=sigma, stream=stream) for _ in range(64)]
    g0 = np.array([f(w + D)[1] for D in draws])  # (64, 4810)
    turned.append(np.mean(unit(g0) @ unit(g)))
    means.append(unit(g0.mean(axis=0)))
by_sam = [unit(f(w + r * unit(g))[1]) @ unit(g) for r in rhos]
assert np.allclose((by_sam[3], turned[2], means[2] @ unit(g)), (0.89, 0.90, 0.995), atol=0.006)
find = partial(sharpness.inner_maximum, f, w, shapes, sigmas=sigmas, ascent_steps=(1, 5), steps=30)
found = [find(rho=r, draws=10, stream=Stream("inner", 0)) for r in rhos]
shares = np.array([[100 * best.share(way) for way in best.reached] for best in found]).T
# Its rows: SAM in 1 and 5 steps; for each sigma R-SAM, g0 without D, and D; ascent, 1 and 5 steps.
(sam, five), rsam, only_g0, climbed = shares[:2], shares[2:-2:3], shares[3:-2:3], shares[-1]
rises = np.array([[f(w + r * mean)[0] - loss for r in rhos] for mean in means])
gain = 100 * rises / [best.rise for best in found] - sam
assert np.allclose((sam[0], sam[3], five[3], climbed[3]), (99, 70, 82, 99.5), atol=1)
assert np.all((rsam < sam) & (rsam[0] > sam - 0.5) & (only_g0[1] > sam - 1))
assert np.allclose([*(sam - rsam)[1:3, 3], gain[:3].max()], (8, 40, 3), atol=1.5)

# %% tags=["hide-input"]
made, (left, right) = figure(11, 4.3, 2)
lengths = np.linalg.norm(draws[0]) / 0.1 * np.array(sigmas)
left.semilogx(rhos, by_sam, "o-", color=BLUE, label="at w + eps of SAM, rho 0.05 to 0.8")
left.plot(lengths, turned, "^-", color=PINK, label="at w + D, sigma 0.001 to 0.1")
left.plot(lengths, means @ unit(g), "s--", color=PINK, label="mean of 64 at w + D")
left.set(xlabel="length of eps, or of D", ylabel="cosine with the gradient at w", ylim=(0, 1.05))
right.plot(rhos, climbed, "x-", color=GREEN, label="projected ascent, 5 gradients")
right.plot(rhos, five, "s--", color=BLUE, label="SAM in 5 steps")
right.plot(rhos, sam + gain[2], "s--", color=PINK, label="mean of 64 at w + D, sigma 0.02")
right.plot(rhos, sam, "o-", color=BLUE, label="SAM")
right.plot(rhos, rsam[0], "^:", color=ORANGE, label="R-SAM, sigma 0.001")
right.plot(rhos, rsam[1], "^-", color=ORANGE, label="R-SAM, sigma 0.005")
right.set(xlabel="radius rho", ylabel="share (%)", ylim=(0, 105))
for at in (left, right):
    at.legend(loc="lower left")
show(made, "06-network")

# %% [markdown]
# ## What to look at
#
# - Ripples: SAM keeps to its line, while the maximum (black) goes round a ripple. Single gradients
#   point everywhere, their mean nearly at the maximum.
# - Network, left: the gradient turns, to a cosine of 0.89 at `w + eps` (`rho = 0.4`) and of 0.90 at
#   `w + D` (`sigma = 0.02`). But **the mean of 64 is back at 0.995: bend, and hardly any ripples.**
# - Right: SAM's share falls from 99 % to 70 % at `rho = 0.4`. Steps help: with 5 gradients, SAM in
#   5 steps reaches 82 % there, and projected ascent 99.5 %.
# - R-SAM reaches less than SAM at all 5 radii and 4 scales: at `rho = 0.4` 8 points less for 0.005
#   and 40 for 0.02, as the draw takes over its direction. The mean of 64 gradients gains 3 points
#   at best, for 64 times the price (up to `sigma = 0.02`; at 0.1 it depends on which 64).
# - R-SAM's paper expects more of one draw. This is one small network; others may have ripples. And
#   who climbs best need not train best: tutorial 8 trains with SAM and R-SAM, and compares.
#
# ## Try this
#
# - Take the loss of 64 images, or weights before training. Does R-SAM ever reach more than SAM?
# - [Move `w` and `sigma`](../docs/interactive.md#surface=cosines&method=rsam&draws=1). Who is best?
#
# ## Exercises
#
# **1.** Write k-step SAM, `k` steps of `rho / k` from `w`. Return `eps`.


# %% tags=["exercise"]
def k_steps(f, w, rho, k): ...


# %%
def exercise_1(eps):
    theirs = sam_gradient(rippled, place, rho=0.5, ascent_steps=5).perturbation
    assert np.allclose(eps, theirs), "is each gradient taken where the last step ended?"


check(exercise_1, k_steps(rippled, place, 0.5, 5))

# %% [markdown]
# **2.** Use each draw twice: return the mean gradient over all `w + D` and `w - D`. `D` is (n, 2).


# %% tags=["exercise"]
def in_pairs(f, w, D): ...


# %%
def exercise_2(g):
    assert np.allclose(g, ravine(place)[1]), "a linear gradient: what D adds, -D takes away"
    assert np.allclose(in_pairs(rippled, place, many), smooth(place)[1], atol=0.05), "ripples"


check(exercise_2, in_pairs(ravine, place, many[:1]))
