import torch


@torch.no_grad()
def sample(p, sigma):
    z = torch.randn(p.shape, dtype=p.dtype, device=p.device)
    if p.dim() < 2:
        return sigma * p.abs() * z
    return sigma * p.reshape(p.shape[0], -1).norm(dim=1).reshape(-1, *(1 for _ in p.shape[1:])) * z


class RSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam

    def step(self, closure):
        ps = [p for g in self.param_groups for p in g["params"]]
        orig = [p.detach().clone() for p in ps]
        noise = [sample(p, self.sigma) for p in ps]
        torch._foreach_add_([p.data for p in ps], noise)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        up = [n if p.grad is None else torch.add(n, p.grad, alpha=self.lam) for p, n in zip(ps, noise)]
        size = torch.stack([u.norm() for u in up]).norm()
        for p, w, u in zip(ps, orig, up):
            p.data.copy_(w + self.rho / (size + 1e-12) * u)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, w in zip(ps, orig):
            p.data.copy_(w)
        super().step()
        return loss
