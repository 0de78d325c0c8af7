import torch


def scale_of(p, eta):
    """T: as large as the weights are."""
    if p.dim() > 1:
        return p.norm(dim=tuple(range(1, p.dim())), keepdim=True).expand_as(p) + eta
    return p.abs() + eta


class ASAM(torch.optim.SGD):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.5, eta=0.01):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.eta = eta
        for g in self.param_groups:
            g.setdefault("rho", rho)

    @torch.no_grad()
    def first_step(self):
        todo = []
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    t = scale_of(p, self.eta)
                    todo.append((p, t.square() * p.grad, (t * p.grad).square().sum(), g["rho"]))
        norm = sum(n for _, _, n, _ in todo) ** 0.5
        self.memory = [(p, p.clone()) for p, *_ in todo]
        for p, d, _, rho in todo:
            p.add_(d * (rho / (norm + 1e-12)))

    @torch.no_grad()
    def second_step(self):
        for p, w in self.memory:
            p.copy_(w)
        super().step()
