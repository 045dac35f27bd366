"""Looks at a generator before its training ends: what a study may stop it by, and what curves are drawn of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.data.datasets import Dataset
from harness.data.images import Images
from harness.errors import Pruned
from harness.evaluation import quality
from harness.evaluation.classifier import Classifier, Config
from harness.evaluation.judging import conditional_accuracy
from harness.runs import judges
from harness.runs.scores import score
from harness.settings import Single
from harness.tracking.writing import Run
from harness.training import launch, sampling
from harness.training.resumable import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

LOOKS = 5
LOOK_IMAGES = 500


@dataclass(frozen=True)
class Watch:
    """Looks by which a study may stop a training."""

    measure: Literal["conditional_accuracy", "fid"]
    should_stop: Callable[[int, float], bool]
    """look 1 … LOOKS - 1 and what was measured -> whether to stop; the main process asks"""


class Judging:
    """The judge of a data set and its digest, from the moment that a score first needs it."""

    def __init__(self, dataset: Dataset, settings: Single, accelerator: Accelerator) -> None:
        self._dataset, self._settings, self._accelerator = dataset, settings, accelerator
        self._found = functools.cache(lambda: judges.get_judge(dataset, settings, accelerator))

    def __call__(self) -> tuple[Classifier, str]:
        return self._found()

    @functools.cached_property
    def at_hand(self) -> Classifier | None:
        """The judge for looks during a training, which a signal must be able to end soon; None where it is not here."""
        return judges.judge_at_hand(self._dataset, self._settings, self._accelerator)


def stopping_looks(
    watch: Watch, judging: Judging, dataset: Dataset, settings: Single, accelerator: Accelerator
) -> Callable[[Any, int, Run], None]:
    """What looks at a generator when a fifth of its training is over, and so on: all processes stop, or none."""

    def look(model: Any, step: int, run: Run) -> None:
        number, due = divmod(step * LOOKS, model.config.steps)
        if due >= LOOKS or not 0 < number < LOOKS:  # the first step after a fifth
            return
        samples, _ = sampling.draw_sample_set(model, LOOK_IMAGES, dataset.num_classes, settings.seed, accelerator)
        scores = score([watch.measure], judging()[0], samples, dataset, settings, accelerator)
        value = scores[f"samples/{watch.measure}" if watch.measure == "conditional_accuracy" else "validation/fid"]
        run.metrics({f"early/{watch.measure}": value}, step)
        if launch.broadcast_from_main(accelerator.is_main_process and watch.should_stop(number, value), accelerator):
            raise Pruned(f"pruned at step {step}: {watch.measure} of {LOOK_IMAGES} samples is {value:.4g}")

    return look


def curve_figures(
    progress: Progress, grid: Images, judging: Judging, dataset: Dataset, settings: Single
) -> dict[str, float]:
    """What different methods can be compared by while they are trained, over `cost/device_seconds`.

    The judge sees the images of `grid`; of --look-samples a classifier learns, which is asked for validation images.
    """
    accelerator, figures = progress.accelerator, {}
    if judging.at_hand:
        of_grid = conditional_accuracy(judging.at_hand, grid, dataset.num_classes, accelerator)
        figures["looks/conditional_accuracy"] = of_grid["samples/conditional_accuracy"]
    if settings.look_samples and len(dataset.validation):
        samples, _ = sampling.draw_sample_set(
            progress.model, settings.look_samples, dataset.num_classes, settings.seed, accelerator
        )
        config = Config(steps=settings.cas_steps)
        learner = quality.train_on(samples, dataset.image_shape, config, settings.seed, accelerator)
        figures["looks/cas"] = quality.accuracy(learner, dataset.validation, accelerator)
    return figures | {"cost/device_seconds": progress.device_seconds} if figures else {}
