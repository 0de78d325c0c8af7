"""Wrong answers to tutorial 1, in the order of its exercises."""


# the sign of the second slope
def divide(top, bottom):
    u, v = top.number, bottom.number
    return Value(u / v, [(top, 1 / v), (bottom, u / v**2)])


# the right number without notes
def divide(top, bottom):
    return Value(top.number / bottom.number)


# the order in which the names are first met
def order_of(inputs, root):
    listed = [root]
    for name in listed:
        listed += [s for s in inputs[name] if s not in listed]
    return listed


# not turned round
def order_of(inputs, root):
    return ["t", "x", "a", "b", "c"]
