"""Wrong answers to tutorial 10, in the order of its exercises."""


# the same memory by another name
def mended(text):
    return text.replace("p.add_(self.rho", "p.data.add_(self.rho")


# a copy when the weights are saved, where there is one already
def mended(text):
    return text.replace("p.clone()", "p.detach().clone()")


# a copy of eps, which nobody shares
def mended(text):
    return text.replace("p.add_(self.rho / length * a)", "p.add_((self.rho / length * a).clone())")


# eps taken from the saved weights, so from p as well: no ascent
def mended(text):
    climb = "p.add_(self.rho / length * a)"
    return text.replace(climb, f"{climb}\n            w.sub_(self.rho / length * a)")


# mended where it should not be
def mended(text):
    return text.replace("p.data = w", "p.copy_(w)")


# nothing changed
def one_number(text):
    return text


# the same numbers in every filter, and different ones within
def one_number(text):
    return text.replace("torch.randn_like(rows)", "torch.randn_like(rows)[:1].expand_as(rows)")


# Gaussian no more
def one_number(text):
    return text.replace("randn_like", "rand_like")


# one number a filter, and the loss goes up
def one_number(text):
    number = "torch.randn_like(rows)[:, :1].expand_as(rows)"
    text = text.replace("torch.randn_like(rows)", number)
    return text.replace(
        "**settings)\n        self", "**{**settings, 'maximize': True})\n        self"
    )
