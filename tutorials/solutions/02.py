"""Solutions to tutorial 2; the names are the tutorial's."""


def momentum_step(w, v, g, lr, mu):
    v = mu * v + g
    return w - lr * v, v


def slope_in_scores(p, y):
    right = y[:, None] == np.arange(10)  # (N, 10), one True in every row
    return (p - right) / len(y)
