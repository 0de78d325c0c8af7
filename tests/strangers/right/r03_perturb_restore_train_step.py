import torch


class Perturber:
    def __init__(self, params, radius):
        self.params = [p for p in params if p.requires_grad]
        self.radius = radius
        self.saved = None

    @torch.no_grad()
    def perturb(self):
        self.saved = [p.detach().clone() for p in self.params]
        total = sum((p.grad**2).sum() for p in self.params if p.grad is not None)
        if not torch.is_tensor(total):
            return
        coef = self.radius / (total.sqrt() + 1e-12)
        for p in self.params:
            if p.grad is not None:
                p.add_(coef * p.grad)

    @torch.no_grad()
    def restore(self):
        for p, old in zip(self.params, self.saved):
            p.copy_(old)
        self.saved = None


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    sam = Perturber(model.parameters(), hyper.rho)

    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    sam.perturb()

    statistics = [b.clone() for b in model.buffers()]
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    sam.restore()
    for b, kept in zip(model.buffers(), statistics):
        b.copy_(kept)
    optimizer.step()
    return loss.item()
