"""One run from end to end: train, sample, score, log. What a script and a comparison's cell both call."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file

from harness import (
    classifier,
    data,
    evaluation,
    exported,
    identities,
    judges,
    launch,
    methods,
    pictures,
    provenance,
    records,
    sampling,
    tracking,
)
from harness.arms import COMMIT, Arm, carried, generator_arm
from harness.classifier import Classifier
from harness.data import Dataset, Images
from harness.errors import InputError, Pruned
from harness.methods import ImageShape
from harness.resumable import Progress, resumable
from harness.seeding import initial_weights
from harness.settings import Single, load, say_notes
from harness.tracking import bits, inputs
from harness.tracking.writing import Run
from harness.training import Batches

if TYPE_CHECKING:
    from accelerate import Accelerator

GRID_DRAWS = 10
NUM_GRIDS = 10


# --- A generator -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Watch:
    """Looks at a generator before its training ends, by which a study may stop it."""

    measure: Literal["conditional_accuracy", "fid"]
    told: Callable[[int, float], bool]
    """look 1 … LOOKS - 1 and what was measured -> whether to stop; the main process asks"""


LOOKS = 5
LOOK_IMAGES = 500
HEADLINES = ("samples/conditional_accuracy", "samples/cas", "validation/cas", "validation/fid")


@launch.blamed()
def generator(
    method: str,
    config: Any,
    settings: Single,
    parent: str | None = None,
    trained_by: str | None = None,
    *,
    measures: Sequence[str] = identities.MEASURES,
    watch: Watch | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Arm:
    """Train, sample, score and log one generator; returns its sample set with its figures and run id.

    `trained_by` is a finished run of the same training: its weights are sampled, its training's cost is taken over.
    """
    accelerator = launch.accelerator(settings.process_timeout)
    experiment = settings.experiment_name or "generators"
    _check_store(settings, experiment, accelerator)
    dataset = load(settings, settings.n_real, settings.seed)
    if parent is None and accelerator.is_main_process:
        say_notes(dataset)
    shape = evaluation.image_shape(dataset)
    config = identities.with_real_steps(config, dataset)
    batches = Batches(
        (dataset.real, config.batch_size),
        seed=settings.seed,
        accelerator=accelerator,
        accumulate=settings.accumulate,
    )
    judging = _Judging(dataset, settings, accelerator)
    model = build(method, config, shape, settings.seed)
    model.prepare(accelerator)
    own = identities.of_generator(method, config, settings, dataset, accelerator, measures)
    cell, trained = identities.digest(own), identities.of_training(own)
    with tracking.run(
        experiment,
        f"{method} {dataset.name} n={len(dataset.real)} seed={settings.seed}",
        tags=records.tags("generator", method, dataset, settings.seed, cell)
        | {"training": identities.digest(trained)}
        | ({"trained_by": trained_by} if trained_by else {})
        | dict(tags or {}),
        params=records.params(config, settings, dataset, accelerator),
        parent=parent,
        tracking_uri=settings.tracking_uri,
        active=accelerator.is_main_process,
        resume=identities.unfinished(settings, own, parent) if accelerator.is_main_process else None,
        why=launch.blame,
    ) as run:
        run.data(f"{dataset.name} real", dataset.real.digest, dataset.name, "training")
        progress = Progress(model, accelerator, run.folder / "checkpoints", trained)
        if trained_by:
            _take_over(progress, trained_by, settings)
        else:
            progress.restore(run)
            looks = _looks(watch, judging, dataset, settings, accelerator) if watch else None
            _train_generator(progress, batches, settings, run, looks)
        samples, sampling_s = sampling.sample_set(
            model, settings.num_synthetic, shape.num_classes, settings.seed, accelerator
        )
        training_s = progress.device_seconds
        costs = {"cost/training_device_seconds": training_s, "cost/sampling_device_seconds": sampling_s}
        judge, judge_digest = judging()
        run.tags({"judge": judge_digest[:16]})
        scores = _measured(measures, judge, samples, dataset, settings, accelerator)
        run.metrics({**costs, **scores, **records.gpu_memory()}, config.steps)
        run.describe(records.headline(f"{method} on {dataset.name}", dataset, settings, {**scores, **costs}))
        if accelerator.is_main_process:
            _log_generator(run, method, model, samples, dataset.classes, settings.register)
            pairs = evaluation.closest_pairs(samples, dataset.real, GRID_DRAWS // 2)
            run.picture(pictures.grid(pairs, GRID_DRAWS), "pictures/closest_pairs.png")
    if accelerator.is_main_process:
        figures = [f"{name.removeprefix('samples/')} {scores[name]:.4g}" for name in HEADLINES if name in scores]
        print(f"{method}: {', '.join(figures)}, training {training_s:.0f} s, sampling {sampling_s:.0f} s, run {run.id}")
    commit = provenance.tags()[COMMIT]
    return Arm(method, samples, launch.agreed(run.id, accelerator) or None, carried({**scores, **costs}), str(commit))


class _Judging:
    """The judge of a data set and its digest, from the moment that a score first needs it."""

    def __init__(self, dataset: Dataset, settings: Single, accelerator: Accelerator) -> None:
        self._found = functools.cache(lambda: judges.judge(dataset, settings, accelerator))

    def __call__(self) -> tuple[Classifier, str]:
        return self._found()


def _check_store(settings: Single, experiment: str, accelerator: Accelerator) -> None:
    """Refuse, on every process, a store in which no run can be made: before any work."""
    refusal: InputError | None = None
    if accelerator.is_main_process:
        try:
            inputs.check_store(settings.tracking_uri, experiment)
        except InputError as error:
            refusal = error
    if refusal := launch.agreed(refusal, accelerator):
        raise refusal


def _measured(
    measures: Sequence[str],
    judge: Classifier,
    samples: Images,
    dataset: Dataset,
    settings: Single,
    accelerator: Accelerator,
) -> dict[str, float]:
    """The figures of a sample set that were asked for."""
    scores: dict[str, float] = {}
    if "conditional_accuracy" in measures:
        scores |= evaluation.conditional_accuracy(judge, samples, dataset.num_classes, accelerator)
    if "cas" in measures:
        config = classifier.Config(steps=settings.cas_steps)
        scores |= evaluation.classification_accuracy_score(samples, dataset, config, settings.seed, accelerator)
    if "fid" in measures:
        scores["validation/fid"] = evaluation.frechet_distance(judge, samples, dataset.validation)
    if "quality" in measures and len(dataset.test) and len(samples) >= evaluation.MINIMUM:  # a filter may leave fewer
        alone = evaluation.quality(judge, samples, dataset, settings.seed) if accelerator.is_main_process else None
        scores |= launch.agreed(alone, accelerator)
    return scores


def _looks(
    watch: Watch, judging: _Judging, dataset: Dataset, settings: Single, accelerator: Accelerator
) -> Callable[[Any, int, Run], None]:
    """What looks at a generator when a fifth of its training is over, and so on: all processes stop, or none."""

    def look(model: Any, step: int, run: Run) -> None:
        number, due = divmod(step * LOOKS, model.config.steps)
        if due >= LOOKS or not 0 < number < LOOKS:  # the first step after a fifth
            return
        samples, _ = sampling.sample_set(model, LOOK_IMAGES, dataset.num_classes, settings.seed, accelerator)
        scores = _measured([watch.measure], judging()[0], samples, dataset, settings, accelerator)
        value = scores[f"samples/{watch.measure}" if watch.measure == "conditional_accuracy" else "validation/fid"]
        run.metrics({f"early/{watch.measure}": value}, step)
        if launch.agreed(accelerator.is_main_process and watch.told(number, value), accelerator):
            raise Pruned(f"pruned at step {step}: {watch.measure} of {LOOK_IMAGES} samples is {value:.4g}")

    return look


def generated(
    method: str,
    config: Any,
    settings: Single,
    dataset: Dataset,
    parent: str | None,
    accelerator: Accelerator,
    *,
    measures: Sequence[str] = identities.MEASURES,
    within: str | None = None,
    **how: Any,
) -> Arm:
    """A generator's arm: of a finished run, in the whole store or `within` a parent, else trained now."""
    finished, trained_by = launch.agreed(
        identities.finished_generator(method, config, settings, dataset, accelerator, measures, within), accelerator
    )
    if finished:
        arm = generator_arm(finished, settings.tracking_uri) if accelerator.is_main_process else None
        return launch.agreed(arm, accelerator)
    return generator(method, config, settings, parent, trained_by, measures=measures, **how)


