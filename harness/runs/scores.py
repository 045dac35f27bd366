"""What is measured of a sample set; and whether the store takes it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from harness import numerics
from harness.data.datasets import Dataset
from harness.data.images import Images
from harness.errors import InputError
from harness.evaluation import classifier, judging, quality
from harness.evaluation.classifier import Classifier
from harness.outputs import OUTPUTS
from harness.runs import identities
from harness.settings import Single
from harness.tracking import inputs
from harness.training import launch

if TYPE_CHECKING:
    from accelerate import Accelerator

FLOORS = OUTPUTS / "judges" / "floors"


def check_store(settings: Single, experiment: str, accelerator: Accelerator) -> None:
    """Refuse, on every process, a store in which no run can be made: before any work."""
    refusal: InputError | None = None
    if accelerator.is_main_process:
        try:
            inputs.check_store(settings.tracking_uri, experiment)
        except InputError as error:
            refusal = error
    if refusal := launch.broadcast_from_main(refusal, accelerator):
        raise refusal


def score(
    measures: Sequence[str],
    judge: Classifier,
    samples: Images,
    dataset: Dataset,
    settings: Single,
    accelerator: Accelerator,
) -> dict[str, float]:
    """The figures of a sample set that were asked for."""
    scores: dict[str, float] = {}
    for measure in tqdm(measures, "scoring", unit="figure", disable=None if accelerator.is_main_process else True):
        match measure:
            case "conditional_accuracy":
                scores |= judging.conditional_accuracy(judge, samples, dataset.num_classes, accelerator)
            case "cas":
                config = classifier.Config(steps=settings.cas_steps)
                scores |= quality.classification_accuracy_score(samples, dataset, config, settings.seed, accelerator)
            case "fid":
                two = (judging.features(judge, of.images) for of in (samples, dataset.validation))
                scores["validation/fid"] = quality.frechet_distance(*two)
            case "quality" if len(dataset.test) and len(samples) >= quality.MINIMUM:  # a filter may leave fewer
                alone: dict[str, float] = {}
                if accelerator.is_main_process:
                    floor = _floor(judge, dataset, settings.seed)
                    alone = quality.quality_metrics(judge, samples, dataset, settings.seed) | floor
                scores |= launch.broadcast_from_main(alone, accelerator)
    return scores


def _floor(judge: Classifier, dataset: Dataset, seed: int) -> dict[str, float]:
    """What unseen real images get, which all sample sets of a judge, a seed and the same test images share."""
    parts = judging.weights_digest(judge), dataset.test.digest, seed, numerics.VERSION
    path = FLOORS / f"{identities.digest(*parts)}.json"
    with contextlib.suppress(OSError, ValueError):  # none yet, or a torn one
        return json.loads(path.read_text())
    found = quality.floor_metrics(judge, dataset, seed)
    aside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # on a full disk it is measured again
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(found))
        aside.replace(path)
    return found
