"""Reads every table of a model with DuckDB, pandas and polars, and compares with gradlake's SQL.

    python read.py WAREHOUSE MODEL EXPECTED.json

EXPECTED holds what gradlake says of each table of the current version, `log` being the last entry
of the model's log:

    {"weights": {"rows": 3, "columns": [
        ["processed_input", {"count": 3}],
        ["weight", {"count": 3, "sum": 1.5, "magnitude": 2.5}]]}, ...}

`count` is the number of values that are not NULL, `elements` (of lists) the number of all elements,
`sum` and `magnitude` are the sums of the numbers, or of a list's elements, and of their absolute
values. Columns must be those of EXPECTED, in that order (in the log: among others).

DuckDB is required, pandas and polars are used where they are installed; see requirements.txt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from predict import Version, last_entry

TOLERANCE = 1e-9
"""Of a sum, relative to its magnitude: readers add float64 in different orders."""

Facts = dict[str, Any]
"""Of a column: count, elements, sum, magnitude. Of a table: rows, columns."""


def with_duckdb(path: Path, wanted: Facts) -> Facts:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    file = str(path).replace("'", "''")
    table = f"read_parquet('{file}', hive_partitioning = false)"

    def one(sql: str) -> Any:
        return connection.execute(sql).fetchall()[0][0]

    def column(name: str, facts: Facts) -> Facts:
        quoted = '"' + name.replace('"', '""') + '"'
        values = table
        found = {"count": one(f"SELECT count({quoted}) FROM {table}")}
        if "elements" in facts:
            values = f"(SELECT unnest({quoted}) AS {quoted} FROM {table})"
            found["elements"] = one(f"SELECT count(*) FROM {values}")
        if "sum" in facts:
            number = f"CAST({quoted} AS DOUBLE)"
            found["sum"] = one(f"SELECT coalesce(sum({number}), 0) FROM {values}")
            found["magnitude"] = one(f"SELECT coalesce(sum(abs({number})), 0) FROM {values}")
        return found

    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()]
    columns = {name: column(name, wanted["columns"].get(name, {})) for name in names}
    return {"rows": one(f"SELECT count(*) FROM {table}"), "columns": columns}


def with_pandas(path: Path, wanted: Facts) -> Facts:
    import pandas

    table = pandas.read_parquet(path, partitioning=None)

    def column(name: str, facts: Facts) -> Facts:
        values = table[name].dropna()
        found: Facts = {"count": len(values)}
        if "elements" in facts:
            found["elements"] = sum(len(value) for value in values)
            values = np.concatenate([[], *values]) if "sum" in facts else values
        return found | sums(np.asarray(values, np.float64) if "sum" in facts else None)

    columns = {name: column(name, wanted["columns"].get(name, {})) for name in table.columns}
    return {"rows": len(table), "columns": columns}


def with_polars(path: Path, wanted: Facts) -> Facts:
    import polars

    table = polars.read_parquet(path, hive_partitioning=False)

    def column(name: str, facts: Facts) -> Facts:
        values = table[name].drop_nulls()
        found: Facts = {"count": len(values)}
        if "elements" in facts:
            found["elements"] = int(values.list.len().sum())
            values = values.explode().drop_nulls()
        return found | sums(values.cast(polars.Float64).to_numpy() if "sum" in facts else None)

    columns = {name: column(name, wanted["columns"].get(name, {})) for name in table.columns}
    return {"rows": table.height, "columns": columns}


def sums(values: np.ndarray | None) -> Facts:
    """The sums of some numbers, or nothing."""
    if values is None:
        return {}
    return {"sum": float(values.sum()), "magnitude": float(np.abs(values).sum())}


READERS: dict[str, Callable[[Path, Facts], Facts]] = {
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "polars": with_polars,
}


def differences(table: str, found: Facts, wanted: Facts) -> list[str]:
    """What is not as it should be, in sentences."""
    wrong = []
    if found["rows"] != wanted["rows"]:
        wrong.append(f"{table} has {found['rows']} rows instead of {wanted['rows']}")
    names, expected = list(found["columns"]), list(wanted["columns"])
    if table == "log":
        names = [name for name in expected if name in names]
    if names != expected:
        wrong.append(f"{table} has the columns {names} instead of {expected}")
    for name, facts in wanted["columns"].items():
        own = found["columns"].get(name, {})
        for fact, value in facts.items():
            slack = TOLERANCE * facts["magnitude"] if fact in ("sum", "magnitude") else 0
            if fact not in own or not abs(own[fact] - value) <= slack:
                wrong.append(f"{fact} of {table}.{name} is {own.get(fact)} instead of {value}")
    return wrong


def main() -> int:
    warehouse, model, expected = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    version = Version(warehouse, model)
    wanted: dict[str, Facts] = json.loads(expected.read_text())
    for facts in wanted.values():
        facts["columns"] = dict(facts["columns"])
    paths = {name: version.path(name) for name in wanted if name != "log"}
    files = {path.stem for path in version.folder.glob("*.parquet")}
    wrong = [f"{name} is in the folder, but not expected" for name in sorted(files - paths.keys())]
    if "log" in wanted:
        paths["log"] = last_entry(warehouse, model)
    for reader, read in READERS.items():
        try:
            found = {name: read(path, wanted[name]) for name, path in paths.items()}
        except ImportError as error:
            print(f"{reader}: skipped, {error}")
            continue
        for name, facts in found.items():
            wrong += [f"{reader}: {text}" for text in differences(name, facts, wanted[name])]
        print(f"{reader}: read {len(found)} tables")
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
