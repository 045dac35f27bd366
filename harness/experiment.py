"""One run from end to end: train, sample, score, log. What a script and a comparison's cell both call."""

import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file
from torch import Tensor

from harness import classifier, data, evaluation, exported, methods, pictures, sampling, served_model, tracking
from harness.arms import Arm
from harness.data import Dataset, Images
from harness.errors import InputError
from harness.methods import ImageShape
from harness.seeding import initial_weights
from harness.tracking import OUTPUTS, Run
from harness.training import Batches, num_steps, shown, train

GRID_DRAWS = 10
NUM_GRIDS = 10
METRICS_EVERY = 50  # steps between two reads of metrics from the device
JUDGES = OUTPUTS / "judges"


@dataclasses.dataclass(frozen=True)
class Common:
    """What every experiment shares."""

    dataset: str = "digits"
    """digits (embedded), mnist, fashion-mnist or kmnist"""
    data_root: str | None = None
    """folder of the data files; by default the environment's HARNESS_DATA_ROOT"""
    num_synthetic: int = 20_000
    """images in a sample set"""
    tracking_uri: str | None = None
    """MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/"""
    experiment_name: str | None = None
    """MLflow experiment; by default generators, classifiers or comparisons"""


@dataclasses.dataclass(frozen=True)
class Single(Common):
    """One run: one seed, one number of real images."""

    n_real: int | None = None
    """real training images; by default all but the validation images"""
    seed: int = 0
    """seed of the splits, the weights, the order, the noise and the samples"""


def load(common: Common, n_real: int | None, seed: int) -> Dataset:
    if common.num_synthetic < 1:
        raise InputError(f"--num-synthetic {common.num_synthetic} must be at least 1")
    return data.load(common.dataset, common.data_root, n_real, seed)


# --- A generator -----------------------------------------------------------------------------------------


def generator(
    method: str, config: Any, settings: Single, parent: str | None = None, trained_by: str | None = None
) -> str | None:
    """Train, sample, score and log one generator; returns the run's id (None where not the main process).

    `trained_by` is a finished run of the same training: its weights are sampled, its training's cost is taken over.
    """
    accelerator = Accelerator()
    dataset = load(settings, settings.n_real, settings.seed)
    shape = evaluation.image_shape(dataset)
    config = with_real_steps(config, dataset)
    judge, judge_digest = evaluation.judge(dataset, JUDGES, accelerator)
    model = build(method, config, shape, settings.seed)
    model.prepare(accelerator)
    cell = generator_cell(method, config, settings, dataset, accelerator)
    training = training_cell(method, config, settings, dataset, accelerator)
    with tracking.run(
        settings.experiment_name or "generators",
        f"{method} {settings.dataset} n={len(dataset.real)} seed={settings.seed}",
        tags=_tags("generator", method, dataset, settings.seed, cell, judge_digest)
        | {"training": training}
        | ({"trained_by": trained_by} if trained_by else {}),
        params=_params(config, settings, dataset, accelerator),
        parent=parent,
        tracking_uri=settings.tracking_uri,
        active=accelerator.is_main_process,
    ) as run:
        run.data(f"{dataset.name} real", dataset.real.digest, dataset.name, "training")
        if trained_by:
            training_s = _take_over(model, trained_by, settings, accelerator)
        else:
            training_s = _train_generator(model, config.steps, dataset, settings.seed, accelerator, run)
        samples, sampling_s = sampling.sample_set(
            model, settings.num_synthetic, shape.num_classes, settings.seed, accelerator
        )
        costs = {"cost/training_device_seconds": training_s, "cost/sampling_device_seconds": sampling_s}
        scores = evaluation.conditional_accuracy(judge, samples, shape.num_classes)
        scores |= evaluation.classification_accuracy_score(
            samples, dataset, classifier.Config(), settings.seed, accelerator
        )
        run.metrics({**costs, **scores}, config.steps)
        if accelerator.is_main_process:
            _log_generator(run, method, model, samples)
            print(
                f"{method}: conditional accuracy {scores['samples/conditional_accuracy']:.2%}, "
                f"CAS {scores['samples/cas']:.2%}, training {training_s:.0f} s, sampling {sampling_s:.0f} s, "
                f"run {run.id}"
            )
    return run.id or None


def with_real_steps(config: Any, dataset: Dataset) -> Any:
    """The configuration with `steps` as they will be run: `epochs` may end the training earlier."""
    steps = num_steps(config.steps, config.epochs, len(dataset.real), config.batch_size)
    return dataclasses.replace(config, steps=steps)


