"""Prediction in PyTorch from a ready float32 matrix: `torch_predict.py NETWORK.npz FILE PASSES`, in
batches of 8192. Prints seconds of each pass and the log loss."""

import sys
import time

import numpy as np
import torch
from common import log_loss, matrix, report

network, file, passes = sys.argv[1:]
tensors = np.load(network)
layers = []
for i in range(len(tensors.files) // 2):
    w, b = torch.from_numpy(tensors[f"w{i}"]), torch.from_numpy(tensors[f"b{i}"])
    layer = torch.nn.Linear(*w.shape)
    layer.weight.data, layer.bias.data = w.T.contiguous(), b
    layers += [layer, torch.nn.ReLU()]
layers[-1] = torch.nn.Sigmoid()
model = torch.nn.Sequential(*layers)
values, y = matrix(file)
x = torch.from_numpy(values)
seconds = []
with torch.inference_mode():
    for _ in range(int(passes)):
        begun = time.perf_counter()
        out = [model(x[start : start + 8192]) for start in range(0, len(x), 8192)]
        seconds.append(time.perf_counter() - begun)
probability = torch.cat(out).squeeze(1).numpy()
report(seconds=seconds, rows=len(x), log_loss=log_loss(y, probability))
