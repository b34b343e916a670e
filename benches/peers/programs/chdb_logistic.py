"""ClickHouse's stochasticLogisticRegression over the file: `chdb_logistic.py train FILE FOLDER`,
`check FOLDER HOLDOUT`. One pass; the state of the aggregate is kept in a table of FOLDER."""

import sys

from chdb import session

FEATURES = ", ".join(f"f{i}" for i in range(28))
# The aggregate takes no more than 8 arguments that may be NULL.
SETTINGS = "SETTINGS schema_inference_make_columns_nullable = 0"
command, *rest = sys.argv[1:]
if command == "train":
    file, folder = rest
    chdb = session.Session(folder)
    chdb.query("CREATE DATABASE IF NOT EXISTS models ENGINE = Atomic")
    # Learning rate, L2, mini-batch and optimizer as ours.
    chdb.query(
        "CREATE TABLE models.m ENGINE = MergeTree ORDER BY tuple() AS SELECT "
        f"stochasticLogisticRegressionState(0.01, 0.0001, 256, 'Adam')(label * 2 - 1, {FEATURES}) "
        f"AS state FROM file('{file}', 'Parquet') {SETTINGS}"
    )
    chdb.close()
else:
    from common import log_loss, report
    import numpy as np

    folder, holdout = rest
    chdb = session.Session(folder)
    rows = chdb.query(
        f"WITH (SELECT state FROM models.m) AS state SELECT label, evalMLMethod(state, {FEATURES}) AS p "
        f"FROM file('{holdout}', 'Parquet') {SETTINGS}",
        "CSV",
    )
    values = np.array([line.split(",") for line in str(rows).split()], dtype=np.float64)
    report(log_loss=log_loss(values[:, 0], values[:, 1]))