def finished_generator(
    method: str, config: Any, settings: Single, dataset: Dataset, accelerator: Accelerator
) -> tuple[str | None, str | None]:
    """The ids of a finished run of the very same generator, and of one of the same training, as the store has them.

    The second is sampled as this configuration says, where there is no first.
    """
    if not accelerator.is_main_process:
        return None, None
    config = with_real_steps(config, dataset)
    cell = generator_cell(method, config, settings, dataset, accelerator)
    training = training_cell(method, config, settings, dataset, accelerator)
    return (
        tracking.find_finished("cell", cell, settings.tracking_uri),
        tracking.find_finished("training", training, settings.tracking_uri),
    )


def build(method: str, config: Any, shape: ImageShape, seed: int) -> Any:
    """A generator with the initial weights of `seed`."""
    with initial_weights(seed, method):
        return methods.find(method)(config, shape)


def generator_cell(method: str, config: Any, settings: Single, dataset: Dataset, accelerator: Accelerator) -> str:
    """The identity of a generator's run: equal cells give equal sample sets, so none is trained twice."""
    return digest(
        method,
        dataclasses.asdict(config),
        dataset.real.digest,
        settings.seed,
        settings.num_synthetic,
        accelerator.mixed_precision,
    )


def training_cell(method: str, config: Any, settings: Single, dataset: Dataset, accelerator: Accelerator) -> str:
    """The identity of a generator's weights: `generator_cell` without what only sampling reads."""
    trained = {
        key: value
        for key, value in dataclasses.asdict(config).items()
        if key not in methods.find(method).sampling_fields
    }
    return digest(method, trained, dataset.real.digest, settings.seed, accelerator.mixed_precision)


def _take_over(model: Any, run_id: str, settings: Single, accelerator: Accelerator) -> float:
    """The weights of a finished run, on every process; returns the device-seconds that their training took."""
    found: list[Any] = [None]
    if accelerator.is_main_process:
        with tracking.fetched(run_id, "generator/weights.safetensors", settings.tracking_uri) as path:
            weights = load_file(path)
        source = tracking.get_run(run_id, settings.tracking_uri)
        found = [(weights, source["metrics.cost/training_device_seconds"])]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    weights, training_s = found[0]
    model.load_state_dict(weights)
    return training_s


