#!/usr/bin/env python3
"""Runs the commands of a README, so that they stay true.

Runs every fenced block of `sh` in order, each with `bash -e` in the repository's folder, and fails
with the first that fails. A block that begins with a comment `# tests` is left to the gate, which
runs the tests anyway. Blocks of `sql` are run with the built shell, on one fresh warehouse.
"""

import os
import re
import subprocess
import sys
import tempfile


def main(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    shell = os.path.join(target, "debug", "gradlake")
    blocks = re.findall(r"^```(sh|sql)\n(.*?)^```$", text, re.M | re.S)
    if not blocks:
        sys.exit(f"{path} has no commands")
    with tempfile.TemporaryDirectory() as warehouse:
        for language, block in blocks:
            if block.startswith("# tests"):
                print("left to the gate:", block.splitlines()[1])
                continue
            print("== running", repr(block.splitlines()[0]), flush=True)
            if language == "sh":
                command = ["bash", "-e", "-o", "pipefail", "-c", block]
            else:
                command = [shell, "--warehouse", os.path.join(warehouse, "w"), "-c", block]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
