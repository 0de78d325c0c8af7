import torch


class AnnealedRSAM:
    def __init__(self, base, radius, noise_std, balance, anneal=0.55):
        self.base, self.radius, self.noise_std, self.balance, self.anneal = base, radius, noise_std, balance, anneal
        self.iteration = 0
        self.param_groups = base.param_groups

    def zero_grad(self):
        self.base.zero_grad()

    def state_dict(self):
        return dict(base=self.base.state_dict(), iteration=self.iteration)

    def load_state_dict(self, d):
        self.base.load_state_dict(d["base"])
        self.param_groups = self.base.param_groups
        self.iteration = d["iteration"]

    def _perturb(self, w, delta):
        with torch.no_grad():
            for p in delta:
                p.copy_(w[p] + delta[p])

    def step(self, closure):
        std = self.noise_std / (1 + self.iteration) ** self.anneal
        self.iteration += 1
        ps = [p for g in self.param_groups for p in g["params"]]
        w = {p: p.detach().clone() for p in ps}
        noise = {}
        for p in ps:
            rows = w[p].reshape(len(p), -1) if p.dim() > 1 else w[p].reshape(1, -1)
            noise[p] = (torch.randn_like(rows) * rows.norm(dim=1, keepdim=True) * std).view_as(p)
        self._perturb(w, noise)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        a = {p: n if p.grad is None else self.balance * p.grad + n for p, n in noise.items()}
        norm = torch.stack([v.norm() for v in a.values()]).norm() + 1e-12
        self._perturb(w, {p: self.radius * v / norm for p, v in a.items()})
        self.zero_grad()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p in ps:
                p.copy_(w[p])
        self.base.step()
        return loss


def make(params, hyper):
    return AnnealedRSAM(torch.optim.Adam(params, lr=hyper.lr, weight_decay=hyper.weight_decay), hyper.rho, hyper.sigma, hyper.lam)
