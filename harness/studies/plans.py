"""What is asked of a comparison and of a study: their flags, without the engines that do the work."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import tyro

from harness import methods, spaces
from harness.bounds import Count, Name, Natural, Positive, Share
from harness.data import controls
from harness.engine.workers import WorkerSettings
from harness.evaluation import classifier
from harness.evaluation.classifier import Config as ClassifierConfig
from harness.settings import Common, Single

# --- A comparison -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonPlan(WorkerSettings):
    """What is compared."""

    methods: tuple[str, ...] = tuple(methods.names())
    """generators, a file in harness/methods each; ddpm-moved is the DDPM with --ddpm.augment moved, and so on"""
    controls: tuple[str, ...] = controls.CONTROLS
    """arms that no generator made"""
    seeds: Count = 5
    """number of seeds: splits, weights, order and noise"""
    first_seed: Natural = 0
    """first of the seeds"""
    n_real: tuple[Count, ...] = (1000,)
    """numbers of real training images"""
    filtered: bool = False
    """whether each generator, and affine, has a second arm: the samples with which a classifier of the same real
    images, under fresh moves, agrees"""
    targeted: bool = False
    """likewise: the samples that are near to the real images which such a classifier learns late"""
    levelled: bool = False
    """likewise, and each control: as many samples as make a rare class as large as the largest one"""
    more_classifiers: tuple[str, ...] = ()
    """classifiers that every arm has beside --classifier, each by what is other: augment=True, or
    width=16,steps=2000"""
    batches: tuple[Literal["enlarged", "replaced"], ...] = ()
    """sweep: how the generators' images come into a batch, beside --classifier.batch"""
    weights: tuple[Share, ...] = ()
    """sweep: the synthetic images' weights in the loss"""
    amounts: tuple[Positive, ...] = ()
    """sweep: numbers of synthetic images that each generator's classifiers get, in multiples of n_real"""
    shares: tuple[Share, ...] = ()
    """sweep: the synthetic images' shares of a batch"""
    name: Name = "comparison"
    """name of the parent run"""


Hyperparameters = dataclasses.make_dataclass(
    "Hyperparameters",
    [("classifier", classifier.Config, classifier.Config())]
    + [(name, methods.find(name).Config, methods.find(name).Config()) for name in methods.names()],
    frozen=True,
)
Hyperparameters.__module__ = __name__


# --- A study ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyPlan(WorkerSettings):
    """A study."""

    method: tyro.conf.Positional[str] = ""
    """a generator: a file in harness/methods"""
    trials: Count = 24
    """trials in all; with more, the same command goes on"""
    objectives: tuple[str, ...] = ("accuracy",)
    """one or two of accuracy (a classifier's, with the samples), cas, conditional_accuracy, fid, train_seconds,
    sampling_seconds; all on the validation split"""
    n_real: Count | None = None
    """real training images; by default all but the validation images"""
    seeds_per_trial: Count = 1
    """seeds over which a trial's value is the mean; the same for every trial"""
    steps: Count | None = None
    """steps of every training; by default the method's"""
    epochs: Positive | None = None
    """epochs of every training, no longer searched; by default the method's"""
    batch_size: Count | None = None
    """images per step; by default the method's"""
    space: tuple[str, ...] = ()
    """NAME=low:high[:log] or NAME=a,b: narrower ranges"""
    fix: tuple[str, ...] = ()
    """NAME=value: hyperparameters that are not searched"""
    sampler: Literal["tpe", "random"] = "tpe"
    """how values are suggested"""
    pruner: Literal["none", "median", "halving", "hyperband"] | None = None
    """which trials end early; by default median, with two objectives none"""
    name: Name | None = None
    """the study's name; by default METHOD-DATASET"""
    storage: str | None = None
    """where the study itself is kept: a file, or a database's URL, its password in PGPASSFILE or PGPASSWORD and not
    here, where every user sees it; by default outputs/studies.db"""
    max_failures: Natural = 5
    """the study ends when so many trials have failed and none has not; 0 never"""
    confirm_seeds: Natural = 5
    """fresh seeds on which the winner is trained beside the default; 0 for none"""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """of the classifier whose accuracy is an objective"""

    @property
    def study(self) -> str:
        return self.name or f"{self.method}-{self.data_name}"

    @property
    def fixed(self) -> dict[str, Any]:
        """The hyperparameters that are not searched because the command says what they are."""
        given = {name: getattr(self, name) for name in ("steps", "epochs", "batch_size")}
        given = {name: value for name, value in given.items() if value is not None}
        return given | spaces.fixed_values(methods.find(self.method).Config, self.fix)

    @property
    def prunes(self) -> str:
        """The pruner's name, in PRUNERS."""
        return self.pruner or ("median" if len(self.objectives) == 1 else "none")

    def single(self, seed: int) -> Single:
        """What a training of the study has in common with any single run: without the test split, unregistered."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Common)}
        own = {"experiment_name": self.experiment_name or "studies", "n_real": self.n_real, "seed": seed}
        return Single(**shared | own, register=False, test=False)
