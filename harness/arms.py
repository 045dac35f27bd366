"""The arms: what is added to the real images. Nothing, a control that no generator made, or a generator's samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import moves
from harness.data import Dataset, Images, stratified_order, to_float, to_uint8
from harness.errors import InputError
from harness.seeding import generator, normal, uniform
from harness.tracking import inputs

NOISE_STD = 0.15  # in units of [-1, 1] pixels
COMMIT = "mlflow.source.git.commit"
CONTROLS = ("duplicate", "affine", "noise")
"""What they gain, a generator must beat."""


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
    return Arm(name, control(name, dataset.real, num_images, seed))


def generator_arm(run_id: str, tracking_uri: str | None) -> Arm:
    """The sample set of a finished generator run, with its quality and cost."""
    row = inputs.look_up(run_id, tracking_uri)
    if row.get("tags.kind") != "generator" or row["status"] != "FINISHED":
        raise InputError(f"run {run_id} is no finished generator; give the id of a run that has samples.npz")
    samples = inputs.read(run_id, "samples.npz", tracking_uri, Images.read)
    metrics = {key.removeprefix("metrics."): value for key, value in row.items() if key.startswith("metrics.")}
    return Arm(row["tags.method"], samples, row["run_id"], carried(metrics), commit=row.get(f"tags.{COMMIT}", ""))


CARRIED = {
    "samples/conditional_accuracy": "samples/conditional_accuracy",
    "samples/cas": "samples/cas",
    "validation/cas": "validation/cas",
    "validation/fid": "validation/fid",
    "cost/training_device_seconds": "cost/generator_training_device_seconds",
    "cost/sampling_device_seconds": "cost/generator_sampling_device_seconds",
}
"""A generator run's metrics that the classifier's run has too, under the names that they have there."""
CARRIED_GROUPS = ("quality/", "floor/", "samples/conditional_accuracy_class_")
"""The beginnings of more of them, whose names stay."""


def carried(metrics: Mapping[str, float]) -> dict[str, float]:
    """What of a generator run's metrics its samples' classifiers log beside their own."""
    grouped = {name: value for name, value in metrics.items() if name.startswith(CARRIED_GROUPS)}
    return {there: metrics[here] for here, there in CARRIED.items() if here in metrics} | grouped


def control(name: str, real: Images, num_images: int, seed: int) -> Images:
    """`num_images` images made from `real` alone: repeated, moved by small affine maps, or with noise added.

    Raises InputError for an unknown name.
    """
    if name not in CONTROLS:
        raise InputError(f"unknown control {name!r}; known are {', '.join(CONTROLS)}")
    order = stratified_order(real.labels, seed, "control")
    repeated = real[order.repeat(math.ceil(num_images / len(real)))[:num_images]]
    if name == "duplicate":
        return repeated
    change = _affine if name == "affine" else _noise
    chunks = [
        to_uint8(change(to_float(part), generator(seed, f"control/{name}", index)))
        for index, part in enumerate(repeated.images.split(1000))
    ]
    return Images(torch.cat(chunks), repeated.labels)


def _affine(images: Tensor, draw: np.random.Generator) -> Tensor:
    """A rotation, a scale and a shift of its own for each image [n, C, H, W]; no flips: digits have a side."""
    where = moves.grid(uniform(draw, 4, len(images)).T, images)
    background = images.amin()
    edges = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], -1)
    # Beside a digit is black; beside a photograph or a drawing on white what is at its edge.
    padding = "zeros" if edges.median() == background else "border"
    return F.grid_sample(images - background, where, padding_mode=padding, align_corners=False) + background


def _noise(images: Tensor, draw: np.random.Generator) -> Tensor:
    return images + NOISE_STD * normal(draw, *images.shape)
