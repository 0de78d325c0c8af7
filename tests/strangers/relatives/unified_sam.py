import torch
from torch.optim import Optimizer


class UnifiedSAM(Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05, share=0.5):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, share=share)
        super().__init__(params, defaults)

    def _active(self, group):
        return [p for p in group["params"] if p.grad is not None]

    def _grad_norm(self):
        total = 0.0
        for group in self.param_groups:
            grads = [p.grad for p in self._active(group)]
            if grads:
                total += sum(n.double().item() ** 2 for n in torch._foreach_norm([g.float() if g.dtype == torch.float16 else g for g in grads]))
        return total**0.5

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        self.zero_grad()
        loss = closure()
        norm = self._grad_norm()

        saved = []
        for group in self.param_groups:
            params = self._active(group)
            if not params:
                continue
            share = group["share"]
            scale = group["rho"] * (1 - share + share / (norm + 1e-12))
            saved.append((params, [p.clone() for p in params]))
            torch._foreach_add_(params, torch._foreach_mul([p.grad for p in params], scale))

        self.zero_grad()
        closure()
        for params, old in saved:
            torch._foreach_copy_(params, old)

        for group in self.param_groups:
            params = self._active(group)
            if params:
                self._sgd(group, params)
        return loss

    def _sgd(self, group, params):
        update = [p.grad for p in params]
        if group["weight_decay"]:
            update = torch._foreach_add(update, params, alpha=group["weight_decay"])
        if group["momentum"]:
            velocity = []
            for p, d in zip(params, update):
                state = self.state[p]
                if "velocity" in state:
                    state["velocity"].mul_(group["momentum"]).add_(d)
                else:
                    state["velocity"] = d.clone()
                velocity.append(state["velocity"])
            update = velocity
        torch._foreach_add_(params, update, alpha=-group["lr"])
