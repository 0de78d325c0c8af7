"""Solutions to tutorial 9; the names are the tutorial's."""


def clip(g, limit):
    return g * xp.minimum(limit / norm(g), 1.0)


def mean(losses):
    return float(sum(losses)) / len(losses)
