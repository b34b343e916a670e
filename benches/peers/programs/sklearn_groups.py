"""One LogisticRegression per group in a loop: `sklearn_groups.py FILE MODEL`. Prints the mean training
loss of all rows."""

import pickle
import sys

import numpy as np
import pyarrow.parquet as pq
from common import log_loss, report
from sklearn.linear_model import LogisticRegression

file, model = sys.argv[1:]
table = pq.read_table(file)
g, y = table["g"].to_numpy(), table["label"].to_numpy()
x = np.column_stack([table[name].to_numpy() for name in table.column_names if name not in ("g", "label")])
order = np.argsort(g, kind="stable")
g, x, y = g[order], x[order], y[order]
keys, starts = np.unique(g, return_index=True)
models = {}
for key, start, end in zip(keys, starts, [*starts[1:], len(g)]):
    models[int(key)] = LogisticRegression().fit(x[start:end], y[start:end])
with open(model, "wb") as out:
    pickle.dump(models, out)
if "--check" in sys.argv:
    sys.exit(0)
w = np.array([models[int(key)].coef_[0] for key in keys])
b = np.array([models[int(key)].intercept_[0] for key in keys])
rows = np.searchsorted(keys, g)
report(log_loss=log_loss(y, 1 / (1 + np.exp(-((x * w[rows]).sum(axis=1) + b[rows])))))
