"""Solutions to tutorial 10; the names are the tutorial's."""


def mended(text):
    return text.replace("p.add_(self.rho / length * a)", "p.data = w + self.rho / length * a")


def one_number(text):
    return text.replace("torch.randn_like(rows)", "torch.randn_like(rows)[:, :1].expand_as(rows)")
