"""All that an experiment imports when it first uses it, for the server in processes.py."""

import atexit
import gc
from importlib import import_module

NEEDED = (
    "accelerate.utils", "mlflow.server", "mlflow.store.tracking.sqlalchemy_store",
    "optuna.importance", "PIL.Image", "scipy.stats", "seaborn", "sqlalchemy.orm", "torch.compiler", "torch.nested",
    "typeguard",
    "analysis.pages", "experiments.classifier", "experiments.compare", "experiments.generate", "experiments.tune",
    "harness.cli", "harness.data.published", "harness.runs.generators", "harness.tracking.agent",
    "harness.tracking.provenance",
)  # fmt: skip

gc.disable()  # as in harness/studies/preloaded.py
found = {name: import_module(name) for name in NEEDED}
found["PIL.Image"].preinit()
found["harness.data.published"].digits_of_scikit_learn()
found["harness.tracking.provenance"].packages()
found["harness.tracking.provenance"].tags()
found["sqlalchemy.orm"].configure_mappers()
found["harness.runs.generators"].NUM_GRIDS = 2  # and not ten, which are a quarter of a small training's time
found["torch.compiler"].reset()  # imports the compiler, which every process of several does
found["analysis.pages"].DPI = 30  # as in conftest.py
gc.enable()
gc.set_threshold(found["harness.cli"].RARELY)
gc.freeze()
atexit.register(gc.unfreeze)  # what is left at the end would be told as leaked
