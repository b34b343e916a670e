"""Milliseconds a step (forward, backward) of the networks of src/network/tests/speed.rs in PyTorch.

    python speed.py
"""

import time

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        self.short = nn.Identity() if before == after else nn.Conv2d(before, after, 1, stride)

    def forward(self, x):
        return torch.relu(self.short(x) + self.inner(x))


class Last(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)[1][0]


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64) * 0.02)

    def forward(self, x):
        return x + self.weight


image = lambda *shape: lambda: torch.randn(128, *shape)
NETWORKS = {
    "cnn": (image(1, 28, 28), nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))),
    "resnet": (image(3, 32, 32), nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Block(32, 32, 1), Block(32, 64, 2),
        Block(64, 128, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))),
    "gru": (lambda: torch.randn(64, 128, 6), nn.Sequential(Last(nn.GRU(6, 64, batch_first=True)), nn.Linear(64, 10))),
    "transformer": (lambda: torch.randint(20_000, (64, 64)), nn.Sequential(
        nn.Embedding(20_000, 64), Positions(), nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True), Mean(),
        nn.Linear(64, 10))),
    "text": (lambda: torch.randint(20_000, (64, 64)), nn.Sequential(
        nn.Embedding(20_000, 64), Mean(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))),
}

for name, (make, net) in NETWORKS.items():
    for last in [False, True] if name in ("cnn", "resnet") else [False]:
        x = make()
        y = torch.arange(len(x)) % 10
        if last:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        for threads in [1, 2]:
            torch.set_num_threads(threads)
            best = [1e9, 1e9]
            for _ in range(20):
                net.train()
                start = time.perf_counter()
                for p in net.parameters():
                    p.grad = None
                nn.functional.cross_entropy(net(x), y).backward()
                best[0] = min(best[0], time.perf_counter() - start)
                net.eval()
                start = time.perf_counter()
                with torch.inference_mode():
                    net(x if name != "gru" else x)
                best[1] = min(best[1], time.perf_counter() - start)
            kind = " channels_last" if last else ""
            print(f"{name}{kind}, {threads} threads: gradient {best[0] * 1e3:.2f} ms, scores {best[1] * 1e3:.2f} ms")
