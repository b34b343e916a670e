"""PREDICT of gradlake in numpy, from nothing but the Parquet files of a warehouse.

    python predict.py WAREHOUSE MODEL ROWS.parquet OUTPUT.parquet [--version N] [--threshold P]

It writes the rows of ROWS with what `PREDICT MODEL m FROM 'ROWS.parquet'` puts behind them:
`predicted_<target>`, then `predicted_<target>_probs` of classifiers with probabilities or
`predicted_<target>_score` of support vector machines. Read from top to bottom, it is also a
description of the format: what lies where, and what the numbers in it mean.

    WAREHOUSE/models/MODEL/log/000007.parquet    the last entry names the folder of each version
    WAREHOUSE/<folder>/manifest.parquet          one row: target, inputs, partition columns
    WAREHOUSE/<folder>/members.parquet           one row a group: classes, loss, activation
    WAREHOUSE/<folder>/features.parquet          one row an input column (or element of a vector)
    WAREHOUSE/<folder>/parameters.parquet        one row a tensor

A model without PARTITION BY has one member. The tables of a partitioned model begin with the
partition columns, and each row belongs to the member with that key.

TRANSFORM is SQL of DataFusion, which this program does not run: of a model that has one, ROWS must
hold the outputs of TRANSFORM under their names.

Needs numpy and pyarrow; see requirements.txt.
"""

from __future__ import annotations

import argparse
import math
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LOG_VERSION = 1
"""The format of the log that this program knows; a newer one is refused."""

MODEL_FORMATS = (1, 3)
"""The formats of models that this program knows: 3 has vectors of bytes with one scale. (2 is of
several targets and of what is no network of dense layers.)"""

BATCH_ROWS = 16_384
"""Rows that are scored at a time."""

DAY = 86_400.0
"""Seconds of a day."""


class Refused(Exception):
    """What was asked cannot be done; the text says why."""


# --- The store: from a model's name to the tables of a version ------------------------------------


def read_parquet(path: Path, crc32: int | None = None) -> pa.Table:
    """One file as a table, after its checksum.

    (Not `pq.read_table`, which would take a folder `a=1` on the way for a column.)
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{path} is missing") from None
    if crc32 is not None and zlib.crc32(data) != crc32:
        raise Refused(f"{path} does not have the checksum that the log notes")
    return pq.ParquetFile(pa.BufferReader(data)).read()


def last_entry(warehouse: Path, model: str) -> Path | None:
    """The last log entry of a model: the one with the largest number. It holds the whole state."""
    entries = (warehouse / "models" / model / "log").glob("*.parquet")
    numbered = [(int(path.stem), path) for path in entries if path.stem.isdigit()]
    return max(numbered)[1] if numbered else None


def living_versions(warehouse: Path, model: str) -> list[dict[str, Any]]:
    """The rows of the last log entry, one per version that lives."""
    path = last_entry(warehouse, model)
    rows = [] if path is None else _log_rows(path)
    if rows and rows[0]["action"] == "rename_from" and not _is_confirmed(warehouse, model, rows[0]):
        rows = []
    return [row for row in rows if row["version"] is not None]


def _log_rows(path: Path) -> list[dict[str, Any]]:
    columns = ["format_version", "action", "other_model", "other_entry"]
    columns += ["current_version", "version", "folder", "files"]
    table = read_parquet(path)
    if table["format_version"][0].as_py() > LOG_VERSION:
        raise Refused(f"{path} has a format newer than {LOG_VERSION}")
    return table.select(columns).to_pylist()


def _is_confirmed(warehouse: Path, model: str, row: dict[str, Any]) -> bool:
    """A renamed model counts once the log of its old name says so, in the entry named here."""
    log = warehouse / "models" / row["other_model"] / "log"
    confirmation = log / f"{row['other_entry']:06}.parquet"
    if not confirmation.exists():
        return False
    other = _log_rows(confirmation)[0]
    return other["action"] == "rename_to" and other["other_model"] == model


class Version:
    """A published version: its tables."""

    def __init__(self, warehouse: Path, model: str, version: int | None = None) -> None:
        rows = living_versions(warehouse, model)
        if not rows:
            raise Refused(f"there is no model {model} in {warehouse}")
        wanted = rows[0]["current_version"] if version is None else version
        entry = next((row for row in rows if row["version"] == wanted), None)
        if entry is None:
            raise Refused(f"model {model} has no version {wanted}")
        # Relative to the warehouse. A renamed model's folder keeps the old name.
        self.folder = warehouse / entry["folder"]
        self._crc32 = {file["name"]: file["crc32"] for file in entry["files"]}

    def path(self, table: str) -> Path:
        """Where a table lies."""
        return self.folder / f"{table}.parquet"

    def table(self, name: str) -> pa.Table:
        """A table, whole."""
        path = self.path(name)
        return read_parquet(path, self._crc32[path.name])


# --- The model: what the tables say ---------------------------------------------------------------


@dataclass
class Feature:
    """An input column and how it is encoded.

    `mean`, `center` and `stddev` have one value, one per element of a vector, none of a category.
    Vectors of bytes have one scale, and the byte nearest to their mean replaces NULL.
    """

    name: str
    data_type: str  # of the column in training, as Rust's arrow writes it
    kind: str  # number, boolean, timestamp, vector, bytes or category
    mean: np.ndarray
    center: np.ndarray
    stddev: np.ndarray
    categories: pa.Array | None


@dataclass
class Member:
    """The model of one group."""

    features: list[Feature]
    layers: list[tuple[np.ndarray, np.ndarray | float]]  # weight [inputs, units], bias [units]
    activation: str
    loss: str
    classes: pa.Array | None  # ascending, of the target's type; None of a regression
    label_mean: float
    label_stddev: float


class Model:
    """A version's tables put together."""

    def __init__(self, version: Version) -> None:
        manifest = version.table("manifest").select(
            ["format_version", "target", "target_type", "inputs", "transform", "partition_by"]
        )
        [row] = manifest.to_pylist()
        if row["format_version"] not in MODEL_FORMATS:
            raise Refused(f"{version.folder} has format {row['format_version']}")
        self.target: str = row["target"]
        self.inputs = [pair["name"] for pair in row["inputs"]]
        self.transform = [pair["name"] for pair in row["transform"]]
        self.partition_by = [pair["name"] for pair in row["partition_by"]]
        key_types = [pair["value"] for pair in row["partition_by"]]
        members = version.table("members")
        features = rows_by_key(version.table("features"), key_types)
        parameters = rows_by_key(version.table("parameters"), key_types)
        self.key_types = key_types
        self.members: dict[tuple, Member | None] = {}
        for i, key in enumerate(row_keys(members, key_types)):
            # By place, since a partition column may have the same name as one of these.
            member = members.slice(i, 1).select(range(len(key_types), members.num_columns))
            if member["reason"][0].is_valid:
                self.members[key] = None  # The group could not be trained; its rows get NULL.
                continue
            tables = (member, features[key], parameters[key])
            self.members[key] = read_member(*tables, row["target_type"])
        trained = [member for member in self.members.values() if member is not None]
        self.parts = output_parts(self.target, row["target_type"], trained)


