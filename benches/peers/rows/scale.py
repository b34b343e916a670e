"""Many models, many categories, more rows, little memory, little work."""

from bench import ENCODED_ROW, Line, close, share, usage
from measure import Side, race, run
from rows.linear import FEATURES, N, epoch_seconds

SGD = "USING logistic_regression TARGET label WITH (solver = 'sgd', split = 'none', keep_versions = 1"


def groups(bench):
    """10,000 models, each to a derivative of at most 1e-4 of its mean loss."""
    file = bench.data("groups", 2_000_000)
    model = bench.temp("groups.pickle")
    ours = Side(
        bench.shell(
            "TRAIN OR REPLACE MODEL many USING logistic_regression TARGET label PARTITION BY g "
            f"WITH (standardize = FALSE, tolerance = 0.0001, keep_versions = 1) FROM '{file}'"
        )
    )
    theirs = Side(bench.program("sklearn_groups.py", file, model))
    race([ours, theirs], bench.repeat)
    # Groups have as many rows each, so the mean of their losses is that of all rows.
    loss = bench.query(
        "SELECT avg(loss) AS loss FROM (SELECT g, last_value(loss ORDER BY epoch) AS loss "
        "FROM model.many.history GROUP BY g)"
    )
    agree, text = close("log_loss", loss[0]["loss"], theirs.last.json["log_loss"], 1e-4)
    scan = bench.scan_seconds(file, ("g", *FEATURES[:10], "label"))
    yield Line(
        "groups", "10,000 groups x 200 rows x 10 features", "scikit-learn loop", "all", "float32",
        f"{bench.cores} / {bench.cores}", "pyarrow, zstd Parquet", ours.seconds, theirs.seconds, "s", 50,
        text, agree=agree, share=f"{share(scan, ours.seconds)} of scan",
        **usage(ours, theirs),
    )


def sparse(bench):
    """1,000,000 categories in 20 columns."""
    rows = 1_000_000
    file, text_file = bench.data("wide", rows), bench.data("wide-vw", rows)
    holdout, text_holdout = bench.data("wide-holdout", 100_000), bench.data("wide-holdout-vw", 100_000)
    # As Vowpal Wabbit, whose default rates are adaptive too.
    ours = Side(
        bench.shell(
            "TRAIN OR REPLACE MODEL wide USING logistic_regression TARGET label WITH (solver = 'sgd', "
            "optimizer = 'adagrad', learning_rate = 0.1, epochs = 1, l2 = 0, split = 'none', "
            f"keep_versions = 1) FROM '{file}'"
        )
    )
    vw_model, hashed = bench.temp("wide.vw"), bench.temp("wide.pickle")
    vw = Side(
        bench.program("vw.py", "-d", text_file, "--loss_function", "logistic", "-b", 22, "-f", vw_model)
    )
    hasher = Side(bench.program("sklearn_hasher.py", file, hashed))
    race([ours, vw, hasher], bench.repeat)
    auc = bench.query(f"EVALUATE MODEL wide FROM '{holdout}'")[0]["roc_auc"]
    aucs = [
        run(bench.program("vw_check.py", vw_model, text_holdout)).json["roc_auc"],
        run(bench.program("sklearn_hasher.py", "check", hashed, holdout)).json["roc_auc"],
    ]
    scan = bench.scan_seconds(file, ("label", *(f"length(c{i})" for i in range(20))))
    peers = [("Vowpal Wabbit", "its text file", "2 / 2"), ("scikit-learn FeatureHasher", "pyarrow", "2 / 1")]
    for (peer, reads, threads), side, theirs in zip(peers, (vw, hasher), aucs):
        agree, text = close("roc_auc", auc, theirs, 0.01)
        yield Line(
            "sparse", "20 string columns, 1,000,000 categories, 1 epoch", peer, "256 / 1", "strings",
            threads, reads, ours.seconds, side.seconds, "s", 3, text, agree=agree,
            share=f"{share(scan, ours.seconds)} of scan",
            **usage(ours, side),
        )


def spill(bench):
    """Four times the memory limit."""
    rows = 10_000_000
    file = bench.data("numbers", rows)
    limit = rows * ENCODED_ROW // 4
    train = f"TRAIN OR REPLACE MODEL big {SGD}, epochs = 5) FROM '{file}'"
    inside = Side(bench.shell(train))
    beyond = Side(bench.shell(train, options=("--memory-limit", f"{limit // 1_000_000}MB")))
    race([inside, beyond], bench.repeat)
    yield Line(
        "spill", "data 4 x the memory limit, 5 epochs", "the same run in memory", "256", "28 float32",
        f"{bench.cores}", "zstd Parquet, spilled to the temporary folder", beyond.seconds, inside.seconds,
        "s", 2.5, f"the limit is {limit / 1e6:.0f} MB", at_most=True,
        **usage(beyond, inside),
    )


