"""Hold published vectors of SAM and R-SAM against the equations, with NumPy and safetensors alone.

    python verify.py [DIR]      DIR is the vectors' folder, that of this script if it is not given

Checks every checksum, then takes the five steps of every case anew. A line for every fault, of a
case for the first quantity that is off; exit code 1 if there is one.
"""

import hashlib
import json
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.linalg import norm
from safetensors.numpy import load_file


def loss_and_grad(w, x, target):
    W1, b1, W2, b2 = w[:12].reshape(4, 3), w[12:16], w[16:24].reshape(2, 4), w[24:]
    u = x @ W1.T + b1
    h = u / (1 + abs(u))
    e = h @ W2.T + b2 - target
    dy = e / len(x)
    du = dy @ W2 / (1 + abs(u)) ** 2
    parts = du.T @ x, du.sum(0), dy.T @ h, dy.sum(0)
    return (e * e).sum() / (2 * len(x)), np.concatenate([part.ravel() for part in parts])


def filter_scale(w):  # s: a row of W1 or of W2 is a filter, b1 is one, b2 is one
    filters = np.split(w, [3, 6, 9, 12, 16, 20, 24])
    return np.concatenate([np.full_like(f, norm(f)) for f in filters])


def find(algorithm, s, L, w, z):  # L gives the loss and the gradient, s holds the settings
    q, noise = {}, 0
    if "sigma" in s:
        scale = 1 / norm(z) if algorithm == "rsam-ball" else filter_scale(w)
        noise = q["noise"] = s["sigma"] * scale * z
    q["loss"], g0 = L(w + noise)
    if "rho" not in s:  # base, noise-only
        return {**q, "gradient": g0}
    q["ascent_gradient"] = g0
    if algorithm == "asam":
        T = abs(w) + s["eta"]
        eps = s["rho"] * T * T * g0 / (norm(T * g0) + 1e-12)
    elif algorithm == "k-step-sam":  # k = 2
        eps = q["first_perturbation"] = s["rho"] / 2 * g0 / (norm(g0) + 1e-12)
        g1 = q["second_ascent_gradient"] = L(w + eps)[1]
        eps = eps + s["rho"] / 2 * g1 / (norm(g1) + 1e-12)
    else:
        a = s["lam"] * g0 + noise if "lam" in s else g0
        eps = s["rho"] * a / (norm(a) + 1e-12)
    q["perturbation"] = eps + noise if algorithm == "rsam-stacked" else eps
    q["adversarial_loss"], q["gradient"] = L(w + q["perturbation"])
    return q


def move(s, w, g, state, t):  # in step t = 1, 2, ...
    if s["optimizer"] == "SGD":
        g = g + s["weight_decay"] * w
        v = s["momentum"] * state["velocity"] + g
        return {"velocity": v, "w": w - s["lr"] * (g + s["momentum"] * v if s["nesterov"] else v)}
    m = s["beta1"] * state["mean"] + (1 - s["beta1"]) * g
    v = s["beta2"] * state["square"] + (1 - s["beta2"]) * g * g
    step = m / (1 - s["beta1"] ** t) / (np.sqrt(v / (1 - s["beta2"] ** t)) + s["eps"])
    return {"mean": m, "square": v, "w": (1 - s["lr"] * s["weight_decay"]) * w - s["lr"] * step}


def fault_of_case(told, tensors, algorithm, base, tolerance):
    state = {"w": tensors["w0"], "velocity": 0, "mean": 0, "square": 0}
    for t, (x, target, z) in enumerate(zip(tensors["x"], tensors["target"], tensors["z"])):
        w, L = state["w"], partial(loss_and_grad, x=x, target=target)
        found = find(algorithm, told["algorithms"][algorithm], L, w, z)
        state = move(told["bases"][base], w, found["gradient"], state, t + 1)
        for name, mine in {**found, **state}.items():
            row = tensors[f"{algorithm}/{base}/{name}"][t]
            off = abs(mine - row).max() / abs(row).max()
            if not off <= tolerance:
                return f"{name}, step {t + 1}: off by {off:.1e} of its largest entry"


def faults(folder):
    for line in (folder / "SHA256SUMS").read_text().removesuffix("\n").split("\n"):
        digest, name = line.split("  ")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            yield f"{name}: not the bytes that SHA256SUMS is of"
    told = json.loads((folder / "vectors.json").read_bytes())
    if told["version"] != 1 or len(told["algorithms"] | told["bases"] | told["types"]) != 9 + 3 + 2:
        yield "vectors.json: not the cases of version 1"
    for dtype, kind in told["types"].items():
        tensors = load_file(folder / kind["file"])
        for name, tensor in kind["tensors"].items():
            if hashlib.sha256(tensors[name].tobytes()).hexdigest() != tensor["sha256"]:
                yield f"{dtype} {name}: not the numbers that its checksum is of"
        for algorithm, base in product(told["algorithms"], told["bases"]):
            if fault := fault_of_case(told, tensors, algorithm, base, kind["tolerance"]):
                yield f"{dtype} {algorithm}/{base}/{fault}"


if __name__ == "__main__":
    np.seterr(all="ignore")  # a number that is not finite is told as a fault
    found, folder = [], Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    try:
        found.extend(faults(folder))
    except Exception as error:  # what is damaged may fail in any way
        found.append(f"cannot go on: {type(error).__name__}: {error}")
    print("\n".join(found) or "All steps of all cases agree.")
    sys.exit(len(found) > 0)
