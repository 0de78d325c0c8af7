# %% [markdown]
# # 1. A derivative by hand
#
# Training a network asks one question over and over: if this weight grows a little, does the loss
# grow or shrink, and how fast? The answer is a derivative. Here you find one by hand, then build a
# small machine, a *tape*, that finds it for any formula. You need the chain rule and some Python.

# %%
from style import BLUE, GREEN, ORANGE, arrow, check, circle, figure, show

from rsam_ref import Tensor

# %% [markdown]
# ## By hand
#
# Take a number `x`, and compute `a = 2 x`, then `b = x^2`, then `c = a b`. At `x = 1.5` this gives
# `a = 3`, `b = 2.25` and `c = 6.75`. How fast does `c` grow with `x`?
#
# A small change of `x` reaches `c` in two ways, through `a` and through `b`. Along each way the
# chain rule multiplies the slopes of the steps. Then the two ways add up:
#
#     through a:   dc/da da/dx = b * 2   = 2.25 * 2 = 4.5
#     through b:   dc/db db/dx = a * 2 x = 3 * 3    = 9
#     together:    dc/dx                            = 13.5
#
# Is that right? Move `x` by a little, `h`, to both sides, and see how much `c` changes.

# %%
x, h = 1.5, 1e-4
a, b = 2 * x, x**2
assert (a, b, a * b) == (3, 2.25, 6.75)
assert (b * 2, a * 2 * x, b * 2 + a * 2 * x) == (4.5, 9, 13.5)
after, before = 2 * (x + h) * (x + h) ** 2, 2 * (x - h) * (x - h) ** 2
assert abs((after - before) / (2 * h) - 13.5) < 1e-6

# %% [markdown]
# The difference agrees to six decimals. Why not always use it? Because it computes the value anew
# for every weight, and networks have many. The walk that we build now finds all slopes in one go.
#
# ## A tape
#
# By hand we did two things: compute values forward, and multiply slopes backward. A computer can
# do the second if the first leaves notes. So each value remembers which values it was computed
# from, and its slope in each of them. These notes are the tape.


# %%
class Value:
    """A number, and for each value it was computed from: (that value, the slope in it)."""

    def __init__(self, number, inputs=()):
        self.number = number
        self.inputs = inputs

    def __add__(self, other):
        return Value(self.number + other.number, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.number * other.number, [(self, other.number), (other, self.number)])


t = Value(0.5)
x = t + Value(1.0)
a, b = Value(2.0) * x, x * x
c = a * b
assert (c.number, [slope for _, slope in b.inputs]) == (6.75, [1.5, 1.5])

# %% [markdown]
# `x` is itself computed now, as `x = t + 1` from `t = 0.5`. The slope of that step is 1, so
# `dc/dt` must be 13.5 as well. (`b = x * x` leaves two notes on `x`, each with the slope 1.5.)
#
# ## A walk that is wrong
#
# Start at `c` with slope 1 and go back along the notes. Hand every input its share, and go on from
# there. When we come to a value again, we add the new share, but need not go on again. Or need we?


# %%
def walk_once(value, share, slopes):
    """Go on from a value the first time that it is reached, and only then. (Wrong.)"""
    reached_before = value in slopes
    slopes[value] = slopes.get(value, 0.0) + share
    if not reached_before:
        for source, slope in value.inputs:
            walk_once(source, share * slope, slopes)
    return slopes


wrong = walk_once(c, 1.0, {})
assert (wrong[x], wrong[t]) == (13.5, 4.5)

# %% [markdown]
# `x` ends with 13.5, which is right. `t` ends with 4.5, which is wrong, and nothing complains. The
# walk went on from `x` when only the share through `a` had come, 4.5. The 9 through `b` came later
# and never reached `t`.
#
# ## A walk that is slow
#
# The mend that comes to mind: go on from a value *every* time that it is reached, with the share
# that has just come. That is right. But count the visits. Take a chain of doublings, `x = x + x`,
# `n` times over: `n + 1` values, and `2^n` ways through them, since each doubling offers two. This
# walk goes each way by itself: at `n = 16` it makes 131,071 visits to 17 values. 50 doublings
# would take it more than 70 years at a million visits a second.


# %%
def walk_every_way(value, share, slopes):
    """Go on from a value each time that it is reached. Returns the number of visits. (Slow.)"""
    slopes[value] = slopes.get(value, 0.0) + share
    return 1 + sum(walk_every_way(source, share * k, slopes) for source, k in value.inputs)


def doubled(value, n):
    for _ in range(n):
        value = value + value
    return value


slopes, doublings = {}, range(1, 17)
walk_every_way(c, 1.0, slopes)
slow = [walk_every_way(doubled(Value(1.0), n), 1.0, {}) for n in doublings]
assert slopes[x] == slopes[t] == 13.5
assert slow[-1] == 2**17 - 1 == 131_071
assert (2 ** (50 + 1) - 1) / 1e6 > 70 * 366 * 24 * 3600

