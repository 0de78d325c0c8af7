import torch


class RSAM:
    """Three calls: draw() / backward / first_step() / backward / second_step()."""

    def __init__(self, optimizer, rho, sigma, lam):
        self.opt, self.rho, self.sigma, self.lam = optimizer, rho, sigma, lam
        self.ps = [p for g in optimizer.param_groups for p in g["params"]]

    @torch.no_grad()
    def draw(self):
        self.w = [p.clone() for p in self.ps]
        self.delta = []
        for p in self.ps:
            norms = p.norm() if p.ndim <= 1 else p.norm(2, dim=list(range(1, p.ndim)), keepdim=True)
            self.delta.append(torch.normal(torch.zeros_like(p), torch.ones_like(p)) * norms * self.sigma)
            p += self.delta[-1]

    @torch.no_grad()
    def first_step(self):
        a = [d + (0 if p.grad is None else self.lam * p.grad) for p, d in zip(self.ps, self.delta)]
        norm = torch.sqrt(sum(v.pow(2).sum() for v in a)) + 1e-12
        for p, w, v in zip(self.ps, self.w, a):
            p.copy_(w + v * (self.rho / norm))
        self.opt.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p, w in zip(self.ps, self.w):
            p.copy_(w)
        self.opt.step()
        self.opt.zero_grad()


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    rsam = RSAM(optimizer, hyper.rho, hyper.sigma, hyper.lam)
    optimizer.zero_grad()
    rsam.draw()
    loss = loss_fn(model(x), y)
    loss.backward()
    rsam.first_step()
    stats = [b.clone() for b in model.buffers()]
    loss_fn(model(x), y).backward()
    for b, s in zip(model.buffers(), stats):
        b.data = s
    rsam.second_step()
    return loss.item()
