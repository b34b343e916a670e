"""Progressive losses of online learners, one row a step, from implementations of others.

    pip install numpy river vowpalwabbit
    python online.py       writes online.csv and online.json beside this script, read by
                           sql/tests/online_optimizers.rs

Made with numpy 2.4.6, river 0.26.1 and vowpalwabbit 9.11.9. 1,000 rows: four numbers on different
scales (one of them mostly 0), a colour, a weight `h`, a class `y` and a number `z`, all multiples of
1/128 that float32 holds too. A loss is that of a row under the model before it, summed over the rows
so far; the file has the mean after every 100 rows.

Gradient optimizers are written down here in numpy (float64). Where River has the same one, with
StandardScaler and without, the script asserts that it gives the same losses to 1e-7: sgd, momentum,
adagrad, rmsprop and adam. (River's Nesterov steps from elsewhere, its FTRL predicts with weights that
lag one step behind.) The intercept is a feature that is always 1, so that it takes the same optimizer.
The number `z` is standardised by the rows so far, the row's own included once it is scored; so does
River's TargetStandardScaler.
"""

import csv
import json
from pathlib import Path

import numpy as np
from river import linear_model, optim, preprocessing, stats
from vowpalwabbit import Workspace

ROWS, MARK = 1000, 100
NUMBERS, COLORS = ["a", "b", "c", "d"], ["red", "green", "blue"]

rng = np.random.default_rng(7)
grid = lambda values: np.round(np.asarray(values) * 128) / 128
x = grid(rng.normal(size=(ROWS, 4)) * [1, 40, 0.25, 4] + [0, 100, 0, -2])
x[rng.uniform(size=ROWS) < 0.7, 3] = 0
color = rng.integers(0, 3, ROWS)
h = grid(rng.choice([0.25, 0.5, 1, 2, 5], ROWS))
signal = x @ [1.0, 0.02, 3.0, 0.25] - 1.5 + np.array([0.75, 0.0, -0.5])[color]
z = grid(0.5 * signal + rng.normal(size=ROWS) * 0.3)
y = signal + rng.normal(size=ROWS) > 0
# Categories stand in the order in which they come.
order = list(dict.fromkeys(color.tolist()))
one_hot = (color[:, None] == np.array(order)).astype(float)


def standardized():
    """By mean and population variance of the rows so far, this one included."""
    scaler, out = preprocessing.StandardScaler(), np.zeros_like(x)
    for i, row in enumerate(x):
        row = dict(zip(NUMBERS, row))
        scaler.learn_one(row)
        out[i] = list(scaler.transform_one(row).values())
    return out


INPUTS = np.concatenate([standardized(), one_hot], 1)


class Step:
    """One optimizer over tensors, of which weights alone are regularised."""

    def __init__(self, name, lr, l1=0.0, l2=0.0):
        self.name, self.lr, self.l1, self.l2, self.t, self.kept = name, lr, l1, l2, 0, {}

    def __call__(self, tensors, gradients):
        self.t += 1
        for key, w in tensors.items():
            is_weight = key.startswith("W")
            l1, l2 = (self.l1, self.l2) if is_weight else (0.0, 0.0)
            if key not in self.kept:
                self.kept[key] = [np.zeros_like(w), np.zeros_like(w)]
                if self.name == "ftrl":  # z such that the closed form gives the first weights
                    start = -w * (1 / self.lr + l2)
                    self.kept[key][0] = np.where(w == 0, 0, start + np.copysign(l1, start))
            w[...] = getattr(self, self.name)(w, gradients[key], self.kept[key], l1, l2)

    def sgd(self, w, g, kept, l1, l2):
        return w - self.lr * (g + l2 * w)

    def momentum(self, w, g, kept, l1, l2):
        kept[0] = 0.9 * kept[0] + g + l2 * w
        return w - self.lr * kept[0]

    def nesterov(self, w, g, kept, l1, l2):
        g = g + l2 * w
        kept[0] = 0.9 * kept[0] + g
        return w - self.lr * (g + 0.9 * kept[0])

    def adagrad(self, w, g, kept, l1, l2):
        kept[0] = kept[0] + g**2
        return w - self.lr * g / (np.sqrt(kept[0]) + 1e-10)

    def rmsprop(self, w, g, kept, l1, l2):
        kept[0] = 0.99 * kept[0] + 0.01 * g**2
        return w - self.lr * g / (np.sqrt(kept[0]) + 1e-8)

    def adam(self, w, g, kept, l1, l2):
        kept[0] = 0.9 * kept[0] + 0.1 * g
        kept[1] = 0.999 * kept[1] + 0.001 * g**2
        m, v = kept[0] / (1 - 0.9**self.t), kept[1] / (1 - 0.999**self.t)
        return w - self.lr * m / (np.sqrt(v) + 1e-8)

    def adamw(self, w, g, kept, l1, l2):
        return self.adam(w, g, kept, 0, 0) - self.lr * l2 * w

    def ftrl(self, w, g, kept, l1, l2):
        sigma = (np.sqrt(kept[1] + g**2) - np.sqrt(kept[1])) / self.lr
        kept[0] = kept[0] + g - sigma * w
        kept[1] = kept[1] + g**2
        z = np.sign(kept[0]) * np.maximum(np.abs(kept[0]) - l1, 0)
        return -z / ((1 + np.sqrt(kept[1])) / self.lr + l2)


