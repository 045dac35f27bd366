"""Imported by each benchmark: it then finds what the tests share, and how turns are taken."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2] / folder) for folder in ("tests", "experiments/benchmarks")]
