import torch


class MomentumSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.3):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.defaults["rho"] = rho
        for g in self.param_groups:
            if "rho" not in g:
                g["rho"] = rho

    def _velocities(self):
        found = []
        for g in self.param_groups:
            for p in g["params"]:
                v = self.state[p].get("momentum_buffer") if p in self.state else None
                if v is not None and p.requires_grad:
                    found.append((p, v, g["rho"]))
        return found

    @torch.no_grad()
    def step(self, closure):
        moved = self._velocities()
        old = [p.clone() for p, _, _ in moved]
        if moved:
            norm = torch.stack([v.double().norm() for _, v, _ in moved]).norm().item()
            for p, v, rho in moved:
                p.sub_(v * (rho / (norm + 1e-12)))
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for (p, _, _), w in zip(moved, old):
            p.copy_(w)
        super().step()
        return loss
