"""One classifier from end to end: train on the real images and an arm's, score, log."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness import tracking
from harness.data.datasets import Dataset
from harness.errors import InputError
from harness.evaluation import classifier, selecting
from harness.evaluation.classifier import Classifiers
from harness.runs import identities, judges, pictures, records, scores, teachers
from harness.runs.arms import Arm
from harness.settings import Single
from harness.tracking import inputs
from harness.tracking.addresses import page_of
from harness.tracking.writing import Run
from harness.training import launch
from harness.training.resumable import Progress, train_resumably

if TYPE_CHECKING:
    from accelerate import Accelerator

UNKNOWN = {"conditional_accuracy": "samples/conditional_accuracy", "quality": "test/quality/fid"}
"""What is measured of an arm's samples where nobody has, by the figure that tells."""


def select_samples(
    way: str, arm: Arm, config: classifier.Config, settings: Single, dataset: Dataset, accelerator: Accelerator
) -> Arm:
    """The arm with those of its samples that one of `selecting.WAYS` keeps, by a classifier of the same real images.

    The judge would bring in what it has learned of all training images.
    """
    assert arm.samples is not None
    share, choose = selecting.WAYS[way]
    model, training_s = None, 0.0
    if share:
        model, training_s = teachers.get_teacher(config, share, settings.seed, dataset, accelerator)
    start = time.perf_counter()
    keep = choose(model, dataset.real, arm.samples, dataset.image_shape, accelerator)
    costs = {name: value for name, value in arm.metrics.items() if name.startswith("cost/")}
    known = {
        "samples/kept": float(keep.float().mean()),
        "cost/filter_device_seconds": training_s + (time.perf_counter() - start) * accelerator.num_processes,
    }
    return Arm(f"{arm.name}-{way}", arm.samples[keep] if keep.any() else None, arm.run, costs | known)


@launch.record_first_failure()
def run_classifier(
    arm: Arm,
    config: classifier.Config,
    settings: Single,
    dataset: Dataset,
    parent: str | None = None,
    tags: Mapping[str, Any] | None = None,
    setting: str = "",
) -> tuple[str, dict[str, float]]:
    """Train, score and log one classifier on the real images and an arm's; returns the run's id and figures.

    `setting` says how it differs from a comparison's others, such as augment=True.
    """
    accelerator = launch.accelerator(settings.process_timeout)
    experiment = settings.experiment_name or "classifiers"
    scores.check_store(settings, experiment, accelerator)
    judge, judge_digest = judges.get_judge(dataset, settings, accelerator)
    if arm.samples is not None:
        classes, shape = int(arm.samples.labels.max()) + 1, arm.samples.shape
        if shape != dataset.real.shape or classes > dataset.num_classes:
            raise InputError(
                f"the samples are {shape} images of {classes} classes, {dataset.name} has {dataset.real.shape} and "
                f"{dataset.num_classes}; give a generator's run on {dataset.name}"
            )
    cell = identities.classifier_identity(arm, config, settings, dataset, accelerator)
    model = classifier.Classifiers(config, dataset.real, dataset.image_shape, settings.seed)
    title = f"{arm.title} {setting}".strip()
    with tracking.run(
        experiment,
        f"{title} n={dataset.n_real} s={settings.seed}",
        tags=records.tags("classifier", arm.name, dataset, settings.seed, cell)
        | {"judge": judge_digest[:16]}
        | ({"samples_run": arm.run} if arm.run else {})
        | ({"generator_commit": arm.commit} if arm.commit else {})
        | ({"variant": arm.variant} if arm.variant else {})
        | ({"setting": setting} if setting else {})
        | dict(tags or {}),
        params={"arm": arm.title, "method": arm.name} | records.params(model.config, settings, dataset, accelerator),
        parent=parent,
        tracking_uri=settings.tracking_uri,
        active=accelerator.is_main_process,
        why=launch.first_failure,
    ) as run:
        run.data(f"{dataset.name} real", dataset.real.digest, dataset.name, "training")
        known = dict(arm.metrics)
        if arm.samples is not None:
            source = f"runs:/{arm.run}/samples.npz" if arm.run else f"control {arm.name}"
            run.data(f"{arm.name} samples", arm.samples.digest, source, "augmentation")
            if not arm.variant:  # the whole set's figures are those of the sweep's other end
                unknown = [name for name, figure in UNKNOWN.items() if figure not in known]
                known |= scores.score(unknown, judge, arm.samples, dataset, settings, accelerator)
        model.prepare(accelerator)
        if config.soft_labels and arm.samples is not None:
            teacher, training_s = teachers.get_teacher(config, 1.0, settings.seed, dataset, accelerator)
            for member in model:
                member.teachers = [teacher]  # in a list: no part of the network
            known |= {"cost/filter_device_seconds": training_s}
        batches = classifier.batches_of(config, dataset.real, arm.samples, settings.seed, accelerator, dataset.moves)
        progress = Progress(model, accelerator)
        for _ in train_resumably(progress, batches, config.steps, config.steps, run):
            pass
        known |= {"cost/training_device_seconds": progress.device_seconds}
        run.metrics({**known, **records.gpu_memory()}, config.steps)
        found = _score(model.eval(), dataset, run, config.steps, accelerator)
        run.describe(records.headline(f"Classifier on {dataset.name}, arm {title}", dataset, settings, found))
    if accelerator.is_main_process:
        split = "test" if len(dataset.test) else "validation"
        print(f"classifier, arm {title}: {split} accuracy {found[f'{split}/accuracy']:.2%}, run {run.id}")
        if parent is None:
            print(f"page: {page_of(run.id, settings.tracking_uri)}")
    return launch.broadcast_from_main(run.id, accelerator), {**known, **found}


