"""Expected numbers of principal components, from scikit-learn 1.9.1.

    python pca.py DATA        writes pca.json beside this script

DATA is the folder with iris.parquet and digits.parquet. Inputs are float32 values that are given to
scikit-learn as these; categories are all one-hot, none dropped. The case `diamonds` is of the rows
of exact_diamonds.json (see exact.py), `weighted` of those of exact_diamonds_ridge.json, each
repeated as its weight says. Rows: iris all, digits the first 200.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.decomposition import PCA

DATA = Path(sys.argv[1])
HERE = Path(__file__).parent
numbers = lambda a: [float(f"{v:.9g}") for v in np.ravel(a)]


def turned(components):
    """Signs so that the largest loading is positive, the first one of equal ones."""
    most = np.abs(components).max(1, keepdims=True)
    first = (np.abs(components) >= most * (1 - 1e-9)).argmax(1)
    return np.sign(components[np.arange(len(components)), first])


def fitted(x, k):
    model = PCA(n_components=k, svd_solver="full").fit(x)
    signs = turned(model.components_)
    return model, signs


def case(x, k, shares=(), evaluated=None):
    model, signs = fitted(x, k)
    whitened = PCA(n_components=k, svd_solver="full", whiten=True).fit(x)
    error = lambda rows: float(((rows - model.inverse_transform(model.transform(rows))) ** 2).sum(1).mean())
    rows = x if evaluated is None else evaluated
    total = float(((rows - model.mean_) ** 2).sum(1).mean())
    return {
        "k": k,
        "mean": numbers(model.mean_),
        "components": numbers(model.components_ * signs[:, None]),
        "variances": numbers(model.explained_variance_),
        "ratios": numbers(model.explained_variance_ratio_),
        "scores": numbers(model.transform(rows[:4]) * signs),
        "whitened": numbers(whitened.transform(rows[:4]) * signs),
        "loss": error(x),
        "error": error(rows),
        "explained": 1 - error(rows) / total,
        "shares": [[share, int(PCA(n_components=share, svd_solver="full").fit(x).n_components_)] for share in shares],
    }


def one_hot(name):
    file = json.loads((HERE / f"exact_{name}.json").read_text())
    x = np.array(file["x"], np.float32).reshape(file["rows"], file["dense"]).astype(float)
    codes = np.array(file["codes"]).reshape(file["rows"], file["columns"])
    full = np.hstack([x, np.zeros((len(x), file["categories"]))])
    for column in codes.T:
        known = np.nonzero(column >= 0)[0]
        full[known, x.shape[1] + column[known]] = 1
    return full, np.array(file["weight"], int)


table = pq.read_table(DATA / "iris.parquet")
iris = np.stack([table[name].to_numpy() for name in table.column_names[:4]], 1).astype(np.float32).astype(float)
digits = np.array(pq.read_table(DATA / "digits.parquet")["image"].to_pylist()[:200], float)
diamonds, _ = one_hot("diamonds")
weighted, weight = one_hot("diamonds_ridge")
repeated = np.repeat(weighted, weight, 0)
cases = {
    "iris": {"x": numbers(iris), **case(iris, 4, (0.5, 0.95, 0.98, 0.999))},
    "iris_part": case(iris[:100], 2, evaluated=iris[100:]),
    "digits": {"x": [int(v) for v in digits.ravel()], **case(digits, 12, (0.3, 0.8, 0.9, 0.99))},
    "diamonds": case(diamonds, 5, (0.7,)),
    "weighted": case(repeated, 5),
}
(HERE / "pca.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
for name, expected in cases.items():
    print(name, expected["ratios"][:5], expected["shares"])
