import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class FlatRSAM(torch.optim.Optimizer):
    """LBFGS-like: one group, one flat vector, one flat momentum buffer."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05, sigma=1e-3, lam=1.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma,
                                      lam=lam))
        if len(self.param_groups) != 1:
            raise ValueError("FlatRSAM doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]
        index, count = [], 0
        for p in self._params:
            units = p.shape[0] if p.dim() > 1 else 1
            index.append(torch.arange(units).repeat_interleave(p.numel() // units) + count)
            count += units
        self._unit, self._units = torch.cat(index), count

    def _gather(self):
        views = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in self._params]
        return torch.cat(views)

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        h = self.param_groups[0]
        w = parameters_to_vector(self._params).clone()

        s = w.new_zeros(self._units).index_add_(0, self._unit, w * w).sqrt()[self._unit]
        noise = h["sigma"] * s * torch.randn_like(w)
        vector_to_parameters(w + noise, self._params)
        self.zero_grad()
        loss = closure()

        a = h["lam"] * self._gather() + noise
        vector_to_parameters(w + h["rho"] * a / (a.norm() + 1e-12), self._params)
        self.zero_grad()
        closure()

        d = self._gather() + h["weight_decay"] * w
        store = self.state[self._params[0]]
        if "velocity" not in store:
            store["velocity"] = torch.zeros_like(w)
        store["velocity"].mul_(h["momentum"]).add_(d)
        vector_to_parameters(w - h["lr"] * store["velocity"], self._params)
        return loss
