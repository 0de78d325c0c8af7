"""SAM with its own heavy-ball SGD, everything in self.state."""
import math

import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, lr, mu=0.9, wd=5e-4, rho=0.05, eps=1e-12):
        defaults = {"lr": lr, "mu": mu, "wd": wd, "rho": rho, "eps": eps}
        super(SAM, self).__init__(params, defaults)

    def _each(self):
        for group in self.param_groups:
            for w in group["params"]:
                yield group, w

    def ascent_step(self):
        with torch.no_grad():
            norm = math.sqrt(sum(float(torch.sum(w.grad.double() ** 2)) for _, w in self._each() if w.grad is not None))
            for group, w in self._each():
                st = self.state[w]
                st["w0"] = w.detach().clone()
                if w.grad is not None:
                    w += group["rho"] / (norm + group["eps"]) * w.grad
                    w.grad = None

    def descent_step(self):
        with torch.no_grad():
            for group, w in self._each():
                st = self.state[w]
                w.copy_(st["w0"])
                del st["w0"]
                if w.grad is None:
                    continue
                d = w.grad + group["wd"] * w
                if "v" in st:
                    st["v"] = group["mu"] * st["v"] + d
                else:
                    st["v"] = d.clone()
                w -= group["lr"] * st["v"]
                w.grad = None
