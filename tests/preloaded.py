"""All that an experiment imports, for the server in processes.py."""

import torch
import torch._dynamo  # which a first optimizer imports, in 4 s

from experiments import benchmark, classifier, compare, generate, tune  # noqa: F401
from harness import experiment  # noqa: F401
from harness.tracking import agent  # noqa: F401

torch.set_num_threads(1)
