"""Wrong answers to tutorial 7, in the order of its exercises."""


# the size of each weight
def scale_of(array):
    return np.abs(array)


# one length for the whole array
def scale_of(array):
    return np.full_like(array, np.sqrt((array**2).sum()))


# each height and width by itself
def scale_of(array):
    return np.sqrt((array**2).sum(axis=(-2, -1), keepdims=True)) * np.ones_like(array)


# the inputs' filters, not the outputs'
def scale_of(array):
    axes = (0, *range(2, array.ndim)) if array.ndim > 1 else None
    return np.sqrt((array**2).sum(axis=axes, keepdims=True)) * np.ones_like(array)


# each weight of an array with one axis for itself
def scale_of(array):
    axes = tuple(range(1, array.ndim))
    return np.sqrt((array**2).sum(axis=axes, keepdims=True)) * np.ones_like(array)


# a number for each filter, not for each weight
def scale_of(array):
    axes = tuple(range(1, array.ndim)) or None
    return np.sqrt((array**2).sum(axis=axes, keepdims=True))


# lam forgotten
def sigma_for(degrees, g0, s, lam):
    return np.tan(np.radians(degrees)) * np.sqrt((g0 @ g0) / (s @ s))


# the length of a weight's noise, not of all
def sigma_for(degrees, g0, s, lam):
    return np.tan(np.radians(degrees)) * lam * np.sqrt(g0 @ g0) / s.mean()


# a sine
def sigma_for(degrees, g0, s, lam):
    return np.sin(np.radians(degrees)) * lam * np.sqrt((g0 @ g0) / (s @ s))


# the angle upside down
def sigma_for(degrees, g0, s, lam):
    return lam * np.sqrt((g0 @ g0) / (s @ s)) / np.tan(np.radians(degrees))


# degrees for radians
def sigma_for(degrees, g0, s, lam):
    return np.tan(degrees) * lam * np.sqrt((g0 @ g0) / (s @ s))
