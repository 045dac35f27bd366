"""All that an experiment imports, for the server in processes.py."""

import torch

from experiments import benchmark, classifier, compare, generate  # noqa: F401

torch.set_num_threads(1)
