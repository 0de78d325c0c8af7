"""What settings and arguments are called in the code of strangers.

A name here is taken at its word. What has another name is found by trying (see trying.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rsam_ref.conformance.observe.problem import Hyper

ALIASES = {
    "sigma": [
        "sigma",
        "noise_std",
        "noise_scale",
        "std",
        "noise_sigma",
        "noise_level",
        "noise_stddev",
        "stddev",
        "sigma_t",
        "smoothing_std",
        "smoothing_sigma",
        "noise_strength",
        "noise_magnitude",
        "noise_size",
        "noise_amplitude",
        "sigma0",
        "sigma_0",
        "init_sigma",
        "noise_eps",
    ],
    "lam": [
        "lam",
        "lambda_",
        "lamb",
        "lmbda",
        "lamda",
        "lambda_reg",
        "lambd",
        "lmb",
        "lambda_t",
        "lambda0",
        "grad_coef",
        "grad_weight",
        "gradient_weight",
        "gradient_coef",
        "grad_coeff",
        "lam_",
        "grad_scale",
    ],
    "rho": [
        "rho",
        "radius",
        "eps_radius",
        "epsilon_radius",
        "ball",
        "ball_radius",
        "sam_rho",
        "perturbation_radius",
        "perturb_radius",
        "perturbation_size",
        "neighborhood_size",
        "neighbourhood_size",
        "neighborhood",
        "neighborhood_radius",
        "sharpness_radius",
        "ascent_radius",
        "rho0",
        "rho_0",
        "rho_t",
        "init_rho",
        "rho_max",
        "adv_radius",
        "sam_radius",
        "max_norm_perturbation",
    ],
    "eta": ["eta"],
    "lr": [
        "lr",
        "learning_rate",
        "step_size",
        "stepsize",
        "base_lr",
        "learningrate",
        "lr_t",
        "lr0",
        "init_lr",
    ],
    "momentum": ["momentum", "mu", "mom"],
    "weight_decay": ["weight_decay", "wd", "decay", "weightdecay", "l2", "l2_reg", "decay_rate"],
}
"""Each setting's names."""

BASE_SETTINGS = ("lr", "momentum", "weight_decay")
SETTINGS = ("rho", "sigma", "lam", *BASE_SETTINGS)

PARAMS = ("params", "parameters", "param_groups", "named_parameters", "named_params", "weights")
NAMED = ("named_parameters", "named_params")
BASES = [
    "base_optimizer",
    "base",
    "optimizer",
    "optim",
    "optimizer_cls",
    "optimizer_class",
    "opt",
    "base_opt",
    "inner_optimizer",
    "inner",
    "base_optim",
    "sgd",
    "optimizer_fn",
    "base_cls",
    "base_class",
    "base_optimizer_cls",
]
MODELS = ("model", "net", "module", "network", "nn_model", "classifier")
INSTANCES = ("optimizer", "optim", "base", "opt", "base_opt", "inner", "inner_optimizer", "sgd")
"""Names of a base optimizer that is likely to be given ready-made, not as a class."""

CONFIGS = [
    "hyper",
    "hyperparameters",
    "hyperparams",
    "hparams",
    "hp",
    "h",
    "config",
    "conf",
    "cfg",
    "args",
    "settings",
    "options",
    "opts",
    "opt_config",
    "setting",
]

