"""All that an experiment imports when it first uses it, for the server in processes.py."""

import accelerate.utils  # noqa: F401
import matplotlib.figure  # noqa: F401
import PIL.Image  # noqa: F401
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import torch

from experiments import benchmark, classifier, compare, generate, tune  # noqa: F401
from harness import comparison, experiment, tuning  # noqa: F401
from harness.tracking import agent  # noqa: F401

torch.set_num_threads(1)
