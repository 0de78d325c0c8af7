import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, adaptive=True, **kwargs):
        super().__init__(params, dict(rho=rho, adaptive=adaptive, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def load_state_dict(self, sd):
        super().load_state_dict(sd)
        self.base_optimizer.state, self.base_optimizer.param_groups = self.state, self.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norms = [
            ((p.abs() if g["adaptive"] else 1.0) * p.grad).norm()
            for g in self.param_groups for p in g["params"] if p.grad is not None
        ]
        norm = torch.stack(norms).norm() if norms else torch.zeros(())
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.clone()
                e_w = (p.pow(2) if g["adaptive"] else 1.0) * p.grad * (g["rho"] / (norm + 1e-12))
                p.add_(e_w)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for g in self.param_groups:
            for p in g["params"]:
                old = self.state[p].pop("old_p", None)
                if old is not None:
                    p.copy_(old)
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()
