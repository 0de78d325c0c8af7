"""Training steps in PyTorch that take a loader: which mini-batches do their passes see?"""

from __future__ import annotations

import torch

from .right_torch import still_statistics


def weights_of(model):
    return [p for p in model.parameters() if p.grad is not None]


def climb(model, rho):
    """To w + eps; gives back w."""
    weights = weights_of(model)
    saved = [p.detach().clone() for p in weights]
    size = torch.stack([p.grad.norm() for p in weights]).norm() + 1e-12
    with torch.no_grad():
        for p in weights:
            p.add_(rho * p.grad / size)
    return weights, saved


def descend(optimizer, weights, saved):
    with torch.no_grad():
        for p, w in zip(weights, saved):
            p.copy_(w)
    optimizer.step()
    optimizer.zero_grad()


def gradient(model, loss_fn, *batches):
    model.zero_grad()
    for x, y in batches:
        (loss_fn(model(x), y) / len(batches)).backward()


def sam_on(model, optimizer, loss_fn, rho, first, second):
    """A step whose passes are on these lists of mini-batches."""
    gradient(model, loss_fn, *first)
    weights, saved = climb(model, rho)
    with still_statistics(model):
        gradient(model, loss_fn, *second)
    descend(optimizer, weights, saved)


# Right


def an_epoch(model, loader, loss_fn, optimizer, rho):
    for batch in loader:
        sam_on(model, optimizer, loss_fn, rho, [batch], [batch])


def one_batch(model, loader, loss_fn, optimizer, rho):
    batch = next(iter(loader))
    sam_on(model, optimizer, loss_fn, rho, [batch], [batch])


def all_batches_a_step(model, loader, loss_fn, optimizer, rho):
    """The full gradient: each pass goes over all of the loader, in whatever order."""
    sam_on(model, optimizer, loss_fn, rho, list(loader), list(loader))


def two_batches_a_step(model, loader, loss_fn, optimizer, rho):
    batches = list(loader)
    for at in range(0, len(batches), 2):
        pair = batches[at : at + 2]
        sam_on(model, optimizer, loss_fn, rho, pair, pair)


def an_epoch_and_a_look(model, loader, loss_fn, optimizer, rho):
    """At its end the gradient's length is looked at, on the mini-batch that comes next."""
    an_epoch(model, loader, loss_fn, optimizer, rho)
    with still_statistics(model):
        gradient(model, loss_fn, next(iter(loader)))


# Wrong


def next_for_each_pass(model, loader, loss_fn, optimizer, rho):
    def without_end():
        while True:
            yield from loader

    batches = without_end()
    for _ in range(len(loader)):
        sam_on(model, optimizer, loss_fn, rho, [next(batches)], [next(batches)])


def begun_anew_for_each_pass(model, loader, loss_fn, optimizer, rho):
    first, second = next(iter(loader)), next(iter(loader))
    sam_on(model, optimizer, loss_fn, rho, [first], [second])


def second_pass_where_there_is_one(model, loader, loss_fn, optimizer, rho):
    batches = iter(loader)
    for batch in batches:
        gradient(model, loss_fn, batch)
        weights, saved = climb(model, rho)
        other = next(batches, None)
        if other is not None:
            with still_statistics(model):
                gradient(model, loss_fn, other)
        descend(optimizer, weights, saved)


# Rows of plants.py and right.py

PLANTS = [
    ("torch-loader-next", "loop", "sam", next_for_each_pass, "update.other-batch"),
    ("torch-loader-begun-anew", "loop", "sam", begun_anew_for_each_pass, "update.other-batch"),
    ("torch-loader-runs-out", "loop", "sam", second_pass_where_there_is_one, "update.other-batch"),
]
RIGHT = [
    ("torch-loader-epoch", "loop", "sam", an_epoch),
    ("torch-loader-one", "loop", "sam", one_batch),
    ("torch-loader-all", "loop", "sam", all_batches_a_step),
    ("torch-loader-pairs", "loop", "sam", two_batches_a_step),
    ("torch-loader-look", "loop", "sam", an_epoch_and_a_look),
]