def _train_generator(model: Any, steps: int, dataset: Dataset, seed: int, accelerator: Accelerator, run: Run) -> float:
    """Train to the end, with metrics and sample grids; returns device-seconds, the grids' not counted."""
    batches = Batches((dataset.real, model.config.batch_size), seed=seed, accelerator=accelerator)
    labels = torch.arange(dataset.num_classes).repeat_interleave(GRID_DRAWS)
    grid_every = -(-steps // NUM_GRIDS)
    apart = 0.0
    start = time.perf_counter()
    for step in logged(train(model, batches, steps), steps, batches.size, run, accelerator):
        if (step + 1) % grid_every == 0 or step + 1 == steps:
            began = time.perf_counter()
            grid = sampling.draw(model, labels, seed, accelerator.device)
            run.image("samples", pictures.grid(grid.images, GRID_DRAWS), step + 1)
            apart += time.perf_counter() - began
    return (time.perf_counter() - start - apart) * accelerator.num_processes


def logged(
    training: Iterator[tuple[int, Mapping[str, Tensor]]],
    steps: int,
    batch_size: int,
    run: Run,
    accelerator: Accelerator,
) -> Iterator[int]:
    """Pass a training's steps on, its metrics to the run and its progress to the terminal.

    Numbers are read from the device every METRICS_EVERY steps, with the times at which they arose.
    """
    waiting: list[tuple[int, int, Mapping[str, Tensor]]] = []
    for step, metrics in shown(training, "training", steps, batch_size, accelerator.is_main_process):
        waiting.append((step, time.time_ns() // 1_000_000, metrics))
        if len(waiting) == METRICS_EVERY or step + 1 == steps:
            _send(waiting, run)
        yield step


def _send(waiting: list[tuple[int, int, Mapping[str, Tensor]]], run: Run) -> None:
    values = torch.stack([value.float() for *_, metrics in waiting for value in metrics.values()]).tolist()
    place = 0
    for step, timestamp_ms, metrics in waiting:
        run.metrics(dict(zip(metrics, values[place:], strict=False)), step, timestamp_ms)
        place += len(metrics)
    waiting.clear()


def _log_generator(run: Run, method: str, model: Any, samples: Images) -> None:
    """The sample set, the pictures and the model."""
    shape: ImageShape = model.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npz"
        samples.save(path)
        run.file(path)
        run.tags({"samples_digest": samples.digest})
        trained = Path(folder) / "generator"
        exported.export(trained, method, model, shape)
        for path in trained.iterdir():
            run.file(path, "generator")
        served_model.log(run.id, trained, [0, 0, shape.num_classes - 1])
    by_label = samples.labels.argsort(stable=True)
    first = [by_label[samples.labels[by_label] == label][:GRID_DRAWS] for label in range(shape.num_classes)]
    run.picture(pictures.grid(samples.images[torch.cat(first)], GRID_DRAWS), "pictures/samples.png")
    if hasattr(model, "pictures"):
        for name, (images, columns) in model.pictures().items():
            run.picture(pictures.grid(data.to_uint8(images), columns), f"pictures/{name}.png")


# --- A classifier ----------------------------------------------------------------------------------------


def classify(
    arm: Arm, config: classifier.Config, settings: Single, dataset: Dataset, parent: str | None = None
) -> str | None:
    """Train, score and log one classifier on the real images and an arm's; returns the run's id."""
    accelerator = Accelerator()
    judge, judge_digest = evaluation.judge(dataset, JUDGES, accelerator)
    if arm.samples is not None and arm.samples.shape != dataset.real.shape:
        raise InputError(
            f"the samples are {arm.samples.shape} images, {dataset.name} has {dataset.real.shape}; "
            f"give a generator's run on {dataset.name}"
        )
    cell = classifier_cell(arm.name, arm.run, config, settings, dataset, accelerator)
    with tracking.run(
        settings.experiment_name or "classifiers",
        f"classifier {arm.name} {settings.dataset} n={len(dataset.real)} seed={settings.seed}",
        tags=_tags("classifier", arm.name, dataset, settings.seed, cell, judge_digest)
        | ({"samples_run": arm.run} if arm.run else {}),
        params=_params(config, settings, dataset, accelerator),
        parent=parent,
        tracking_uri=settings.tracking_uri,
        active=accelerator.is_main_process,
    ) as run:
        run.data(f"{dataset.name} real", dataset.real.digest, dataset.name, "training")
        known = dict(arm.metrics)
        if arm.samples is not None:
            run.data(f"{arm.name} samples", arm.samples.digest, arm.run or "control", "augmentation")
            if "samples/conditional_accuracy" not in known:
                known |= evaluation.conditional_accuracy(judge, arm.samples, dataset.num_classes)
        model = classifier.build(config, evaluation.image_shape(dataset), settings.seed)
        model.prepare(accelerator)
        sources = classifier.mixture(config, dataset.real, arm.samples)
        batches = Batches(*sources, seed=settings.seed, accelerator=accelerator)
        start = time.perf_counter()
        for _ in logged(train(model, batches, config.steps), config.steps, batches.size, run, accelerator):
            pass
        training_s = (time.perf_counter() - start) * accelerator.num_processes
        run.metrics({**known, "cost/training_device_seconds": training_s}, config.steps)
        test = _score(model.eval(), dataset, run, config.steps)
        if accelerator.is_main_process:
            print(f"classifier, arm {arm.name}: test accuracy {test['test/accuracy']:.2%}, run {run.id}")
    return run.id or None


def classifier_cell(
    arm: str,
    source: str | None,
    config: classifier.Config,
    settings: Single,
    dataset: Dataset,
    accelerator: Accelerator,
) -> str:
    """The identity of a classifier's run."""
    return digest(
        "classifier",
        arm,
        source,
        dataclasses.asdict(config),
        dataset.real.digest,
        settings.seed,
        settings.num_synthetic,
        accelerator.mixed_precision,
    )


def _score(model: classifier.Classifier, dataset: Dataset, run: Run, step: int) -> dict[str, float]:
    """Scores and confusion matrix on the validation split, where there is one, and on the test split."""
    scores: dict[str, float] = {}
    for split, images in (("validation", dataset.validation), ("test", dataset.test)):
        if len(images):
            predicted = classifier.predict(model, images.images)
            found = classifier.scores(predicted, images.labels, dataset.num_classes)
            scores |= {f"{split}/{name}": value for name, value in found.items()}
            matrix = classifier.confusion_matrix(predicted, images.labels, dataset.num_classes)
            run.picture(pictures.confusion(matrix), f"pictures/confusion_{split}.png")
    run.metrics(scores, step)
    return scores


# --- What every run carries ------------------------------------------------------------------------------


def _tags(kind: str, method: str, dataset: Dataset, seed: int, cell: str, judge: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": method,
        "dataset": dataset.name,
        "n_real": len(dataset.real),
        "seed": seed,
        "cell": cell,
        "judge": judge[:16],
        "data_digest": dataset.real.digest[:16],
    }


def _params(config: Any, settings: Single, dataset: Dataset, accelerator: Accelerator) -> dict[str, Any]:
    return {
        **dataclasses.asdict(config),
        "dataset": dataset.name,
        "n_real": len(dataset.real),
        "seed": settings.seed,
        "num_synthetic": settings.num_synthetic,
        "world_size": accelerator.num_processes,
        "device": accelerator.device.type,
        "num_threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
    }


def digest(*parts: Any) -> str:
    """128 bits that stand for JSON-like parts, hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
