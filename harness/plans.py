"""What is asked of a comparison and of a study: their flags, without the engines that do the work."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from harness import arms, bounds, classifier, methods, spaces
from harness.bounds import Count, Natural, Positive, Processes, Seconds, Share
from harness.classifier import Config as ClassifierConfig
from harness.errors import InputError
from harness.settings import Common, Single


@dataclass(frozen=True)
class Crew(Common):
    """Who does the work of a study or a comparison."""

    workers: Processes = 1
    """cells or trials that are done at once on this host; where there are GPUs each has its own"""
    slots_per_device: Processes = 1
    """cells or trials that share a GPU"""
    cluster: str | None = None
    """a Dask cluster that does the work, instead of this host: tcp://HOST:8786, or its scheduler's file"""
    tls: str | None = None
    """folder of ca.pem, cert.pem and key.pem, for a cluster at tls://"""
    processes_per_trial: Processes = 1
    """processes (GPUs) that one trial or cell spans, under accelerate launch"""
    retries: Natural = 2
    """times that a trial or cell is tried again when its process has died"""
    trial_timeout: Seconds | None = None
    """seconds after which a trial or cell is taken for hung, and killed"""

    def check(self) -> None:
        """Raises InputError for what does not go together, and for a launch of several processes."""
        bounds.check_fields(self)
        if self.cluster and self.workers != 1:
            raise InputError("--workers is for this host; a --cluster has its own")
        if self.tls and not self.cluster:
            raise InputError("--tls is for a --cluster; on this host nothing listens")
        from harness import launch, tasks

        launch.one_process()
        launch.check_environment()
        devices = [] if self.cluster else tasks.devices()
        if devices and self.workers * self.processes_per_trial > len(devices) * self.slots_per_device:
            raise InputError(
                f"--workers {self.workers} with --processes-per-trial {self.processes_per_trial} need more than the "
                f"{len(devices)} GPUs that are here; give fewer, or a higher --slots-per-device"
            )
        if devices and self.processes_per_trial > len(devices):
            raise InputError(
                f"--processes-per-trial {self.processes_per_trial} must be at most the number of GPUs, {len(devices)}"
            )


# --- A comparison -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonPlan(Crew):
    """What is compared."""

    methods: tuple[str, ...] = tuple(methods.names())
    """generators, a file in harness/methods each"""
    controls: tuple[str, ...] = arms.CONTROLS
    """arms that no generator made"""
    seeds: Count = 5
    """number of seeds: splits, weights, order and noise"""
    first_seed: Natural = 0
    """first of the seeds"""
    n_real: tuple[Count, ...] = (1000,)
    """numbers of real training images"""
    filtered: bool = False
    """whether each generator has a second arm: the samples that a classifier of the same real images agrees with"""
    amounts: tuple[Positive, ...] = ()
    """sweep: numbers of synthetic images that each generator's classifiers get, in multiples of n_real"""
    shares: tuple[Share, ...] = ()
    """sweep: the synthetic images' shares of a batch"""
    name: str = "comparison"
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
class StudyPlan(Crew):
    """A study."""

    method: tyro.conf.Positional[str] = ""
    """ddpm, gan or vae: a file in harness/methods"""
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
    name: str | None = None
    """the study's name; by default METHOD-DATASET"""
    storage: str | None = None
    """where the study itself is kept: a file, or a database's URL; by default outputs/studies.db"""
    max_failures: Natural = 5
    """the study ends when so many trials have failed and none has not; 0 never"""
    confirm_seeds: Natural = 5
    """fresh seeds on which the winner is trained beside the default; 0 for none"""
    classifier: ClassifierConfig = ClassifierConfig()  # noqa: RUF009

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
