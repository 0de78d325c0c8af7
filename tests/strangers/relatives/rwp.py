import torch


@torch.no_grad()
def filter_norms(w):
    if w.dim() > 1:
        return w.flatten(1).norm(dim=1).view(-1, *[1] * (w.dim() - 1))
    return w.norm()


class RWP(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, sigma=0.01, **kwargs):
        super().__init__(params, dict(sigma=sigma, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.base_optimizer.state = self.state

    @torch.no_grad()
    def step(self, closure):
        originals = []
        for group in self.param_groups:
            for p in group["params"]:
                if not p.requires_grad:
                    continue
                originals.append((p, p.clone()))
                p.add_(torch.randn_like(p) * filter_norms(p) * group["sigma"])
        with torch.enable_grad():
            self.zero_grad()
            loss = closure()
        for p, w in originals:
            p.copy_(w)
        self.base_optimizer.step()
        return loss

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups
        self.base_optimizer.state = self.state
