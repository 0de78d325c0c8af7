import torch


class VaSSO:
    def __init__(self, optimizer, rho=0.05, theta=0.9):
        self.optimizer = optimizer
        self._settings = {"rho": rho, "theta": theta}
        for group in optimizer.param_groups:
            for name, value in self._settings.items():
                group.setdefault(name, value)
        self._stash = None

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state

    def add_param_group(self, group):
        self.optimizer.add_param_group({**self._settings, **group})

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict):
        self.optimizer.load_state_dict(state_dict)

    @torch.no_grad()
    def perturb(self):
        climb = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "direction" not in state:
                    state["direction"] = p.grad.clone()
                else:
                    state["direction"].mul_(1 - group["theta"]).add_(p.grad, alpha=group["theta"])
                climb.append((p, state["direction"], group["rho"]))
        self._stash = [(p, p.detach().clone()) for p, _, _ in climb]
        norm = sum(float(d.double().norm()) ** 2 for _, d, _ in climb) ** 0.5
        for p, d, rho in climb:
            p.add_(d * (rho / (norm + 1e-12)))

    @torch.no_grad()
    def step(self):
        if self._stash is None:
            raise RuntimeError("perturb() comes first")
        for p, w in self._stash:
            p.copy_(w)
        self._stash = None
        self.optimizer.step()
