"""Our network as peers take it: `export.py PARAMETERS.json FEATURES.json OUT` writes OUT.npz and
OUT.onnx, with the standardisation folded into the first layer; OUT.onnx gives probabilities."""

import json
import sys

import numpy as np

parameters, features, out = sys.argv[1:]
with open(parameters, encoding="utf-8") as data:
    tensors = {(t["layer"], t["name"]): np.array(t["values"]).reshape(t["shape"]) for t in json.load(data)}
with open(features, encoding="utf-8") as data:
    rows = json.load(data)
center = np.array([row["center"] for row in rows])
stddev = np.array([row["stddev"] for row in rows])
layers = []
for i in range(1 + max(layer for layer, _ in tensors)):
    w, b = tensors[i, "weight"], tensors[i, "bias"]
    if i == 0:
        b = b - (center / stddev) @ w
        w = w / stddev[:, None]
    layers.append((w.astype(np.float32), b.astype(np.float32)))
np.savez(out + ".npz", **{f"{kind}{i}": t for i, pair in enumerate(layers) for kind, t in zip("wb", pair)})

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    sys.exit(0)
nodes, tensors, last = [], [], "x"
for i, (w, b) in enumerate(layers):
    tensors += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
    nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"z{i}"]))
    last = f"a{i}" if i + 1 < len(layers) else "p"
    nodes.append(helper.make_node("Relu" if last != "p" else "Sigmoid", [f"z{i}"], [last]))
graph = helper.make_graph(
    nodes,
    "network",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(center)])],
    [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
    tensors,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, out + ".onnx")
