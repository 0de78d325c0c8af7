"""Gradient accumulation inside the step: each gradient is the mean over two chunks of the batch."""
import torch


def accumulate(model, loss_fn, x, y, chunks):
    for xs, ys in zip(x.chunk(chunks), y.chunk(chunks)):
        (loss_fn(model(xs), ys) * (len(xs) / len(x))).backward()


def train_step(model, optimizer, loss_fn, batch, hyper, chunks=2):
    x, y = batch
    params = list(filter(lambda p: p.requires_grad, model.parameters()))
    w = [p.detach().clone() for p in params]
    noise = []
    for p in w:
        s = p.norm(p=2, dim=tuple(range(1, p.ndim)), keepdim=True) if p.ndim > 1 else p.norm()
        noise.append(hyper.sigma * s * torch.randn_like(p))

    def put(values):
        with torch.no_grad():
            for p, v in zip(params, values):
                p.copy_(v)

    optimizer.zero_grad()
    put([a + b for a, b in zip(w, noise)])
    accumulate(model, loss_fn, x, y, chunks)
    up = [d if p.grad is None else hyper.lam * p.grad + d for p, d in zip(params, noise)]
    norm = float(sum((u**2).sum() for u in up)) ** 0.5
    optimizer.zero_grad()
    put([a + hyper.rho / (norm + 1e-12) * u for a, u in zip(w, up)])
    buffers = [b.clone() for b in model.buffers()]
    accumulate(model, loss_fn, x, y, chunks)
    for b, kept in zip(model.buffers(), buffers):
        b.copy_(kept)
    put(w)
    optimizer.step()
