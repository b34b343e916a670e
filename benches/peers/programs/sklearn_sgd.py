"""scikit-learn's SGDClassifier: `sklearn_sgd.py train FILE MODEL EPOCHS`, `check MODEL HOLDOUT`,
`passes FILE EPOCHS` (the fit alone, from a matrix in memory)."""

import pickle
import sys
import time

from common import log_loss, matrix, report
from sklearn.linear_model import SGDClassifier


def classifier(epochs):
    # The default strength, 1e-4, which its default learning rate is made for.
    return SGDClassifier(loss="log_loss", max_iter=epochs, tol=None, random_state=0)


command, *rest = sys.argv[1:]
if command == "train":
    file, model, epochs = rest
    x, y = matrix(file)
    with open(model, "wb") as out:
        pickle.dump(classifier(int(epochs)).fit(x, y), out)
elif command == "check":
    model, holdout = rest
    with open(model, "rb") as data:
        fitted = pickle.load(data)
    x, y = matrix(holdout)
    report(log_loss=log_loss(y, fitted.predict_proba(x)[:, 1]))
else:
    file, epochs, holdout = rest
    x, y = matrix(file)
    begun = time.perf_counter()
    fitted = classifier(int(epochs)).fit(x, y)
    seconds = (time.perf_counter() - begun) / int(epochs)
    x, y = matrix(holdout)
    loss = log_loss(y, fitted.predict_proba(x)[:, 1])
    report(seconds=seconds, log_loss=loss)