def build(method: str, config: Any, shape: ImageShape, seed: int) -> Any:
    """A generator with the initial weights of `seed`."""
    with initial_weights(seed, method):
        return methods.find(method)(config, shape)


def _take_over(progress: Progress, run_id: str, settings: Single) -> None:
    """The weights of a finished run, on every process, and the device-seconds that their training took."""
    found = None
    if progress.accelerator.is_main_process:
        weights = inputs.read(run_id, "generator/weights.safetensors", settings.tracking_uri, load_file)
        source = inputs.look_up(run_id, settings.tracking_uri)
        found = (weights, source["metrics.cost/training_device_seconds"])
    weights, progress.device_seconds = launch.agreed(found, progress.accelerator)
    progress.model.load_state_dict(weights)


def _train_generator(
    progress: Progress,
    batches: Batches,
    settings: Single,
    run: Run,
    look: Callable[[Any, int, Run], None] | None = None,
) -> None:
    """Train to the end, with metrics, checkpoints and sample grids, and looks that may end it earlier."""
    model, accelerator = progress.model, progress.accelerator
    steps, num_classes = model.config.steps, model.shape.num_classes
    labels = torch.arange(num_classes).repeat_interleave(GRID_DRAWS)
    grid_every = -(-steps // NUM_GRIDS)

    def show(step: int) -> None:
        grid = sampling.draw(model, labels, settings.seed, accelerator.device)
        run.image("samples", pictures.grid(grid.images, GRID_DRAWS), step)

    if progress.step == 0:
        show(0)  # where the UI's slider begins
    for step in resumable(progress, batches, steps, settings.checkpoint_every, run):
        if (step + 1) % grid_every == 0 or step + 1 == steps:
            show(step + 1)
        if look:
            look(model, step + 1, run)


def _log_generator(run: Run, method: str, model: Any, samples: Images, classes: Sequence[str], register: bool) -> None:
    """The sample set, the pictures and the model."""
    shape: ImageShape = model.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npz"
        samples.save(path)
        run.file(path)
        run.tags({"samples_digest": samples.digest})
        trained = Path(folder) / "generator"
        exported.export(trained, method, model, shape, classes)
        for path in trained.iterdir():
            run.file(path, "generator")
        run.model(trained, [0, 0, shape.num_classes - 1], register)
    by_label = samples.labels.argsort(stable=True)
    first = [by_label[samples.labels[by_label] == label][:GRID_DRAWS] for label in range(shape.num_classes)]
    run.picture(pictures.grid(samples.images[torch.cat(first)], GRID_DRAWS), "pictures/samples.png")
    if hasattr(model, "pictures"):
        for name, (images, columns) in model.pictures().items():
            run.picture(pictures.grid(data.to_uint8(images), columns), f"pictures/{name}.png")


# --- A classifier ----------------------------------------------------------------------------------------

UNKNOWN = {"conditional_accuracy": "samples/conditional_accuracy", "quality": "quality/fid"}
"""What is measured of an arm's samples where nobody has, by the figure that tells."""


def filtered(arm: Arm, config: classifier.Config, settings: Single, dataset: Dataset, accelerator: Accelerator) -> Arm:
    """The samples in which a classifier trained on the very same real images, and no others, sees what was asked for.

    It is the classifier of the arm `none`. The full judge would bring in what it learnt of all training images.
    """
    assert arm.samples is not None
    start = time.perf_counter()
    model = evaluation.taught(dataset.real, evaluation.image_shape(dataset), config, settings.seed, accelerator)
    agrees = classifier.predict(model, arm.samples.images, accelerator) == arm.samples.labels
    costs = {name: value for name, value in arm.metrics.items() if name.startswith("cost/")}
    known = {
        "samples/kept": float(agrees.float().mean()),
        "cost/filter_device_seconds": (time.perf_counter() - start) * accelerator.num_processes,
    }
    kept = arm.samples[agrees] if agrees.any() else None
    return Arm(f"{arm.name}-filtered", kept, arm.run, costs | known)


@launch.blamed()
def classify(
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
    _check_store(settings, experiment, accelerator)
    judge, judge_digest = judges.judge(dataset, settings, accelerator)
    if arm.samples is not None and arm.samples.shape != dataset.real.shape:
        raise InputError(
            f"the samples are {arm.samples.shape} images, {dataset.name} has {dataset.real.shape}; "
            f"give a generator's run on {dataset.name}"
        )
    cell = identities.of_classifier(arm, config, settings, dataset, accelerator)
    model = classifier.build(config, evaluation.image_shape(dataset), settings.seed)
    with tracking.run(
        experiment,
        f"classifier {arm.title} {dataset.name} n={len(dataset.real)} seed={settings.seed}",
        tags=records.tags("classifier", arm.name, dataset, settings.seed, cell)
        | {"judge": judge_digest[:16]}
        | ({"samples_run": arm.run} if arm.run else {})
        | ({"generator_commit": arm.commit} if arm.commit else {})
        | ({"variant": arm.variant} if arm.variant else {})
        | dict(tags or {}),
        params=records.params(model.config, settings, dataset, accelerator),
        parent=parent,
        tracking_uri=settings.tracking_uri,
        active=accelerator.is_main_process,
        why=launch.blame,
    ) as run:
        run.data(f"{dataset.name} real", dataset.real.digest, dataset.name, "training")
        known = dict(arm.metrics)
        if arm.samples is not None:
            source = f"runs:/{arm.run}/samples.npz" if arm.run else f"control {arm.name}"
            run.data(f"{arm.name} samples", arm.samples.digest, source, "augmentation")
            if not arm.variant:  # the whole set's figures are those of the sweep's other end
                unknown = [name for name, figure in UNKNOWN.items() if figure not in known]
                known |= _measured(unknown, judge, arm.samples, dataset, settings, accelerator)
        model.prepare(accelerator)
        sources = classifier.mixture(config, dataset.real, arm.samples)
        batches = Batches(*sources, seed=settings.seed, accelerator=accelerator)
        progress = Progress(model, accelerator)
        for _ in resumable(progress, batches, config.steps, config.steps, run):
            pass
        known |= {"cost/training_device_seconds": progress.device_seconds}
        run.metrics({**known, **records.gpu_memory()}, config.steps)
        scores = _score(model.eval(), dataset, run, config.steps, accelerator)
        run.describe(records.headline(f"Classifier on {dataset.name}, arm {arm.title}", dataset, settings, scores))
    if accelerator.is_main_process:
        split = "test" if len(dataset.test) else "validation"
        print(f"classifier, arm {arm.title}: {split} accuracy {scores[f'{split}/accuracy']:.2%}, run {run.id}")
    return launch.agreed(run.id, accelerator), {**known, **scores}


def classified(
    arm: Arm,
    config: classifier.Config,
    settings: Single,
    dataset: Dataset,
    parent: str,
    accelerator: Accelerator,
    **how: Any,
) -> tuple[str, dict[str, float]]:
    """The run and the figures of an arm's classifier under a parent: of its finished run there, else trained now."""
    cell = identities.of_classifier(arm, config, settings, dataset, accelerator)
    found = accelerator.is_main_process and identities.finished_classifier(cell, settings, parent)
    if not (done := launch.agreed(found, accelerator)):
        return classify(arm, config, settings, dataset, parent, **how)
    row = launch.agreed(
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
