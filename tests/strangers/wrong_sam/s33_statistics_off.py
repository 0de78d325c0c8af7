import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm


def disable_running_stats(model: nn.Module):
    for m in model.modules():
        if isinstance(m, _BatchNorm):
            m.backup_momentum = m.momentum
            m.momentum = 0


def enable_running_stats(model: nn.Module):
    for m in model.modules():
        if isinstance(m, _BatchNorm) and hasattr(m, "backup_momentum"):
            m.momentum = m.backup_momentum


class SAMTrainer:
    def __init__(self, model, optimizer, criterion, rho):
        self.model, self.optimizer, self.criterion, self.rho = model, optimizer, criterion, rho
        disable_running_stats(model)

    @torch.no_grad()
    def up(self):
        ps = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.cat([p.grad.flatten() for p in ps]).norm()
        self.w = [(p, p.clone()) for p in ps]
        for p in ps:
            p.add_(p.grad, alpha=float(self.rho / (norm + 1e-12)))

    @torch.no_grad()
    def back(self):
        for p, w in self.w:
            p.copy_(w)

    def run(self, x, y):
        enable_running_stats(self.model)
        rng = torch.get_rng_state()
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.up()
        disable_running_stats(self.model)
        self.optimizer.zero_grad()
        torch.set_rng_state(rng)
        self.criterion(self.model(x), y).backward()
        self.back()
        self.optimizer.step()
        return float(loss)


def train_step(model, optimizer, loss_fn, batch, hyper):
    return SAMTrainer(model, optimizer, loss_fn, hyper.rho).run(*batch)
