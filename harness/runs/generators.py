"""One run from end to end: train, sample, score, log. What a script and a comparison's cell both call."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from harness import methods, tracking
from harness.data.datasets import Dataset
from harness.data.images import Images, ImageShape, to_uint8
from harness.evaluation import copies
from harness.runs import exported, identities, pictures, records
from harness.runs.arms import COMMIT, Arm, generator_arm, inherited_metrics
from harness.runs.looks import Judging, Watch, curve_figures, stopping_looks
from harness.runs.scores import check_store, score
from harness.seeding import initial_weights
from harness.settings import Single, load_dataset
from harness.tracking import inputs, provenance
from harness.tracking.addresses import page_of
from harness.tracking.writing import Run
from harness.training import launch, sampling
from harness.training.loop import Batches
from harness.training.resumable import Progress, train_resumably

if TYPE_CHECKING:
    from accelerate import Accelerator

GRID_DRAWS = 10
NUM_GRIDS = 10
SAMPLES = "pictures/samples.png"
MODEL_FIGURES = (
    "samples/conditional_accuracy", "validation/cas", "validation/fid", "test/quality/fid",
    "cost/training_device_seconds", "cost/sampling_device_seconds",
)  # fmt: skip
"""By what generators are compared as models, within one data set; the page of the run has the rest."""
HEADLINES = ("samples/conditional_accuracy", "test/cas", "validation/cas", "validation/fid")


@launch.record_first_failure()
def run_generator(
    method: str,
    config: Any,
    settings: Single,
    parent: str | None = None,
    trained_by: str | None = None,
    *,
    dataset: Dataset | None = None,
    measures: Sequence[str] = identities.MEASURES,
    watch: Watch | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Arm:
    """Train, sample, score and log one generator; returns its sample set with its figures and run id.

    `trained_by` is a finished run of the same training: its weights are sampled, its training's cost is taken over.
    `dataset` is what `settings` name, where it was read before.
    """
    accelerator = launch.accelerator(settings.process_timeout)
    experiment = settings.experiment_name or "generators"
    check_store(settings, experiment, accelerator)
    dataset = dataset or load_dataset(settings, settings.n_real, settings.seed)
    shape = dataset.image_shape
    config = identities.with_final_steps(config, dataset)
    if parent is None and accelerator.is_main_process:
        records.print_notes(dataset, config)
    batches = Batches(
        (dataset.real, config.batch_size),
        seed=settings.seed,
        accelerator=accelerator,
        accumulate=settings.accumulate,
        moved=shape.moves if config.augment == "moved" else None,
    )
    arm = methods.arm_name(method, config)
    judging = Judging(dataset, settings, accelerator)
    model = build_generator(method, config, shape, settings.seed)
    model.prepare(accelerator)
    own = identities.generator_identity(method, config, settings, dataset, accelerator, measures)
    cell, trained = identities.digest(own), identities.training_identity(own)
    with tracking.run(
        experiment,
        f"{arm} n={dataset.n_real} s={settings.seed}" + (" generator" if parent else ""),
        tags=records.tags("generator", method, dataset, settings.seed, cell)
        | {"training": identities.digest(trained)}
        | ({"trained_by": trained_by} if trained_by else {})
        | dict(tags or {}),
        params={"arm": arm, "method": method} | records.params(config, settings, dataset, accelerator),
        parent=parent,
        tracking_uri=settings.tracking_uri,
        active=accelerator.is_main_process,
        resume=identities.find_unfinished(settings, own, parent) if accelerator.is_main_process else None,
        why=launch.first_failure,
    ) as run:
        run.data(f"{dataset.name} real", dataset.real.digest, dataset.name, "training")
        run.data(dataset.name, dataset.train.digest, dataset.name, "evaluation")  # what figures are compared within
        progress = Progress(model, accelerator, run.folder / "checkpoints", trained)
        if trained_by:
            _take_over(progress, trained_by, settings)
        else:
            progress.restore(run)
            looks = stopping_looks(watch, judging, dataset, settings, accelerator) if watch else None
            _train_generator(progress, batches, settings, run, dataset, judging, looks)
        getattr(model, "begin_with", lambda real: None)(dataset.real)
        samples, sampling_s = sampling.draw_sample_set(
            model, settings.num_synthetic, shape.num_classes, settings.seed, accelerator
        )
        training_s = progress.device_seconds
        costs = {"cost/training_device_seconds": training_s, "cost/sampling_device_seconds": sampling_s}
        judge, judge_digest = judging()
        run.tags({"judge": judge_digest[:16]})
        scores = score(measures, judge, samples, dataset, settings, accelerator)
        run.metrics({**costs, **scores, **records.gpu_memory()}, config.steps)
        run.describe(records.headline(f"{arm} on {dataset.name}", dataset, settings, {**scores, **costs}))
        if accelerator.is_main_process:
            _log_generator(run, method, model, samples, dataset, settings, {**scores, **costs})
            pairs = copies.closest_pairs(samples, dataset.real, GRID_DRAWS // 2)
            run.picture(pictures.image_grid(pairs, GRID_DRAWS), "pictures/closest_pairs.png")
    if accelerator.is_main_process:
        figures = [f"{name.removeprefix('samples/')} {scores[name]:.4g}" for name in HEADLINES if name in scores]
        print(f"{arm}: {', '.join(figures)}, training {training_s:.0f} s, sampling {sampling_s:.0f} s, run {run.id}")
        if parent is None:
            _print_places(run, settings)
    commit = provenance.tags()[COMMIT]
    return Arm(
        arm,
        samples,
        launch.broadcast_from_main(run.id, accelerator) or None,
        inherited_metrics({**scores, **costs}),
        str(commit),
    )


def _print_places(run: Run, settings: Single) -> None:
    """Where what people want next is: the picture of the samples, and the run's page."""
    picture = run.folder / "files" / SAMPLES
    if picture.exists():
        print(f"samples: {os.path.relpath(picture)}")
    print(f"page: {page_of(run.id, settings.tracking_uri)}")


