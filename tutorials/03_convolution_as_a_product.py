# %% [markdown]
# # 3. Convolution as a matrix product
#
# The network of tutorial 2 saw an image as 64 numbers and did not know which are neighbours. A
# *convolution* does: it looks at the image through a small window, with the same few weights at
# every place.
#
# The idea to take away: **write every window as a row. Then a convolution is one matrix product,
# and so are its derivatives.** That is how rsam_ref computes it.

# %%
from collections import Counter

import numpy as np
from style import BLUE, GREEN, ORANGE, check, figure, outline, show

from rsam_ref import Tensor
from rsam_ref.autograd import ops_nn
from rsam_ref.data import digits

images = digits()[0][:64, None] / 16.0  # grey values from 0 to 1
assert images.shape == (64, 1, 8, 8)  # (N, C, H, W): images, channels, height, width

# %% [markdown]
# ## By loops
#
# A *filter* is a small square of weights, here `k` by `k` with `k = 3`. Lay it on the image,
# multiply what lies on each other, and add up: that is one number of the output. Then move on by
# one place. On an image of 8 by 8 the filter fits in 6 by 6 places.
#
# A layer has many filters, and each makes one *channel* of the output. An image can have several
# channels too (red, green, blue); then a filter is as deep, and the sum goes over them as well.
#
# `did` counts what is done, since we want to know later what is saved.


# %%
def by_loops(images, filters, did):
    """Images (N, C, H, W) and filters (O, C, k, k) to outputs (N, O, H - k + 1, W - k + 1)."""
    (n, _, height, width), (o, c, k, _) = images.shape, filters.shape
    out = np.zeros((n, o, height - k + 1, width - k + 1))
    for image, filter_, row, column in np.ndindex(out.shape):
        total = 0.0
        for channel, i, j in np.ndindex(c, k, k):
            pixel = images[image, channel, row + i, column + j]
            total += pixel * filters[filter_, channel, i, j]
            did["multiplications by Python"] += 1
        out[image, filter_, row, column] = total
    return out


edge = np.array([[1.0, 0, -1], [1, 0, -1], [1, 0, -1]]).reshape(1, 1, 3, 3)
assert by_loops(images[:1], edge, Counter()).shape == (1, 1, 6, 6)

# %% [markdown]
# The filter `edge` takes the right pixels of its window from the left ones. It answers where the
# image changes from left to right.
#
# ## Every window a row
#
# One number of the output is a sum of products: the scalar product of a window and the filter,
# each laid out as 9 numbers. Lay *every* window out as a row; the rows make a matrix `R`. Likewise
# the filters make a matrix `F`. Then all scalar products together are one matrix product:
#
#     Y = R F^T        R: (N Ho Wo, C k k)      F: (O, C k k)      Y: (N Ho Wo, O)
#
# `Ho` by `Wo` are the places, 6 by 6 here. To fill `R` takes 9 copies, one for each place in the
# window: the upper left pixels of all windows are the image without its last 2 rows and columns.


# %%
def rows_of(images, k, did):
    """All windows of (N, C, H, W), one in each row: (N Ho Wo, C k k)."""
    n, c, height, width = images.shape
    ho, wo = height - k + 1, width - k + 1
    rows = np.empty((n, ho, wo, c, k, k))
    for i, j in np.ndindex(k, k):
        rows[..., i, j] = images[:, :, i : i + ho, j : j + wo].transpose(0, 2, 3, 1)
        did["NumPy calls"] += 1
    return rows.reshape(n * ho * wo, c * k * k)


def by_product(images, filters, did):
    (n, _, height, width), (o, _, k, _) = images.shape, filters.shape
    y = rows_of(images, k, did) @ filters.reshape(o, -1).T  # (N Ho Wo, O)
    did["NumPy calls"] += 1
    return y.reshape(n, height - k + 1, width - k + 1, o).transpose(0, 3, 1, 2)