LOSSES = [
    "loss_fn",
    "criterion",
    "loss_func",
    "loss_function",
    "lossfn",
    "loss",
    "crit",
    "objective",
    "cost",
    "loss_f",
    "lossf",
    "loss_criterion",
]
BATCHES = [
    "batch",
    "data",
    "minibatch",
    "mini_batch",
    "sample",
    "samples",
    "examples",
    "xy",
    "batch_data",
]
INPUTS = [
    "inputs",
    "x",
    "input",
    "images",
    "features",
    "xb",
    "x_batch",
    "bx",
    "xs",
    "imgs",
    "image",
    "img",
    "batch_x",
    "feats",
    "data_x",
    "inp",
    "x_train",
    "in_",
]
TARGETS = [
    "targets",
    "y",
    "target",
    "labels",
    "label",
    "yb",
    "y_batch",
    "by",
    "ys",
    "batch_y",
    "gt",
    "data_y",
    "tgt",
    "y_true",
    "y_train",
    "truth",
    "classes",
]
LOADERS = [
    "loader",
    "dataloader",
    "train_loader",
    "data_loader",
    "trainloader",
    "train_dataloader",
    "batches",
]
DEVICES = ("device", "dev")
NUMBERS = [
    "step_number",
    "step_idx",
    "step",
    "t",
    "epoch",
    "it",
    "iteration",
    "global_step",
    "i",
    "n_iter",
    "iter",
    "step_num",
]
WEIGHTS = ["weights", "w", "params", "parameters", "theta", "param", "ws", "tree", "pytree"]
GRADIENTS = [
    "loss_and_grad",
    "grad_fn",
    "grads_fn",
    "value_and_grad",
    "loss_and_grads",
    "grads",
    "grad",
    "loss_grad",
    "fun",
    "oracle",
    "value_and_grad_fn",
    "loss_and_grad_fn",
    "gradient",
    "gradient_fn",
    "gradients",
    "value_and_grads",
    "fg",
    "get_grad",
    "compute_grad",
    "grad_and_loss",
    "compute_gradients",
    "evaluate",
    "loss_and_gradient",
    "loss_and_gradients",
    "loss_grad_fn",
    "loss_grad",
    "value_and_gradient",
    "value_grad",
    "grad_func",
    "gradient_function",
    "grad_f",
    "gradfn",
    "f_and_g",
    "f_and_grad",
    "func_and_grad",
    "loss_and_grad_func",
    "forward_backward",
    "get_loss_and_grad",
    "get_gradient",
    "compute_loss_and_grad",
    "compute_gradient",
    "grad_oracle",
]
GRADIENTS_ALONE = [
    "grad_fn",
    "grads_fn",
    "grad",
    "grads",
    "gradient",
    "gradients",
    "gradient_fn",
    "get_grad",
    "compute_grad",
    "compute_gradients",
    "compute_gradient",
    "get_gradient",
    "grad_func",
    "gradient_function",
    "grad_f",
    "gradfn",
    "grad_oracle",
]
STATES = [
    "state",
    "opt_state",
    "memory",
    "optimizer_state",
    "momentum_state",
    "buffers",
    "st",
    "carry",
]
KEYS = [
    "key",
    "rng",
    "rng_key",
    "prng_key",
    "prng",
    "subkey",
    "random_key",
    "noise_key",
    "rngs",
    "rng_keys",
]
APPLIES = [
    "apply_fn",
    "apply",
    "forward",
    "forward_fn",
    "predict",
    "predict_fn",
    "model_fn",
    "model_apply",
    "net_apply",
    "apply_model",
]
"""A model as a function of its weights and inputs."""
TRAIN_STATES = ("train_state", "trainstate", "ts", "state")
TRANSFORMATIONS = [*BASES, "tx", "base_tx", "inner_tx", "transform", "solver", "opt_fn"]

SCALERS = ["scaler", "grad_scaler", "gradscaler", "amp_scaler", "loss_scaler"]
ACCELERATORS = ["accelerator", "accel"]

_SETTING_OF = {name: setting for setting, names in ALIASES.items() for name in names}


def setting_of(name: str) -> str | None:
    """Which setting goes by this name; None where the name does not tell."""
    plain = name.lower()
    return _SETTING_OF.get(name) or _SETTING_OF.get(plain) or _SETTING_OF.get(plain.strip("_"))


def is_called(name: str, names: Any) -> bool:
    """Whether a name is one of these, whatever its case and underscores around it."""
    return name in names or name.lower().strip("_") in names


def gives_gradients_alone(name: str) -> bool:
    """Whether a function that is called so gives gradients, and not the loss with them."""
    return is_called(name, GRADIENTS_ALONE)


@dataclass(frozen=True)
class AnyName(Hyper):
    """The settings of a step under every name that they are known by: ``hyper.noise_std``."""

    @classmethod
    def of(cls, hyper: Hyper) -> AnyName:
        return cls(**vars(hyper))

    def __getattr__(self, name: str) -> float:
        setting = None if name.startswith("__") else setting_of(name)
        if setting is None:
            raise AttributeError(
                f"hyper has no {name!r}; it has {', '.join(vars(self))}, and other names of these"
            )
        return vars(self)[setting]

    def __getitem__(self, name: str) -> float:
        own: dict[str, float] = vars(self)
        if name in own:
            return own[name]
        setting = setting_of(name) if isinstance(name, str) else None
        if setting is None:
            raise KeyError(name)
        return own[setting]
