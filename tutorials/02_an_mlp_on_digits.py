# %% [markdown]
# # 2. A network on handwritten digits
#
# Tutorial 1 found the slope of a number in one other number. Now the one number is a *loss*: how
# badly a network reads handwritten digits. The others are its weights, 4,810 of them.
#
# The idea to take away: **to an optimizer, a network is a function of one flat vector `w`.** It
# gives the loss at `w` and its gradient `g`. Training repeats one line: `w <- w - lr g`.

# %%
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, check, figure, show

from rsam_ref import SGD, Tensor, models, no_grad, objective
from rsam_ref.autograd import ops_nn
from rsam_ref.data import digits_split

data = digits_split(seed=0, dtype="float64")
assert (data.x_train.shape, data.x_test.shape) == ((898, 64), (450, 64))
assert np.allclose((data.x_train.mean(), data.x_train.std()), (0, 1))

# %% [markdown]
# ## The data
#
# There are 898 images to train on, and 450 others to test with. An image is 8 by 8 grey values,
# laid out as one row of 64 numbers, and its label is a digit from 0 to 9. (The numbers are shifted
# and scaled to mean 0 and standard deviation 1.)

# %% tags=["hide-input"]
made, axes = figure(10, 1.5, 10)
for digit, at in enumerate(axes):
    first = data.x_train[data.y_train == digit][0]
    at.imshow(first.reshape(8, 8), cmap="Greys")
    at.set_title(f"label {digit}", fontsize=10)
    at.axis("off")
show(made, "02-digits")

# %% [markdown]
# ## A network is a function of one flat vector
#
# The network takes an image `x` (64 numbers) and gives 10 scores, one for each digit:
#
#     h = max(0, W1 x + b1)        64 hidden values
#     scores = W2 h + b2           10 scores
#
# `W1` is 64 by 64, `b1` has 64 weights, `W2` is 10 by 64 and `b2` has 10. Laid end to end these
# are 4096 + 64 + 640 + 10 = 4,810 numbers: the vector `w`. The four parts are *views* into it:
# change `w`, and the network has changed.

# %%
model = models.mlp([64, 64, 10], seed=0, dtype="float64")
w = model.weights.flat
W1, b1, W2, b2 = model.weights.views(w)
assert w.shape == (4096 + 64 + 640 + 10,) == (4810,)

x, y = data.x_train[:64], data.y_train[:64]  # a mini-batch of 64 images
scores = np.maximum(0, x @ W1.T + b1) @ W2.T + b2  # (64, 10)
with no_grad():
    assert np.allclose(model(x).data, scores)

# %% [markdown]
# ## The loss
#
# *Softmax* turns scores into probabilities, `p_k = exp(score_k) / sum_j exp(score_j)`. The loss of
# an image is `-log p` of its true digit: 0 if the network is sure and right, large if it is sure
# and wrong. `L_B(w)` is the mean over the mini-batch B.
#
# `objective(model, x, y)` is this function of `w`, with its gradient. A network that has learned
# nothing gives every digit about 1/10, so its loss is near `log 10 = 2.30`. Ours starts at 2.31.

# %%
p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)  # (64, 10)
by_hand = -np.log(p[np.arange(64), y]).mean()

loss_and_grad = objective(model, x, y)
loss, g = loss_and_grad(w)
assert abs(loss - by_hand) < 1e-12
assert np.allclose((np.log(10), loss), (2.30, 2.31), atol=0.01)
assert g.shape == w.shape

# %% [markdown]
# ## Is the gradient right?
#
# Never believe a gradient that nobody has checked. If PyTorch is installed, we build the same
# network there and compare all 4,810 slopes. If not, we move single weights by a little, as in
# tutorial 1, and compare for 50 of them. The cell says which of the two it did.

# %%
try:
    import torch
except ImportError:
    torch = None

if torch is not None:
    layers = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    twin = torch.nn.Sequential(*layers).double()
    torch.nn.utils.vector_to_parameters(torch.tensor(w), twin.parameters())
    torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y)).backward()
    other = torch.cat([weight.grad.ravel() for weight in twin.parameters()]).numpy()
    assert np.abs(g - other).max() < 1e-12
    print("The gradient was checked against PyTorch.")
else:
    for i in np.random.default_rng(0).choice(w.size, 50, replace=False):
        h = 1e-6 * (np.arange(w.size) == i)
        difference = (loss_and_grad(w + h)[0] - loss_and_grad(w - h)[0]) / 2e-6
        assert abs(g[i] - difference) < 1e-6
    print("The gradient was checked by finite differences, without PyTorch.")

# %% [markdown]
# ## One step
#
# The gradient `g` points to where the loss rises fastest. So we go the other way, a little; the
# learning rate `lr` says how far. The derivative tells how much the loss will fall: for a small
# step by `lr ||g||^2`. Even with `lr = 0.1` this comes true to within 5 %.
#
# `SGD`, the optimizer in rsam_ref, does nothing else: it lands on the same weights, bit for bit.

# %%
foretold = 0.1 * (g @ g)
fell = loss - loss_and_grad(w - 0.1 * g)[0]
assert abs(fell / foretold - 1) < 0.05

stepped = w.copy()
SGD(lr=0.1).step(loss_and_grad, stepped)
assert np.array_equal(stepped, w - 0.1 * g)

# %% [markdown]
# ## Many steps
#
# An *epoch* shuffles the training images and goes through them once, 64 at a time. That is 14
# steps (the last 2 images wait for another epoch). We take 30 epochs, so 420 steps.