R = rows_of(images[:1], 3, Counter())
answer = by_product(images[:1], edge, Counter())
assert R.shape == (36, 9)
assert np.allclose(answer, by_loops(images[:1], edge, Counter()))
assert np.allclose(answer, ops_nn.conv2d(images[:1], edge).data)

# %% tags=["hide-input"]
made, axes = figure(11, 4.3, 4, width_ratios=(2.2, 1, 0.42, 2.2))
titles = "image: 8 x 8", "R: 36 windows", "* filter", "= output: 6 x 6"
for at, picture, title in zip(axes, (images[0, 0], R, edge.reshape(9, 1), answer[0, 0]), titles):
    signed, aspect = picture.min() < 0, "auto" if picture is R else "equal"
    at.imshow(picture, cmap="Greys", aspect=aspect, alpha=0.1 if signed else 1)
    for row, place in np.ndindex(picture.shape if signed else (0, 0)):
        number = f"{round(picture[row, place], 1):g}"
        at.text(place, row, number, ha="center", va="center", fontsize=9)
    at.set(title=title, xticks=[], yticks=[])
for row, place, colour in ((1, 1, BLUE), (1, 2, ORANGE), (4, 3, GREEN)):
    outline(axes[0], row, place, 3, 3, colour)
    outline(axes[1], 6 * row + place, 0, 1, 9, colour)
    outline(axes[3], row, place, 1, 1, colour)
axes[1].set_xlabel("9 pixels each")
show(made, "03-rows")

# %% [markdown]
# ## Both derivatives
#
# Let `G` be the slope of the loss in every number of `Y`, of the same shape as `Y`. For a product
# `Y = R F^T` the chain rule gives two products:
#
#     slope in F:  G^T R      (O, C k k)
#     slope in R:  G F        (N Ho Wo, C k k)
#
# The second is the slope in the *rows*. But a pixel stands in several rows, one for each window
# that it lies in, and it reaches the loss through all of them. From tutorial 1 we know what to do:
# the shares of all ways add up. So `fold` adds every row back onto the place it was copied from.


# %%
def fold(rows, shape, k):
    """Rows (N Ho Wo, C k k) added up on images of this shape (N, C, H, W)."""
    n, c, height, width = shape
    ho, wo = height - k + 1, width - k + 1
    windows = rows.reshape(n, ho, wo, c, k, k)
    folded = np.zeros(shape)
    for i, j in np.ndindex(k, k):
        folded[:, :, i : i + ho, j : j + wo] += windows[..., i, j].transpose(0, 3, 1, 2)
    return folded


def slopes_by_product(images, filters, slopes):
    """From slopes in the outputs (N, O, Ho, Wo) to slopes in the images and in the filters."""
    o, _, k, _ = filters.shape
    G = slopes.transpose(0, 2, 3, 1).reshape(-1, o)  # (N Ho Wo, O)
    in_filters = G.T @ rows_of(images, k, Counter())
    in_rows = G @ filters.reshape(o, -1)
    return fold(in_rows, images.shape, k), in_filters.reshape(filters.shape)


random = np.random.default_rng(0)
photos, filters = random.normal(size=(5, 3, 7, 6)), random.normal(size=(4, 3, 3, 3))
slopes = random.normal(size=(5, 4, 5, 4))
in_images, in_filters = slopes_by_product(photos, filters, slopes)

x, w = Tensor(photos, requires_grad=True), Tensor(filters, requires_grad=True)
y = ops_nn.conv2d(x, w)
y.backward(slopes)
assert np.allclose(y.data, by_product(photos, filters, Counter()))
assert np.allclose(x.grad, in_images)
assert np.allclose(w.grad, in_filters)
move = random.normal(size=photos.shape)  # outputs are linear in the images, so no h is needed
assert np.isclose((in_images * move).sum(), (slopes * by_loops(move, filters, Counter())).sum())

counts = fold(np.ones((36, 9)), (1, 1, 8, 8), 3)[0, 0]
assert (counts.min(), counts.max(), counts[0, 1]) == (1, 9, 2)

