import torch
from torch.optim import Optimizer


class ForeachSAM(Optimizer):
    """step(closure) with multi-tensor kernels; SGD is written out."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        self.zero_grad()
        loss = closure()

        everything, scaled, rhos = [], [], []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    everything.append(p)
                    scaled.append(p.grad)
                    rhos.append(group["rho"])
        backup = [p.clone() for p in everything]
        if everything:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(scaled)))
            inverse = 1.0 / (norm + 1e-12)
            eps = torch._foreach_mul(scaled, [float(rho * inverse) for rho in rhos])
            torch._foreach_add_(everything, eps)

        self.zero_grad()
        closure()
        if everything:
            torch._foreach_copy_(everything, backup)

        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            if group["weight_decay"]:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            if group["momentum"]:
                buffers = []
                for p, g in zip(params, grads):
                    state = self.state[p]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = g.clone()
                    else:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(g)
                    buffers.append(state["momentum_buffer"])
                grads = buffers
            torch._foreach_add_(params, grads, alpha=-group["lr"])
        return loss
