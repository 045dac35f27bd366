"""All that an experiment imports, for the server in processes.py."""

import torch
import torch._dynamo  # which a first optimizer imports, in 4 s
import torchmetrics  # noqa: F401

from experiments import benchmark, classifier, compare, generate  # noqa: F401

torch.set_num_threads(1)