# %% tags=["hide-input"]
two = np.diag([0.0, 1, 1, 0, 0, 0])[None, None]
weights = np.arange(1.0, 10).reshape(1, 1, 3, 3)
back, _ = slopes_by_product(images[:1], weights, two)
made, axes = figure(11, 3.8, 3)
titles = "slopes G at two outputs", "fold: slopes in the image", "windows that each pixel lies in"
for at, picture, title in zip(axes, (two[0, 0], back[0, 0], counts), titles):
    at.imshow(picture, cmap="Blues", vmax=1.6 * picture.max())
    for row, place in np.argwhere(picture):
        at.text(place, row, f"{picture[row, place]:g}", ha="center", va="center")
    at.set(title=title, xticks=[], yticks=[])
for place, colour in ((1, BLUE), (2, ORANGE)):
    outline(axes[0], place, place, 1, 1, colour)
    outline(axes[1], place, place, 3, 3, colour)
show(made, "03-back")

# %% [markdown]
# ## What to look at
#
# - First picture: a window of the image, its row of `R`, and its number in the output have the
#   same colour. Blue and orange overlap: their common pixels stand in both rows.
# - Second picture: each slope in `G` lays the filter (here 1 to 9) down on its window. Where the
#   windows overlap, the shares add up. A corner pixel lies in 1 window, an inner one in 9.
#
# ## Why it is fast
#
# Not because there is less to multiply. For 64 images and 16 filters both ways make the same
# 331,776 multiplications. But the loops have Python do them one by one. The product hands them
# over in 10 calls of NumPy, 9 copies and the product itself, and it can do them in any order it
# likes: each number of `R` is used 16 times and each weight 2,304 times while it is at hand. It has
# a price: `R` holds 5 times as many numbers as the images. So `rsam_ref/autograd/ops_nn.py` does
# not keep it for the derivative, but makes it again.

# %%
filters, loops, product = random.normal(size=(16, 1, 3, 3)), Counter(), Counter()
assert np.allclose(by_loops(images, filters, loops), by_product(images, filters, product))
assert (loops["multiplications by Python"], product["NumPy calls"]) == (331_776, 10)
R = rows_of(images, 3, Counter())
assert (R.shape, R.shape[0] * R.shape[1] * 16) == ((2304, 9), 331_776)
assert 5 < R.size / images.size < 5.1

# %% [markdown]
# ## Try this
#
# - Turn the filter `edge` on its side with `edge.transpose(0, 1, 3, 2)`. Which lines answer now?
# - Let `fold` write with `=` in place of `+=`. Which assert notices?
#
# ## Exercises
#
# **1.** Often the filter moves on by `stride` places at a time, and `padding` zeros are put around
# the image on each side. In how many places does it then fit, along an axis of `size` pixels?


# %% tags=["exercise"]
def places(size, k, stride, padding): ...


# %%
def exercise_1(plain):
    assert plain == 6, "3 fits into 8 in 6 places"
    cases = (8, 3, 1, 1), (8, 3, 2, 1), (9, 3, 2, 0), (7, 1, 2, 0), (8, 2, 3, 2)
    for size, k, stride, padding in cases:
        image, square = np.ones((1, 1, size, size)), np.ones((1, 1, k, k))
        side = ops_nn.conv2d(image, square, stride=stride, padding=padding).shape[2]
        assert places(size, k, stride, padding) == side, (size, k, stride, padding)


check(exercise_1, places(8, 3, 1, 0))

# %% [markdown]
# **2.** A window of 1 by 1 is a single pixel with its channels, so `R` needs no copies. Write this
# convolution, images (N, C, H, W) and filters (O, C, 1, 1), with one product and no loop.


# %% tags=["exercise"]
def one_by_one(images, filters): ...


# %%
def exercise_2(outputs):
    assert outputs.shape == (5, 4, 7, 6), "outputs are (N, O, H, W)"
    assert np.allclose(outputs, ops_nn.conv2d(photos, thin).data)


thin = random.normal(size=(4, 3, 1, 1))
check(exercise_2, one_by_one(photos, thin))
