"""Parquet to Parquet with pyarrow and onnxruntime: `onnx_predict.py NETWORK.onnx FILE OUT`. Writes the
predicted label and the probability of label 1."""

import sys

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

network, file, out = sys.argv[1:]
session = onnxruntime.InferenceSession(network)
reader = pq.ParquetFile(file)
names = [name for name in reader.schema_arrow.names if name != "label"]
schema = pa.schema([("label", pa.int8()), ("probability", pa.float32())])
with pq.ParquetWriter(out, schema, compression="zstd") as writer:
    for batch in reader.iter_batches(batch_size=65536, columns=names):
        x = np.column_stack([column.to_numpy() for column in batch.columns])
        p = session.run(None, {"x": x})[0][:, 0]
        writer.write_table(pa.table([(p > 0.5).astype(np.int8), p], schema=schema))
