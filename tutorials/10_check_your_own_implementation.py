# %% [markdown]
# # 10. Check your own implementation
#
# One day you will write R-SAM yourself. How do you know that it is R-SAM? Here we write it in
# PyTorch (this tutorial alone needs it), break it in five ways, and try to find out which is right.
#
# The idea to take away: **a loss curve hardly tells a wrong R-SAM from a right one, and never what
# is wrong. Where it takes its gradients, and where the weights land, tells both.**

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from style import GREEN, GREY, ORANGE, PINK, arrow, check, figure, show

from rsam_ref import conformance, data

try:
    import torch
except ImportError:
    raise SystemExit("This tutorial needs PyTorch: pip install torch") from None
torch.set_num_threads(1)  # quickest for a small network

# %% [markdown]
# ## R-SAM as a PyTorch optimizer
#
# Tutorial 7 took R-SAM apart. In short, with `s` the norm of the filter that a weight belongs to:
#
#     D = sigma s z,  g0 = grad L(w + D)      z from the normal distribution; w + D is q1
#     a = lam g0 + D,  eps = rho a / ||a||    one norm over all weights together
#     g = grad L(w + eps),  w <- w - lr g     w + eps is q2; the base step is SGD with momentum
#
# PyTorch keeps the weights in several tensors `p`, and the gradient of each in `p.grad` (`None`: no
# gradient). A *closure* computes loss and gradients at the weights as they are now. So an optimizer
# moves them, calls the closure, and moves them back. Methods that end in `_` change their tensor.
# `no_grad` stops the tape, `enable_grad` starts it again. The class is a text, as we will edit it.

# %%
MINE = """
def draw(p, sigma):
    rows = p.flatten(1) if p.ndim > 1 else p[None]  # a row is a filter, and so is a whole bias
    return (sigma * rows.norm(dim=1, keepdim=True) * torch.randn_like(rows)).reshape_as(p)

class RSAM(torch.optim.SGD):
    def __init__(self, params, rho, sigma, lam=2.0, **settings):
        super().__init__(params, **settings)
        self.rho, self.sigma, self.lam = rho, sigma, lam
    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        weights = [p for group in self.param_groups for p in group["params"]]
        saved = [p.clone() for p in weights]
        noise = [draw(p, self.sigma) for p in weights]
        for p, D in zip(weights, noise):
            p.add_(D)
        loss = closure()
        ascent = [D if p.grad is None else self.lam * p.grad + D for p, D in zip(weights, noise)]
        length = torch.stack([a.norm() for a in ascent]).norm() + 1e-12
        for p, w, a in zip(weights, saved, ascent):
            p.copy_(w)
            p.add_(self.rho / length * a)
        closure()
        for p, w in zip(weights, saved):
            p.copy_(w)
        super().step()
        return loss
"""


def optimizer_of(text):
    exec(text, names := {"torch": torch})
    return names["RSAM"]


# %% [markdown]
# ## Five ways to break it
#
# Each is a small edit, old text and new text, that looks harmless. Why scale noise? `D` is not at
# hand, so draw it. Give each tensor its own norm. Add `eps` to `p`, which is still at `w + D`. Let
# `p` be `w`, without a copy. They are named by what the checker is going to say.

# %%
texts = {
    "noise.unscaled": MINE.replace("rows.norm(dim=1, keepdim=True) * torch", "torch"),
    "direction.fresh-draw": MINE.replace("+ D for", "+ draw(p, self.sigma) for"),
    "ascent.norm-per-tensor": MINE.replace("/ length", "/ (a.norm() + 1e-12)"),
    "direction.measured-from-noise": MINE.replace("p.copy_(w)\n            p.add_", "p.add_"),
    "restore.not-undone": MINE.replace("p.copy_(w)", "p.data = w"),
}

# %% [markdown]
# The last one is nasty. After `p.data = w` both are the same memory. So the ascent changes `w` too,
# the second `p.data = w` does nothing, and `eps` stays. (SAM puts back once; there it is fine.)
#
# ## What the loss curves say
#
# We train the network of tutorial 2 for 80 steps on all training images, with `rho = 0.05` and
# `lr = 0.1`: with each from the same start, with the right one from four starts.


# %%
def train(text, seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = optimizer_of(text)(net.parameters(), rho=0.05, sigma=0.003, lr=0.1, momentum=0.9)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        return loss

    return np.array([optimizer.step(closure).item() for _ in range(80)])


digits = data.digits_split(seed=0)
images, labels = torch.tensor(digits.x_train), torch.tensor(digits.y_train)
right = np.array([train(MINE, seed) for seed in range(4)])
wrong = {code: train(text) for code, text in texts.items()}

# %% tags=["hide-input"]
made, axes = figure(16, 3.2, 5, sharey=True)
for at, (code, losses) in zip(axes, wrong.items()):
    at.fill_between(range(80), right.min(0), right.max(0), color=GREY, alpha=0.4, label="4 starts")
    at.semilogy(right[0], color=GREEN, label="right")
    at.semilogy(losses, "--", color=ORANGE, label="wrong")
    at.set(title=code, xlabel="step")
axes[0].legend(title="training loss")
show(made, "10-curves")
off = [np.exp(np.abs(np.log(losses / right[0]))).max() - 1 for losses in (*wrong.values(), *right)]
assert max(off[:4]) < 0.05 < min(off[6:])  # off[5] is the right one itself
assert abs(wrong["restore.not-undone"][40:].mean() / right[:, 40:].mean() - 3) < 1

# %% [markdown]
# Four of the five are never more than 5 % off the right one; all other starts are further off. The
# last one is about 3 times as high from step 40 on. Is the learning rate too high? Who can tell?
#
# ## What can be seen from outside
#
# A closure can write down *where it was called*. So a step leaves four points: `w`, then `q1` and
# `q2`, where gradients were taken, and where it lands. From them and `L` follow `D = q1 - w`, where
# `q2` should be, and then where it should land. Let `w` be `(2, 0.6)` and `L = (u^2 + 4 v^2) / 2`.


# %%
def watch(text, rho=0.8, sigma=0.2, lam=2.0, lr=0.25):
    """One step's w, q1, q2 and landing; then where q2 and the landing should be."""
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.tensor([2, 0.6]))
    optimizer, seen = optimizer_of(text)([p], rho, sigma, lam, lr=lr), [p.tolist()]

    def closure():
        seen.append(p.tolist())
        optimizer.zero_grad()
        ((p[0] ** 2 + 4 * p[1] ** 2) / 2).backward()

    optimizer.step(closure)
    w, q1, q2 = np.array(seen)
    a = lam * q1 * (1, 4) + q1 - w  # the gradient at (u, v) is (u, 4 v)
    return w, q1, q2, p.tolist(), w + rho * a / np.linalg.norm(a), w - lr * q2 * (1, 4)


