# %% [markdown]
# # 11. An op, a layer and a model of your own
#
# The other tutorials used the ops that are there. Sooner or later the one you want is not: a new
# activation, a loss of your field. This one adds an op with its derivative, finds out whether the
# derivative is right, makes a layer of it that learns, and trains with R-SAM.
#
# The idea to take away: **an op is a value, and for each input a rule how a slope in the value
# becomes a slope in the input. Differences tell whether the rule is right.**

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, check, figure, show

from rsam_backends import xp
from rsam_ref import RSAM, SGD, Tensor, no_grad, objective
from rsam_ref.autograd.op import op
from rsam_ref.data import digits_split
from rsam_ref.nn import Linear, Module, Parameter, ReLU, Sequential, constant

data = digits_split(seed=0)
assert (data.x_train.shape, data.x_test.shape) == ((898, 64), (450, 64))

# %% [markdown]
# ## An op
#
# `softplus(x) = log(1 + e^x)` is a ReLU without its corner. Its derivative is the sigmoid,
# `1 / (1 + e^-x)`. Both stand beside each other in the definition: first the value, then one
# function for each input, which turns a slope `g` in the value into a slope in that input.
#
# `xp` has NumPy's names; on a GPU it is CuPy, and this definition runs there as it stands.


# %%
@op
def softplus(x):
    """log(1 + exp(x))."""
    return xp.logaddexp(x, 0), (lambda g: g / (1 + xp.exp(-x)),)


leaf = Tensor([-1.0, 0.0, 1.0], requires_grad=True)
softplus(leaf).sum().backward()
assert np.allclose(softplus(0.0).data, np.log(2))
assert np.allclose(leaf.grad, 1 / (1 + np.exp([1.0, 0.0, -1.0])))

# %% [markdown]
# Why not write `xp.log(1 + xp.exp(x))`, as in the formula? Since `e^1000` is more than a float can
# hold: the logarithm of infinity comes out, where the answer is 1,000. `logaddexp` knows better. An
# op is the place for such care: whoever uses it need not think of it.

# %%
with np.errstate(over="ignore"):
    assert np.log(1 + np.exp(1000.0)) == np.inf
assert softplus(1000.0).item() == 1000

# %% [markdown]
# ## Is the derivative right?
#
# Move `x` a little to both sides, and see how much the value changes: the slope is the difference
# over `2h`. At 1,000 places drawn at random the op's rule and the differences agree to 8 digits.


# %%
def largest_error(f, places, h=1e-6):
    """How far the derivative of an op of one input is from differences, at most."""
    leaf = Tensor(places, requires_grad=True)
    f(leaf).sum().backward()
    difference = (f(Tensor(places + h)).data - f(Tensor(places - h)).data) / (2 * h)
    return abs(leaf.grad - difference).max()


places = np.random.default_rng(0).normal(size=1000)
assert largest_error(softplus, places) < 1e-8

# %% [markdown]
# A test must be able to fail. Let a sign be wrong, one of the commonest slips: the slope then
# belongs to `-x`, and the error is not below 0.00000001 but 0.96.


# %%
@op
def wrong_sign(x):
    return xp.logaddexp(x, 0), (lambda g: g / (1 + xp.exp(x)),)


assert abs(largest_error(wrong_sign, places) - 0.96) < 0.005
assert largest_error(softplus, places) < 0.00000001

# %% tags=["hide-input"]
made, (left, right) = figure(10, 3.4, 2)
x = np.linspace(-4, 4, 200)
left.plot(x, np.maximum(x, 0), color=GREY, ls="--", label="ReLU")
left.plot(x, softplus(Tensor(x)).data, color=BLUE, label="softplus")
left.set(xlabel="x", title="the value")
left.legend()
right.plot(x, 1 / (1 + np.exp(-x)), color=BLUE, label="the rule")
h = 1e-6
differences = (softplus(Tensor(x + h)).data - softplus(Tensor(x - h)).data) / (2 * h)
right.plot(x[::12], differences[::12], "o", color=GREEN, ms=4, label="differences")
right.plot(x, 1 / (1 + np.exp(x)), color=ORANGE, ls=":", label="with a wrong sign")
right.set(xlabel="x", title="its slope")
right.legend()
show(made, "11-softplus")