def get_or_run_generator(
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
    finished, trained_by = launch.broadcast_from_main(
        identities.find_finished_generator(method, config, settings, dataset, accelerator, measures, within),
        accelerator,
    )
    if finished:
        arm = generator_arm(finished, settings.tracking_uri) if accelerator.is_main_process else None
        return launch.broadcast_from_main(arm, accelerator)
    return run_generator(method, config, settings, parent, trained_by, dataset=dataset, measures=measures, **how)


def build_generator(method: str, config: Any, shape: ImageShape, seed: int) -> Any:
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
    weights, progress.device_seconds = launch.broadcast_from_main(found, progress.accelerator)
    progress.model.load_state_dict(weights)


def _train_generator(
    progress: Progress,
    batches: Batches,
    settings: Single,
    run: Run,
    dataset: Dataset,
    judging: Judging,
    look: Callable[[Any, int, Run], None] | None = None,
) -> None:
    """Train to the end, with metrics, checkpoints and sample grids, and looks that may end it earlier."""
    model, accelerator = progress.model, progress.accelerator
    steps, num_classes = model.config.steps, model.shape.num_classes
    labels = torch.arange(num_classes).repeat_interleave(GRID_DRAWS)
    grid_every = -(-steps // NUM_GRIDS)

    def show(step: int) -> None:
        grid = sampling.draw_images(model, labels, settings.seed, accelerator.device)
        run.image("samples", pictures.class_grid(grid.images, dataset.classes), step)
        if step > 0 and (figures := curve_figures(progress, grid, judging, dataset, settings)):
            run.metrics(figures, step)

    if progress.step == 0:
        show(0)  # where the UI's slider begins
    for step in train_resumably(progress, batches, steps, settings.checkpoint_every, run):
        if (step + 1) % grid_every == 0 or step + 1 == steps:
            show(step + 1)
        if look:
            look(model, step + 1, run)


def _log_generator(
    run: Run,
    method: str,
    model: Any,
    samples: Images,
    dataset: Dataset,
    settings: Single,
    figures: Mapping[str, float],
) -> None:
    """The sample set, the pictures and the model with its figures."""
    shape, classes = model.shape, dataset.classes
    by_label = samples.labels.argsort(stable=True)
    fewest = min(GRID_DRAWS, int(torch.bincount(samples.labels, minlength=shape.num_classes).min()))
    first = [by_label[samples.labels[by_label] == label][:fewest] for label in range(shape.num_classes)]
    if fewest:
        run.picture(pictures.class_grid(samples.images[torch.cat(first)], classes), SAMPLES)
    if hasattr(model, "pictures"):
        for name, (images, columns) in model.pictures().items():
            run.picture(pictures.image_grid(to_uint8(images), columns), f"pictures/{name}.png")
    shown = {name: figures[name] for name in MODEL_FIGURES if name in figures}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npz"
        samples.save(path)
        run.file(path)
        run.tags({"samples_digest": samples.digest})
        trained = Path(folder) / "generator"
        exported.export_generator(trained, method, model, shape, classes)
        for path in trained.iterdir():
            run.file(path, "generator")
        run.model(
            trained,
            [0, 0, shape.num_classes - 1],
            settings.register and not methods.is_varied(model.config),
            description=records.headline(f"{method} on {dataset.name}", dataset, settings, shown),
            params={
                "method": method,
                "dataset": dataset.name,
                "n_real": dataset.n_real,
                "seed": settings.seed,
                "num_synthetic": settings.num_synthetic,
            },
            figures=list(shown),
            dataset=dataset.name,
            digest=dataset.train.digest,
            picture=SAMPLES if fewest else None,
        )