def get_or_run_classifier(
    arm: Arm,
    config: classifier.Config,
    settings: Single,
    dataset: Dataset,
    parent: str,
    accelerator: Accelerator,
    only_here: bool = False,
    **how: Any,
) -> tuple[str, dict[str, float]]:
    """The run and the figures of an arm's classifier under a parent: of its finished run there, else trained now.

    `only_here`: no other host works under that parent, so that the store need not be asked.
    """
    cell = identities.classifier_identity(arm, config, settings, dataset, accelerator)
    found = accelerator.is_main_process and identities.find_finished_classifier(cell, settings, parent, only_here)
    if not (done := launch.broadcast_from_main(found, accelerator)):
        return run_classifier(arm, config, settings, dataset, parent, **how)
    row = launch.broadcast_from_main(
        inputs.look_up(done, settings.tracking_uri) if accelerator.is_main_process else None, accelerator
    )
    return done, {key.removeprefix("metrics."): value for key, value in row.items() if key.startswith("metrics.")}


def _score(model: Classifiers, dataset: Dataset, run: Run, step: int, accelerator: Accelerator) -> dict[str, float]:
    """Scores on the validation split, where there is one, and on the test split, with the last one's confusion matrix.

    Of several initialisations the means, and each one's accuracy.
    """
    scores: dict[str, float] = {}
    for split, images in (("validation", dataset.validation), ("test", dataset.test)):
        if len(images):
            predicted = [classifier.predict(member, images.images, accelerator) for member in model]
            found = [classifier.scores(each, images.labels, dataset.num_classes) for each in predicted]
            scores |= {f"{split}/{name}": statistics.fmean(each[name] for each in found) for name in found[0]}
            if len(found) > 1:
                scores |= {f"{split}/accuracy_initialisation_{i}": each["accuracy"] for i, each in enumerate(found)}
            labels = images.labels.repeat(len(predicted))
            matrix = classifier.confusion_matrix(torch.cat(predicted), labels, dataset.num_classes)
            if split == "test" or not len(dataset.test):  # one takes a tenth of a second
                run.picture(pictures.confusion(matrix, dataset.classes), f"pictures/confusion_{split}.png")
            if split == "test":
                recalls = (matrix.diagonal() / matrix.sum(1)).tolist()
                scores |= {f"test/recall_class_{label}": recall for label, recall in enumerate(recalls)}
                if dataset.imbalance:
                    scores["test/recall_rare"] = statistics.fmean(recalls[-(len(recalls) // 3) :])
                _log_right(run, (torch.stack(predicted) == images.labels).sum(0))
    run.metrics(scores, step)
    return scores


def _log_right(run: Run, counts: Tensor) -> None:
    """How many of the run's classifiers got each test image right: for intervals that count the images' own chance."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "right.npz"
        np.savez_compressed(path, right=counts.numpy().astype(np.uint8))
        run.file(path)