# %% tags=["hide-input"]
made, axes = figure(12, 4, 3, sharey=True)
x, y = np.linspace(0.5, 3.5, 80), np.linspace(-0.75, 1.5, 80)
for at, code in zip(axes, ("right", "direction.measured-from-noise", "restore.not-undone")):
    w, q1, q2, end, ring, end_ring = watch(texts.get(code, MINE))
    assert np.allclose(q2 - ring, q1 - w if "noise" in code else 0, atol=1e-6)
    assert np.allclose(end - end_ring, q2 - w if "undone" in code else 0, atol=1e-6)
    at.contour(x, y, (x**2 + 4 * y[:, None] ** 2) / 2, range(12), colors="black", linewidths=0.3)
    at.set(title=code, aspect="equal", xlabel="u", ylabel="v", yticks=(-0.5, 0, 0.5, 1))
    at.grid(False)
    for tip, colour, text in ((q1, PINK, "D"), (q2, ORANGE, "eps"), (end, GREEN, "step")):
        arrow(at, w, tip, colour, text)
    for tip, text in ((w, "w"), (q1, "q1"), (q2, "q2"), (end, "lands")):
        at.annotate(text, tip, (-11, 4) if text == "w" else (7, -4), textcoords="offset points")
    for tip, wanted, colour, text in ((q2, ring, PINK, "D"), (end, end_ring, ORANGE, "eps")):
        if not np.allclose(tip, wanted, atol=1e-6):
            at.plot(*wanted, "ko", ms=8, mfc="none")
            at.text(*wanted, "should be  \nhere  ", ha="right", va="center")
            arrow(at, wanted, tip, colour, text)
show(made, "10-points")

# %% [markdown]
# ## What the checker says
#
# `conformance.check` does this on a small network, for some steps in which all settings change. It
# knows many wrong ways from `w` to `q2`, and names the one that fits; draws are a matter for
# statistics. Then it asks what tests forget: `sigma = 0`, no gradient, saving and going on. In the
# shell it is `rsam-ref check mine.py:RSAM --algorithm rsam`, with the exit code 0 if the class
# conforms, 1 if it diverges, 2 if it cannot be checked. In your own tests `pytest` has a fixture
# for it: `def test_it_is_rsam(rsam_conforms): rsam_conforms(RSAM, "rsam")`.

# %%
for code, text in texts.items():
    print(report := conformance.check(optimizer_of(text), "rsam"))
    assert [finding.code for finding in report.findings] == [code]
with tempfile.TemporaryDirectory() as folder:
    for text, exit_code in ((MINE, 0), (texts["noise.unscaled"], 1), ("", 2)):
        Path(folder, "mine.py").write_text("import torch\n" + text)
        command = [sys.executable, "-m", "rsam_ref", "check", f"{folder}/mine.py:RSAM"]
        assert subprocess.run(command, capture_output=True, check=False).returncode == exit_code

# %% [markdown]
# ## What to look at
#
# - First figure: the scale is logarithmic, to show small differences. Four times none can be seen.
# - Second figure: the arrow from the ring to the real place *is* the bug, the `D` or `eps` left in.
#
# ## Try this
#
# - Seed each step by `torch.manual_seed(0)`, and check. Train with `rho = 0.5`. What shows now?
#
# ## Exercises
#
# **1.** Somebody insists on `p.data = w`, twice. Mend it elsewhere, so that the picture is right.


# %% tags=["exercise"]
def mended(text): ...


# %%
def exercise_1(text):
    assert text.count("p.data = w\n") == 2, "leave both of them as they are"
    _, _, *found = watch(text)
    assert np.allclose(found[:2], found[2:], atol=1e-6), "q2 or landing is not where it should be"


check(exercise_1, mended(texts["restore.not-undone"]))

# %% [markdown]
# **2.** Edit `MINE`: the loss goes down, but the checker says `noise.one-number-per-filter`.


# %% tags=["exercise"]
def one_number(text): ...


# %%
def exercise_2(text):
    assert train(text)[-1] < 0.05, "the loss should go down"
    findings = conformance.check(optimizer_of(text), "rsam").findings
    assert [finding.code for finding in findings] == ["noise.one-number-per-filter"]


check(exercise_2, one_number(MINE))
