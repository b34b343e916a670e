"""Expected clusters from scikit-learn 1.9.1 (float64), for src/algorithms/kmeans/tests.

    python kmeans.py DATA         writes kmeans.json beside this script

DATA is the folder with iris.parquet and digits.parquet. Starts are given rows, so that Lloyd's rounds
are the same. Of digits, the first 600 rows are a text of one letter for each pixel. scikit-learn has no
k-means of cosines: that case is Lloyd's algorithm on unit vectors in numpy.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.cluster import KMeans
from sklearn.metrics import davies_bouldin_score, silhouette_score

DATA, HERE = Path(sys.argv[1]), Path(__file__).parent


def numbers(name, rows=None):
    table = pq.read_table(DATA / f"{name}.parquet")
    if rows is not None:
        table = table.slice(0, rows)
    columns = []
    for field in table.schema:
        column = table[field.name]
        values = column.to_pylist()
        if field.name in ("target", "label", "class", "species", "digit", "y"):
            continue
        if isinstance(values[0], list):
            columns.append(np.array(values, float))
        elif isinstance(values[0], (int, float)):
            columns.append(np.array(values, float)[:, None])
    return np.concatenate(columns, 1).astype(np.float32)


def flat(a):
    return [float(v) for v in np.ravel(a)]


def lloyd(x, start, weight=None):
    x = x.astype(np.float64)
    fit = KMeans(len(start), init=x[start], n_init=1, algorithm="lloyd").fit(x, sample_weight=weight)
    return {
        "k": len(start), "start": [int(i) for i in start], "centroids": flat(fit.cluster_centers_),
        "inertia": float(fit.inertia_), "rounds": int(fit.n_iter_),
        "davies_bouldin": float(davies_bouldin_score(x, fit.labels_)),
        "silhouette": float(silhouette_score(x, fit.labels_)),
    }


def best(x, k):
    return float(min(KMeans(k, n_init=20, random_state=s).fit(x.astype(float)).inertia_ for s in range(5)))


def cosine(x, start):
    u = x.astype(np.float64)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    c = u[start]
    for _ in range(100):
        labels = (u @ c.T).argmax(1)
        new = np.stack([u[labels == j].sum(0) for j in range(len(c))])
        new /= np.linalg.norm(new, axis=1, keepdims=True)
        if np.abs(new - c).max() < 1e-13:
            break
        c = new
    labels = (u @ c.T).argmax(1)
    return {
        "k": len(c), "start": [int(i) for i in start], "centroids": flat(c),
        "inertia": float((1 - (u * c[labels]).sum(1)).sum()), "rounds": 0, "davies_bouldin": 0.0,
        "silhouette": float(silhouette_score(x.astype(float), labels, metric="cosine")),
    }


iris = numbers("iris")
assert iris.shape == (150, 4), iris.shape
digits = numbers("digits", 600)
assert digits.shape == (600, 64) and digits.max() <= 16, (digits.shape, digits.max())
weight = np.array([1 + i % 3 for i in range(len(iris))], float)

# Two numbers and two columns of 3 and 2 categories; -1 is a row of zeros.
rng = np.random.default_rng(5)
mixed = rng.normal(0, 1, (90, 2)).astype(np.float32)
codes = np.stack([rng.integers(-1, 3, 90), rng.integers(3, 5, 90)], 1)
one_hot = np.zeros((90, 5))
for column in codes.T:
    known = np.nonzero(column >= 0)[0]
    one_hot[known, column[known]] = 1
full = np.concatenate([mixed, one_hot], 1)

out = {
    "iris": {"x": flat(iris), "lloyd": lloyd(iris, [0, 1, 2]), "weighted": lloyd(iris, [3, 60, 140], weight),
             "cosine": cosine(iris, [0, 60, 140]), "best": best(iris, 3)},
    "digits": {"x": ["".join(chr(97 + int(v)) for v in row) for row in digits],
               "lloyd": lloyd(digits, range(10)), "best": best(digits, 10)},
    "mixed": {"x": flat(mixed), "codes": [int(c) for c in codes.ravel()], "lloyd": lloyd(full, [0, 1, 2, 3])},
}
path = HERE / "kmeans.json"
path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
print(path.stat().st_size, {k: v["lloyd"]["rounds"] for k, v in out.items()})
