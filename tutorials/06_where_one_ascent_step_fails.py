# %% [markdown]
# # 6. Where one ascent step fails
#
# SAM (Tutorial 5) wants to know how high the loss rises within a radius `rho` of the weights `w`:
# the largest `L(w + eps)` with `||eps|| <= rho`. This is the *inner maximum*. SAM does not search
# for it. It takes the gradient at `w` and goes along it, all the way to the radius.
#
# The idea to take away: **that step finds the maximum only if the gradient does not turn within
# the radius.** We look at where it turns, why, and what can be done: climb in more steps, or
# average over random draws, the thought behind R-SAM. Then we measure all of it on a network.

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, PINK, arrow, check, figure, movie, show

from rsam_backends import Stream
from rsam_ref import models, objective, rsam_gradient, sam_gradient, sharpness
from rsam_ref.data import digits_split
from rsam_ref.noise import filter_noise
from rsam_ref.plot import COLOURS

LIGHT = COLOURS["sam2"]  # SAM in several steps

# %% [markdown]
# ## A ravine with ripples
#
# Take the ravine of Tutorial 4, `(x^2 + 9 y^2) / 2`, and add ripples, `0.3 cos(8 x) cos(8 y)`. With
# two weights we need no cleverness to find the maximum: we try 5,760 places on the disc.
#
# What a method reaches we call its *share*: the rise of the loss at its `w + eps`, in per cent of
# the largest rise. At `w = (0.2, 0.1)` with `rho = 0.5`, SAM's step reaches 41 %. The gradient
# at `w` knows the nearest ripple, and not the wall of the ravine behind it.


# %%
def rippled(w, height=0.3):
    """The loss at w (..., 2), and its gradient (..., 2)."""
    x, y = w[..., 0], w[..., 1]
    loss = (x**2 + 9 * y**2) / 2 + height * np.cos(8 * x) * np.cos(8 * y)
    in_x = x - 8 * height * np.sin(8 * x) * np.cos(8 * y)
    in_y = 9 * y - 8 * height * np.cos(8 * x) * np.sin(8 * y)
    return loss, np.stack([in_x, in_y], axis=-1)


def ravine(w):
    return rippled(w, height=0)


angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (180, 2)
disc = (np.linspace(0, 1, 32)[:, None, None] * circle).reshape(-1, 2)
assert len(disc) == 5760


def share(f, w, eps, rho):
    """The rise at w + eps, in per cent of the largest rise on the disc around w."""
    losses = f(w + rho * disc)[0]
    return 100 * (f(w + eps)[0] - f(w)[0]) / (losses.max() - f(w)[0])


w, rho = np.array([0.2, 0.1]), 0.5
sam = sam_gradient(rippled, w, rho=rho).perturbation
assert abs(share(rippled, w, sam, rho) - 41) < 1

# %% [markdown]
# ## Climbing in many steps
#
# A network has too many weights to try all places. *Projected gradient ascent* climbs instead: take
# a step along the gradient; if it leaves the disc, pull it back to the rim; if the loss did not
# grow, forget the step and halve the next. It stops on *a* top, which need not be the highest. So
# start it several times, at `w` itself and on the rim, and keep the best. Here three of five starts
# find the maximum; the others stop on ripples, at 13 and 58 %.
#
# *k-step SAM* is simpler: `k` steps of `rho / k`, each along the gradient where it has come to, for
# `k` gradients. With 5 steps it ends on the lower ripple, at 14 %. It climbs well, and is lost.

# %%
def climb(f, w, eps, rho, steps=30):
    """Projected gradient ascent from w + eps: the loss that it reaches, and its eps."""
    length, (loss, g) = rho, f(w + eps)
    for _ in range(steps):
        trial = eps + length / np.sqrt(g @ g) * g
        trial *= min(1, rho / np.sqrt(trial @ trial))
        trial_loss, trial_g = f(w + trial)
        if trial_loss > loss:
            eps, loss, g = trial, trial_loss, trial_g
            length = min(2 * length, 4 * rho)
        else:
            length /= 2
    return loss, eps


starts = [0 * w, *(rho * circle[[20, 65, 110, 155]])]
tops = [climb(rippled, w, eps, rho) for eps in starts]
loss, best = max(tops, key=lambda top: top[0])
reached = sorted(share(rippled, w, eps, rho) for _, eps in tops)
assert np.allclose(reached, (13, 58, 100, 100, 100), atol=1)
five = sam_gradient(rippled, w, rho=rho, ascent_steps=5).perturbation
assert abs(share(rippled, w, five, rho) - 14) < 1

stream = Stream("unused", 0)
theirs = sharpness.rho_sharpness(
    rippled, w, rho=rho, restarts=0, starts=starts[1:], stream=stream
)
assert np.isclose(theirs.rise, loss - rippled(w)[0])
assert np.allclose(theirs.perturbation, best)

# %% tags=["hide-input"]
x, y = np.linspace(-0.75, 1.15, 96), np.linspace(-0.65, 0.85, 76)
grid = np.stack(np.meshgrid(x, y), axis=-1)  # (76, 96, 2)


def contours(at, f, title):
    at.contourf(x, y, f(grid)[0], 24, cmap="Greys", alpha=0.5)
    at.contour(x, y, f(grid)[0], 24, colors="white", linewidths=0.7)
    at.plot(*(w + rho * circle[[*range(180), 0]]).T, ":", color="black")
    at.plot(*w, "o", color="black")
    at.set(aspect="equal", title=title, xlabel="first weight", ylabel="second weight")
    at.grid(False)


radii, ways = np.linspace(0.02, 0.5, 25), {"black": [], GREEN: [], BLUE: [], LIGHT: []}
for r in radii:
    ways["black"].append(r * disc[np.argmax(rippled(w + r * disc)[0])])
    ways[GREEN].append(max((climb(rippled, w, r / rho * s, r) for s in starts), key=lambda t: t[0])[1])
    for colour, k in ((BLUE, 1), (LIGHT, 5)):
        ways[colour].append(sam_gradient(rippled, w, rho=r, ascent_steps=k).perturbation)
ways = {colour: np.array(eps) for colour, eps in ways.items()}
shares = {c: [share(rippled, w, *s) for s in zip(eps, radii)] for c, eps in ways.items()}
names = {"black": "the true maximum", GREEN: "projected ascent, 5 starts"}
names |= {BLUE: "SAM, 1 step", LIGHT: "SAM, 5 steps"}
marks = {"black": "*", GREEN: "x", BLUE: "o", LIGHT: "s"}
made, (left, right) = figure(10.5, 4.6, 2)


def frame(number):
    k = min(number, 24) + 1
    left.clear(), right.clear()
    contours(left, rippled, f"within rho = {radii[k - 1]:.2f}")
    left.plot(*(w + radii[k - 1] * circle).T, color=GREY)
    for colour, eps in ways.items():
        size = 11 if colour == "black" else 7
        left.plot(*(w + eps[:k]).T, ".", color=colour, ms=3)
        left.plot(*(w + eps[k - 1]), marks[colour], color=colour, ms=size)
        right.plot(radii[:k], shares[colour][:k], f"-{marks[colour]}", ms=4, color=colour, label=names[colour])
    right.set(xlim=(0, 0.52), ylim=(0, 105), xlabel="radius rho", ylabel="share of the inner maximum (%)")
    right.legend(loc="lower left")


movie(made, frame, 37, "06-radius")
show(made, "06-radius")
