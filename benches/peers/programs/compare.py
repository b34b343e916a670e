"""Two files of the same predictions, in any order: `compare.py OURS THEIRS`."""

import sys

import numpy as np
import pyarrow.parquet as pq
from common import log_loss, report


def read(path):
    table = pq.read_table(path, columns=["f0", "label", "probability"])
    f0, label, p = (table[name].to_numpy() for name in table.column_names)
    order = np.lexsort((p, f0))
    return f0[order], label[order], p[order]


(f0, label, ours), (same_f0, same_label, theirs) = map(read, sys.argv[1:])
assert np.array_equal(f0, same_f0), "the files hold different rows"
report(
    ours=log_loss(label, ours),
    theirs=log_loss(same_label, theirs),
    difference=float(np.abs(ours - theirs).max()),
)
