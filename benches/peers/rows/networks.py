"""Networks: rows of matrices in memory a second, epochs after the first."""

import os

from bench import Line, close, median, share, usage
from measure import Failed, Side, race, run
from rows.linear import epoch_seconds


def flops(units):
    """Floating-point operations of a training step a row: forward, backward by weights and by inputs,
    the last not for the first layer."""
    sizes = [a * b for a, b in zip(units, units[1:])]
    return 6 * sum(sizes) - 2 * sizes[0]


def torch_seconds(sample):
    seconds = sample.json["seconds"]
    return median(seconds[1:] or seconds)


def network(bench, name, hidden, rows, peers, target, epochs=3, rate=0.001, tolerance=0.005):
    file, holdout = bench.data("numbers", rows), bench.data("numbers-holdout", 200_000)
    units = ",".join(str(u) for u in hidden)
    train = (
        f"TRAIN OR REPLACE MODEL net USING mlp_classifier TARGET label WITH (hidden = {list(hidden)}, "
        f"optimizer = 'adam', batch_size = 256, epochs = {epochs}, learning_rate = {rate}, "
        f"split = 'none', keep_versions = 1) FROM '{file}'"
    )
    ours = Side(
        bench.statement(
            train, after=f"EVALUATE MODEL net FROM '{holdout}'", threads=bench.cores
        ),
        seconds=epoch_seconds(rows),
    )
    programs = {"PyTorch": "torch_mlp.py", "scikit-learn MLPClassifier": "sklearn_mlp.py"}
    sides = {
        peer: Side(
            bench.program(programs[peer], file, holdout, units, 256, epochs, rate),
            seconds=torch_seconds,
        )
        for peer in peers
    }
    race([ours, *sides.values()], bench.repeat)
    layers = (28, *hidden, 1)
    gflop = rows * flops(layers) / 1e9
    products = run(
        [bench.passes, "limits", "--threads", bench.cores, "--batch", 256]
        + ["--layers", ",".join(str(u) for u in layers)]
    ).json["faer_gflop_s"]
    for peer, theirs in sides.items():
        agree, text = close(
            "log_loss", ours.last.json["after"][0]["log_loss"], theirs.last.json["log_loss"], tolerance
        )
        line = Line(
            name, f"MLP 28-{'-'.join(map(str, hidden))}-1, adam, an epoch", peer, "256", "float32",
            f"{bench.cores} / {bench.cores}", "float32 matrix in memory",
            rows / ours.seconds / 1e6, rows / theirs.seconds / 1e6, "million rows/s", target, text,
            agree=agree, share=f"{share(gflop / bench.faer(), ours.seconds)} of faer",
            **usage(ours, theirs),
        )
        own = gflop / ours.seconds
        line.notes.append(
            f"{own:.0f} GFLOP/s; the same products alone: {products[0]:.0f} on one core, "
            f"{products[1]:.0f} on {bench.cores} ({100 * own / max(products):.0f} %); peer "
            f"{gflop / theirs.seconds:.0f}"
        )
        yield line


def small(bench):
    """28-64-32-1."""
    peers = ["PyTorch", "scikit-learn MLPClassifier"]
    yield from network(bench, "mlp-small", (64, 32), 1_000_000, peers, 8)


def middle(bench):
    """28-256-128-1."""
    yield from network(bench, "mlp-middle", (256, 128), 500_000, ["PyTorch"], 4)


def large(bench):
    """28-1024-1024-1."""
    # A million parameters on 100,000 rows overfit, each from other initial weights.
    peers = ["PyTorch"]
    yield from network(
        bench, "mlp-wide", (1024, 1024), 100_000, peers, 2, epochs=2, tolerance=0.01
    )


def fashion(bench):
    """Fashion-MNIST, 256-128-100."""
    if not bench.real_data:
        raise Failed("--data names no folder with fashion_mnist_train.parquet")
    file, holdout = (
        os.path.join(bench.real_data, f"fashion_mnist_{part}.parquet") for part in ("train", "test")
    )
    if not os.path.exists(file):
        raise Failed(f"there is no {file}")
    hidden, rows, epochs = (256, 128, 100), 60_000, 3
    train = (
        f"TRAIN OR REPLACE MODEL fashion USING mlp_classifier TARGET label WITH (hidden = {list(hidden)}, "
        f"optimizer = 'adam', epochs = {epochs}, split = 'none', keep_versions = 1) FROM '{file}'"
    )
    ours = Side(
        bench.statement(train, after=f"EVALUATE MODEL fashion FROM '{holdout}'", threads=bench.cores),
        seconds=epoch_seconds(rows),
    )
    theirs = Side(
        bench.program("torch_mlp.py", file, holdout, "256,128,100", 128, epochs, 0.001),
        seconds=torch_seconds,
    )
    race([ours, theirs], bench.repeat)
    agree, text = close(
        "log_loss", ours.last.json["after"][0]["log_loss"], theirs.last.json["log_loss"], 0.05
    )
    gflop = rows * flops((784, *hidden, 10)) / 1e9
    yield Line(
        "fashion", "Fashion-MNIST, MLP 256-128-100, an epoch", "PyTorch", "128", "uint8 to float32",
        f"{bench.cores} / {bench.cores}", "float32 matrix in memory",
        ours.seconds, theirs.seconds, "s", 3, text, agree=agree,
        share=f"{share(gflop / bench.faer(), ours.seconds)} of faer",
        **usage(ours, theirs),
    )


ROWS = {"mlp-small": small, "mlp-middle": middle, "mlp-wide": large, "fashion": fashion}