# %%
def on_test_images():
    """The loss on the test images, and the digit that the network reads in each."""
    with no_grad():
        scores = model(data.x_test)
        return ops_nn.cross_entropy(scores, data.y_test).item(), scores.data.argmax(axis=1)


lr, steps, history, shuffle = 0.1, 0, [], np.random.default_rng(0)
for _ in range(30):
    order = shuffle.permutation(898)
    losses = []
    for start in range(0, 898 - 63, 64):
        batch = order[start : start + 64]
        loss, g = objective(model, data.x_train[batch], data.y_train[batch])(w)
        w -= lr * g
        losses.append(loss)
        steps += 1
    test_loss, read = on_test_images()
    history.append((np.mean(losses), test_loss, np.mean(read == data.y_test)))

train_curve, test_curve, accuracy = np.array(history).T
assert (steps, 898 - 14 * 64) == (30 * 14, 2) == (420, 2)
assert abs(accuracy[-1] - 0.95) < 0.03
assert train_curve[-1] < 0.12 < test_curve[-1] < 0.3

# %% tags=["hide-input"]
made, (left, right) = figure(10, 3.6, 2)
epochs = np.arange(1, 31)
left.axhline(np.log(10), color=GREY, ls=":")
left.text(30, np.log(10) - 0.06, "log 10: knows nothing", color=GREY, ha="right", va="top")
left.plot(epochs, train_curve, "o-", ms=3, color=BLUE, label="training images")
left.plot(epochs, test_curve, "s-", ms=3, color=ORANGE, label="test images")
left.set(xlabel="epoch", ylabel="loss", ylim=(0, 2.5))
left.legend(loc="center right")
right.axhline(10, color=GREY, ls=":")
right.text(30, 12, "10 %: guessing", color=GREY, ha="right")
right.plot(epochs, 100 * accuracy, "s-", ms=3, color=ORANGE)
right.set(xlabel="epoch", ylabel="test images read rightly (%)", ylim=(0, 100))
show(made, "02-training")

# %% tags=["hide-input"]
confusion = np.histogram2d(data.y_test, read, bins=np.arange(11))[0].astype(int)
wrong = np.flatnonzero(read != data.y_test)
made, (left, right) = figure(10, 4.6, 2)
left.imshow(np.where(np.eye(10), 0, confusion), cmap="Oranges", vmax=4)
for true, said in np.argwhere(confusion):
    colour = GREEN if true == said else "black"
    left.text(said, true, confusion[true, said], color=colour, ha="center", va="center")
left.set(xlabel="the network reads", ylabel="the label says", xticks=range(10), yticks=range(10))
left.grid(False)
for place, i in enumerate(wrong[:12]):
    x0, y0 = 10 * (place % 4), -11 * (place // 4)
    box = (x0, x0 + 8, y0, y0 + 8)
    right.imshow(data.x_test[i].reshape(8, 8), cmap="Greys", extent=box)
    right.text(x0 + 4, y0 + 8.5, f"{data.y_test[i]} as {read[i]}", ha="center", fontsize=9)
right.set(xlim=(0, 38), ylim=(-22, 10), title="mistakes: the label, and what was read")
right.axis("off")
show(made, "02-mistakes")
assert confusion.sum() == 450
assert 9 <= len(wrong) <= 36  # of 450: between 92 and 98 of 100 are right

# %% [markdown]
# ## What to look at
#
# - The training loss goes on falling where the test loss levels off: the network begins to learn
#   the training images themselves. Tutorials 4 to 8 are about this gap. (In the first epochs it
#   lies above the test loss, since it is a mean over an epoch in which the network still learns.)
# - After training about 95 of 100 test images are read rightly. The mistakes are in orange.
#
# ## Try this
#
# - Set `lr` to 1, then to 10. What do the curves do? Try 0.001 as well.
# - Give the network 8 hidden values, not 64. How many weights has it? How well does it read?
#
# ## Exercises
#
# **1.** *Momentum* lets steps in the same direction add up: `v <- mu v + g`, then `w <- w - lr v`.
# Return the new `w` and the new `v`, as a pair, without changing the old ones.


# %% tags=["exercise"]
def momentum_step(w, v, g, lr, mu): ...


# %%
def exercise_1(first):
    ours, v = first
    theirs, optimizer = w.copy(), SGD(lr=0.1, momentum=0.9)
    for step in range(3):
        optimizer.step(loss_and_grad, theirs)
        assert np.allclose(ours, theirs), f"step {step + 1}: w is not where SGD puts it"
        ours, v = momentum_step(ours, v, loss_and_grad(ours)[1], 0.1, 0.9)


check(exercise_1, momentum_step(w, np.zeros_like(w), loss_and_grad(w)[1], 0.1, 0.9))

# %% [markdown]
# **2.** Find the slope of the mean loss in every score, by hand. `p` (N, 10) are probabilities and
# `y` (N,) labels; return an array (N, 10). The result is short: write out `-log p_k` and derive.


# %% tags=["exercise"]
def slope_in_scores(p, y): ...


# %%
def exercise_2(slopes):
    leaf = Tensor(scores, requires_grad=True)
    ops_nn.cross_entropy(leaf, y).backward()
    assert np.allclose(slopes.sum(axis=1), 0), "equal pushes on all scores change no probability"
    assert np.allclose(slopes, leaf.grad), "the mean over the batch divides by N"


check(exercise_2, slope_in_scores(p, y))
