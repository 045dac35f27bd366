"""The classifier of the real images alone, under fresh moves, which says what samples show: whom filters ask.

All cells with the same real images and seed ask the same one, so it is trained once, by the first of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
from safetensors.torch import save_file

from harness import locks, numerics
from harness.data.datasets import Dataset
from harness.evaluation import classifier, quality
from harness.evaluation.classifier import Classifier
from harness.outputs import OUTPUTS
from harness.runs import identities
from harness.training import launch

if TYPE_CHECKING:
    from accelerate import Accelerator

TEACHERS = OUTPUTS / "teachers"
TRAINING_S = 3600.0
"""For which a process waits while another one trains the same."""


def get_teacher(
    config: classifier.Config, share: float, seed: int, dataset: Dataset, accelerator: Accelerator
) -> tuple[Classifier, float]:
    """Who has learned for this share (0 … 1) of the classifier's steps, and the device-seconds of that training."""
    alone = dataclasses.replace(
        config, steps=max(1, round(share * config.steps)), augment=True, initialisations=1, batch="shared",
        synthetic_share=None, synthetic_weight=1.0, soft_labels=False, class_weights=False,
    )  # fmt: skip
    path = _path(alone, seed, dataset, accelerator)
    with contextlib.ExitStack() as stack:
        kept = None
        if accelerator.is_main_process:
            stack.enter_context(locks.held(path.with_suffix(".lock"), TRAINING_S))
            kept = _kept(path)
        if kept := launch.broadcast_from_main(kept, accelerator):
            weights, device_seconds = kept
            model = classifier.build_classifier(alone, dataset.image_shape, seed)
            model.prepare(accelerator)
            model.load_state_dict(weights)
            return model.eval(), device_seconds
        start = time.perf_counter()
        model = quality.train_on(dataset.real, dataset.image_shape, alone, seed, accelerator)
        device_seconds = (time.perf_counter() - start) * accelerator.num_processes
        if accelerator.is_main_process:
            _keep(path, model, device_seconds)
    return model, device_seconds


def _path(config: classifier.Config, seed: int, dataset: Dataset, accelerator: Accelerator) -> Path:
    of = dataset.real.digest, *map(dataclasses.asdict, (dataset.image_shape, config)), seed
    return TEACHERS / f"{identities.digest(*of, accelerator.mixed_precision, numerics.VERSION)}.safetensors"


def _kept(path: Path) -> tuple[dict[str, Any], float] | None:
    torn = (OSError, safetensors.SafetensorError)  # or there is none yet
    with contextlib.suppress(*torn), safetensors.safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return weights, float(file.metadata()["device_seconds"])
    return None


def _keep(path: Path, model: Classifier, device_seconds: float) -> None:
    weights = {name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}
    aside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError, safetensors.SafetensorError):  # on a full disk the next one trains it again
        save_file(weights, aside, {"device_seconds": repr(device_seconds)})
        aside.replace(path)
