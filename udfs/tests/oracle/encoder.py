"""Expected features from scikit-learn 1.9.1 (SimpleImputer, StandardScaler, OneHotEncoder) and, for
parts of timestamps, Python's datetime.

    python encoder.py      writes encoder.json beside this script, read by src/encoder/oracle.rs

Fitted on the first 30 of 40 rows. null is a missing value; the test makes NULL, NaN or an infinity of it.
"""

import json
from datetime import date, datetime, timedelta, timezone
from math import cos, sin, tau
from pathlib import Path

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS, TRAIN = 40, 30
rng = np.random.default_rng(7)


def holes(values, share=0.2):
    return [None if rng.random() < share else v for v in values]


def scaled(column):
    """Imputed and standardised, for a list of numbers (None is missing), with mean and deviation."""
    x = np.array([[np.nan if v is None else float(v)] for v in column])
    pipe = make_pipeline(SimpleImputer(), StandardScaler()).fit(x[:TRAIN])
    out = pipe.transform(x)[:, 0].tolist()
    return out, float(pipe[0].statistics_[0]), float(pipe[1].scale_[0])


def coded(column):
    """The index among sorted categories, NULL first; -1 where training saw none such."""
    x = np.array([[v] for v in column], dtype=object)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(x[:TRAIN])
    found = one_hot.categories_[0].tolist()
    order = sorted(range(len(found)), key=lambda i: (found[i] is not None, found[i] or ""))
    rows = one_hot.transform(x)[:, order]
    return [int(r.argmax()) if r.any() else -1 for r in rows], [found[i] for i in order]


first = datetime(1965, 1, 1, tzinfo=timezone.utc)
epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
times = [first + timedelta(microseconds=int(rng.integers(0, 80 * 365 * 86_400 * 10**6))) for _ in range(ROWS)]
times[1:7] = [datetime(*t, tzinfo=timezone.utc) for t in [
    (1970, 1, 1), (1969, 12, 31, 23, 59, 59, 999_999), (2000, 2, 29, 12), (1900, 3, 1, 0, 0, 0, 1),
    (2100, 2, 28, 23), (2024, 12, 31, 23, 59, 59)]]
micros = [(t - epoch) // timedelta(microseconds=1) for t in times]
time_null = rng.random(ROWS) < 0.15
time_null[1:7] = False
parts = []
for t, null in zip(times, time_null):
    cycles = [t.hour / 24, t.weekday() / 7, (t.month - 1) / 12]
    parts.append([0.0] * 6 if null else [f(tau * c) for c in cycles for f in (sin, cos)])

columns = {
    "number": holes(rng.normal(3, 10, ROWS).tolist()),
    "offset": holes((1e9 + rng.normal(0, 1, ROWS)).tolist()),
    "constant": holes([0.1] * ROWS),
    "empty": [None] * TRAIN + [5.0] * (ROWS - TRAIN),
    "integer": holes(rng.integers(-1000, 1000, ROWS).tolist()),
    "cents": holes(rng.integers(-99999, 99999, ROWS).tolist()),
    "flag": holes((rng.random(ROWS) < 0.3).tolist()),
    "vector": [holes(rng.normal(i, 1 + i, ROWS).tolist(), 0.1) for i in range(3)],
    "inner": holes(rng.normal(size=ROWS).tolist()),
}
vector_null = (rng.random(ROWS) < 0.1).tolist()
struct_null = (rng.random(ROWS) < 0.2).tolist()
columns["vector"] = [[None if null else v for v, null in zip(c, vector_null)] for c in columns["vector"]]
seconds = [None if null else m / 1e6 for m, null in zip(micros, time_null)]
scales = {}


def known(name, column):
    scales[name] = scaled(column)
    return scales[name][0]


expected = {name: known(name, columns[name]) for name in ("number", "offset", "constant", "integer", "flag")}
expected["cents"] = known("cents", [None if v is None else v / 100 for v in columns["cents"]])
expected["inner"] = known("inner", [None if s else v for v, s in zip(columns["inner"], struct_null)])
expected["time"] = known("time", seconds)
for i in range(3):
    expected[f"vector{i}"] = known(f"vector{i}", columns["vector"][i])
# scikit-learn drops a column of nothing but NaN; here it is 0 in training, and unscaled beyond.
expected["empty"] = [0.0] * TRAIN + [5.0] * (ROWS - TRAIN)

words = ["ä", "Zug", "auto", "", "NULL", "z z"]
text = holes([words[i] for i in rng.integers(0, 6, ROWS)])
text[35], text[38] = "never seen", None
full = [words[i] for i in rng.integers(0, 3, ROWS)]
full[36] = None
days = holes(rng.integers(-3000, 3000, 6).tolist(), 0)
day = holes([days[i] for i in rng.integers(0, 6, ROWS)])
iso = [None if d is None else (date(1970, 1, 1) + timedelta(days=d)).isoformat() for d in day]
deep = [None if s else t for t, s in zip(text, struct_null)]
codes = {k: coded(v) for k, v in {"text": text, "full": full, "day": iso, "deep": deep}.items()}

(Path(__file__).parent / "encoder.json").write_text(json.dumps({
    "train": TRAIN,
    "columns": {k: v for k, v in columns.items() if k not in ("flag", "vector")},
    "flag": columns["flag"], "vector": columns["vector"],
    "vector_null": vector_null, "struct_null": struct_null,
    "micros": [None if null else m for m, null in zip(micros, time_null)],
    "text": text, "full": full, "day": day,
    "expected": expected, "parts": parts,
    "scales": {k: [v[1], v[2]] for k, v in scales.items()},
    "codes": {k: v[0] for k, v in codes.items()}, "categories": {k: v[1] for k, v in codes.items()},
}, ensure_ascii=False) + "\n")
