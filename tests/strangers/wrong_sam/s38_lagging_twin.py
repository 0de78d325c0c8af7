import copy
import weakref

import torch

TWINS = weakref.WeakKeyDictionary()


def twin_of(model):
    if model not in TWINS:
        TWINS[model] = copy.deepcopy(model)
    return TWINS[model]


def copy_weights(source, target):
    with torch.no_grad():
        for a, b in zip(source.parameters(), target.parameters()):
            b.copy_(a)


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    twin = twin_of(model)
    state = torch.get_rng_state()

    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    # the twin goes up, the model stays where it is
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    with torch.no_grad():
        for p, q in zip(model.parameters(), twin.parameters()):
            if p.grad is not None:
                q.add_(p.grad, alpha=float(hyper.rho / (norm + 1e-12)))
    twin.zero_grad()
    torch.set_rng_state(state)
    loss_fn(twin(x), y).backward()
    for p, q in zip(model.parameters(), twin.parameters()):
        p.grad = None if q.grad is None else q.grad.clone()

    copy_weights(model, twin)
    optimizer.step()
    return loss.item()
