import torch


class ASAM:
    def __init__(self, optimizer, model, rho=0.5, eta=0.01):
        self.optimizer, self.model, self.rho, self.eta = optimizer, model, rho, eta

    @torch.no_grad()
    def ascent_step(self):
        t, wgrads = {}, []
        self.saved = {}
        for name, p in self.model.named_parameters():
            if p.grad is None:
                continue
            t[name] = p.abs().add(self.eta) if "weight" in name else torch.ones_like(p)
            wgrads.append(torch.norm(p.grad * t[name], p=2))
        norm = torch.norm(torch.stack(wgrads), p=2) + 1e-16
        for name, p in self.model.named_parameters():
            if name in t:
                self.saved[name] = p.detach().clone()
                p.add_(t[name] ** 2 * p.grad, alpha=(self.rho / norm).item())
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        for name, p in self.model.named_parameters():
            if name in self.saved:
                p.copy_(self.saved[name])
        self.optimizer.step()
        self.optimizer.zero_grad()


def set_bn_momentum(model, momentum=None):
    for m in model.modules():
        if isinstance(m, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            if momentum is None:
                m.momentum = m.momentum_before
            else:
                m.momentum_before, m.momentum = m.momentum, momentum


def train_step(model, optimizer, loss_fn, batch, hyper):
    minimizer = ASAM(optimizer, model, rho=hyper.rho, eta=hyper.eta)
    inputs, targets = batch
    optimizer.zero_grad()
    loss = loss_fn(model(inputs), targets)
    loss.backward()
    minimizer.ascent_step()
    set_bn_momentum(model, 0.0)
    loss_fn(model(inputs), targets).backward()
    set_bn_momentum(model)
    minimizer.descent_step()
    return loss.item()
