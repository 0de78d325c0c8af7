import torch


class ASAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.5, eta=0.01):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)
            group.setdefault("eta", eta)

    @torch.no_grad()
    def step(self, closure):
        evaluate = torch.enable_grad()(closure)
        self.zero_grad()
        loss = evaluate()
        plan, square = [], 0.0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    t = p.abs() + group["eta"]
                    square += (t * p.grad).pow(2).sum().item()
                    plan.append((p, p.clone(), t.square() * p.grad * group["rho"]))
        for p, _, direction in plan:
            p.add_(direction / (square**0.5 + 1e-12))
        self.zero_grad()
        evaluate()
        for p, old, _ in plan:
            p.copy_(old)
        super().step()
        return loss