def double(bench):
    """Twice the rows."""
    once, twice = (bench.data("numbers", n) for n in (N, 2 * N))
    sides = [
        Side(bench.shell(f"TRAIN OR REPLACE MODEL size {SGD}, epochs = 5) FROM '{file}'"))
        for file in (twice, once)
    ]
    race(sides, bench.repeat)
    yield Line(
        "double", "the first job with its rows doubled", "itself", "256", "28 float32",
        f"{bench.cores}", "zstd Parquet", sides[0].seconds, sides[1].seconds, "s", 2.1, "", at_most=True,
        **usage(sides[0], sides[1]),
    )


def replicas(bench):
    """Two replicas on two cores against one on one."""
    file, holdout = bench.data("numbers", N), bench.data("numbers-holdout", 200_000)
    evaluate = f"EVALUATE MODEL copies FROM '{holdout}'"

    def side(n, core):
        train = f"TRAIN OR REPLACE MODEL copies {SGD}, epochs = 6, replicas = {n}) FROM '{file}'"
        argv = bench.statement(train, after=evaluate, threads=n)
        return Side(argv, seconds=epoch_seconds(N), core=core)

    two, one = side(2, None), side(1, bench.core)
    race([two, one], bench.repeat)
    losses = [s.last.json["after"][0]["log_loss"] for s in (two, one)]
    agree, text = close("log_loss", *losses, 0.002)
    yield Line(
        "replicas", "an epoch of two replicas on two cores", "one on one", "256", "28 float32", "2 / 1",
        "encoded rows in memory", N / two.seconds / 1e6, N / one.seconds / 1e6, "million rows/s", 1.85,
        text, agree=agree, **usage(two, one),
        share=f"{share(bench.read_seconds(N * ENCODED_ROW), two.seconds)} of reading",
    )


WIDTHS = (1_000, 2_000, 5_000, 10_000)


def wide_table(bench):
    """TRAIN, PREDICT and EVALUATE of 1,000 to 10,000 columns."""
    files = {}
    for width in WIDTHS:
        files[width] = bench.temp(f"wide_{width}.csv")
        with open(files[width], "w", encoding="utf-8") as out:
            out.write(",".join(f"c{i}" for i in range(width)) + ",y\n")
            for row in range(50):
                out.write(",".join(str((7 * row + 13 * i) % 11) for i in range(width)) + f",{row}.5\n")
    statements = {
        "TRAIN": "TRAIN OR REPLACE MODEL wide_{0} USING linear_regression TARGET y "
        "WITH (epochs = 1, keep_versions = 1) FROM '{1}'",
        "PREDICT": "SELECT count(predicted_y) FROM (PREDICT MODEL wide_{0} FROM '{1}')",
        "EVALUATE": "EVALUATE MODEL wide_{0} FROM '{1}'",
    }
    for verb, sql in statements.items():
        sides = [Side(bench.shell(sql.format(width, files[width]))) for width in WIDTHS]
        race(sides, bench.repeat)
        times = " / ".join(f"{side.seconds:.2f}" for side in sides)
        # With the square of the columns it would be a hundred times.
        yield Line(
            "wide-table", f"{verb} of 10,000 columns, 50 rows", "itself of 1,000", "", "whole numbers",
            f"{bench.cores}", "CSV", sides[-1].seconds, sides[0].seconds, "s", 12,
            f"{times} s of {' / '.join(f'{width:,}' for width in WIDTHS)} columns", at_most=True,
            agree=sides[-1].seconds <= 3,
            **usage(sides[-1], sides[0]),
        )


def start(bench):
    """The least that a process costs."""
    side = Side(bench.shell("SELECT 1"))
    race([side], 4 * bench.repeat)
    yield Line(
        "start", "gradlake -c 'SELECT 1'", "30 ms", "", "", "", "", side.seconds, 0.030, "s", 1.0, "",
        at_most=True, peak_ours=side.peak_mb, spread=side.spread,
    )


ROWS = {
    "groups": groups, "sparse": sparse, "spill": spill, "double": double, "replicas": replicas,
    "wide-table": wide_table, "start": start,
}
