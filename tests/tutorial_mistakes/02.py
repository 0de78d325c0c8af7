"""Wrong answers to tutorial 2, in the order of its exercises."""


# the old velocity
def momentum_step(w, v, g, lr, mu):
    return w - lr * v, mu * v + g


# a running mean
def momentum_step(w, v, g, lr, mu):
    v = mu * v + (1 - mu) * g
    return w - lr * v, v


# the sum over the batch
def slope_in_scores(p, y):
    return p - (y[:, None] == np.arange(10))


# the other way
def slope_in_scores(p, y):
    return ((y[:, None] == np.arange(10)) - p) / len(y)


# without the labels
def slope_in_scores(p, y):
    return p / len(y)
