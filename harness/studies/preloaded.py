"""What every task needs first and waits for: the fork server has it from the beginning, and each process from there."""

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
