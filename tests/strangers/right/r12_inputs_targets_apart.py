import torch


def train_one_batch(model, inputs, targets, criterion, optimizer, rho, device="cpu", amp=False):
    inputs, targets = inputs.to(device), targets.to(device)

    def forward_backward():
        optimizer.zero_grad()
        with torch.autocast(device_type=device, enabled=amp):
            loss = criterion(model(inputs), targets)
        loss.backward()
        return loss

    loss = forward_backward()
    eps = {}
    with torch.no_grad():
        trainable = [p for p in model.parameters() if p.grad is not None]
        gnorm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in trainable]))
        for p in trainable:
            eps[p] = p.clone()
            p.add_(p.grad.mul(rho).div(gnorm + 1e-12))
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for m in norms:
        m.track_running_stats = False
    forward_backward()
    for m in norms:
        m.track_running_stats = True
    with torch.no_grad():
        for p, old in eps.items():
            p.copy_(old)
    optimizer.step()
    return float(loss)