def rows_by_key(table: pa.Table, key_types: list[str]) -> dict[tuple, pa.Table]:
    """A table cut into members, without the partition columns. Those come first, whatever they are
    called: where the name of one is that of another column of the table, it has a suffix."""
    rows: dict[tuple, list[int]] = {}
    for i, key in enumerate(row_keys(table, key_types)):
        rows.setdefault(key, []).append(i)
    own = table.select(range(len(key_types), table.num_columns))
    return {key: own.take(indices) for key, indices in rows.items()}


def row_keys(rows: pa.Table | pa.RecordBatch, key_types: list[str]) -> list[tuple]:
    """The values of the first columns, which are the partition columns, as a tuple per row."""
    if not key_types:
        return [()] * rows.num_rows
    columns = zip(rows.columns, key_types)
    return list(zip(*(hashable(dated(plain(column), own)) for column, own in columns)))


def hashable(column: pa.Array) -> list[Any]:
    """Values that are equal where the column's are: NULL is equal to NULL, and NaN to NaN."""
    if pa.types.is_timestamp(column.type):
        # Not as Python's datetime, which has no nanoseconds.
        return list(zip(*(part.tolist() for part in unix_time(column))))
    values = column.to_pylist()
    return [value.hex() if isinstance(value, float) else value for value in values]


def read_member(
    row: pa.Table, features: pa.Table, parameters: pa.Table, target_type: str
) -> Member:
    """What the tables say of one member."""
    [own] = row.select(["label_mean", "label_stddev", "activation", "loss_function"]).to_pylist()
    # A regression standardises its target, (y - mean) / stddev; a classifier has classes.
    is_regression = own["label_mean"] is not None
    return Member(
        features=read_features(features),
        layers=read_layers(parameters),
        activation=own["activation"],
        loss=own["loss_function"],
        classes=None if is_regression else dated(plain(row["classes"][0].values), target_type),
        label_mean=own["label_mean"] if is_regression else 0.0,
        label_stddev=own["label_stddev"] if is_regression else 1.0,
    )


