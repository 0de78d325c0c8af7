"""Solutions to tutorial 8; the names are the tutorial's."""


def one_of(k, ours, theirs):
    d = ours - theirs
    half = stdtrit(len(d) - 1, 1 - 0.025 / k) * d.std(ddof=1) / np.sqrt(len(d))
    if abs(d.mean()) <= half:
        return "ties"
    return "wins" if d.mean() > 0 else "loses"


def patient(differences):
    for n in range(3, len(differences) + 1):
        middle, half = interval(differences[:n])
        if abs(middle) > half:
            return "wins" if middle > 0 else "loses"
    return "ties"
