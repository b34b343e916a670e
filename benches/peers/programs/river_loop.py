"""River's learn_one over rows that are dictionaries already: `river_loop.py FILE ROWS`."""

import sys
import time

from common import matrix, report
from river import linear_model, optim

x, y = matrix(sys.argv[1])
n = int(sys.argv[2])
rows = [dict(enumerate(row)) for row in x[:n].tolist()]
labels = y[:n].astype(bool).tolist()
model = linear_model.LogisticRegression(optim.SGD(0.01))
begun = time.perf_counter()
for row, label in zip(rows, labels):
    model.learn_one(row, label)
report(seconds=time.perf_counter() - begun, rows=n)
