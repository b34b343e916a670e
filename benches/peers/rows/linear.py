"""Linear models: 2,000,000 x 28 float32, from Parquet and from encoded rows."""

import os

from bench import ENCODED_ROW, Line, close, save_json, share, usage
from measure import Failed, Side, race, run

N = 2_000_000
FEATURES = [f"f{i}" for i in range(28)]
NUMBERS = "28 float32"


def holdout_loss(bench, model):
    rows = bench.query(f"EVALUATE MODEL {model} FROM '{bench.data('numbers-holdout', 200_000)}'")
    return rows[0]["log_loss"]


def memory_note(line):
    bound = 2.5 * N * ENCODED_ROW / 1e6
    verdict = "within" if line.peak_ours <= bound else "above"
    line.notes.append(f"peak {line.peak_ours:.0f} MB, {verdict} 2.5 x encoded ({bound:.0f} MB)")
    return line


def whole(bench, name, work, peer, threads, reads, batch, sides, passes, target, quality):
    """A line of two whole processes over the numbers."""
    ours, theirs = sides
    scan = bench.scan_seconds(bench.data("numbers", N), (*FEATURES, "label"))
    limit = scan + bench.read_seconds(passes * N * ENCODED_ROW)
    agree, text = quality
    return memory_note(
        Line(
            name, work, peer, batch, NUMBERS, threads, reads,
            ours.seconds, theirs.seconds, "s", target, text, agree=agree,
            share=f"{share(limit, ours.seconds)} of scan + {passes} reads",
            **usage(ours, theirs),
        )
    )


def descent(bench, name, epochs, program, kept, more, peer, threads, reads, batch, target, before):
    """Process start to saved model, some epochs of steps, beside a peer's program that trains into
    the file or folder `kept` (with `more` arguments), and has its loss checked by the same program."""
    file = bench.data("numbers", N)
    train = (
        f"TRAIN OR REPLACE MODEL steps USING logistic_regression TARGET label WITH (solver = 'sgd', "
        f"epochs = {epochs}, l2 = 0.0001, schedule = 'cosine', split = 'none', keep_versions = 1) "
        f"FROM '{file}'"
    )
    ours = Side(bench.shell(train))
    theirs = Side(bench.program(program, "train", file, kept, *more), before=before)
    race([ours, theirs], bench.repeat)
    holdout = bench.data("numbers-holdout", 200_000)
    loss = run(bench.program(program, "check", kept, holdout)).json["log_loss"]
    yield whole(
        bench, name, f"process to saved model, {epochs} SGD epoch{'s' if epochs > 1 else ''}", peer,
        threads, reads, batch, (ours, theirs), epochs, target,
        close("log_loss", holdout_loss(bench, "steps"), loss, 0.002),
    )


def sgd(bench):
    """Process start to saved model, 5 epochs."""
    yield from descent(
        bench, "sgd-5", 5, "sklearn_sgd.py", bench.temp("sgd.pickle"), [5],
        "scikit-learn SGDClassifier", f"{bench.cores} / 1", "pyarrow, zstd Parquet", "256 / 1", 8, None,
    )


def one_epoch(bench):
    """One epoch against ClickHouse, both as whole processes."""
    yield from descent(
        bench, "sgd-1", 1, "chdb_logistic.py", bench.temp("chdb"), [],
        "ClickHouse stochasticLogisticRegression", f"{bench.cores} / {bench.cores}",
        "chdb file(), zstd Parquet", "256 / 256", 2, lambda: bench.forget("chdb"),
    )


def converged(bench):
    """To convergence, reading included. Both end where no derivative of the mean loss is above 1e-4."""
    file = bench.data("numbers", N)
    train = (
        "TRAIN OR REPLACE MODEL exact USING logistic_regression TARGET label "
        f"WITH (tolerance = 0.0001, keep_versions = 1) FROM '{file}'"
    )
    model = bench.temp("exact.pickle")
    ours = Side(bench.shell(train))
    theirs = Side(bench.program("sklearn_logistic.py", "train", file, model))
    race([ours, theirs], bench.repeat)
    weights = [row["weight"] for row in bench.query("SELECT weight FROM model.exact.weights")]
    mine = bench.temp("exact.json")
    save_json(mine, weights)
    found = [
        run(bench.program("sklearn_logistic.py", "gradient", path, file)).json for path in (mine, model)
    ]
    steps = len(bench.query("SELECT epoch FROM model.exact.history"))
    gradients = [one["gradient"] for one in found]
    agree = all(gradient < 1e-4 for gradient in gradients)
    text = f"largest gradient {gradients[0]:.1e} / {gradients[1]:.1e} (below 1e-4)"
    line = whole(
        bench, "converge", "process to saved model, to convergence", "scikit-learn LogisticRegression",
        f"{bench.cores} / {bench.cores}", "pyarrow, zstd Parquet", "all", (ours, theirs), steps, 5,
        (agree, text),
    )
    line.notes.append(f"{steps} Newton steps")
    yield line


