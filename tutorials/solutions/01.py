"""Solutions to tutorial 1; the names are the tutorial's."""


def divide(top, bottom):
    u, v = top.number, bottom.number
    return Value(u / v, [(top, 1 / v), (bottom, -u / v**2)])


def order_of(inputs, root):
    listed = []

    def visit(name):
        if name not in listed:
            for source in inputs[name]:
                visit(source)
            listed.append(name)

    visit(root)
    return listed[::-1]
