"""Clusters and components: 2,000,000 x 28 float32, from Parquet to a saved model."""

from bench import Line, close, share, usage
from measure import Side, race
from rows.linear import FEATURES, N, NUMBERS

CLUSTERS, ITERATIONS = 100, 10
COMPONENTS = 10


def whole(bench, name, work, peer, train, program, gflop, target, quality):
    """A line of two whole processes over the numbers; `quality` compares what both found, given the
    peer's last report. At least the columns are read and `gflop` of products taken."""
    file = bench.data("numbers", N)
    ours = Side(bench.shell(f"{train} FROM '{file}'"))
    theirs = Side(program(file))
    race([ours, theirs], bench.repeat)
    agree, text = quality(file, theirs.last.json)
    limit = bench.scan_seconds(file, tuple(FEATURES)) + gflop / bench.faer()
    return Line(
        name, work, peer, "all", NUMBERS, f"{bench.cores} / {bench.cores}", "pyarrow, zstd Parquet",
        ours.seconds, theirs.seconds, "s", target, text, agree=agree,
        share=f"{share(limit, ours.seconds)} of scan + products by faer", **usage(ours, theirs),
    )


def kmeans(bench):
    """100 clusters, 10 rounds of Lloyd from rows chosen at random."""
    train = (
        f"TRAIN OR REPLACE MODEL clusters USING kmeans FEATURES ({', '.join(FEATURES)}) "
        f"WITH (k = {CLUSTERS}, epochs = {ITERATIONS}, init = 'random', tolerance = 0, "
        "standardize = FALSE, keep_versions = 1)"
    )

    def program(file):
        return bench.program("sklearn_kmeans.py", file, bench.temp("kmeans.pickle"), CLUSTERS, ITERATIONS)

    steps = []

    def quality(file, found):
        mine = bench.query(f"EVALUATE MODEL clusters FROM '{file}'")[0]["mean_squared_distance"]
        steps.extend((len(bench.query("SELECT epoch FROM model.clusters.history")), found["steps"]))
        # Each begins with rows of its own: after ten rounds starts differ by less than a
        # thousandth.
        return close("loss (mean squared distance)", mine, found["loss"], 0.002 * found["loss"])

    line = whole(
        bench, "kmeans", f"process to saved model, {CLUSTERS} clusters, {ITERATIONS} rounds",
        "scikit-learn KMeans", train, program, N * 2 * len(FEATURES) * CLUSTERS * ITERATIONS / 1e9, 2,
        quality,
    )
    line.notes.append(f"{steps[0]} rounds, scikit-learn's {steps[1]}")
    yield line


def pca(bench):
    """10 principal components."""
    train = (
        f"TRAIN OR REPLACE MODEL axes USING pca FEATURES ({', '.join(FEATURES)}) "
        f"WITH (components = {COMPONENTS}, standardize = FALSE, keep_versions = 1)"
    )

    def program(file):
        return bench.program("sklearn_pca.py", file, bench.temp("pca.pickle"), COMPONENTS)

    def quality(_, found):
        mine = bench.query(
            "SELECT max(cumulative_explained_variance_ratio) AS explained FROM model.axes.component_info"
        )
        return close("explained variance", mine[0]["explained"], found["explained"], 1e-5)

    yield whole(
        bench, "pca", f"process to saved model, {COMPONENTS} components", "scikit-learn PCA", train,
        program, N * len(FEATURES) * (len(FEATURES) + 1) / 1e9, 2, quality,
    )


ROWS = {"kmeans": kmeans, "pca": pca}
