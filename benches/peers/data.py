"""Makes the data of the runs from a seed: `python data.py KIND FILE ROWS`.

Rows come in blocks of which each is a function of the seed and its number alone, so that a longer file
begins with the rows of a shorter one. Files are zstd Parquet as pyarrow writes it by default.
"""

import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SEED = 20261124
BLOCK = 100_000
FEATURES = 28
MANY_FEATURES = 500
COLUMNS, CATEGORIES = 20, 50_000
GROUP_ROWS, GROUP_FEATURES = 200, 10
# Blocks of rows that no model is trained on begin here.
HOLDOUT = 1_000_000


def logistic(rng, z):
    return (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(np.int8)


def numbers(block, rows):
    """28 standard normal float32; the label follows a logistic law of them with some products."""
    law = np.random.default_rng([SEED, 0]).normal(size=FEATURES) * 0.4
    rng = np.random.default_rng([SEED, 1, block])
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    z = x @ law + 0.6 * x[:, 0] * x[:, 1] - 0.6 * x[:, 2] * x[:, 3] + 0.5 * np.abs(x[:, 4]) - 0.4
    columns = {f"f{i}": np.ascontiguousarray(x[:, i]) for i in range(FEATURES)}
    return pa.table({**columns, "label": logistic(rng, z)})


def many(block, rows):
    """500 standard normal float32, neighbours of which go together; the label follows a logistic law."""
    law = np.random.default_rng([SEED, 5]).normal(size=MANY_FEATURES) * 0.1
    rng = np.random.default_rng([SEED, 6, block])
    x = rng.normal(size=(rows, MANY_FEATURES)).astype(np.float32)
    x[:, 1:] += np.float32(0.7) * x[:, :-1]
    columns = {f"f{i}": np.ascontiguousarray(x[:, i]) for i in range(MANY_FEATURES)}
    return pa.table({**columns, "label": logistic(rng, x @ law)})


def wide(block, rows):
    """20 string columns of 50,000 categories each, the first ones more frequent."""
    law = np.random.default_rng([SEED, 2]).normal(size=(COLUMNS, CATEGORIES)) * 0.4
    rng = np.random.default_rng([SEED, 3, block])
    codes = (CATEGORIES * rng.random((rows, COLUMNS)) ** 2).astype(np.int32)
    z = law[np.arange(COLUMNS), codes].sum(axis=1)
    names = pa.array([f"k{i:05d}" for i in range(CATEGORIES)])
    columns = {f"c{j}": names.take(pa.array(codes[:, j])) for j in range(COLUMNS)}
    return pa.table({**columns, "label": logistic(rng, z)})


def groups(block, rows):
    """Groups of 200 rows with a law each, 10 float32, the rows of all groups mixed."""
    rng = np.random.default_rng([SEED, 4, block])
    n = rows // GROUP_ROWS
    law = rng.normal(size=(n, GROUP_FEATURES))
    g = rng.permutation(np.repeat(np.arange(n, dtype=np.int32), GROUP_ROWS))
    x = rng.normal(size=(rows, GROUP_FEATURES)).astype(np.float32)
    label = logistic(rng, (x * law[g]).sum(axis=1))
    columns = {f"f{i}": np.ascontiguousarray(x[:, i]) for i in range(GROUP_FEATURES)}
    return pa.table({"g": g, **columns, "label": label})


def blocks(make, rows, first=0):
    for start in range(0, rows, BLOCK):
        yield make(first + start // BLOCK, min(BLOCK, rows - start))


def vw_lines(table):
    """Rows as Vowpal Wabbit's text: `1 |f 0:0.5 ...`, of strings `1 |f 0k00017 ...`."""
    label = pc.if_else(pc.equal(table["label"], 1), "1", "-1")
    features = []
    for i, name in enumerate(table.column_names[:-1]):
        text = pc.cast(table[name], pa.string())
        between = ":" if pa.types.is_floating(table[name].type) else ""
        features.append(pc.binary_join_element_wise(str(i), text, between))
    lines = pc.binary_join_element_wise(pc.binary_join_element_wise(label, "|f", " "), *features, " ")
    return "\n".join(lines.to_pylist()) + "\n"


def write(kind, path, rows):
    if kind == "groups":
        # One block: groups are numbered within it.
        return pq.write_table(groups(0, rows), path, compression="zstd")
    base, *forms = kind.split("-")
    make = {"numbers": numbers, "many": many, "wide": wide}[base]
    first = HOLDOUT if "holdout" in forms else 0
    if "vw" in forms:
        with open(path, "w", encoding="ascii") as out:
            for table in blocks(make, rows, first):
                out.write(vw_lines(table))
        return None
    table = pa.concat_tables(list(blocks(make, rows, first)))
    pq.write_table(table, path, compression="zstd")
    return None


if __name__ == "__main__":
    kind, path, rows = sys.argv[1:]
    write(kind, path + ".part", int(rows))
    os.rename(path + ".part", path)
