"""What every task needs first and waits for: the fork server has it from the beginning, and each process from there."""

import accelerate.utils
import matplotlib.figure

from harness.runs import classifiers
from harness.studies import trials
from harness.tracking import provenance

__all__ = ["accelerate", "classifiers", "matplotlib", "trials"]

provenance.packages()
