"""SAM whose second pass costs half."""
import torch


def train_step(model, optimizer, loss_fn, batch, rho):
    x, y = batch
    n = max(1, len(x) // 2)

    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model(x), y)
    loss.backward()

    named = [(k, p) for k, p in model.named_parameters() if p.grad is not None]
    norm = torch.linalg.norm(torch.stack([torch.linalg.norm(p.grad) for _, p in named]))
    center = {k: p.detach().clone() for k, p in named}
    with torch.no_grad():
        for _, p in named:
            p.add_(p.grad * (rho / (norm + 1e-12)))

    optimizer.zero_grad(set_to_none=True)
    loss_fn(model(x[:n]), y[:n]).backward()

    model.load_state_dict({**model.state_dict(), **center})
    optimizer.step()
    return {"loss": loss.item()}