def read_features(table: pa.Table) -> list[Feature]:
    """The features of a member in order. A vector has a row per element."""
    names = ("mean", "center", "stddev")
    rows = table.select(["feature", "element", "kind", "data_type", *names]).to_pylist()
    features = []
    # Element NULL is a column that is no vector (or a vector without elements).
    starts = [i for i, row in enumerate(rows) if row["element"] in (None, 0)]
    for start, end in zip(starts, [*starts[1:], len(rows)]):
        scales = ([row[name] for row in rows[start:end]] for name in names)
        scales = (np.array([x for x in scale if x is not None], np.float64) for scale in scales)
        categories = table["categories"][start]
        categories = categories.values if categories.is_valid else None
        row = rows[start]
        own = (row["feature"], row["data_type"], row["kind"])
        if row["kind"] == "bytes":
            mean, center, stddev = (np.repeat(scale, table["length"][start].as_py()) for scale in scales)
            scales = (np.floor(mean + 0.5), center, stddev)
        features.append(Feature(*own, *scales, categories))
    return features


def read_layers(table: pa.Table) -> list[tuple[np.ndarray, np.ndarray | float]]:
    """Weight and bias of each layer; a layer without a bias adds 0."""
    tensors: dict[tuple[int, str], np.ndarray] = {}
    for i in range(len(table)):
        values = table["values"][i].values.to_numpy().astype(np.float64)
        name = (table["layer"][i].as_py(), table["name"][i].as_py())
        tensors[name] = values.reshape(table["shape"][i].as_py())
    layers = 1 + max(layer for layer, _ in tensors)
    return [(tensors[i, "weight"], tensors.get((i, "bias"), 0.0)) for i in range(layers)]


def output_parts(target: str, target_type: str, trained: list[Member]) -> list[pa.Field]:
    """The columns of a prediction."""
    name = f"predicted_{target}"
    if not trained:
        return [pa.field(name, pa.null())]
    if trained[0].classes is None:
        # Of a target of whole numbers fractions are predicted.
        floats = {"Float16": pa.float16(), "Float32": pa.float32()}
        return [pa.field(name, floats.get(target_type, pa.float64()))]
    class_type = trained[0].classes.type
    label = pa.field(name, class_type)
    if trained[0].loss in ("logistic", "softmax"):
        pair = pa.struct([pa.field("label", class_type), pa.field("prob", pa.float64(), False)])
        return [label, pa.field(f"{name}_probs", pa.list_(pair))]
    return [label, pa.field(f"{name}_score", pa.float64())]


# --- The encoder: from columns to numbers ---------------------------------------------------------


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array, without a dictionary, and strings as pyarrow's functions take them."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def dated(column: pa.Array, data_type: str) -> pa.Array:
    """A column that should be of this type. Parquet has no Date64 and no seconds, and pyarrow
    takes for plain integers what Rust writes of them."""
    if pa.types.is_int64(column.type) and data_type == "Date64":
        return column.cast(pa.date64())
    if pa.types.is_int64(column.type) and data_type.startswith("Timestamp(s"):
        return column.cast(pa.timestamp("s"))
    return column


def flatten(name: str, column: pa.Array, into: dict[str, pa.Array]) -> None:
    """A column under its name, or a struct's fields as `struct.field`. Fields of a struct that is
    NULL are NULL."""
    if not pa.types.is_struct(column.type):
        if name in into:
            raise Refused(f"there are two columns {name}, one of them the field of a struct")
        into[name] = plain(column)
        return
    for field, child in zip(column.type, column.flatten()):
        flatten(f"{name}.{field.name}", child, into)


