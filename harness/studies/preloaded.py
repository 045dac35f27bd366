"""What every task needs first and waits for: the fork server has it from the beginning, and each process from there."""

import gc
from importlib import import_module

from PIL import Image

from harness import cli
from harness.tracking import provenance

NEEDED = ("accelerate.utils", "scipy.stats", "harness.runs.classifiers", "harness.studies.trials")

gc.disable()  # what is imported stays: looking through it takes a seventh of the time
for name in NEEDED:
    import_module(name)
Image.preinit()
provenance.packages()
provenance.tags()  # git is asked now, when the code is read that every task will run
gc.enable()
gc.set_threshold(cli.RARELY)
gc.freeze()  # else each process's collector goes through all of it, and copies the pages
