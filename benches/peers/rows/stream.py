"""Learning from a stream: rates, and memory over time.

`Learner` runs a training on a TCP port and `producer` sends it rows; latencies are measured within
`gradlake-passes latency`, whose clock sees both ends.
"""

import contextlib
import json
import re
import subprocess
import time

from bench import Line, close, share
from measure import Failed, Side, environment, race, run, start

PORT = 19_471
FEATURES = [f"f{i}" for i in range(28)]
ROWS_OF_FILE = 2_000_000
SECONDS = 12
ARRIVED_ROW = 4 * 28 + 1


def columns():
    return ", ".join(f"{name} REAL" for name in FEATURES) + ", label TINYINT"


class Learner:
    """A shell that trains on what arrives at the port, until the producer goes."""

    def __init__(self, bench, model):
        create = (
            f"CREATE UNBOUNDED EXTERNAL TABLE arriving ({columns()}) STORED AS ARROW "
            f"LOCATION 'tcp://127.0.0.1:{PORT}' OPTIONS ('producers' '1')"
        )
        train = (
            f"TRAIN OR REPLACE MODEL {model} USING logistic_regression TARGET label "
            "WITH (publish_every = '1 second', keep_versions = 3) FROM arriving"
        )
        argv = bench.shell(create, train, options=("--format", "ndjson"))
        self.child = start(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def resident_mb(self):
        """Memory that is resident now."""
        with open(f"/proc/{self.child.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1000

    def finish(self):
        """The report rows of the training, when the producer is gone."""
        out, err = self.child.communicate(timeout=60)
        if self.child.returncode != 0:
            raise Failed(f"the training: {(err or out).strip().splitlines()[-1]}")
        return [json.loads(line) for line in out.splitlines()]


@contextlib.contextmanager
def producer(bench, *arguments):
    """Lines of a producer, as JSON while they come."""
    argv = [bench.passes, "produce", "--address", f"127.0.0.1:{PORT}", *arguments]
    child = start(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield (json.loads(line) for line in child.stdout)
    finally:
        child.kill()
        child.wait()


def rate(bench):
    """Rows a second over TCP, beside Vowpal Wabbit and River."""
    file, text_file = bench.data("numbers", ROWS_OF_FILE), bench.data("numbers-vw", ROWS_OF_FILE)
    cache = bench.temp("numbers.cache")
    logistic = ("--loss_function", "logistic", "--cache_file", cache)
    # The first run makes the cache.
    vw = Side(
        bench.program("vw.py", "-d", text_file, *logistic), seconds=lambda s: s.json["seconds"]
    )
    river = Side(
        bench.program("river_loop.py", file, 50_000), seconds=lambda s: s.json["seconds"]
    )
    rates, reports, memory = [], [], 0
    for turn in range(bench.repeat + 1):
        for side in (vw, river):
            side.take()
        learner = Learner(bench, "arrived")
        with producer(bench, "--file", file, "--seconds", SECONDS) as lines:
            for line in lines:
                if "connected" not in line and turn > 0:
                    rates.append(line["rows"] / line["seconds"])
                memory = max(memory, learner.resident_mb())
            reports = learner.finish()
    for side in (vw, river):
        side.samples.pop(0)
    rates.sort()
    ours = rates[len(rates) // 2]
    loss = next((r[key] for r in reversed(reports) for key in ("loss", "progressive_loss") if key in r), None)
    agree, text = close("log_loss", loss, vw.last.json["log_loss"], 0.005)
    bytes_a_second = ours * ARRIVED_ROW
    for peer, side, n, target, reads, threads in (
        ("Vowpal Wabbit", vw, ROWS_OF_FILE, 3, "its cache file", "2 / 2"),
        ("River learn_one", river, 50_000, 15, "dictionaries in memory", "2 / 1"),
    ):
        theirs = n / side.seconds
        yield Line(
            "stream", "Arrow stream over TCP, producer beside, publishing every second", peer,
            "1 / 1" if peer.startswith("River") else "default / 1", "28 float32", threads, reads,
            ours / 1e6, theirs / 1e6, "million rows/s", target,
            text if side is vw else "(as above)", agree=agree,
            share=f"{share(1.0, 1 / (bytes_a_second / 1e9 / bench.limits['read_gb_s'][0]))} of reading",
            peak_ours=memory, peak_theirs=side.peak_mb, spread=max(rates) / min(rates),
        )


def memory(bench):
    """Resident memory from row 10 million to row 100 million."""
    file = bench.data("numbers", ROWS_OF_FILE)
    learner = Learner(bench, "long")
    seen = {}
    marks = (10_000_000, 100_000_000)
    with producer(
        bench, "--file", file, "--rows", marks[1] + 1, "--marks", ",".join(map(str, marks))
    ) as lines:
        for line in lines:
            if "mark" in line:
                seen[line["mark"]] = learner.resident_mb()
    learner.finish()
    first, last = (value for _, value in sorted(seen.items()))
    yield Line(
        "stream-memory", "resident memory at row 100 million over row 10 million", "itself + 50 MB", "",
        "28 float32", "2", "Arrow stream over TCP", last, first + 50, "MB", 1.0,
        f"{first:.0f} MB, then {last:.0f} MB", at_most=True,
    )


def latency(bench):
    """From the arrival of a row to a prediction by a model that has learned it, 10,000 rows a second."""
    file = bench.data("numbers", 100_000)
    for name, where, more, most in (
        ("latency-revisions", "same process", ("--publish-every", "1 hour"), 0.05),
        ("latency-versions", "another process", ("--shell", bench.gradlake), 1.5),
    ):
        argv = [bench.passes, "latency", "--warehouse", bench.temp("warehouse"), "--file", file, *more]
        found = [run(argv).json for _ in range(bench.repeat)]
        p99 = sorted(one["p99_ms"] for one in found)
        median = sorted(one["p50_ms"] for one in found)
        ours = p99[len(p99) // 2] / 1000
        yield Line(
            name, f"arrival to a prediction that knows the row, p99, {where}", "the bound", "256",
            "28 float32", "2", "Arrow stream over TCP", ours, most, "s", 1.0,
            f"p50 {median[len(median) // 2]:.1f} ms", at_most=True, spread=p99[-1] / p99[0],
        )


ROWS = {"stream": rate, "stream-memory": memory, "latency": latency}