def encode(
    features: list[Feature], columns: dict[str, pa.Array], rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows as `dense[rows, d]`, in the order of the features, and `codes[rows, c]`: per column
    of categories the row of the weight table behind the dense weights, -1 where there is none."""
    dense, codes, offset = [np.empty((rows, 0), np.float32)], [np.empty((rows, 0), np.int64)], 0
    for feature in features:
        if feature.name not in columns:
            raise Refused(f"the model needs column {feature.name}, which is missing")
        column = dated(columns[feature.name], feature.data_type)
        if not (pa.types.is_null(column.type) or KINDS[feature.kind](column.type)):
            raise Refused(
                f"column {feature.name} is {column.type}, but the model was trained on "
                f"{feature.data_type}"
            )
        if feature.kind == "category":
            # NULL is a category of its own, if it was one in training; what was not seen there is
            # none.
            code = pc.index_in(texts(column), value_set=feature.categories.cast(pa.string()))
            code = code.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
            codes.append(np.where(code < 0, -1, code + offset)[:, np.newaxis])
            offset += len(feature.categories)
        elif feature.kind == "timestamp":
            dense.append(encode_timestamps(feature, column))
        elif feature.kind in ("vector", "bytes"):
            dense.append(encode_vectors(feature, column))
        else:
            dense.append(standardize(feature, numbers(column)[:, np.newaxis]))
    return np.hstack(dense), np.hstack(codes)


def standardize(feature: Feature, values: np.ndarray) -> np.ndarray:
    """`(value - center) / stddev` in float64, rounded to float32. The mean stands in for what is
    missing (NaN) or not finite."""
    values = np.where(np.isfinite(values), values, feature.mean)
    return ((values - feature.center) / feature.stddev).astype(np.float32)


def is_list(t: pa.DataType) -> bool:
    """Whether a type is that of lists."""
    return pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_fixed_size_list(t)


KINDS = {
    "number": lambda t: (
        pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t)
    ),
    "boolean": pa.types.is_boolean,
    "category": lambda t: (
        pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_date(t)
    ),
    "timestamp": pa.types.is_timestamp,
    "vector": is_list,
    "bytes": is_list,
}
"""The types that are encoded in each way."""


def numbers(column: pa.Array) -> np.ndarray:
    """Numbers, decimals and booleans as float64, NULL as NaN."""
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def texts(column: pa.Array) -> pa.Array:
    """Strings as they are, dates as `2013-01-31`."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32())
    return column.cast(pa.string())


def encode_timestamps(feature: Feature, column: pa.Array) -> np.ndarray:
    """Unix seconds standardised, then sine and cosine of the hour of the day, the weekday and the
    month, all of UTC. Of NULL the mean, and the middle of the circles."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.timestamp("s"))
    whole, fraction, is_null = (part[:, np.newaxis] for part in unix_time(column))
    seconds = whole + fraction
    days = np.floor(seconds / DAY)
    hour = np.floor((seconds - days * DAY) / 3600)
    weekday = (days + 3) % 7  # The epoch was a Thursday; Monday is 0.
    months = days.astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    phases = np.hstack([hour / 24, weekday / 7, months % 12 / 12]) * math.tau
    cycles = np.stack([np.sin(phases), np.cos(phases)], axis=2).reshape(-1, 6)
    time = standardize(feature, np.where(is_null, np.nan, seconds))
    return np.hstack([time, np.where(is_null, 0.0, cycles).astype(np.float32)])


def unix_time(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Timestamps as whole seconds, the fraction behind them, and whether they are NULL. (Apart,
    since float64 does not hold the nanoseconds since 1970.)"""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy()
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    return ticks // per_second, (ticks % per_second) / per_second, is_null


def encode_vectors(feature: Feature, column: pa.Array) -> np.ndarray:
    """Lists element by element. (The scale of bytes has center 0 and the largest element of the
    training rows as stddev, so it needs no case of its own.)"""
    n = len(feature.mean)
    values = np.full((len(column), n), np.nan)
    if n > 0 and not pa.types.is_null(column.type):
        lists = column.drop_null()
        lengths = set(pc.unique(pc.list_value_length(lists)).to_pylist())
        if lengths - {n}:
            raise Refused(f"lists of column {feature.name} have not {n} elements")
        is_valid = column.is_valid().to_numpy(zero_copy_only=False)
        values[is_valid] = numbers(lists.flatten()).reshape(-1, n)
    return standardize(feature, values)


# --- The network: from numbers to predictions -----------------------------------------------------


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0, 0, x)


def gelu(x: np.ndarray) -> np.ndarray:
    # The exact form, not the one with tanh; numpy has no erf.
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x > 0, 1, small) / (1 + small)


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


ACTIVATIONS = {
    "relu": relu,
    "gelu": gelu,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "elu": elu,
    "identity": lambda x: x,
}


