"""scikit-learn's MLPClassifier: `sklearn_mlp.py FILE HOLDOUT HIDDEN BATCH EPOCHS RATE`."""

import sys
import time

from common import log_loss, matrix, report
from sklearn.neural_network import MLPClassifier

file, holdout, hidden, batch, epochs, rate = sys.argv[1:]
x, y = matrix(file)
model = MLPClassifier(
    hidden_layer_sizes=[int(units) for units in hidden.split(",")],
    batch_size=int(batch),
    max_iter=int(epochs),
    learning_rate_init=float(rate),
    alpha=0.0,
    tol=0.0,
    n_iter_no_change=int(epochs),
    random_state=0,
)
begun = time.perf_counter()
model.fit(x, y)
seconds = (time.perf_counter() - begun) / int(epochs)
rows = len(x)
x, y = matrix(holdout)
report(seconds=[seconds], rows=rows, log_loss=log_loss(y, model.predict_proba(x)[:, 1]))