# %% [markdown]
# ## A layer that learns
#
# A layer is a `Module`: it assigns its parameters in `__init__`, with their shape and their first
# values, and says in `forward` what it makes of its input. This one learns how sharp its corner is,
# one number for each of 64 units: `softplus(b x) / b` is the nearer to a ReLU the larger `b` is.
#
# No derivative is to be written: `b` is used by ops that have theirs. And since parameters live in
# the one flat vector `w`, every optimizer moves `b` with the rest, and R-SAM's noise is scaled by
# its norm: 1 vector of 64 is one filter, as every bias is.


# %%
class Corner(Module):
    def __init__(self, width):
        self.sharpness = Parameter((width,), constant(1))

    def forward(self, x):
        return softplus(self.sharpness * x) / self.sharpness


def net(activation):
    return Sequential(Linear(64, 64), activation, Linear(64, 10)).build(seed=0)


model = net(Corner(64))
assert "1.sharpness" in model.weights.names
assert model.weights.flat.size == 64 * 64 + 64 + 64 + 64 * 10 + 10 == 4874

# %% [markdown]
# ## Train with it
#
# The same 15 epochs of R-SAM for the ReLU and for the layer that learns; 4,874 weights, 210 steps.


# %%
def trained(model):
    """The model after 15 epochs, and the share of test images that it reads rightly."""
    optimizer = RSAM(SGD(lr=0.1, momentum=0.9), rho=0.1, sigma=1e-3, lam=2.0, seed=0)
    shuffle, steps = np.random.default_rng(0), 0
    for _ in range(15):
        order = shuffle.permutation(898)
        for start in range(0, 898 - 63, 64):
            batch = order[start : start + 64]
            f = objective(model, data.x_train[batch], data.y_train[batch])
            optimizer.step(f, model.weights.flat)
            steps += 1
    assert steps == 210
    with no_grad():
        read = model(data.x_test).data.argmax(axis=1)
    return np.mean(read == data.y_test)


shares = {"ReLU": trained(net(ReLU())), "Corner": trained(model)}
learnt = model.layers[1].sharpness.data
assert all(share > 0.93 for share in shares.values())
assert abs(shares["ReLU"] - shares["Corner"]) < 0.03
assert learnt.min() > 1
assert 1.1 < learnt.mean() < 1.2

# %% tags=["hide-input"]
made, axes = figure(7, 3.2)
axes.hist(learnt, bins=20, color=BLUE)
axes.axvline(1, color=GREY, ls=":")
axes.set(xlabel="sharpness b after training (1 before)", ylabel="units")
show(made, "11-sharpness")

# %% [markdown]
# ## What to look at
#
# - Both networks read more than 93 of 100 test images rightly, and are less than 3 of 100 apart.
#   That says nothing about which is better: tutorial 8 tells how one would find out.
# - All corners have become sharper than they were, though not by much: the network asks for
#   something nearer to a ReLU.
# - In a file `mine.py` the class and a function `net` go into a run with checkpoints and curves:
#   `rsam-ref train --model mine.py:net`.
#
# ## Try this
#
# - Leave the division by `b` out. What does `b` mean then?
# - Write the op with `xp.log(1 + xp.exp(x))` and train at a learning rate of 3. What is told?
#
# ## Exercises
#
# **1.** *Swish* is `x / (1 + e^-x)`. Return its slope in `x`.


# %% tags=["exercise"]
def swish_slope(x): ...


# %%
def exercise_1(slopes):
    @op
    def swish(x):
        return x / (1 + xp.exp(-x)), (lambda g: g * swish_slope(x),)

    assert slopes.shape == (1000,)
    assert largest_error(swish, places) < 1e-8, "differences say otherwise"


check(exercise_1, swish_slope(places))

# %% [markdown]
# **2.** An op of two inputs has two rules. For `hypot(a, b) = sqrt(a^2 + b^2)` return, for a slope
# `g` in the value, the slopes in `a` and in `b`, as a pair.


# %% tags=["exercise"]
def hypot_slopes(g, a, b): ...


# %%
def exercise_2(slopes):
    in_a, in_b = slopes
    length, h = np.hypot(3.0, 4.0), 1e-6
    assert np.isclose(in_a, 2 * (np.hypot(3 + h, 4) - length) / h, atol=1e-4)
    assert np.isclose(in_b, 2 * (np.hypot(3, 4 + h) - length) / h, atol=1e-4)


check(exercise_2, hypot_slopes(2.0, 3.0, 4.0))
