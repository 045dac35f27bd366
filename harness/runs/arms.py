"""The arms: what is added to the real images. Nothing, a control that no generator made, or a generator's samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.data.controls import make_control
from harness.data.datasets import Dataset
from harness.data.images import Images
from harness.errors import InputError
from harness.tracking import inputs

COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Arm:
    """What is added to the real images, under the name that the tables show."""

    name: str
    samples: Images | None
    run: str | None = None  # the generator's run
    metrics: Mapping[str, float] = field(default_factory=dict)  # what is known of the samples
    commit: str = ""  # of the code that made the samples
    variant: str = ""  # of a sweep: how much of the samples is used, such as 2x or share=0.25

    @property
    def title(self) -> str:
        return f"{self.name} {self.variant}".strip()


def control_arm(name: str, dataset: Dataset, num_images: int, seed: int) -> Arm:
    """The arm `none`, or one of the controls."""
    if name == "none":
        return Arm(name, None)
    return Arm(name, make_control(name, dataset.real, num_images, seed))


def generator_arm(run_id: str, tracking_uri: str | None) -> Arm:
    """The sample set of a finished generator run, with its quality and cost."""
    row = inputs.look_up(run_id, tracking_uri)
    if row.get("tags.kind") != "generator" or row["status"] != "FINISHED":
        raise InputError(f"run {run_id} is no finished generator; give the id of a run that has samples.npz")
    samples = inputs.read(run_id, "samples.npz", tracking_uri, Images.read)
    metrics = {key.removeprefix("metrics."): value for key, value in row.items() if key.startswith("metrics.")}
    return Arm(
        row["params.arm"], samples, row["run_id"], inherited_metrics(metrics), commit=row.get(f"tags.{COMMIT}", "")
    )


INHERITED = {
    "samples/conditional_accuracy": "samples/conditional_accuracy",
    "test/cas": "test/cas",
    "validation/cas": "validation/cas",
    "validation/fid": "validation/fid",
    "cost/training_device_seconds": "cost/generator_training_device_seconds",
    "cost/sampling_device_seconds": "cost/generator_sampling_device_seconds",
}
"""A generator run's metrics that the classifier's run has too, under the names that they have there."""
INHERITED_GROUPS = ("test/quality/", "test/floor/", "samples/conditional_accuracy_class_")
"""The beginnings of more of them, whose names stay."""


def inherited_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """What of a generator run's metrics its samples' classifiers log beside their own."""
    grouped = {name: value for name, value in metrics.items() if name.startswith(INHERITED_GROUPS)}
    return {there: metrics[here] for here, there in INHERITED.items() if here in metrics} | grouped
