"""What every task needs first and waits for: the fork server has it from the beginning, and each process from there."""

import gc

import accelerate.utils
import matplotlib.figure
import scipy.stats
import seaborn
from PIL import Image, ImageDraw, ImageFont

from harness.runs import classifiers
from harness.studies import trials
from harness.tracking import provenance

__all__ = ["ImageDraw", "ImageFont", "accelerate", "classifiers", "matplotlib", "scipy", "seaborn", "trials"]

Image.preinit()
provenance.packages()
provenance.tags()  # git is asked now, when the code is read that every task will run
gc.collect()
gc.freeze()  # else each process's collector goes through all of it, and copies the pages
