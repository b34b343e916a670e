"""scikit-learn's PCA: `sklearn_pca.py FILE MODEL COMPONENTS`. Prints the share of the variance that the
components explain together, and how they were found."""

import pickle
import sys

from common import matrix, report
from sklearn.decomposition import PCA

file, model, components = sys.argv[1:]
x, _ = matrix(file)
fitted = PCA(n_components=int(components), copy=False).fit(x)
with open(model, "wb") as out:
    pickle.dump(fitted, out)
report(explained=float(fitted.explained_variance_ratio_.sum()), solver=fitted._fit_svd_solver)
