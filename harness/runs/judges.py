"""The judge of a data set belongs to the store: trained once, logged as a run, fetched by whoever needs it.

Weights differ in their last bits between kinds of processors, so that judges which each host trained for itself would
not be one judge.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
from safetensors.torch import load_file

from harness import locks, numerics, tracking
from harness.errors import InputError
from harness.evaluation import judging
from harness.outputs import OUTPUTS
from harness.tracking import inputs
from harness.tracking.addresses import default_uri, relative_to_here, without_password
from harness.training import launch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness.data.datasets import Dataset
    from harness.evaluation import classifier
    from harness.evaluation.classifier import Classifier
    from harness.settings import Common

JUDGES = OUTPUTS / "judges"
TRAINING_S = 3600.0
"""For which a process waits while another one trains the judge."""


def get_judge(dataset: Dataset, settings: Common, accelerator: Accelerator) -> tuple[Classifier, str]:
    """The judge of a data set on every process, and its weights' digest.

    The main process takes it from `outputs/judges`, else from the store, else trains it and logs it as a run.
    """
    weights = None
    if accelerator.is_main_process:
        kept = path(dataset, settings)
        with locks.held(kept.with_suffix(".lock"), TRAINING_S):
            weights = _kept(kept) or _of_the_store(dataset, settings, kept) or _made(dataset, settings, kept)
    weights = launch.broadcast_from_main(weights, accelerator)
    model = judging.restore_judge(dataset, weights, config_of(dataset, settings))
    return model.to(accelerator.device), judging.weights_digest(model)


def judge_at_hand(dataset: Dataset, settings: Common, accelerator: Accelerator) -> Classifier | None:
    """The judge on every process where this folder has it: waits for nobody, trains none and asks no store."""
    weights = _kept(path(dataset, settings)) if accelerator.is_main_process else None
    if not (weights := launch.broadcast_from_main(weights, accelerator)):
        return None
    return judging.restore_judge(dataset, weights, config_of(dataset, settings)).to(accelerator.device)


def config_of(dataset: Dataset, settings: Common) -> classifier.Config:
    """The judge's size and training."""
    return judging.judge_config(dataset, settings.judge_steps, settings.judge_width)


def path(dataset: Dataset, settings: Common) -> Path:
    """Where this folder keeps the judge of a data set that a store has."""
    store = without_password(relative_to_here(settings.tracking_uri or default_uri()))
    return JUDGES / hashlib.sha256(store.encode()).hexdigest()[:8] / _name(dataset, settings)


def _name(dataset: Dataset, settings: Common) -> str:
    return f"{dataset.name}-{judging.judge_key(dataset, config_of(dataset, settings))}.safetensors"


def _kept(path: Path) -> dict | None:
    try:
        return load_file(path) if path.exists() else None
    except (safetensors.SafetensorError, OSError) as error:
        print(f"{path} is damaged ({error}); it is fetched or made anew", file=sys.stderr)
        return None


def _of_the_store(dataset: Dataset, settings: Common, path: Path) -> dict | None:
    """The oldest judge of the store, if it has one and answers."""
    try:
        key = judging.judge_key(dataset, config_of(dataset, settings))
        found = inputs.find_finished("judge_key", key, settings.tracking_uri)
        if not found:
            return None
        weights = load_file(inputs.fetch(found[-1], "judge/weights.safetensors", settings.tracking_uri))
    except (InputError, safetensors.SafetensorError):  # it is away, or has not got what it should: no reason to end
        return None
    return _keep(weights, path)


def _made(dataset: Dataset, settings: Common, path: Path) -> dict:
    """A judge for a store that has none: of another store, if this folder has worked with one, else trained."""
    config = config_of(dataset, settings)
    with tracking.run(
        "classifiers",
        f"judge {dataset.name}",
        tags={
            "kind": "judge",
            "dataset": dataset.name,
            "judge_key": judging.judge_key(dataset, config_of(dataset, settings)),
            "numerics": numerics.VERSION,
        },
        params=vars(config) | {"dataset": dataset.name, "seed": judging.JUDGE_SEED},
        tracking_uri=settings.tracking_uri,
    ) as run:
        run.data(f"{dataset.name} train", dataset.train.digest, dataset.name, "training")
        elsewhere = (_kept(other) for other in sorted(JUDGES.glob(f"*/{_name(dataset, settings)}")) if other != path)
        if weights := next(filter(None, elsewhere), None):
            model = judging.restore_judge(dataset, weights, config)
        else:
            print(f"training the judge of {dataset.name}, once: {config.steps:,} steps", file=sys.stderr, flush=True)
            model = judging.train_judge(dataset, config)
        run.tags({"judge": judging.weights_digest(model)[:16]})
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "weights.safetensors"
            judging.save_weights(model, file)
            run.file(file, "judge")
            run.describe(f"**Judge of {dataset.name}**: trained on all its {len(dataset.train):,} training images.")
            made = _keep(load_file(file), path)
    # Another host may have been first: of several the oldest counts, for everybody.
    return (_of_the_store(dataset, settings, path) if run.is_sent else None) or made


def _keep(weights: dict, path: Path) -> dict:
    from safetensors.torch import save_file

    aside = path.with_suffix(".writing")
    save_file(weights, aside)
    aside.replace(path)
    return weights
