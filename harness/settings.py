"""What the experiments share on their command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.bounds import Count, Folds, ImageSize, Imbalance, Moves, Name, Natural, Seconds, Width

if TYPE_CHECKING:
    from harness.data.datasets import Dataset


@dataclass(frozen=True)
class Data:
    """The images."""

    dataset: str = "digits"
    """digits (embedded), mnist, fashion-mnist, kmnist, or folder:PATH: your own images, as PATH/CLASS/*.png or as
    PATH/train/CLASS/*.png and PATH/test/CLASS/*.png"""
    image_size: ImageSize | None = None
    """height and width, a multiple of 4, to which a folder's images are resized and cropped; by default
    as their own shorter side is, 32 at most"""
    moves: Moves | None = None
    """the small moves of augmented images: rotate, scale and shift, for what has a side; or reflect and shift, by
    default for images in colour and of fashion-mnist"""
    data_root: str | None = None
    """folder of the data files; by default the environment's HARNESS_DATA_ROOT"""
    imbalance: Imbalance | None = None
    """how many times as many real images the first class has as the last one: a long tail, the classes between fall
    geometrically"""
    folds: Folds | None = None
    """cross-validation inside the n_real images, to choose without any others: seeds 0 … FOLDS - 1 are the folds of one
    set of real images, the next ones of another; a fold is the validation split, no test image is read"""

    @property
    def data_name(self) -> str:
        """What runs call the data set; of a folder the training images are read."""
        from harness.data import datasets

        return datasets.title(datasets.name_of(self.dataset, self.image_size), self.imbalance, self.moves)


@dataclass(frozen=True)
class Scoring:
    """What is drawn, and by what it is scored."""

    num_synthetic: Count = 20_000
    """images in a sample set"""
    cas_steps: Count = 600
    """optimizer steps of the classifier that sees samples alone: its accuracy is CAS"""
    look_samples: Natural = 0
    """samples from which a classifier learns at each of the ten looks at a training: its accuracy on the validation
    split is looks/cas, to be drawn over cost/device_seconds; 0: none"""
    judge_steps: Count | None = None
    """optimizer steps of the judge, the classifier trained on all training images that tells how good samples are; by
    default 1,400 of 256 images, in colour 1,600, or fewer where 300 or more are 100 passes over them"""
    judge_width: Width | None = None
    """channels of the judge's first stage, as of `--classifier.width`; by default 24 for images in colour, where a
    wider one is deeper and learns longer: with 48, 3,200 steps"""


@dataclass(frozen=True)
class Tracking:
    """Where it is logged."""

    tracking_uri: str | None = None
    """MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/. A password belongs in
    MLFLOW_TRACKING_PASSWORD, a database's in PGPASSFILE"""
    experiment_name: Name | None = None
    """MLflow experiment; by default generators, classifiers or comparisons"""


@dataclass(frozen=True)
class Processes:
    """How the processes train."""

    accumulate: Count = 1
    """parts into which each process divides its share of a batch, where the whole does not fit its memory"""
    checkpoint_every: Count = 1000
    """steps between two checkpoints; the last step always has one"""
    process_timeout: Seconds = 180.0
    """seconds after which a process that waits for another one gives up, and the run with it"""


@dataclass(frozen=True)
class Common(Processes, Tracking, Scoring, Data):
    """What every experiment shares."""


@dataclass(frozen=True)
class Single(Common):
    """One run."""

    n_real: Count | None = None
    """real training images; by default all but the validation images"""
    seed: Natural = 0
    """seed of the splits, the weights, the order, the noise and the samples"""
    resume: str | None = None
    """id of an unfinished run to go on with, or auto: the newest unfinished one of this very configuration"""
    wait: bool = False
    """where a run that --resume auto would go on with still lives: wait for its end, instead of refusing"""
    register: bool = True
    """whether a generator becomes a version of the registered model of its method, and may be its champion"""
    test: bool = True
    """whether the test split is read and scored on; what is tuned must not see it"""


def load_dataset(common: Common, n_real: int | None, seed: int) -> Dataset:
    from harness.data import datasets

    with_test, data = getattr(common, "test", True), (common.dataset, common.data_root)
    return datasets.load(
        *data, n_real, seed, with_test, common.image_size, common.folds, common.imbalance, common.moves
    )
