"""What rows of the table are made with: data, programs, limits of the machine."""

import functools
import json
import os
import shutil
import statistics
import sys
from dataclasses import dataclass, field

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
# A training of the numbers: 28 float32, label and weight of a row as our encoder holds them.
ENCODED_ROW = 4 * (28 + 2)


@dataclass
class Line:
    """One row of the table against one peer."""

    row: str
    work: str
    peer: str
    batch: str
    dtype: str
    threads: str
    reads: str
    ours: float
    theirs: float
    unit: str
    target: float
    quality: str
    # Times faster than the peer must be at least the target; a cost, at most.
    at_most: bool = False
    agree: bool = True
    share: str = ""
    peak_ours: float = None
    peak_theirs: float = None
    cores_ours: float = None
    cores_theirs: float = None
    spread: float = None
    notes: list = field(default_factory=list)

    @property
    def ratio(self):
        """How many times faster we are; of costs, how many times as much."""
        if self.unit.endswith("/s"):
            return self.ours / self.theirs
        return self.ours / self.theirs if self.at_most else self.theirs / self.ours

    @property
    def met(self):
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


class Bench:
    """One run of the benchmarks."""

    def __init__(self, repeat, data):
        self.repeat = repeat
        self.real_data = data
        self.cache = os.environ["GRADLAKE_PEERS_CACHE"]
        self.gradlake = os.environ["GRADLAKE"]
        self.passes = os.path.join(os.path.dirname(self.gradlake), "gradlake-passes")
        self.cores = len(os.sched_getaffinity(0))
        self.core = min(os.sched_getaffinity(0))
        self.scratch = os.path.join(self.cache, "scratch")
        shutil.rmtree(self.scratch, ignore_errors=True)
        os.makedirs(self.scratch)

    # Data and programs.

    def data(self, kind, rows):
        """A file of so many rows, made when it is first asked for."""
        ending = "vw" if kind.endswith("-vw") else "parquet"
        with open(os.path.join(HERE, "data.py"), encoding="utf-8") as source:
            stamp = f"{hash_of(source.read())}"
        folder = os.path.join(self.cache, "data", stamp)
        path = os.path.join(folder, f"{kind}_{rows}.{ending}")
        if not os.path.exists(path):
            say(f"making {os.path.basename(path)}")
            os.makedirs(folder, exist_ok=True)
            measure.run([sys.executable, os.path.join(HERE, "data.py"), kind, path, rows])
        return path

    def temp(self, name):
        return os.path.join(self.scratch, name)

    def forget(self, name):
        """Removes a file or folder of the scratch."""
        path = self.temp(name)
        shutil.rmtree(path, ignore_errors=True)
        if os.path.isfile(path):
            os.remove(path)

    def program(self, name, *arguments):
        """A program of a peer."""
        return [sys.executable, os.path.join(HERE, "programs", name), *arguments]

    def shell(self, *statements, options=()):
        """Our shell as a user runs it."""
        commands = [part for sql in statements for part in ("-c", sql)]
        return [self.gradlake, "-q", "--warehouse", self.temp("warehouse"), *options, *commands]

    def statement(self, sql, before=(), after=None, repeat=1, threads=None):
        """A statement in a session of ours, timed within the process."""
        argv = [self.passes, "statement", "--warehouse", self.temp("warehouse"), "--sql", sql]
        argv += [part for text in before for part in ("--before", text)]
        argv += ["--after", after] if after else []
        argv += ["--threads", str(threads)] if threads else []
        return [*argv, "--repeat", str(repeat)]

    def query(self, sql):
        """The rows of a query on our warehouse."""
        return measure.run(self.shell(sql, options=("--format", "json"))).json

    # Limits of the machine, measured in the same run.

    @functools.cached_property
    def limits(self):
        say("measuring the machine")
        return measure.run([self.passes, "limits", "--threads", self.cores]).json

    def read_seconds(self, bytes_, cores=None):
        """Seconds to read so many bytes from memory."""
        one, all_ = self.limits["read_gb_s"]
        return bytes_ / 1e9 / (one if cores == 1 else all_)

    def faer(self, cores=None):
        """GFLOP/s of large square products."""
        one, all_ = self.limits["faer_gflop_s"]
        return one if cores == 1 else all_

    @functools.cache
    def scan_seconds(self, path, columns):
        """Seconds of a process that sums every column of a Parquet file."""
        sums = ", ".join(f"sum({name})" for name in columns)
        side = measure.Side(self.shell(f"SELECT {sums} FROM '{path}'"))
        measure.race([side], 3)
        return side.seconds


def hash_of(text):
    import zlib

    return f"{zlib.crc32(text.encode()):08x}"


def say(text):
    load = os.getloadavg()[0]
    print(f"[load {load:.1f}] {text}", file=sys.stderr, flush=True)


def share(limit_seconds, seconds):
    """Our share of a limit."""
    return f"{100 * limit_seconds / seconds:.0f} %"


def close(name, ours, theirs, tolerance):
    """Whether two figures agree, and how to say so. Better than the peer is agreement too for a loss
    that falls: only a worse model would make a speed worthless."""
    worse = ours - theirs if "loss" in name else theirs - ours
    return worse <= tolerance, f"{name} {ours:.4f} / {theirs:.4f} (within {tolerance:g})"


def usage(ours, theirs):
    """What a line says of its two sides beside their times."""
    return {
        "peak_ours": ours.peak_mb,
        "peak_theirs": theirs.peak_mb,
        "cores_ours": ours.cores,
        "cores_theirs": theirs.cores,
        "spread": max(ours.spread, theirs.spread),
    }


def median(values):
    return statistics.median(values)


def load_json(path):
    with open(path, encoding="utf-8") as data:
        return json.load(data)


def save_json(path, value):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(value, out)
