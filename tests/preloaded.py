"""All that an experiment imports when it first uses it, for the server in processes.py."""

import atexit
import gc

import accelerate.utils  # noqa: F401
import matplotlib.figure  # noqa: F401
import mlflow.server
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import optuna.importance  # noqa: F401
import PIL.Image
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import sqlalchemy.orm
import torch
import torch.nested
import typeguard  # noqa: F401

from experiments import classifier, compare, generate, tune  # noqa: F401
from harness.data import published
from harness.runs import generators  # noqa: F401
from harness.tracking import agent, provenance  # noqa: F401

PIL.Image.preinit()
published.digits_of_scikit_learn()
provenance.packages()
provenance.tags()
sqlalchemy.orm.configure_mappers()
torch.compiler.reset()  # imports the compiler, which every process of several does
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # what is left at the end would be told as leaked
