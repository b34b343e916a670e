"""Parquet to Parquet with pyarrow and onnxruntime: `onnx_predict.py NETWORK.onnx FILE OUT`. Writes f0,
the label, the predicted one, and the probability of label 1."""

import sys

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

network, file, out = sys.argv[1:]
session = onnxruntime.InferenceSession(network)
reader = pq.ParquetFile(file)
names = [name for name in reader.schema_arrow.names if name != "label"]
kinds = {"f0": pa.float32(), "label": pa.int8(), "predicted": pa.int8(), "probability": pa.float32()}
schema = pa.schema(kinds)
with pq.ParquetWriter(out, schema, compression="zstd") as writer:
    for batch in reader.iter_batches(batch_size=65536):
        x = np.column_stack([batch[name].to_numpy() for name in names])
        p = session.run(None, {"x": x})[0][:, 0]
        writer.write_table(pa.table([batch["f0"], batch["label"], (p > 0.5).astype(np.int8), p], schema=schema))
