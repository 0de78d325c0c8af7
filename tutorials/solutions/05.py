"""Solutions to tutorial 5; the names are the tutorial's."""


def hover(h, lr, rho):
    # One step from d: d - lr h (d + rho) = -d.
    return lr * h * rho / (2 - lr * h)


def sam_in_place(gradients, arrays, rho):
    before = [array.copy() for array in arrays]
    g0 = gradients()
    length = np.sqrt(sum((g**2).sum() for g in g0))
    for array, g in zip(arrays, g0):
        array += rho / (length + 1e-12) * g
    found = gradients()
    for array, saved in zip(arrays, before):
        array[...] = saved
    return found
