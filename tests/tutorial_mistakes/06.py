"""Wrong answers to tutorial 6, in the order of its exercises."""


# each step as long as the radius
def k_steps(f, w, rho, k):
    eps = 0 * w
    for _ in range(k):
        eps = eps + rho * unit(f(w + eps)[1])
    return eps


# always the gradient at w
def k_steps(f, w, rho, k):
    eps = 0 * w
    for _ in range(k):
        eps = eps + rho / k * unit(f(w)[1])
    return eps


# the gradients as long as they are
def k_steps(f, w, rho, k):
    eps = 0 * w
    for _ in range(k):
        eps = eps + rho / k * f(w + eps)[1]
    return eps


# the place, not the perturbation
def k_steps(f, w, rho, k):
    at = w
    for _ in range(k):
        at = at + rho / k * unit(f(at)[1])
    return at


# one sign
def in_pairs(f, w, D):
    return f(w + D)[1].mean(axis=0)


# the pairs' sum
def in_pairs(f, w, D):
    return (f(w + D)[1] + f(w - D)[1]).mean(axis=0)


# the mean of the places first
def in_pairs(f, w, D):
    return f((w + D + w - D).mean(axis=0) / 2)[1]


# a mean of directions
def in_pairs(f, w, D):
    return (unit(f(w + D)[1]) + unit(f(w - D)[1])).mean(axis=0) / 2


# over the two weights as well
def in_pairs(f, w, D):
    return ((f(w + D)[1] + f(w - D)[1]) / 2).mean()
