"""One classifier from end to end: train on the real images and an arm's, score, log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness import tracking
from harness.data.datasets import Dataset
from harness.errors import InputError
from harness.evaluation import classifier, quality
from harness.evaluation.classifier import Classifier
from harness.runs import identities, judges, pictures, records, scores
from harness.runs.arms import Arm
from harness.settings import Single
from harness.tracking import bits, inputs
from harness.tracking.addresses import page_of
from harness.tracking.writing import Run
from harness.training import launch
from harness.training.loop import Batches
from harness.training.resumable import Progress, train_resumably

if TYPE_CHECKING:
    from accelerate import Accelerator

UNKNOWN = {"conditional_accuracy": "samples/conditional_accuracy", "quality": "test/quality/fid"}
"""What is measured of an arm's samples where nobody has, by the figure that tells."""


def filter_samples(
    arm: Arm, config: classifier.Config, settings: Single, dataset: Dataset, accelerator: Accelerator
) -> Arm:
    """The samples in which a classifier trained on the very same real images, and no others, sees what was asked for.

    It is the classifier of the arm `none`. The full judge would bring in what it learnt of all training images.
    """
    assert arm.samples is not None
    start = time.perf_counter()
    model = quality.train_on(dataset.real, dataset.image_shape, config, settings.seed, accelerator)
    agrees = classifier.predict(model, arm.samples.images, accelerator) == arm.samples.labels
    costs = {name: value for name, value in arm.metrics.items() if name.startswith("cost/")}
    known = {
        "samples/kept": float(agrees.float().mean()),
        "cost/filter_device_seconds": (time.perf_counter() - start) * accelerator.num_processes,
    }
    kept = arm.samples[agrees] if agrees.any() else None
    return Arm(f"{arm.name}-filtered", kept, arm.run, costs | known)


@launch.record_first_failure()
def run_classifier(
    arm: Arm,
    config: classifier.Config,
    settings: Single,
    dataset: Dataset,
    parent: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> tuple[str, dict[str, float]]:
    """Train, score and log one classifier on the real images and an arm's; returns the run's id and figures."""
    accelerator = launch.accelerator(settings.process_timeout)
    experiment = settings.experiment_name or "classifiers"
    scores.check_store(settings, experiment, accelerator)
    judge, judge_digest = judges.get_judge(dataset, settings, accelerator)
    if arm.samples is not None and arm.samples.shape != dataset.real.shape:
        raise InputError(
            f"the samples are {arm.samples.shape} images, {dataset.name} has {dataset.real.shape}; "
            f"give a generator's run on {dataset.name}"
        )
    cell = identities.classifier_identity(arm, config, settings, dataset, accelerator)
    model = classifier.build_classifier(config, dataset.image_shape, settings.seed)
    with tracking.run(
        experiment,
        f"{arm.title} n={len(dataset.real)} s={settings.seed}",
        tags=records.tags("classifier", arm.name, dataset, settings.seed, cell)
        | {"judge": judge_digest[:16]}
        | ({"samples_run": arm.run} if arm.run else {})
        | ({"generator_commit": arm.commit} if arm.commit else {})
        | ({"variant": arm.variant} if arm.variant else {})
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
        sources = classifier.mix_sources(config, dataset.real, arm.samples)
        batches = Batches(*sources, seed=settings.seed, accelerator=accelerator)
        progress = Progress(model, accelerator)
        for _ in train_resumably(progress, batches, config.steps, config.steps, run):
            pass
        known |= {"cost/training_device_seconds": progress.device_seconds}
        run.metrics({**known, **records.gpu_memory()}, config.steps)
        found = _score(model.eval(), dataset, run, config.steps, accelerator)
        run.describe(records.headline(f"Classifier on {dataset.name}, arm {arm.title}", dataset, settings, found))
    if accelerator.is_main_process:
        split = "test" if len(dataset.test) else "validation"
        print(f"classifier, arm {arm.title}: {split} accuracy {found[f'{split}/accuracy']:.2%}, run {run.id}")
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
    **how: Any,
) -> tuple[str, dict[str, float]]:
    """The run and the figures of an arm's classifier under a parent: of its finished run there, else trained now."""
    cell = identities.classifier_identity(arm, config, settings, dataset, accelerator)
    found = accelerator.is_main_process and identities.find_finished_classifier(cell, settings, parent)
    if not (done := launch.broadcast_from_main(found, accelerator)):
        return run_classifier(arm, config, settings, dataset, parent, **how)
    row = launch.broadcast_from_main(
        inputs.look_up(done, settings.tracking_uri) if accelerator.is_main_process else None, accelerator
    )
    return done, {key.removeprefix("metrics."): value for key, value in row.items() if key.startswith("metrics.")}


def _score(model: Classifier, dataset: Dataset, run: Run, step: int, accelerator: Accelerator) -> dict[str, float]:
    """Scores and confusion matrix on the validation split, where there is one, and on the test split."""
    scores: dict[str, float] = {}
    for split, images in (("validation", dataset.validation), ("test", dataset.test)):
        if len(images):
            predicted = classifier.predict(model, images.images, accelerator)
            found = classifier.scores(predicted, images.labels, dataset.num_classes)
            scores |= {f"{split}/{name}": value for name, value in found.items()}
            matrix = classifier.confusion_matrix(predicted, images.labels, dataset.num_classes)
            run.picture(pictures.confusion(matrix, dataset.classes), f"pictures/confusion_{split}.png")
            if split == "test":
                run.tags({"right": bits.packed((predicted == images.labels).tolist())})  # for McNemar's test
                recalls = (matrix.diagonal() / matrix.sum(1)).tolist()
                scores |= {f"test/recall_class_{label}": recall for label, recall in enumerate(recalls)}
    run.metrics(scores, step)
    return scores
