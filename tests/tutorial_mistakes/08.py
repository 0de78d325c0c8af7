"""Wrong answers to tutorial 8, in the order of its exercises."""


# as if it were the only one
def one_of(k, ours, theirs):
    middle, half = interval(ours - theirs)
    return "ties" if abs(middle) <= half else "wins" if middle > 0 else "loses"


# one side of the error
def one_of(k, ours, theirs):
    d = ours - theirs
    half = stdtrit(len(d) - 1, 1 - 0.05 / k) * d.std(ddof=1) / np.sqrt(len(d))
    return "ties" if abs(d.mean()) <= half else "wins" if d.mean() > 0 else "loses"


# not paired
def one_of(k, ours, theirs):
    n, m = len(ours), ours.mean() - theirs.mean()
    apart = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / n)
    half = stdtrit(2 * n - 2, 1 - 0.025 / k) * apart
    return "ties" if abs(m) <= half else "wins" if m > 0 else "loses"


# the wrong way round
def one_of(k, ours, theirs):
    d = theirs - ours
    half = stdtrit(len(d) - 1, 1 - 0.025 / k) * d.std(ddof=1) / np.sqrt(len(d))
    return "ties" if abs(d.mean()) <= half else "wins" if d.mean() > 0 else "loses"


# the spread of the differences, not of their mean
def one_of(k, ours, theirs):
    d = ours - theirs
    half = stdtrit(len(d) - 1, 1 - 0.025 / k) * d.std(ddof=1)
    return "ties" if abs(d.mean()) <= half else "wins" if d.mean() > 0 else "loses"


# a difference that is not zero, and no interval
def one_of(k, ours, theirs):
    return "wins" if ours.mean() > theirs.mean() else "loses"


# looks once, at the end
def patient(differences):
    middle, half = interval(differences)
    return "ties" if abs(middle) <= half else "wins" if middle > 0 else "loses"


# looks at two seeds
def patient(differences):
    for n in range(2, len(differences) + 1):
        middle, half = interval(differences[:n])
        if abs(middle) > half:
            return "wins" if middle > 0 else "loses"
    return "ties"


# 1.96 for any number of seeds
def patient(differences):
    for n in range(3, len(differences) + 1):
        middle, half = np.mean(differences[:n]), 1.96 * np.std(differences[:n], ddof=1) / n**0.5
        if abs(middle) > half:
            return "wins" if middle > 0 else "loses"
    return "ties"


# does not stop
def patient(differences):
    report = "ties"
    for n in range(3, len(differences) + 1):
        middle, half = interval(differences[:n])
        report = "ties" if abs(middle) <= half else "wins" if middle > 0 else "loses"
    return report


# stops only when he wins
def patient(differences):
    for n in range(3, len(differences) + 1):
        middle, half = interval(differences[:n])
        if middle > half:
            return "wins"
    return "ties"


# leaves out the last seed
def patient(differences):
    for n in range(3, len(differences)):
        middle, half = interval(differences[:n])
        if abs(middle) > half:
            return "wins" if middle > 0 else "loses"
    return "ties"
