"""The log loss of two files of predictions beside the labels: `compare.py FILE OURS THEIRS`."""

import sys

import numpy as np
import pyarrow.parquet as pq
from common import log_loss, report

file, ours, theirs = sys.argv[1:]
label = pq.read_table(file, columns=["label"])["label"].to_numpy()
a, b = (pq.read_table(path)["probability"].to_numpy() for path in (ours, theirs))
report(
    ours=log_loss(label, a), theirs=log_loss(label, b), difference=float(np.abs(a - b).max())
)
