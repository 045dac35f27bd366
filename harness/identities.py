"""What makes two runs the same one: so that none is done twice, and an unfinished one is gone on with."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator

from harness import classifier, launch, methods, tracking
from harness.arms import Arm
from harness.data import Dataset
from harness.errors import InputError
from harness.settings import Single
from harness.tracking import OUTPUTS
from harness.training import num_steps

MEASURES = ("conditional_accuracy", "cas", "quality")
"""What is measured of a sample set unless less, or `fid`, is asked for."""


def of_generator(
    method: str,
    config: Any,
    settings: Single,
    dataset: Dataset,
    accelerator: Accelerator,
    measures: Sequence[str] = MEASURES,
) -> dict[str, Any]:
    """What a generator's run is: equal ones give equal sample sets, so none is trained twice."""
    measured = [] if settings.test and measures == MEASURES else [*measures, settings.test]
    measured += dataset.contents  # of the judge's training and of the test
    return {
        "method": method,
        **dataclasses.asdict(config),
        "data_digest": dataset.real.digest,
        "seed": settings.seed,
        "num_synthetic": settings.num_synthetic,
        "precision": accelerator.mixed_precision,
        **({"measured": measured} if measured else {}),
    }


def of_training(identity: dict[str, Any]) -> dict[str, Any]:
    """What a generator's weights are: its identity without what only sampling reads."""
    sampled = ("num_synthetic", "measured", *methods.find(identity["method"]).sampling_fields)
    return {key: value for key, value in identity.items() if key not in sampled}


def of_classifier(
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
        *([] if settings.test else ["validation alone"]),
        *([arm.variant] if arm.variant else []),
        *dataset.contents,
    )


def unfinished(settings: Single, identity: dict[str, Any], parent: str | None = None) -> str | None:
    """The run to go on with: the named one, or for `auto` the newest one of this cell that no process lives in.

    For `auto` it must have the same parent: what one study or comparison began, no other goes on with.

    Processes that torchrun has started again look for theirs without being told.

    Raises InputError for a named run that is finished, of something else, or whose journal is not here.
    """
    cell, named = digest(identity), settings.resume
    if named in (None, "auto"):
        wanted = named or launch.restarted()
        return tracking.find_unfinished(cell, settings.tracking_uri, parent) if wanted else None
    found = tracking.get_run(named, settings.tracking_uri)
    if found["status"] == "FINISHED":
        raise InputError(f"run {named} is finished; leave out --resume to train anew")
    if found.get("tags.cell") != cell:
        raise InputError(f"run {named} is of something else: {'; '.join(_differences(identity, found))}")
    if not tracking.is_here(named):
        raise InputError(
            f"the journal of run {named} is not in {OUTPUTS / 'runs'}: go on where the run was, or train anew"
        )
    return named


def _differences(identity: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where a run's params and tags are not those of an identity, in words."""
    known = {key: found.get(f"params.{key}", found.get(f"tags.{key}")) for key in identity}
    wanted = {key: str(value) for key, value in identity.items()} | {"data_digest": identity["data_digest"][:16]}
    return [f"{key} is {value}, the run's {known[key]}" for key, value in wanted.items() if known[key] != value]


def with_real_steps(config: Any, dataset: Dataset) -> Any:
    """The configuration with `steps` as they will be run: `epochs` may end the training earlier."""
    steps = num_steps(config.steps, config.epochs, len(dataset.real), config.batch_size)
    return dataclasses.replace(config, steps=steps)


def finished_generator(
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
    config = with_real_steps(config, dataset)
    identity = of_generator(method, config, settings, dataset, accelerator, measures)
    same = tracking.find_finished("cell", digest(identity), settings.tracking_uri, within)
    if same or within:
        return same, None
    return None, tracking.find_finished("training", digest(of_training(identity)), settings.tracking_uri)


def digest(*parts: Any) -> str:
    """128 bits that stand for JSON-like parts, hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
