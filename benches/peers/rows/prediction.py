"""Prediction with a network: from columns in memory, and Parquet to Parquet."""

from bench import Line, median, save_json, share, usage
from measure import Side, race, run
from rows.linear import FEATURES, N
from rows.networks import flops

HIDDEN = (64, 32)


def trained(bench):
    """The network that both sides predict with: the folder's files for peers."""
    file = bench.data("numbers", 100_000)
    run(
        bench.shell(
            "TRAIN OR REPLACE MODEL scorer USING mlp_classifier TARGET label WITH "
            f"(hidden = {list(HIDDEN)}, epochs = 3, split = 'none', keep_versions = 1) FROM '{file}'"
        )
    )
    out = bench.temp("scorer")
    for table in ("parameters", "features"):
        save_json(f"{out}.{table}.json", bench.query(f"SELECT * FROM model.scorer.{table}"))
    run(bench.program("export.py", f"{out}.parameters.json", f"{out}.features.json", out))
    return out


def in_memory(bench):
    """Through SQL, from 28 columns in memory."""
    file, network = bench.data("numbers", N), trained(bench)
    passes = 4
    ours = Side(
        bench.statement(
            "PREDICT MODEL scorer FROM rows",
            before=[f"CREATE TABLE rows AS SELECT * FROM '{file}'"],
            after="EVALUATE MODEL scorer FROM rows",
            repeat=passes,
            threads=bench.cores,
        ),
        seconds=lambda sample: median([one["seconds"] for one in sample.json["runs"][1:]]),
    )
    theirs = Side(
        bench.program("torch_predict.py", network + ".npz", file, passes),
        seconds=lambda sample: median(sample.json["seconds"][1:]),
    )
    race([ours, theirs], bench.repeat)
    losses = ours.last.json["after"][0]["log_loss"], theirs.last.json["log_loss"]
    # A third of a step's products is the forward pass.
    units = (28, *HIDDEN, 1)
    gflop = N * 2 * sum(a * b for a, b in zip(units, units[1:])) / 1e9
    assert gflop < N * flops(units) / 1e9
    yield Line(
        "predict-memory", "predict MLP 28-64-32-1 through SQL", "PyTorch", "8192", "float32",
        f"{bench.cores} / {bench.cores}", "ours 28 columns, theirs a ready matrix",
        N / ours.seconds / 1e6, N / theirs.seconds / 1e6, "million rows/s", 1.5,
        f"log_loss {losses[0]:.6f} / {losses[1]:.6f} (within 1e-5)",
        agree=abs(losses[0] - losses[1]) < 1e-5,
        share=f"{share(gflop / bench.faer(), ours.seconds)} of faer",
        **usage(ours, theirs),
    )


def files(bench):
    """Parquet to Parquet, both as whole processes."""
    file, network = bench.data("numbers", N), trained(bench)
    ours_out, theirs_out = bench.temp("ours.parquet"), bench.temp("theirs.parquet")
    # Probabilities stand the most probable first; the peer writes that of label 1.
    probability = (
        "CASE WHEN predicted_label = 1 THEN predicted_label_probs[1]['prob'] "
        "ELSE predicted_label_probs[2]['prob'] END"
    )
    copy = (
        f"COPY (SELECT f0, label, predicted_label, CAST({probability} AS REAL) AS probability "
        f"FROM (PREDICT MODEL scorer FROM '{file}')) TO '{ours_out}' STORED AS PARQUET"
    )
    ours = Side(bench.shell(copy), before=lambda: bench.forget("ours.parquet"))
    theirs = Side(bench.program("onnx_predict.py", network + ".onnx", file, theirs_out))
    race([ours, theirs], bench.repeat)
    found = run(bench.program("compare.py", ours_out, theirs_out)).json
    scan = bench.scan_seconds(file, (*FEATURES, "label"))
    yield Line(
        "predict-files", "predict MLP 28-64-32-1, Parquet to Parquet", "pyarrow + onnxruntime",
        "65536", "float32", f"{bench.cores} / {bench.cores}", "pyarrow, zstd Parquet",
        ours.seconds, theirs.seconds, "s", 3,
        f"log_loss {found['ours']:.6f} / {found['theirs']:.6f}, largest difference "
        f"{found['difference']:.0e} (below 1e-5)",
        agree=found["difference"] < 1e-5, share=f"{share(scan, ours.seconds)} of scan",
        **usage(ours, theirs),
    )


ROWS = {"predict-memory": in_memory, "predict-files": files}