def raw_outputs(member: Member, dense: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`z[rows, outputs]`: logits, margins, or numbers on the scale of the label. A linear model is
    a network of one layer.

    The weight of the first layer is `[d + t, units]`: `d` rows of dense inputs, then `t` rows of
    all categories, of which each row adds up those of its own.
    """
    [(weight, bias), *others] = member.layers
    d = dense.shape[1]
    z = dense.astype(np.float64) @ weight[:d] + bias
    for code in codes.T:
        is_known = code >= 0
        z[is_known] += weight[d + code[is_known]]
    for weight, bias in others:
        z = ACTIVATIONS[member.activation](z) @ weight + bias
    return z


def probabilities(loss: str, z: np.ndarray) -> np.ndarray:
    """Probabilities `[rows, classes]`. Of two classes with one logit, it is that of the larger."""
    if loss == "logistic":
        return np.hstack([sigmoid(-z), sigmoid(z)])
    exponential = np.exp(z - z.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def predict_member(
    member: Member,
    columns: dict[str, pa.Array],
    rows: int,
    fields: list[pa.Field],
    threshold: float,
) -> list[pa.Array]:
    """The columns of a prediction for rows of one member."""
    z = raw_outputs(member, *encode(member.features, columns, rows))
    if member.classes is None:
        z = z[:, 0]
        y = np.exp(z) if member.loss == "poisson" else member.label_mean + member.label_stddev * z
        return [pa.array(y.astype(fields[0].type.to_pandas_dtype()), fields[0].type)]
    if member.loss in ("logistic", "softmax"):
        p = probabilities(member.loss, z)
        order = np.argsort(-p, axis=1, kind="stable")
        # Of two classes the larger is the positive one, and the threshold is for it.
        best = p[:, 1] > threshold if p.shape[1] == 2 else order[:, 0]
        pairs = pa.StructArray.from_arrays(
            [
                member.classes.take(pa.array(order.ravel())),
                pa.array(np.take_along_axis(p, order, axis=1).ravel()),
            ],
            fields=list(fields[1].type.value_type),
        )
        offsets = pa.array(np.arange(rows + 1) * p.shape[1], pa.int32())
        second = pa.ListArray.from_arrays(offsets, pairs, type=fields[1].type)
    else:
        # Margins of a support vector machine: of two classes the sign decides.
        best = z[:, 0] > 0 if z.shape[1] == 1 else z.argmax(axis=1)
        second = pa.array(z.max(axis=1))
    return [member.classes.take(pa.array(best.astype(np.int64))), second]


def predict(model: Model, batch: pa.RecordBatch, threshold: float = 0.5) -> list[pa.Array]:
    """The columns of a prediction (see `Model.parts`) for a batch of rows."""
    columns: dict[str, pa.Array] = {}
    for name in model.inputs:
        flatten(name, batch.column(name), columns)
    rows_of: dict[tuple, list[int]] = {}
    for row, key in enumerate(row_keys(batch.select(model.partition_by), model.key_types)):
        rows_of.setdefault(key, []).append(row)
    # Rows of each member are scored together and put back to where they stood. Place 0 is the NULL
    # of rows that no trained member is there for.
    pieces = [[pa.nulls(1, field.type)] for field in model.parts]
    place, end = np.zeros(batch.num_rows, np.int64), 1
    for key, rows in rows_of.items():
        member = model.members.get(key)
        if member is None:
            continue
        own = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        predicted = predict_member(member, own, len(rows), model.parts, threshold)
        for piece, array in zip(pieces, predicted):
            piece.append(array)
        place[rows] = np.arange(end, end + len(rows))
        end += len(rows)
    return [pa.concat_arrays(piece).take(pa.array(place)) for piece in pieces]


# --- The program ----------------------------------------------------------------------------------


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, ... where that is taken."""
    free, suffix = name, 1
    while free in taken:
        free, suffix = f"{name}_{suffix}", suffix + 1
    taken.add(free)
    return free


def run(arguments: argparse.Namespace) -> None:
    model = Model(Version(arguments.warehouse, arguments.model, arguments.version))
    if arguments.threshold != 0.5 and not model.parts[-1].name.endswith("_probs"):
        raise Refused("a threshold needs a model with probabilities")
    rows = pq.ParquetFile(arguments.rows)
    schema = rows.schema_arrow
    for name in [*model.inputs, *model.partition_by]:
        if name not in schema.names:
            is_output = name in model.transform
            hint = ", the output of the model's TRANSFORM" if is_output else ""
            raise Refused(f"the model needs column {name}{hint}, which {arguments.rows} lacks")
    taken = set(schema.names)
    for part in model.parts:
        schema = schema.append(part.with_name(free_name(part.name, taken)))
    with pq.ParquetWriter(arguments.output, schema) as writer:
        for batch in rows.iter_batches(BATCH_ROWS):
            columns = [*batch.columns, *predict(model, batch, arguments.threshold)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("warehouse", type=Path, help="the folder of the warehouse")
    parser.add_argument("model", help="the name of the model")
    parser.add_argument("rows", type=Path, help="the Parquet file of rows to predict")
    parser.add_argument("output", type=Path, help="the Parquet file to write")
    parser.add_argument("--version", type=int, help="default: the one that PREDICT uses")
    parser.add_argument("--threshold", type=float, default=0.5, help="of the larger of two classes")
    try:
        run(parser.parse_args())
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
