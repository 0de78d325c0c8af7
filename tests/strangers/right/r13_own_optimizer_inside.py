import weakref

import torch

_OPTIMIZERS = weakref.WeakKeyDictionary()


def optimizer_of(model, hyper):
    if model not in _OPTIMIZERS:
        _OPTIMIZERS[model] = torch.optim.SGD(
            model.parameters(), lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay
        )
    sgd = _OPTIMIZERS[model]
    for group in sgd.param_groups:
        group.update(lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return sgd


def train_step(model, loss_fn, batch, hyper):
    sgd = optimizer_of(model, hyper)
    x, y = batch
    ws = [p for p in model.parameters() if p.requires_grad]
    sgd.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        keep = [w.clone() for w in ws]
        n2 = sum(float((w.grad * w.grad).sum()) for w in ws if w.grad is not None)
        for w in ws:
            if w.grad is not None:
                w += w.grad * (hyper.rho / (n2**0.5 + 1e-12))
    sgd.zero_grad()
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for w, k in zip(ws, keep):
            w.copy_(k)
        for n, b in model.named_buffers():
            b.copy_(buffers[n])
    sgd.step()
    return loss
