"""scikit-learn's LogisticRegression to convergence: `sklearn_logistic.py train FILE MODEL [TOL]`; how far
weights are from the optimum: `gradient MODEL FILE`, where MODEL is its pickle or a JSON list of
our weights, the intercept last; and the log loss of its pickle: `loss MODEL FILE`."""

import json
import pickle
import sys

import numpy as np
from common import classes, log_loss, matrix, report

command, *rest = sys.argv[1:]
if command == "train":
    from sklearn.linear_model import LogisticRegression

    file, model, *tolerance = rest
    x, y = matrix(file)
    # lbfgs stops when the largest component of the gradient of the mean loss is below tol.
    tolerance = float(tolerance[0]) if tolerance else 1e-4
    fitted = LogisticRegression(C=1.0, max_iter=10_000, tol=tolerance).fit(x, y)
    with open(model, "wb") as out:
        pickle.dump(fitted, out)
elif command == "loss":
    model, file = rest
    x, y = matrix(file)
    with open(model, "rb") as data:
        fitted = pickle.load(data)
    report(log_loss=classes(y, fitted.predict_proba(x)), steps=int(np.max(fitted.n_iter_)))
else:
    model, file = rest
    x, y = matrix(file)
    if model.endswith(".json"):
        with open(model, encoding="utf-8") as data:
            *w, b = json.load(data)
    else:
        with open(model, "rb") as data:
            fitted = pickle.load(data)
        w, b = fitted.coef_[0], fitted.intercept_[0]
    w = np.asarray(w, dtype=np.float64)
    p = 1 / (1 + np.exp(-(x @ w + b)))
    gradient = np.append(x.T @ (p - y) / len(y) + w / len(y), np.mean(p - y))
    report(gradient=float(np.abs(gradient).max()), log_loss=log_loss(y, p))
