"""Vowpal Wabbit, its driver as the Python package carries it: `vw.py ARGUMENTS ...`. Prints seconds of
the driver, examples and the progressive mean loss."""

import sys
import time

import vowpalwabbit

begun = time.perf_counter()
vw = vowpalwabbit.Workspace(" ".join(sys.argv[1:]) + " --quiet")
seconds = time.perf_counter() - begun
examples, loss = vw.get_weighted_examples(), vw.get_sum_loss()
vw.finish()
print(f'{{"seconds": {seconds}, "rows": {examples}, "log_loss": {loss / examples}}}')
