"""Expected losses of training step by step, from PyTorch 2.15 in float64 (FTRL in numpy).

    python steps.py        writes steps.json beside this script, read by src/round/oracle.rs

60 rows of 5 numbers and one column of 3 categories (one-hot here, -1 is a row of zeros), in
mini-batches of 16 that run on over the end of the rows into the next pass; the last step has 5 rows.
Every number given is a multiple of 1/128, so that float32 holds it too.

What is minimised is mean(weight * loss) of the mini-batch, with weight_decay = l2 on weights alone
and another learning rate for the bias of the output.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ROWS, DENSE, CATEGORIES, BATCH, HIDDEN = 60, 5, 3, 16, [8, 4]
MARKS = [1, 10, 100, 101]
L1, L2 = 0.02, 0.05

rng = np.random.default_rng(42)
grid = lambda x: np.round(np.asarray(x) * 128) / 128
x = grid(rng.normal(size=(ROWS, DENSE)))
codes = rng.integers(-1, CATEGORIES, ROWS)
weight = grid(rng.uniform(0.25, 2.0, ROWS))
one_hot = (codes[:, None] == np.arange(CATEGORIES)).astype(float)
inputs = np.concatenate([x, one_hot], 1)
signal = inputs @ rng.normal(size=(DENSE + CATEGORIES, 3)) + rng.normal(size=(ROWS, 3)) * 0.5
labels = {
    "number": grid(signal[:, 0]),
    "count": rng.poisson(np.exp(signal[:, 0] / 3)).astype(float),
    "two": (signal[:, 0] > 0).astype(float),
    "three": signal.argmax(1).astype(float),
}


def signs(z, y):
    if z.shape[1] == 1:
        return (2 * y - 1)[:, None]
    return 2 * F.one_hot(y.long(), z.shape[1]) - 1


LOSSES = {
    "squared": ("number", 1, lambda z, y: F.mse_loss(z[:, 0], y, reduction="none")),
    "absolute": ("number", 1, lambda z, y: F.l1_loss(z[:, 0], y, reduction="none")),
    "huber": ("number", 1, lambda z, y: F.huber_loss(z[:, 0], y, reduction="none", delta=1.0)),
    "poisson": ("count", 1, lambda z, y: F.poisson_nll_loss(z[:, 0], y, reduction="none")),
    "logistic": ("two", 1, lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y, reduction="none")),
    "softmax": ("three", 3, lambda z, y: F.cross_entropy(z, y.long(), reduction="none")),
    "hinge": ("three", 3, lambda z, y: (1 - signs(z, y) * z).clamp(min=0).sum(1)),
    "squared_hinge": ("two", 1, lambda z, y: ((1 - signs(z, y) * z).clamp(min=0) ** 2).sum(1)),
}


class Ftrl:
    """McMahan et al. 2013, algorithm 1, begun at given weights instead of zeros."""

    def __init__(self, groups, beta, l1):
        self.groups, self.beta = groups, beta
        for group in groups:
            group["l1"] = l1 if group["weight_decay"] > 0 else 0.0
            w = group["params"][0].detach().numpy()
            group["n"] = np.zeros_like(w)
            # The z with n = 0 whose closed form is w.
            group["z"] = -w * (beta / group["lr"] + group["weight_decay"]) - np.sign(w) * group["l1"]

    def zero_grad(self):
        for group in self.groups:
            group["params"][0].grad = None

    def step(self):
        for group in self.groups:
            alpha, l1, l2 = group["lr"], group["l1"], group["weight_decay"]
            w, g = group["params"][0].detach().numpy(), group["params"][0].grad.numpy()
            sigma = (np.sqrt(group["n"] + g * g) - np.sqrt(group["n"])) / alpha
            group["z"] += g - sigma * w
            group["n"] += g * g
            z, n = group["z"], group["n"]
            new = -(z - np.sign(z) * l1) / ((self.beta + np.sqrt(n)) / alpha + l2)
            w[...] = np.where(np.abs(z) <= l1, 0.0, new)


O = torch.optim
OPTIMIZERS = [
    ({"name": "sgd"}, 0.05, lambda g: O.SGD(g)),
    ({"name": "momentum", "momentum": 0.9}, 0.01, lambda g: O.SGD(g, momentum=0.9)),
    ({"name": "nesterov", "momentum": 0.9}, 0.01, lambda g: O.SGD(g, momentum=0.9, nesterov=True)),
    ({"name": "adagrad", "epsilon": 1e-10}, 0.1, lambda g: O.Adagrad(g, eps=1e-10)),
    ({"name": "rms_prop", "beta2": 0.99, "epsilon": 1e-8}, 0.01, lambda g: O.RMSprop(g, alpha=0.99, eps=1e-8)),
    ({"name": "adam", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}, 0.02, lambda g: O.Adam(g)),
    ({"name": "adam_w", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}, 0.02, lambda g: O.AdamW(g)),
    ({"name": "ftrl", "beta": 1.0}, 0.2, lambda g: Ftrl(g, 1.0, L1)),
]


def initial(hidden, outputs):
    tensors, fan_in = [], DENSE + CATEGORIES
    for units in [*hidden, outputs]:
        tensors += [grid(rng.normal(size=(fan_in, units)) / np.sqrt(fan_in)), grid(rng.normal(size=units) / 4)]
        fan_in = units
    return tensors


def forward(parameters, x):
    for i in range(0, len(parameters), 2):
        x = x @ parameters[i] + parameters[i + 1]
        if i + 2 < len(parameters):
            x = F.gelu(x)
    return x


def train(loss, start, make, lr):
    kind, _, value = LOSSES[loss]
    y, w, x = (torch.tensor(a, dtype=torch.float64) for a in (labels[kind], weight, inputs))
    p = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in start]
    last = len(p) - 1
    optimizer = make([
        {"params": [t], "lr": lr / 2 if i == last else lr, "weight_decay": L2 if i % 2 == 0 else 0.0}
        for i, t in enumerate(p)
    ])
    found, learned = [], 0.0
    for step in range(1, MARKS[-1] + 1):
        n = BATCH if step < MARKS[-1] else 5
        rows = torch.tensor([((step - 1) * BATCH + i) % ROWS for i in range(n)])
        optimizer.zero_grad()
        batch = w[rows] * value(forward(p, x[rows]), y[rows])
        learned += batch.sum().item()
        batch.mean().backward()
        optimizer.step()
        if step in MARKS:
            with torch.no_grad():
                found.append(((w * value(forward(p, x), y)).sum() / w.sum()).item())
    return found, learned


starts = {f"{h}x{o}": initial(HIDDEN if h else [], o) for h in (0, 1) for o in (1, 3)}
cases = []
for loss, (_, outputs, _) in LOSSES.items():
    for optimizer, lr, make in OPTIMIZERS:
        for h in (0, 1):
            losses, learned = train(loss, starts[f"{h}x{outputs}"], make, lr)
            cases.append({
                "loss": loss, "optimizer": optimizer, "learning_rate": lr, "hidden": h,
                "losses": [float(f"{v:.7g}") for v in losses], "learned": float(f"{learned:.7g}"),
            })


def factors(make, n):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, out = make(optimizer), []
    for _ in range(n):
        out.append(round(optimizer.param_groups[0]["lr"], 9))
        optimizer.step()
        scheduler.step()
    return out


S = torch.optim.lr_scheduler
schedules = [
    ({"name": "constant"}, factors(lambda o: S.ConstantLR(o, factor=1.0), 9)),
    ({"name": "step", "steps": 3, "factor": 0.5}, factors(lambda o: S.StepLR(o, 3, 0.5), 9)),
    ({"name": "exponential", "steps": 4, "factor": 0.5}, factors(lambda o: S.ExponentialLR(o, 0.5**0.25), 9)),
    ({"name": "cosine", "steps": 8}, factors(lambda o: S.CosineAnnealingLR(o, 8), 9)),
]
flat = lambda tensors: [v for t in tensors for v in t.ravel().tolist()]
text = json.dumps({
    "x": x.ravel().tolist(), "codes": codes.tolist(), "weight": weight.tolist(),
    "labels": {k: v.tolist() for k, v in labels.items()},
    "starts": {k: flat(v) for k, v in starts.items()},
    "l1": L1, "l2": L2, "cases": cases,
    "schedules": [{"decay": d, "factors": f} for d, f in schedules],
})
(Path(__file__).parent / "steps.json").write_text(text.replace('{"loss"', '\n{"loss"') + "\n")
for case in cases:
    print(case["loss"], case["optimizer"]["name"], case["hidden"], case["losses"], case["learned"])
