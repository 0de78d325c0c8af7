import torch


class ESAMPerturbation(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, beta=0.6, seed=0, **kwargs):
        if not 0 < beta <= 1:
            raise ValueError("beta is a probability above 0")
        super().__init__(params, dict(rho=rho, beta=beta, drawn=0, **kwargs))
        self.seed = seed
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.base_optimizer.state = self.state
        self.clean_weights = []

    def _step_generator(self):
        head = self.param_groups[0]
        gen = torch.Generator()
        gen.manual_seed(self.seed * 1_000_003 + head["drawn"])
        head["drawn"] += 1
        return gen

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        gen = self._step_generator()
        total = 0.0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    total += p.grad.double().pow(2).sum().item()
        norm = total**0.5 + 1e-12

        self.clean_weights = []
        for group in self.param_groups:
            scale = group["rho"] / group["beta"] / norm
            for p in group["params"]:
                keep = torch.rand(p.shape, generator=gen, dtype=torch.float64) < group["beta"]
                if p.grad is None:
                    continue
                self.clean_weights.append((p, p.data.clone()))
                p.add_(p.grad * keep.to(p.device, p.dtype) * scale)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        while self.clean_weights:
            p, w = self.clean_weights.pop()
            p.data.copy_(w)
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure):
        self.zero_grad()
        loss = closure()
        self.first_step(zero_grad=True)
        closure()
        self.second_step(zero_grad=True)
        return loss

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups
        self.base_optimizer.state = self.state
