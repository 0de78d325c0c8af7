"""SAM around AdamW, with AdamW written out."""
import torch


class SAMAdamW(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, rho=0.05):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, rho=rho))

    def _moments(self, group, p):
        st = self.state[p]
        if not st:
            st.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        b1, b2 = group["betas"]
        st["t"] += 1
        st["m"].lerp_(p.grad, 1 - b1)
        st["v"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
        return st["m"] / (1 - b1 ** st["t"]), st["v"] / (1 - b2 ** st["t"])

    @torch.no_grad()
    def first_step(self):
        self.backup = {}
        norm = torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]
                            if p.grad is not None]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._moments(group, p)
                    self.backup[p] = p.clone()
                    p.add_(p.grad * (group["rho"] / (norm + 1e-12)))

    @torch.no_grad()
    def second_step(self):
        for p, w in self.backup.items():
            p.copy_(w)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m, v = self._moments(group, p)
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.addcdiv_(m, v.sqrt() + group["eps"], value=-group["lr"])
