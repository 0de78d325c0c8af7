"""What the pages of findings say beside the catalogue: of a code's group, and of codes unshown."""

from __future__ import annotations

GROUPS = {
    "algorithm": (
        "Other algorithms",
        "Seen in the points of a step and in where the weights land: another known algorithm "
        "explains both.",
    ),
    "noise": (
        "The draw",
        "Seen in q1 - w, where q1 is the first place at which the gradient is taken: its size in "
        "every filter, its distribution, and what it has to do with the draws of other steps and "
        "tensors.",
    ),
    "direction": (
        "The direction of R-SAM's ascent",
        "Seen in q2 - w, the way from the weights to the second place, against the observed draw "
        "and the gradient at the first place.",
    ),
    "ascent": (
        "The ascent",
        "Seen in q2 - w, the way from the weights to the second place: its direction, its length, "
        "and the norm that explains its length.",
    ),
    "restore": (
        "The way back",
        "Seen in where the weights land: a part of the perturbation is still in them.",
    ),
    "update": (
        "The base step",
        "Seen in where the weights land over some steps, against the base step with the gradient "
        "at the second place.",
    ),
    "resume": (
        "Saving and resuming",
        "Seen when a run that was saved and loaded half-way goes on beside one that was not.",
    ),
    "batch-norm": (
        "Batch norm",
        "Seen in the running statistics before and after each pass.",
    ),
    "limits": (
        "Limits and odd inputs",
        "Seen in a step of its own, with the setting or the input that the limit is about.",
    ),
    "precision": (
        "Precision",
        "Seen in differences too large for the weights' type, and in weights of other types.",
    ),
    "cost": ("Cost", "Seen in the number of gradients that are asked for."),
    "dropout": (
        "Dropout",
        "Seen in the masks of both passes, and in the generator between them.",
    ),
    "scaler": (
        "Gradient scalers",
        "Seen in where the weights end after a step in which one pass has an infinite gradient, "
        "and in how often the scaler is updated.",
    ),
    "processes": (
        "Several processes",
        "Seen in where each of two workers takes its gradients and where its weights land, against "
        "gradients averaged over both.",
    ),
    "contract": ("How it is called", "Seen when the same optimizer is driven in two ways."),
}
"""The first part of a code: its heading, and where what it names is seen."""

NOT_SHOWN = {
    "noise.last-axis": "The draws of a JAX step have in every column of a matrix (out, in) the "
    "size that sigma s has in every row",
    "precision.float16-overflow": "With float16 weights and a gradient of length 1,000, ||eps|| "
    "is not rho but 0, or not finite",
    "processes.synchronised": "The averages of both gradients explain eps and the base step",
    "processes.per-worker": "Each worker's own gradient explains its eps, and the average of the "
    "second ones the base step",
    "processes.not-averaged": "The worker's own second gradient explains its base step",
    "processes.replicas-drift": "After a step the workers' weights differ",
    "processes.own-draws": "The first places of the workers differ",
    "processes.same-draw": "The first places of the workers are equal, though their generators "
    "were seeded differently",
}
"""How it shows where no planted mistake shows it."""
