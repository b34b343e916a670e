"""A network in PyTorch: `torch_mlp.py FILE HOLDOUT HIDDEN BATCH EPOCHS RATE`. FILE is numbers with a
binary label, or Fashion-MNIST. Prints seconds of each epoch over a matrix in memory, shuffled."""

import sys
import time

import numpy as np
import pyarrow.parquet as pq
import torch
from common import log_loss, matrix, report

file, holdout, hidden, batch, epochs, rate = sys.argv[1:]
batch, epochs = int(batch), int(epochs)


def read(path):
    schema = pq.read_schema(path)
    if "image" not in schema.names:
        x, y = matrix(path)
        return torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)), 1
    table = pq.read_table(path)
    pixels = table["image"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    x = pixels.astype(np.float32) / 255
    return torch.from_numpy(x), torch.from_numpy(table["label"].to_numpy().astype(np.int64)), 10


torch.manual_seed(0)
x, y, outputs = read(file)
layers, inputs = [], x.shape[1]
for units in hidden.split(","):
    layers += [torch.nn.Linear(inputs, int(units)), torch.nn.ReLU()]
    inputs = int(units)
model = torch.nn.Sequential(*layers, torch.nn.Linear(inputs, outputs))
# `fused`: one kernel for all parameters, twice as fast as the default on small networks.
optimizer = torch.optim.Adam(model.parameters(), lr=float(rate), fused=True)
binary = outputs == 1
loss_of = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()
seconds = []
for _ in range(epochs):
    begun = time.perf_counter()
    order = torch.randperm(len(x))
    for start in range(0, len(x), batch):
        rows = order[start : start + batch]
        optimizer.zero_grad()
        z = model(x[rows])
        loss = loss_of(z.squeeze(1) if binary else z, y[rows])
        loss.backward()
        optimizer.step()
    seconds.append(time.perf_counter() - begun)
x, y, _ = read(holdout)
with torch.inference_mode():
    z = model(x)
    if binary:
        loss = log_loss(y.numpy(), torch.sigmoid(z.squeeze(1)).numpy())
    else:
        loss = float(loss_of(z, y))
report(seconds=seconds, rows=len(order), log_loss=loss, threads=torch.get_num_threads())
