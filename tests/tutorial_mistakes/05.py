"""Wrong answers to tutorial 5, in the order of its exercises."""


# the jump from the middle
def hover(h, lr, rho):
    return lr * h * rho


# the whole way, not half of it
def hover(h, lr, rho):
    return 2 * lr * h * rho / (2 - lr * h)


# where a step would end at 0
def hover(h, lr, rho):
    return lr * h * rho / (1 - lr * h)


# without the curvature
def hover(h, lr, rho):
    return lr * rho / 2


# a norm for each array
def sam_in_place(gradients, arrays, rho):
    before = [array.copy() for array in arrays]
    for array, g in zip(arrays, gradients()):
        array += rho / np.sqrt((g**2).sum()) * g
    found = gradients()
    for array, saved in zip(arrays, before):
        array[...] = saved
    return found


# back by subtraction
def sam_in_place(gradients, arrays, rho):
    g0 = gradients()
    length = np.sqrt(sum((g**2).sum() for g in g0))
    for array, g in zip(arrays, g0):
        array += rho / length * g
    found = gradients()
    for array, g in zip(arrays, g0):
        array -= rho / length * g
    return found


# a copy of the list, not of the arrays
def sam_in_place(gradients, arrays, rho):
    before = list(arrays)
    g0 = gradients()
    length = np.sqrt(sum((g**2).sum() for g in g0))
    for array, g in zip(arrays, g0):
        array += rho / length * g
    found = gradients()
    for array, saved in zip(arrays, before):
        array[...] = saved
    return found


# the first gradient
def sam_in_place(gradients, arrays, rho):
    return gradients()


# without the root
def sam_in_place(gradients, arrays, rho):
    before = [array.copy() for array in arrays]
    g0 = gradients()
    for array, g in zip(arrays, g0):
        array += rho / sum((g**2).sum() for g in g0) * g
    found = gradients()
    for array, saved in zip(arrays, before):
        array[...] = saved
    return found
