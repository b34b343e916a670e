"""Training of five small networks step by step, from PyTorch 2.15 in float64.

    python networks.py        writes networks.json beside this script, read by src/network/tests/training.rs

40 rows in mini-batches of 8 that run on from the last row to the first. After 1, 10 and 50 steps:
the mean loss of all rows as they are scored, and of every value in the flat parameters a checksum
by pieces of 16: the sum of the values times the formula `value`.

Adam has an epsilon of 1e-4: where a gradient is 0 but for rounding (the keys' bias of an attention),
a small one would make steps of the rounding.
"""

import json
from pathlib import Path

import numpy as np
import torch

from layers import Net, case, categories, data, layer, losses, numbers, parameters, short, tokens, value

ROWS, BATCH, MARKS, PIECE = 40, 8, (1, 10, 50), 16


def networks():
    conv = lambda filters, **named: layer("conv", filters, 3, padding="same", bias=False, **named)
    yield case("conv net", [numbers(8, 8, 1)], [
        conv(4), layer("batch_norm"), layer("relu"), layer("max_pool", 2),
        conv(6), layer("batch_norm"), layer("relu"), layer("max_pool", 2),
        layer("flatten"), layer("dense", 8), layer("relu")], outputs=3, loss="softmax")
    block = lambda filters, **named: layer("residual", layers=[
        conv(filters, **named), layer("batch_norm"), layer("silu"), conv(filters), layer("batch_norm")])
    yield case("residual net", [numbers(6, 6, 3)], [
        conv(4), layer("batch_norm"), layer("silu"), block(4), layer("silu"), block(6, stride=2),
        layer("silu"), layer("global_avg_pool")], outputs=3, loss="softmax")
    yield case("gru", [numbers(6, 3, length=0)], [
        layer("gru", 5, bidirectional=True, states="all"), layer("gru", 4)], outputs=3, loss="softmax")
    yield case("transformer", [tokens(6, 11, offset=1, length=0)], [
        layer("embedding", 8), layer("positional_embedding"),
        layer("transformer", 2, 12, dropout=0, activation="gelu"), layer("global_avg_pool")],
        outputs=3, loss="softmax")
    yield case(
        "several inputs", [numbers(3), categories(4, 3, offset=7), numbers(5, 5, 1, offset=3), tokens(6, 9, offset=1, length=0)],
        [layer("concat"), layer("layer_norm"), layer("dense", 8), layer("gelu")], [
            {"input": 0, "layers": [layer("dense", 4), layer("elu")]},
            {"input": 1, "layers": [layer("embedding", [3, 2])]},
            {"input": 2, "layers": [layer("conv", 3, 3), layer("leaky_relu"), layer("avg_pool", 2), layer("flatten")]},
            {"input": 3, "layers": [layer("embedding", 4), layer("lstm", 3)]}], outputs=2)


def checksums(flat):
    flat = flat.detach().numpy()
    n = -(-len(flat) // PIECE) * PIECE
    products = np.zeros(n)
    products[:len(flat)] = flat * value(5, len(flat))
    return short(products.reshape(-1, PIECE).sum(1), 7)


def train(own, name, rate):
    dense, codes, label = data(own, ROWS)
    label = np.asarray(label).reshape(ROWS, -1)
    start = parameters(own, dense, codes)
    flat = torch.tensor(start, requires_grad=True)
    make = {"sgd": torch.optim.SGD, "adam": lambda p, lr: torch.optim.Adam(p, lr, eps=1e-4)}
    optimizer = make[name]([flat], lr=rate)
    found = []
    for step in range(1, MARKS[-1] + 1):
        rows = np.array([((step - 1) * BATCH + i) % ROWS for i in range(BATCH)])
        optimizer.zero_grad()
        net = Net(flat, True)
        z = net.forward(own, dense[rows], codes[rows])
        losses(own, z, label[rows].ravel()).mean().backward()
        optimizer.step()
        with torch.no_grad():
            for at, values in net.statistics.items():
                flat[at:at + len(values)] = values
            if step in MARKS:
                z = Net(flat, False).forward(own, dense, codes)
                loss = losses(own, z, label.ravel()).mean().item()
                found.append({"loss": float(f"{loss:.8g}"), "checksums": checksums(flat)})
    return {"optimizer": name, "rate": rate, "marks": found}


if __name__ == "__main__":
    lines = []
    for own in networks():
        dense, codes, label = data(own, ROWS)
        trainings = [train(own, "sgd", 0.05), train(own, "adam", 0.01)]
        own |= {"codes": codes.ravel().tolist(), "label": [float(f"{v:.8g}") for v in label], "trainings": trainings}
        lines.append(json.dumps(own, separators=(",", ":")))
    Path(__file__).with_suffix(".json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