def full_batch(bench, name, work, file, options, tolerance, bound):
    """Process start to saved model by L-BFGS, both until no derivative is above the tolerance."""
    train = (
        f"TRAIN OR REPLACE MODEL full USING logistic_regression TARGET label WITH (solver = 'lbfgs', "
        f"tolerance = {tolerance}, keep_versions = 1{options}) FROM '{file}'"
    )
    model = bench.temp("full.pickle")
    ours = Side(bench.shell(train))
    theirs = Side(bench.program("sklearn_logistic.py", "train", file, model, tolerance))
    race([ours, theirs], bench.repeat)
    found = run(bench.program("sklearn_logistic.py", "loss", model, file)).json
    mine = bench.query(f"EVALUATE MODEL full FROM '{file}'")[0]["log_loss"]
    steps = len(bench.query("SELECT epoch FROM model.full.history"))
    agree, text = close("log_loss of the training rows", mine, found["log_loss"], bound)
    line = Line(
        name, work, "scikit-learn LogisticRegression (lbfgs)", "all", "float32",
        f"{bench.cores} / {bench.cores}", "pyarrow, zstd Parquet", ours.seconds, theirs.seconds, "s",
        2, text, agree=agree, **usage(ours, theirs),
    )
    line.notes.append(f"{steps} steps, scikit-learn's {found['steps']}")
    yield line


def wide(bench):
    """100,000 x 500 float32, two classes."""
    yield from full_batch(
        bench, "wide", "100,000 x 500 numbers to convergence, process to saved model",
        bench.data("many", 100_000), ", standardize = FALSE", 0.00001, 1e-6,
    )


def images(bench):
    """Fashion-MNIST, 784 pixels, ten classes."""
    if not bench.real_data:
        raise Failed("--data names no folder with fashion_mnist_train.parquet")
    file = os.path.join(bench.real_data, "fashion_mnist_train.parquet")
    yield from full_batch(
        bench, "images", "Fashion-MNIST, logistic regression of ten classes to convergence", file, "",
        0.0001, 1e-4,
    )


def epoch(bench):
    """An epoch over encoded rows, a core."""
    file, holdout = bench.data("numbers", N), bench.data("numbers-holdout", 200_000)
    epochs = 6
    train = (
        "TRAIN OR REPLACE MODEL epoch USING logistic_regression TARGET label WITH (solver = 'sgd', "
        f"epochs = {epochs}, l2 = 0.0001, schedule = 'cosine', split = 'none', keep_versions = 1) FROM '{file}'"
    )
    # The whole process on one core, so that nothing can be done elsewhere.
    ours = Side(
        bench.statement(train, after=f"EVALUATE MODEL epoch FROM '{holdout}'", threads=1),
        seconds=epoch_seconds(N), core=bench.core,
    )
    theirs = Side(
        bench.program("sklearn_sgd.py", "passes", file, epochs, holdout),
        seconds=lambda sample: sample.json["seconds"], core=bench.core,
    )
    race([ours, theirs], bench.repeat)
    agree, text = close(
        "log_loss", ours.last.json["after"][0]["log_loss"], theirs.last.json["log_loss"], 0.002
    )
    rate = N / ours.seconds
    limit = bench.read_seconds(N * ENCODED_ROW, cores=1)
    line = Line(
        "epoch", "encoded epoch, shuffled", "scikit-learn SGDClassifier", "256 / 1", NUMBERS, "1 / 1",
        "float32 matrix in memory", rate / 1e6, N / theirs.seconds / 1e6, "million rows/s", 15, text,
        agree=agree, share=f"{share(limit, ours.seconds)} of reading",
        **usage(ours, theirs),
    )
    line.notes.append(f"{rate * ENCODED_ROW / 1e9:.1f} GB/s of {bench.limits['read_gb_s'][0]:.1f}")
    yield line


def epoch_seconds(rows):
    """The median of the seconds of a training's epochs after the first, which lie in another order."""

    def count(sample):
        epochs = sample.json["runs"][-1]["epochs"]
        rates = sorted(one["rows_per_second"] for one in epochs[1:] or epochs)
        return rows / rates[len(rates) // 2]

    return count


ROWS = {
    "sgd-5": sgd, "sgd-1": one_epoch, "converge": converged, "wide": wide, "images": images,
    "epoch": epoch,
}