# %% [markdown]
# ## A walk in the right order
#
# Both walks went on from `x` too early. The mend is to wait: **go on from a value only when all
# its consumers have reported.** Then its slope is complete, and one visit is enough.
#
# An order in which every value comes after all its consumers is a *topological order*. Counting
# gives one: count how many shares each value will get, and let it go when all of them have come.


# %%
def walk_in_order(root):
    """The slope of root in every value; the values are in the order in which they were left."""
    waiting, found = {root: 0}, [root]
    while found:
        for source, _ in found.pop().inputs:
            if source not in waiting:
                waiting[source] = 0
                found.append(source)
            waiting[source] += 1

    slopes, sums, ready = {}, {root: 1.0}, [root]
    while ready:
        value = ready.pop()
        slopes[value] = sums[value]
        for source, slope in value.inputs:
            sums[source] = sums.get(source, 0.0) + slopes[value] * slope
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    return slopes


slopes = walk_in_order(c)
quick = [len(walk_in_order(doubled(Value(1.0), n))) for n in doublings]
assert (slopes[t], quick[-1]) == (13.5, 17)

# %% tags=["hide-input"]
made, (left, right) = figure(12, 4.2, 2, width_ratios=(2, 1))
places = {t: (0, 0), x: (2, 0), a: (3.9, 1.1), b: (3.9, -1.1), c: (5.8, 0)}
steps = {t: "t = 0.5", x: "x = t + 1", a: "a = 2 x", b: "b = x²", c: "c = a b"}
for turn, value in enumerate((v for v in slopes if v in places), start=1):
    note = f"{turn}.  {steps[value]}\nslope {slopes[value]:g}"
    circle(left, places[value], f"{value.number:g}", note)
    for source in {s for s, _ in value.inputs if s in places}:
        slope = sum(k for s, k in value.inputs if s is source)
        share = f"{slopes[value]:g} * {slope:g} = {slopes[value] * slope:g}"
        arrow(left, places[value], places[source], BLUE, share, gap=17)
left.text(0, -0.6, f"walk_once\nsays {wrong[t]:g}: wrong", color=ORANGE, ha="center")
left.set(xlim=(-0.6, 6.3), ylim=(-1.5, 2.0), title="back from c, in the order 1 to 5")
left.axis("off")
right.semilogy(doublings, slow, "o-", color=ORANGE, label="every way by itself")
right.semilogy(doublings, quick, "s-", color=GREEN, label="in topological order")
right.set(xlabel="doublings n", title="number of visits", xticks=(4, 8, 12, 16))
right.legend()
show(made, "01-walk")

# %% [markdown]
# ## What to look at
#
# - Left: the 4.5 and the 9 meet at `x`, which is number 4 since it waits for both. `t` gets 13.5.
# - Right: the scale is logarithmic. A straight line on it is a doubling at every step.
#
# ## The tape of rsam_ref
#
# `rsam_ref/autograd/tensor.py` does the same walk with the same count of consumers. Its values are
# whole arrays, and a note holds a function, the *vjp*, that turns the slope at the output into the
# slope at the input. A chain of 1,000 doublings has `2^1000` ways, and this walk is done at once.

# %%
leaf = Tensor([0.5, 1.0, 2.0], requires_grad=True)
x = leaf + 1
((2 * x) * (x * x)).sum().backward()
assert leaf.grad.tolist() == [13.5, 24, 54]  # by hand: c = 2 x^3, so dc/dt = 6 x^2

leaf = Tensor(1.0, requires_grad=True)
doubled(leaf, 1000).backward()
assert leaf.grad == 2.0**1000

# %% [markdown]
# ## Try this
#
# - Let `a = 3 x`. By hand, what is `dc/dt` now? What do the three walks say?
# - Let `x = t * t`, with `t = 2`. How many shares does `t` get now?
# - Where all this leads: [a step of SAM and R-SAM, to move by hand](../docs/interactive.md).
#
# ## Exercises
#
# **1.** Give the tape a division: return a `Value` for `top / bottom`, with its two notes.


# %% tags=["exercise"]
def divide(top, bottom): ...


# %%
def exercise_1(quotient):
    slopes = walk_in_order(quotient)
    assert quotient.number == 1.5, "6 / 4 is 1.5"
    assert slopes.get(six) == 0.25, "u / v has the slope 1 / v in u: here 0.25"
    assert slopes.get(four) == -0.375, "make the 4 a little larger: how fast does 6 / 4 fall?"


six, four = Value(6.0), Value(4.0)
check(exercise_1, divide(six, four))

# %% [markdown]
# **2.** Find a topological order without counting. `inputs` tells what each name is computed from.
# Return a list of all names, `root` first, each after all that use it. (A list can be reversed.)


# %% tags=["exercise"]
def order_of(inputs, root): ...


# %%
def exercise_2(listed):
    assert sorted(listed) == sorted(graph), "each name once"
    for name in graph:
        for source in graph[name]:
            assert listed.index(name) < listed.index(source), f"{source} comes before {name}"


graph = {"c": ["x", "b"], "b": ["a"], "a": ["x"], "x": ["t"], "t": []}
check(exercise_2, order_of(graph, "c"))
