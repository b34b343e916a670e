"""Children of a run: their wall time, peak memory and what they print. Keeps to the standard library:
what this process holds would be counted as the least that a child holds."""

import json
import os
import statistics
import subprocess
import tempfile
import time


class Failed(Exception):
    """A child that failed, or a peer that is not there."""


class Sample:
    """One run of a child."""

    def __init__(self, seconds, peak_mb, cores, text):
        self.seconds = seconds
        self.peak_mb = peak_mb
        # Seconds of all its threads over those of the clock.
        self.cores = cores
        self.text = text

    @property
    def json(self):
        """The last line that it printed, as JSON."""
        return json.loads(self.text.strip().splitlines()[-1])


def environment():
    # The shell gives freed memory back at once; programs on the library do so when told.
    return {**os.environ, "MIMALLOC_PURGE_DELAY": "0", "PYTHONWARNINGS": "ignore"}


def start(argv, core=None, **options):
    """Starts a child, on one core where that is given."""
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    return subprocess.Popen(
        [str(a) for a in argv], preexec_fn=pin, env=environment(), **options
    )


def run(argv, core=None, cwd=None):
    """Runs a child to its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.perf_counter()
        child = start(argv, core, stdout=out, stderr=err, cwd=cwd)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            message = (err.read() or out.read()).strip().splitlines()[-1:] or ["no message"]
            raise Failed(f"{os.path.basename(str(argv[0]))} {argv[1]}: {message[0]}")
        cores = (usage.ru_utime + usage.ru_stime) / seconds
        return Sample(seconds, usage.ru_maxrss / 1000, cores, out.read())


class Side:
    """One side of a row: how to run it, and which seconds of a run count."""

    def __init__(self, argv, seconds=None, core=None, before=None):
        self.argv = argv
        self.count = seconds or (lambda sample: sample.seconds)
        self.core = core
        self.before = before
        self.samples = []

    def take(self):
        if self.before:
            self.before()
        self.samples.append(run(self.argv, self.core))

    @property
    def seconds(self):
        return statistics.median(self.count(sample) for sample in self.samples)

    @property
    def spread(self):
        """Largest over smallest."""
        counts = [self.count(sample) for sample in self.samples]
        return max(counts) / min(counts)

    @property
    def peak_mb(self):
        return max(sample.peak_mb for sample in self.samples)

    @property
    def cores(self):
        """Cores that were busy, of the whole process."""
        return statistics.median(sample.cores for sample in self.samples)

    @property
    def last(self):
        return self.samples[-1]


def race(sides, repeat):
    """Runs the sides in turn, once to warm up and `repeat` times more, so that what disturbs the
    machine disturbs all of them."""
    for side in sides:
        side.take()
        side.samples.clear()
    for _ in range(repeat):
        for side in sides:
            side.take()
