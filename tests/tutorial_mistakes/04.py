"""Wrong answers to tutorial 4, in the order of its exercises."""


# the half forgotten
def mean_rise(H, sigma, s):
    return sigma**2 * np.sum(s**2 * np.diag(H))


# the scale not squared
def mean_rise(H, sigma, s):
    return sigma**2 / 2 * np.sum(s * np.diag(H))


# the worst direction, not the average one
def mean_rise(H, sigma, s):
    return sigma**2 / 2 * np.linalg.eigvalsh(s * H * s)[-1]


# terms whose mean is 0
def mean_rise(H, sigma, s):
    return sigma**2 / 2 * (s @ H @ s)


# one length for the whole layer
def scaled_rows(D, W):
    return D * np.linalg.norm(W) / np.linalg.norm(D)


# by columns
def scaled_rows(D, W):
    return D * np.linalg.norm(W, axis=0) / np.linalg.norm(D, axis=0)


# without D's own length
def scaled_rows(D, W):
    return D * np.linalg.norm(W, axis=1, keepdims=True)


# weight by weight
def scaled_rows(D, W):
    return np.sign(D) * np.abs(W)
