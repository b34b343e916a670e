"""scikit-learn on wide strings: `sklearn_hasher.py FILE MODEL` hashes `column=value` and makes one pass
of SGDClassifier; `sklearn_hasher.py check MODEL HOLDOUT`."""

import pickle
import sys

import pyarrow.parquet as pq
from common import report
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import SGDClassifier


def read(file):
    table = pq.read_table(file)
    names = [name for name in table.column_names if name != "label"]
    columns = [[f"{name}={value}" for value in table[name].to_pylist()] for name in names]
    # As many buckets as Vowpal Wabbit is given.
    hasher = FeatureHasher(n_features=1 << 22, input_type="string", alternate_sign=False)
    return hasher.transform(zip(*columns)), table["label"].to_numpy()


if sys.argv[1] == "check":
    from sklearn.metrics import roc_auc_score

    with open(sys.argv[2], "rb") as data:
        fitted = pickle.load(data)
    x, y = read(sys.argv[3])
    report(roc_auc=float(roc_auc_score(y, fitted.decision_function(x))))
else:
    file, model = sys.argv[1:]
    x, y = read(file)
    fitted = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=1, tol=None, random_state=0).fit(x, y)
    with open(model, "wb") as out:
        pickle.dump(fitted, out)
