"""Wrong answers to tutorial 11, in the order of its exercises."""


# the sigmoid alone
def swish_slope(x):
    return 1 / (1 + np.exp(-x))


# the second part subtracted
def swish_slope(x):
    s = 1 / (1 + np.exp(-x))
    return s - x * s * (1 - s)


# without the slope in the value
def hypot_slopes(g, a, b):
    length = np.hypot(a, b)
    return a / length, b / length


# the wrong way round
def hypot_slopes(g, a, b):
    length = np.hypot(a, b)
    return g * b / length, g * a / length


# not divided
def hypot_slopes(g, a, b):
    return g * a, g * b
