"""Runs rows and prints their table; see `run`."""

import argparse
import datetime
import json
import os
import platform
import signal
import sys
import traceback
from dataclasses import asdict

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import rows  # noqa: E402
from bench import Bench, say  # noqa: E402
from measure import Failed  # noqa: E402

COLUMNS = (
    "row", "work", "peer", "batch", "dtype", "threads", "peer reads", "ours", "peer's", "unit", "ratio",
    "target", "met", "share of the limit", "peak MB", "cores busy", "quality: ours / peer's", "spread",
)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure [default: all]")
    parser.add_argument("-n", "--repeat", type=int, default=5, help="measured runs of each side")
    parser.add_argument("--data", help="folder with the real data sets (fashion_mnist_train.parquet)")
    parser.add_argument("--out", default="peers", help="writes OUT.md and OUT.json [default: peers]")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.rows if name not in rows.ALL]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(rows.ALL)}")
    return chosen


def figure(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cells(line):
    sign = "at most " if line.at_most else ""
    return (
        line.row, line.work, line.peer, line.batch, line.dtype, line.threads, line.reads,
        figure(line.ours), figure(line.theirs), line.unit, f"{line.ratio:.2f}",
        f"{sign}{line.target:g}", "yes" if line.met else "NO", line.share,
        f"{figure(line.peak_ours)} / {figure(line.peak_theirs)}",
        f"{figure(line.cores_ours)} / {figure(line.cores_theirs)}",
        line.quality + ("" if line.agree else " DIFFERS"),
        f"{line.spread:.2f}" if line.spread else "",
    )


def markdown(lines, failures, facts):
    text = ["# Gradlake beside its peers", ""]
    text += [f"- {key}: {value}" for key, value in facts.items()]
    text += [
        "",
        "Medians. Threads, batch, peak memory, busy cores and quality: ours / the peer's. Ratio: how many times "
        "faster we are, or, where the target is an upper bound, how many times as much we take. "
        "Spread: the largest over the smallest run of the less steady side.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    text += ["| " + " | ".join(cells(line)) + " |" for line in lines]
    notes = [f"- {line.row} ({line.peer}): {note}" for line in lines for note in line.notes]
    text += ["", *notes] if notes else []
    text += ["", *[f"- {name} was not measured: {why}" for name, why in failures.items()]]
    return "\n".join(text).rstrip() + "\n"


def short(line):
    sign = "<=" if line.at_most else ">="
    verdict = "met" if line.met else "MISSED"
    unit = line.unit
    return (
        f"{line.row}: {figure(line.ours)} against {figure(line.theirs)} {unit} ({line.peer}), ratio "
        f"{line.ratio:.2f}, target {sign} {line.target:g} {verdict}; {line.quality}"
        + ("" if line.agree else " DIFFERS")
    )


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((l.split(":")[1].strip() for l in info if l.startswith("model name")), "?")
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}"


def main():
    chosen = arguments()
    if chosen.list:
        for name, row in rows.ALL.items():
            print(f"{name:16} {row.__doc__.splitlines()[0]}")
        return 0
    # As Ctrl-C: no child goes on alone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    bench = Bench(chosen.repeat, chosen.data)
    lines, failures = [], {}
    limits = bench.limits
    for name in chosen.rows or rows.ALL:
        say(f"measuring {name}")
        try:
            for line in rows.ALL[name](bench):
                lines.append(line)
                say(short(line))
        except Failed as error:
            failures[name] = str(error)
            say(f"{name} was not measured: {error}")
        except Exception as error:  # A row that breaks leaves the others.
            failures[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        facts = {
            "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
            "machine": machine(),
            "load now (1, 5, 15 minutes)": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
            "runs of each side": chosen.repeat,
            "reading float32 from memory": " / ".join(f"{x:.1f}" for x in limits["read_gb_s"])
            + f" GB/s on 1 / {limits['threads']} cores",
            "faer's product of 1024 x 1024 float32": " / ".join(
                f"{x:.0f}" for x in limits["faer_gflop_s"]
            )
            + f" GFLOP/s on 1 / {limits['threads']} cores",
        }
        # After every row, so that a run that is cut short leaves what it has.
        with open(chosen.out + ".md", "w", encoding="utf-8") as out:
            out.write(markdown(lines, failures, facts))
        with open(chosen.out + ".json", "w", encoding="utf-8") as out:
            values = [{**asdict(l), "ratio": l.ratio, "met": l.met} for l in lines]
            json.dump({"facts": facts, "rows": values, "not_measured": failures}, out, indent=1)
    print(markdown(lines, failures, facts), end="")
    return 1 if failures or not all(line.agree for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
