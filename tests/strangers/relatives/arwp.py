import torch
from torch.optim import SGD


class ARWP(SGD):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, sigma=0.01, eta=0.1, beta=0.99):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        extra = dict(sigma=sigma, eta=eta, beta=beta)
        self.defaults.update(extra)
        for group in self.param_groups:
            for key in extra:
                group.setdefault(key, extra[key])

    def _draw(self, p, group):
        rows = p.reshape(p.shape[0], -1) if p.ndim > 1 else p.reshape(1, -1)
        std = group["sigma"] * rows.norm(dim=1, keepdim=True)
        h = self.state[p].get("h")
        if h is not None:
            fisher = h.reshape(rows.shape).sum(dim=1, keepdim=True)
            std = std / (1 + group["eta"] * fisher).sqrt()
        return (std * torch.randn_like(rows)).reshape(p.shape)

    @torch.no_grad()
    def step(self, closure):
        kept = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.requires_grad:
                    kept[p] = p.clone()
                    p += self._draw(p, group)
        with torch.enable_grad():
            self.zero_grad()
            loss = closure()
        for p in kept:
            p.copy_(kept[p])
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                squared = p.grad.square()
                h = self.state[p].get("h")
                self.state[p]["h"] = squared if h is None else group["beta"] * h + squared
        super().step()
        return loss
