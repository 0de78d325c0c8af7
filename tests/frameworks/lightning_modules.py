"""LightningModules that step with SAM themselves, right ones and wrong ones."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import nn

from tests.conformance.right_torch import ClosureSam, TwoStepSam, still_statistics


class ByHand(pl.LightningModule):
    """Manual optimisation, both passes in training_step; its own network is a child."""

    def __init__(self, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Linear(16, 5))

    def forward(self, x):
        return self.net(x)

    def backward_of(self, batch):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.manual_backward(loss)
        return loss

    def eps(self, g, norm):
        return self.hparams["rho"] * g / (norm + 1e-12)

    def put_back(self, params, saved):
        for p, old in zip(params, saved):
            p.copy_(old)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.backward_of(batch)
        params = [p for p in self.parameters() if p.grad is not None]
        saved = [p.detach().clone() for p in params]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        with torch.no_grad():
            for p in params:
                p.add_(self.eps(p.grad, norm))
        optimizer.zero_grad()
        with still_statistics(self):
            self.backward_of(batch)
        with torch.no_grad():
            self.put_back(params, saved)
        optimizer.step()
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        own = {name: self.hparams[name] for name in ("lr", "momentum", "weight_decay")}
        return torch.optim.SGD(self.parameters(), **own)


class InHalves(pl.LightningModule):
    """Manual optimisation with an optimizer in halves; it is given a network and a loss."""

    def __init__(self, model, loss_fn, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss_fn = model, loss_fn
        self.settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rho": rho}

    def training_step(self, batch, batch_idx):
        sam = self.optimizers()
        x, y = batch
        loss = self.loss_fn(self.model(x), y)
        self.manual_backward(loss)
        sam.first_step(zero_grad=True)
        with still_statistics(self):
            self.manual_backward(self.loss_fn(self.model(x), y))
        sam.second_step(zero_grad=True)
        self.log_dict({"loss": loss})

    def configure_optimizers(self):
        return [TwoStepSam(self.model.parameters(), **self.settings)]


class Automatic(pl.LightningModule):
    """Lightning's own loop around an optimizer with step(closure); two layers of its own."""

    def __init__(self, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__()
        self.settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rho": rho}
        self.hidden = nn.Linear(72, 16)
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        return self.last(self.hidden(x.flatten(1)).tanh())

    def training_step(self, batch, batch_idx):
        return {"loss": nn.functional.cross_entropy(self(batch[0]), batch[1])}

    def configure_optimizers(self):
        return ClosureSam(self.parameters(), **self.settings)


class KeepsRho(torch.optim.SGD):
    """SAM with its radius in an attribute, which ``kept`` chooses."""

    kept = "rho"

    def __init__(self, params, radius, **own):
        super().__init__(params, **own)
        setattr(self, self.kept, radius)

    def radius(self):
        return getattr(self, self.kept)

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        known = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        length = torch.stack([p.grad.norm() for p in known]).norm() + 1e-12
        saved = [p.clone() for p in known]
        for p in known:
            p.add_(p.grad * (self.radius() / length))
        with torch.enable_grad():
            closure()
        for p, old in zip(known, saved):
            p.copy_(old)
        super().step()
        return loss


class HidesRho(KeepsRho):
    kept = "how_far"


class FixesRho(KeepsRho):
    def radius(self):
        return 0.05


class WithRhoInside(pl.LightningModule):
    """Automatic optimisation; the radius goes from the constructor to the optimizer, and stays."""

    optimizer = KeepsRho

    def __init__(self, model, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__()
        self.save_hyperparameters(ignore=["model"])
        self.model = model
        self.passes = 0

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.passes += 1
        if self.passes % 2:
            return nn.functional.cross_entropy(self.model(x), y)
        with still_statistics(self):
            return nn.functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        own = dict(self.hparams)
        return self.optimizer(self.parameters(), own.pop("rho"), **own)


class WithRhoHidden(WithRhoInside):
    optimizer = HidesRho


class WithRhoFixed(WithRhoInside):
    optimizer = FixesRho


class StaysPerturbed(ByHand):
    def put_back(self, params, saved):
        pass


class Descends(ByHand):
    def eps(self, g, norm):
        return -super().eps(g, norm)


class AutomaticSgd(Automatic):
    def configure_optimizers(self):
        own = {k: v for k, v in self.settings.items() if k != "rho"}
        return torch.optim.SGD(self.parameters(), **own)


class NeedsData(ByHand):
    def __init__(self, vocabulary):
        super().__init__()
