"""What every task needs first and waits for: the fork server has it from the beginning, and each process from there."""

import accelerate.utils
import matplotlib.figure

from harness import experiment, provenance, trials

__all__ = ["accelerate", "experiment", "matplotlib", "trials"]

provenance.packages()
