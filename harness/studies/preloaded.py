"""What every task needs first and waits for: the fork server has it from the beginning, and each process from there."""

import gc

import accelerate.utils
import matplotlib.figure
import scipy.stats
from PIL import Image, ImageDraw, ImageFont

from harness.runs import classifiers
from harness.studies import trials
from harness.tracking import provenance

__all__ = ["ImageDraw", "ImageFont", "accelerate", "classifiers", "matplotlib", "scipy", "trials"]

Image.preinit()
provenance.packages()
gc.collect()
gc.freeze()  # else each process's collector goes through all of it, and copies the pages
