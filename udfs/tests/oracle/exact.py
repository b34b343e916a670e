"""Expected numbers of the solvers, from scikit-learn 1.9.1.

    python exact.py DATA              writes the small cases to exact_*.json beside this script
    python exact.py DATA FOLDER       writes all rows to FOLDER/*.json, for
                                      GRADLAKE_EXACT_ORACLE=FOLDER cargo test -p gradlake-udfs --lib exact

DATA is the folder with adult_train.parquet, iris.parquet and so on. Dense inputs are standardised
(but where a case says raw), rounded to float32 and given to scikit-learn as these float32 values;
categories are all one-hot, none dropped; nulls of categories are rows of zeros.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss

DATA = Path(sys.argv[1])
FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else None
HERE = Path(__file__).parent


def encode(table, dense, categories, raw=False):
    x = np.stack([table[c].to_numpy(zero_copy_only=False).astype(float) for c in dense], 1) if dense else np.zeros((len(table), 0))
    mean = np.nanmean(x, 0)
    x = np.where(np.isnan(x), mean, x)
    if not raw:
        x = (x - mean) / np.where(x.std(0) > 0, x.std(0), 1)
    x = x.astype(np.float32)
    codes, offset = np.zeros((len(x), len(categories)), int), 0
    for at, name in enumerate(categories):
        values = table[name].to_pylist()
        known = sorted({v for v in values if v is not None})
        index = {v: i + offset for i, v in enumerate(known)}
        codes[:, at] = [index.get(v, -1) for v in values]
        offset += len(known)
    full = np.zeros((len(x), x.shape[1] + offset))
    full[:, : x.shape[1]] = x
    for at in range(len(categories)):
        rows = np.nonzero(codes[:, at] >= 0)[0]
        full[rows, x.shape[1] + codes[rows, at]] = 1
    return x, codes, offset, full


def write(name, x, codes, t, label, weight, expected):
    numbers = lambda a: [float(f"{v:.9g}") for v in np.ravel(a)]
    case = {
        "rows": len(x), "dense": x.shape[1], "columns": codes.shape[1], "categories": t,
        "x": numbers(x), "codes": [int(c) for c in codes.ravel()],
        "label": numbers(label), "weight": numbers(weight), **expected,
    }
    path = (FOLDER or HERE) / f"exact_{name}.json"
    path.write_text(json.dumps(case, separators=(",", ":")) + "\n")
    print(path.name, path.stat().st_size)


def logistic(name, x, codes, t, full, label, weight, C=1.0):
    classes = len(set(label))
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(full, label, sample_weight=weight)
    loss = log_loss(label, model.predict_proba(full), sample_weight=weight)
    write(name, x, codes, t, label, weight, {
        "outputs": 1 if classes == 2 else classes, "l2": 1 / (C * weight.sum()),
        "weights": model.coef_.T.ravel().tolist(), "intercepts": model.intercept_.tolist(), "loss": loss,
    })
    print("  log loss", loss)


def linear(name, x, codes, t, full, label, weight, alpha=0.0, intercept=True):
    model = Ridge(alpha=alpha, solver="cholesky", fit_intercept=intercept) if alpha else LinearRegression(fit_intercept=intercept)
    model.fit(full, label, sample_weight=weight)
    loss = float(np.average((label - model.predict(full)) ** 2, weights=weight))
    expected = {"l2": 2 * alpha / weight.sum(), "intercept": intercept, "weights": model.coef_.tolist(),
                "intercepts": [float(model.intercept_)], "loss": loss}
    if not alpha and (weight == 1).all():
        expected["rank"] = int(model.rank_)
    write(name, x, codes, t, label, weight, expected)
    print("  rmse", loss**0.5, expected.get("rank"), full.shape[1])


def rows(table, count):
    return table if FOLDER else table.take(np.random.RandomState(0).permutation(len(table))[:count])


ones = lambda table: np.ones(len(table))
whole = lambda name: pq.read_table(DATA / name)

table = rows(whole("adult_train.parquet"), 400)
encoded = encode(table, ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"],
                 ["workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"])
label = np.array([v == ">50K" for v in table["income"].to_pylist()]).astype(float)
weight = ones(table) if FOLDER else np.random.RandomState(1).randint(0, 4, len(table)).astype(float)
logistic("adult", *encoded, label, weight)

table = whole("iris.parquet")
names = [c for c in table.column_names if table[c].type in ("double", "float") or str(table[c].type) in ("double", "float")]
target = next(c for c in table.column_names if c not in names)
classes = sorted(set(table[target].to_pylist()))
label = np.array([classes.index(v) for v in table[target].to_pylist()]).astype(float)
logistic("iris", *encode(table, names, []), label, ones(table))

if FOLDER:
    table = whole("digits.parquet")
    target = next((c for c in table.column_names if c in ("label", "digit", "target", "class")), table.column_names[-1])
    names = [c for c in table.column_names if c != target]
    if len(names) == 1:
        x = np.array(table[names[0]].to_pylist(), np.float32) / 16
        encoded = (x, np.zeros((len(x), 0), int), 0, x.astype(float))
    else:
        encoded = encode(table, names, [])
    logistic("digits", *encoded, np.array(table[target].to_pylist()).astype(float), ones(table))

    table = whole("california_housing_train.parquet")
    names = [c for c in table.column_names if c not in ("median_house_value", "ocean_proximity")]
    label = table["median_house_value"].to_numpy().astype(np.float32).astype(float)
    encoded = encode(table, names, ["ocean_proximity"])
    linear("housing", *encoded, label, ones(table))
    linear("housing_ridge", *encoded, label, ones(table), alpha=10.0)
    linear("housing_raw", *encode(table, names, ["ocean_proximity"], raw=True), label, ones(table))

    table = whole("flights_nyc13_100k.parquet")
    table = table.filter(table["arr_delay"].is_valid()).slice(0, 30000)
    names = [c for c in ("dep_delay", "air_time", "distance", "hour", "minute", "sched_dep_time") if c in table.column_names]
    categories = [c for c in ("carrier", "origin", "dest") if c in table.column_names]
    label = table["arr_delay"].to_numpy().astype(np.float32).astype(float)
    linear("flights", *encode(table, names, categories), label, ones(table))

table = rows(whole("diamonds.parquet"), 300)
names, categories = ["carat", "depth", "table", "x", "y", "z"], ["cut", "color", "clarity"]
label = table["price"].to_numpy().astype(float)
encoded = encode(table, names, categories)
linear("diamonds", *encoded, label, ones(table))
weight = np.random.RandomState(1).randint(0, 4, len(table)).astype(float)
linear("diamonds_ridge", *encoded, label, weight, alpha=3.0)
linear("diamonds_raw", *encode(table, names, categories, raw=True), label, ones(table), intercept=False)
