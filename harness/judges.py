"""The judge of a data set belongs to the store: trained once, logged as a run, fetched by whoever needs it.

Weights differ in their last bits between kinds of processors, so that judges which each host trained for itself would
not be one judge.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
from safetensors.torch import load_file

from harness import evaluation, launch, locks, numerics, tracking
from harness.errors import InputError
from harness.tracking import OUTPUTS, inputs

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness.classifier import Classifier
    from harness.data import Dataset

JUDGES = OUTPUTS / "judges"
TRAINING_S = 3600.0
"""For which a process waits while another one trains the judge."""


def judge(dataset: Dataset, tracking_uri: str | None, accelerator: Accelerator) -> tuple[Classifier, str]:
    """The judge of a data set on every process, and its weights' digest.

    The main process takes it from `outputs/judges`, else from the store, else trains it and logs it as a run.
    """
    weights = None
    if accelerator.is_main_process:
        kept = path(dataset)
        with locks.held(kept.with_suffix(".lock"), TRAINING_S):
            weights = _kept(kept) or _of_the_store(dataset, tracking_uri, kept) or _trained(dataset, tracking_uri, kept)
    model = evaluation.restore_judge(dataset, launch.agreed(weights, accelerator))
    return model.to(accelerator.device), evaluation.weights_digest(model)


def path(dataset: Dataset) -> Path:
    """Where this folder keeps the judge of a data set."""
    return JUDGES / f"{dataset.name}-{evaluation.judge_key(dataset)}.safetensors"


def _kept(path: Path) -> dict | None:
    try:
        return load_file(path) if path.exists() else None
    except (safetensors.SafetensorError, OSError) as error:
        print(f"{path} is damaged ({error}); it is fetched or made anew", file=sys.stderr)
        return None


def _of_the_store(dataset: Dataset, tracking_uri: str | None, path: Path) -> dict | None:
    """The oldest judge of the store, if it has one and answers."""
    try:
        found = inputs.find_finished("judge_key", evaluation.judge_key(dataset), tracking_uri)
        if not found:
            return None
        weights = load_file(inputs.fetch(found[-1], "judge/weights.safetensors", tracking_uri))
    except (InputError, safetensors.SafetensorError):  # it is away, or has not got what it should: no reason to end
        return None
    return _keep(weights, path)


def _trained(dataset: Dataset, tracking_uri: str | None, path: Path) -> dict:
    with tracking.run(
        "classifiers",
        f"judge {dataset.name}",
        tags={
            "kind": "judge",
            "dataset": dataset.name,
            "judge_key": evaluation.judge_key(dataset),
            "numerics": numerics.VERSION,
        },
        params=vars(evaluation.JUDGE) | {"dataset": dataset.name, "seed": evaluation.JUDGE_SEED},
        tracking_uri=tracking_uri,
    ) as run:
        run.data(f"{dataset.name} train", dataset.train.digest, dataset.name, "training")
        model = evaluation.train_judge(dataset)
        run.tags({"judge": evaluation.weights_digest(model)[:16]})
        with tempfile.TemporaryDirectory() as place:
            weights = Path(place) / "weights.safetensors"
            evaluation.save_weights(model, weights)
            run.file(weights, "judge")
            run.describe(f"**Judge of {dataset.name}**: trained on all its {len(dataset.train):,} training images.")
            trained = _keep(load_file(weights), path)
    # Another host may have been first: of several the oldest counts, for everybody.
    return (_of_the_store(dataset, tracking_uri, path) if run.is_sent else None) or trained


def _keep(weights: dict, path: Path) -> dict:
    from safetensors.torch import save_file

    aside = path.with_suffix(".writing")
    save_file(weights, aside)
    aside.replace(path)
    return weights
