"""scikit-learn's KMeans: `sklearn_kmeans.py FILE MODEL K ITERATIONS`, from rows chosen at random, once,
without a tolerance. Prints the mean squared distance of the rows to their centroids, and the rounds made."""

import pickle
import sys

from common import matrix, report
from sklearn.cluster import KMeans

file, model, k, iterations = sys.argv[1:]
x, _ = matrix(file)
fitted = KMeans(
    n_clusters=int(k), init="random", n_init=1, max_iter=int(iterations), tol=0.0, algorithm="lloyd",
    random_state=0, copy_x=False,
).fit(x)
# The labels of its rows are no part of a model.
del fitted.labels_
with open(model, "wb") as out:
    pickle.dump(fitted, out)
report(loss=fitted.inertia_ / len(x), steps=int(fitted.n_iter_))