def loss_and_slope(kind, out, target):
    if kind == "logistic":
        return np.logaddexp(0, out) - target * out, 1 / (1 + np.exp(-out)) - target
    return (out - target) ** 2, 2 * (out - target)


def marks(losses, weights=np.ones(ROWS)):
    return [float(np.sum((losses * weights)[:n]) / np.sum(weights[:n])) for n in range(MARK, ROWS + 1, MARK)]


def mixed(value):
    value &= 2**64 - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)


def first_weights(layer, shape, fan_in):
    """Glorot and Bengio 2010 from draws of splitmix64 by seed 0, layer and position, as float32."""
    gamma = 0x9E3779B97F4A7C15
    key = mixed(gamma * gamma ^ mixed((1 << 32) + layer + gamma))
    bound = np.sqrt(np.float32(6) / np.float32(fan_in + shape[1]))
    draws = [mixed(key + (j + 1) * gamma) >> 40 for j in range(shape[0] * shape[1])]
    unit = np.array(draws, np.float32) * np.float32(2.0**-24)
    return (bound * (2 * unit - 1)).astype(float).reshape(shape)


def numpy_losses(kind, step, hidden):
    target, losses = y.astype(float) if kind == "logistic" else z, np.zeros(ROWS)
    mean, deviation = 0.0, 1.0
    inputs = INPUTS.shape[1]
    if hidden:
        # Of one-hot columns, one input each is at work.
        tensors = {"W0": first_weights(0, (inputs, hidden), 5), "b0": np.zeros(hidden)}
        tensors |= {"W1": first_weights(1, (hidden, 1), hidden), "b1": np.zeros(1)}
    else:
        tensors = {"W0": np.zeros((inputs, 1)), "b0": np.zeros(1)}
    for i, row in enumerate(INPUTS):
        middle = row @ tensors["W0"] + tensors["b0"]
        if hidden:
            a = np.tanh(middle)
            out = (a @ tensors["W1"] + tensors["b1"])[0]
        else:
            out = middle[0]
        losses[i] = loss_and_slope(kind, mean + deviation * out, target[i])[0]
        if kind == "squared":
            mean, deviation = np.mean(target[: i + 1]), np.std(target[: i + 1]) or 1.0
        slope = loss_and_slope(kind, out, (target[i] - mean) / deviation)[1]
        if hidden:
            below = tensors["W1"][:, 0] * slope * (1 - a**2)
            gradients = {"W0": np.outer(row, below), "b0": below, "W1": a[:, None] * slope}
            gradients["b1"] = np.array([slope])
        else:
            gradients = {"W0": row[:, None] * slope, "b0": np.array([slope])}
        step(tensors, gradients)
    return losses


def river_losses(kind, optimizer):
    model = linear_model.LogisticRegression if kind == "logistic" else linear_model.LinearRegression
    model, losses = model(optimizer, intercept_lr=0.0), np.zeros(ROWS)
    if kind == "squared":
        model = preprocessing.TargetStandardScaler(model)
        model.var = stats.Var(ddof=0)
    for i, row in enumerate(INPUTS):
        row = dict(enumerate(row)) | {"one": 1.0}
        if kind == "logistic":
            losses[i] = -np.log(model.predict_proba_one(row)[bool(y[i])])
            model.learn_one(row, bool(y[i]))
        else:
            losses[i] = (model.predict_one(row) - z[i]) ** 2
            model.learn_one(row, z[i])
    return losses


