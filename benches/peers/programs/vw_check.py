"""The area under the curve of a Vowpal Wabbit model: `vw_check.py MODEL HOLDOUT.vw`."""

import sys
import tempfile

import numpy as np
import vowpalwabbit
from common import report
from sklearn.metrics import roc_auc_score

model, file = sys.argv[1:]
with tempfile.NamedTemporaryFile() as out:
    vw = vowpalwabbit.Workspace(f"-i {model} -t -d {file} -p {out.name} --link logistic --quiet")
    vw.finish()
    p = np.loadtxt(out.name)
with open(file, encoding="ascii") as lines:
    y = np.array([line.startswith("1") for line in lines])
report(roc_auc=float(roc_auc_score(y, p)))
