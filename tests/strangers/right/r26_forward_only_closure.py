import torch


class SAM(torch.optim.Optimizer):
    """step(closure), where the closure only returns the loss; gradients are asked for here.

    A closure that has called backward() already will do too: then its .grad is used.
    """

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, max_norm=None):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))
        self.max_norm = max_norm

    def _evaluate(self, closure, params):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
            if all(p.grad is None for p in params):
                grads = torch.autograd.grad(loss, params, allow_unused=True)
            else:
                grads = [p.grad for p in params]
        return loss.detach(), grads

    def step(self, closure):
        flat = [p for g in self.param_groups for p in g["params"] if p.requires_grad]
        loss, grads = self._evaluate(closure, flat)
        with torch.no_grad():
            found = [g.norm() for g in grads if g is not None]
            norm = torch.stack(found).norm() if found else torch.tensor(0.0)
            rho_of = {p: g["rho"] for g in self.param_groups for p in g["params"]}
            old = [p.clone() for p in flat]
            for p, g in zip(flat, grads):
                if g is not None:
                    p.add_(rho_of[p] * g / (norm + 1e-12))
        _, grads = self._evaluate(closure, flat)
        with torch.no_grad():
            for p, o in zip(flat, old):
                p.copy_(o)
            if self.max_norm is not None:
                total = torch.stack([g.norm() for g in grads if g is not None]).norm()
                factor = min(1.0, self.max_norm / (total.item() + 1e-6))
                grads = [None if g is None else g * factor for g in grads]
            second = dict(zip(flat, grads))
            for group in self.param_groups:
                for p in group["params"]:
                    d = second.get(p)
                    if d is None:
                        continue
                    d = d + group["weight_decay"] * p
                    if group["momentum"] != 0:
                        buf = self.state[p].get("momentum_buffer")
                        buf = d.clone() if buf is None else buf.mul_(group["momentum"]).add_(d)
                        self.state[p]["momentum_buffer"] = buf
                        d = buf
                    p.sub_(group["lr"] * d)
        return loss