def vw_losses(kind, flags, weights):
    """Predictions without bounds; by default they are clipped to the labels seen."""
    vw = Workspace(f"--quiet -b 22 --loss_function {kind} --min_prediction -1e9 --max_prediction 1e9 {flags}")
    losses = np.zeros(ROWS)
    for i in range(ROWS):
        names = [f"{name}:{float(value)!r}" for name, value in zip(NUMBERS, x[i])]
        label = float(z[i]) if kind == "squared" else 2 * int(y[i]) - 1
        example = vw.parse(f"{label!r} {float(weights[i])!r} | {' '.join(names)} {COLORS[color[i]]}")
        before = vw.get_sum_loss()
        vw.learn(example)
        vw.finish_example(example)
        losses[i] = (vw.get_sum_loss() - before) / weights[i]
    vw.finish()
    return losses


RIVER = {
    "sgd": lambda lr: optim.SGD(lr),
    "momentum": lambda lr: optim.Momentum(lr, rho=0.9),
    "adagrad": lambda lr: optim.AdaGrad(lr, eps=1e-30),
    "rmsprop": lambda lr: optim.RMSProp(lr, rho=0.99, eps=1e-30),
    "adam": lambda lr: optim.Adam(lr),
}
LINEAR = [
    ("sgd", 0.02, 0, 0), ("momentum", 0.005, 0, 0.01), ("momentum", 0.005, 0, 0),
    ("nesterov", 0.005, 0, 0.01), ("adagrad", 0.1, 0, 0), ("rmsprop", 0.01, 0, 0),
    ("adam", 0.01, 0, 0), ("adamw", 0.01, 0, 0.02), ("ftrl", 0.1, 0.02, 0.05),
]  # fmt: skip
NETWORKS = [("sgd", 0.05, 0, 0), ("adagrad", 0.05, 0, 0), ("adam", 0.01, 0, 0), ("ftrl", 0.1, 0.01, 0.02)]

cases = []
for hidden, optimizers in [(0, LINEAR), (4, NETWORKS)]:
    for name, lr, l1, l2 in optimizers:
        for kind, linear, network in [
            ("logistic", "logistic_regression", "mlp_classifier"),
            ("squared", "linear_regression", "mlp_regressor"),
        ]:
            losses = numpy_losses(kind, Step(name, lr, l1, l2), hidden)
            if not hidden and name in RIVER and l2 == 0:
                np.testing.assert_allclose(marks(river_losses(kind, RIVER[name](lr))), marks(losses), rtol=1e-7)
            options = f"optimizer = '{name}', learning_rate = {lr}, l1 = {l1}, l2 = {l2}"
            if hidden:
                options += f", hidden = [{hidden}], activation = 'tanh'"
            target = "y" if kind == "logistic" else "z"
            algorithm = network if hidden else linear
            cases.append(dict(algorithm=algorithm, target=target, weight=None, options=options, losses=marks(losses)))

for algorithm, kind, target, more in [
    ("linear_regression", "squared", "z", ""),
    ("logistic_regression", "logistic", "y", ""),
    ("linear_svm", "hinge", "y", ", loss = 'hinge'"),
]:
    for weight, flags, own in [
        (None, "", ""),
        ("h", "", ""),
        ("h", "--noconstant -l 0.1", ", intercept = FALSE, learning_rate = 0.1"),
    ]:
        weights = h if weight else np.ones(ROWS)
        losses = marks(vw_losses(kind, flags, weights), weights)
        options = f"optimizer = 'adaptive_invariant'{more}{own}"
        cases.append(dict(algorithm=algorithm, target=target, weight=weight, options=options, losses=losses))

here = Path(__file__).parent
with open(here / "online.csv", "w", newline="") as file:
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["row", *NUMBERS, "color", "h", "y", "z"])
    for i in range(ROWS):
        out.writerow([i, *x[i], COLORS[color[i]], h[i], str(bool(y[i])).lower(), z[i]])
(here / "online.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
