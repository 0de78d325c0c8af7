import torch


class NoisySAM:
    def __init__(self, optimizer, rho, sigma, lam):
        self.optimizer, self.rho, self.sigma, self.lam = optimizer, rho, sigma, lam
        self.param_groups = optimizer.param_groups
        self.state = optimizer.state
        self.state_dict, self.load_state_dict = optimizer.state_dict, optimizer.load_state_dict
        self.zero_grad = optimizer.zero_grad

    def params(self):
        return (p for g in self.optimizer.param_groups for p in g["params"])

    def step(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            move = {}
            for p in self.params():
                fan = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
                move[p] = torch.randn_like(p) * fan * self.sigma
                if p.grad is not None:
                    move[p] += self.lam * p.grad
            norm = sum(m.square().sum() for m in move.values()).sqrt()
            before = {p: p.clone() for p in move}
            for p, m in move.items():
                p.add_(m, alpha=float(self.rho / (norm + 1e-12)))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, w in before.items():
                p.copy_(w)
        self.optimizer.step()
        return loss


def make(params, hyper):
    base = torch.optim.RMSprop(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return NoisySAM(base, hyper.rho, hyper.sigma, hyper.lam)
