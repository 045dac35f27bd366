"""What makes two runs the same one: so that none is done twice, and an unfinished one is gone on with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness import methods, numerics
from harness.data.datasets import Dataset
from harness.errors import InputError
from harness.evaluation import classifier
from harness.runs.arms import Arm
from harness.settings import Common, Single
from harness.tracking import inputs, local
from harness.training import launch
from harness.training.loop import num_steps

if TYPE_CHECKING:
    from accelerate import Accelerator

MEASURES = ("conditional_accuracy", "cas", "quality")
"""What is measured of a sample set unless less, or `fid`, is asked for."""


def generator_identity(
    method: str,
    config: Any,
    settings: Single,
    dataset: Dataset,
    accelerator: Accelerator,
    measures: Sequence[str] = MEASURES,
) -> dict[str, Any]:
    """What a generator's run is: equal ones give equal sample sets, so none is trained twice."""
    measured = [] if settings.test and measures == MEASURES else [*measures, settings.test]
    measured += [*scoring_identity(settings), *dataset.contents]  # of the judge's training and of the test
    return {
        "method": method,
        **dataclasses.asdict(config),
        "data_digest": dataset.real.digest,
        **dataset.unusual_moves,
        "seed": settings.seed,
        "num_synthetic": settings.num_synthetic,
        "precision": accelerator.mixed_precision,
        "numerics": numerics.VERSION,
        **({"measured": measured} if measured else {}),
    }


def scoring_identity(settings: Common) -> list[str]:
    """By what other classifiers, and on what other images, than usual samples are scored."""
    names = ("cas_steps", "judge_steps", "judge_width", "folds")
    return [f"{name} {getattr(settings, name)}" for name in names if getattr(settings, name) != getattr(Common, name)]


def training_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """What a generator's weights are: its identity without what only sampling reads."""
    sampled = ("num_synthetic", "measured", *methods.find(identity["method"]).sampling_fields)
    return {key: value for key, value in identity.items() if key not in sampled}


def classifier_identity(
    arm: Arm,
    config: classifier.Config,
    settings: Single,
    dataset: Dataset,
    accelerator: Accelerator,
) -> str:
    """The identity of a classifier's run."""
    return digest(
        "classifier",
        arm.name,
        arm.run,
        dataclasses.asdict(config),
        dataset.real.digest,
        settings.seed,
        settings.num_synthetic,
        accelerator.mixed_precision,
        numerics.VERSION,
        *([] if settings.test else ["validation alone"]),
        *scoring_identity(settings),
        *([arm.variant] if arm.variant else []),
        *dataset.contents,
        *dataset.unusual_moves.values(),
    )


def find_unfinished(settings: Single, identity: dict[str, Any], parent: str | None = None) -> str | None:
    """The run to go on with: the named one, or for `auto` the newest one of this cell that no process lives in.

    For `auto` it must have the same parent: what one study or comparison began, no other goes on with.

    Processes that torchrun has started again look for theirs without being told.

    Raises InputError for a named run that is finished, of something else, or whose journal is not here; and for
    `auto` where such a run is still alive, unless it is waited for.
    """
    cell, named = digest(identity), settings.resume
    if named in (None, "auto"):
        return _newest_unfinished(cell, settings, parent) if named or launch.is_restarted() else None
    folder = local.find(named)
    if folder is None:
        raise InputError(f"the journal of run {named} is not in {local.RUNS}: go on where the run was, or train anew")
    found = local.row(folder)
    if found["status"] == "FINISHED":
        raise InputError(f"run {named} is finished; leave out --resume to train anew")
    if found.get("tags.cell") != cell:
        raise InputError(f"run {named} is of something else: {'; '.join(_differences(identity, found))}")
    return folder.name


def _newest_unfinished(cell: str, settings: Single, parent: str | None) -> str | None:
    for folder in local.of_cell(cell, settings.tracking_uri, parent):
        if not local.is_dead(folder):
            if not settings.wait:
                raise InputError(
                    f"run {local.id_of(folder)} of this very configuration still lives: {local.writer(folder)}; "
                    "end it, or give --wait to go on when it has ended"
                )
            print(f"waiting for run {local.id_of(folder)}: {local.writer(folder)}", file=sys.stderr, flush=True)
            while not local.is_dead(folder):
                time.sleep(1)
            if local.status(folder) == "FINISHED":
                raise InputError(f"run {local.id_of(folder)} has finished meanwhile; leave out --resume to train anew")
        if local.status(folder) != "FINISHED":
            return folder.name
    return None


def _differences(identity: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where a run's params and tags are not those of an identity, in words."""
    known = {key: found.get(f"params.{key}", found.get(f"tags.{key}")) for key in identity}
    wanted = {key: str(value) for key, value in identity.items()} | {"data_digest": identity["data_digest"][:16]}
    return [f"{key} is {value}, the run's {known[key]}" for key, value in wanted.items() if known[key] != value]


def with_final_steps(config: Any, dataset: Dataset) -> Any:
    """The configuration with `steps` as they will be run: `epochs` may end the training earlier."""
    steps = num_steps(config.steps, config.epochs, len(dataset.real), config.batch_size)
    return dataclasses.replace(config, steps=steps)


def find_finished_generator(
    method: str,
    config: Any,
    settings: Single,
    dataset: Dataset,
    accelerator: Accelerator,
    measures: Sequence[str] = MEASURES,
    within: str | None = None,
) -> tuple[str | None, str | None]:
    """The ids of a finished run of the very same generator, and of one of the same training, as the store has them.

    The second is sampled as this configuration says, where there is no first. `within` a parent only the first.
    """
    if not accelerator.is_main_process:
        return None, None
    config = with_final_steps(config, dataset)
    identity = generator_identity(method, config, settings, dataset, accelerator, measures)
    same = _finished("cell", digest(identity), settings, within)
    if same or within:
        return same, None
    return None, _finished("training", digest(training_identity(identity)), settings)


def find_finished_classifier(cell: str, settings: Single, parent: str, only_here: bool) -> str | None:
    """The id of a finished run of the very same classifier under a parent, of this folder or else of the store."""
    return _finished_here(cell, settings, parent) if only_here else _finished("cell", cell, settings, parent)


def _finished_here(cell: str, settings: Single, parent: str | None) -> str | None:
    folders = local.of_cell(cell, settings.tracking_uri, parent or local.ANY)
    return next((local.id_of(folder) for folder in folders if local.status(folder) == "FINISHED"), None)


def _finished(tag: str, value: str, settings: Single, parent: str | None = None) -> str | None:
    """Of this folder, or of the store; a store that is away has none: what it has is trained again."""
    if tag == "cell" and (found := _finished_here(value, settings, parent)):
        return found
    try:
        return next(iter(inputs.find_finished(tag, value, settings.tracking_uri, parent)), None)
    except InputError as error:
        print(f"{error}: what it has finished is not known", file=sys.stderr)
        return None


def digest(*parts: Any) -> str:
    """128 bits that stand for JSON-like parts, hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
