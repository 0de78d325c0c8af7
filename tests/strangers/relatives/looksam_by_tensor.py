import torch


class TensorwiseLookSAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, k=5, alpha=0.7, **kwargs):
        super().__init__(params, dict(rho=rho, k=k, alpha=alpha, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.iteration = 0

    @torch.no_grad()
    def step(self, closure):
        forward_backward = torch.enable_grad()(closure)
        self.zero_grad(set_to_none=True)
        loss = forward_backward()
        if self.iteration % self.param_groups[0]["k"] == 0:
            self._look(forward_backward)
        else:
            self._skip()
        self.base_optimizer.step()
        self.iteration += 1
        return loss

    def _each(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield group, p

    def _look(self, forward_backward):
        norm = sum(p.grad.double().norm() ** 2 for _, p in self._each()) ** 0.5
        saved = []
        for group, p in self._each():
            saved.append((p, p.clone(), p.grad.clone()))
            p.add_(p.grad * float(group["rho"] / (norm + 1e-12)))
        self.zero_grad(set_to_none=True)
        forward_backward()
        for p, w, g0 in saved:
            p.copy_(w)
            if p.grad is None:
                continue
            sq = g0.double().pow(2).sum().item()
            along = (p.grad.double() * g0.double()).sum().item() / sq if sq > 0 else 0.0
            self.state[p]["v"] = p.grad - along * g0

    def _skip(self):
        for group, p in self._each():
            v = self.state[p].get("v")
            if v is None:
                continue
            length = v.double().norm().item()
            if length > 0:
                p.grad = p.grad + v * (group["alpha"] * p.grad.double().norm().item() / length)

    def state_dict(self):
        return {
            "own": super().state_dict(),
            "base": self.base_optimizer.state_dict(),
            "iteration": self.iteration,
        }

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict["own"])
        self.base_optimizer.load_state_dict(state_dict["base"])
        self.base_optimizer.param_groups = self.param_groups
        self.iteration = state_dict["iteration"]
