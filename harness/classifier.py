"""The downstream classifier: a small CNN. The judge is one of these, trained on all real training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.bounds import Count, Positive, Share, Units
from harness.data import Images, to_float
from harness.methods import ImageShape
from harness.optimizers import Adam
from harness.seeding import initial_weights
from harness.training import Batch

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the classifier: the same for every arm."""

    steps: Count = 600
    """optimizer steps, the same for every arm"""
    batch_size: Count = 256
    """images per optimizer step, over all processes"""
    max_lr: Positive = 0.01
    """peak of the one-cycle learning rate (Adam)"""
    synthetic_share: Share | None = None
    """synthetic images' share of each batch; by default their share of all images, at most 0.5"""
    hidden: Units = 256
    """units of the last hidden layer, the judge's feature space"""


class Classifier(nn.Module):
    """Two convolutions and one hidden layer. Images float [n, C, H, W] -> logits [n, classes].

    Pixels are folded 2 x 2 into channels at the door: at full size a convolution waits for memory.
    """

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        self.config = config
        self.convolutions = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * shape.channels, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        pixels = (shape.height // 4) * (shape.width // 4)
        self.hidden = nn.Linear(32 * pixels, config.hidden)
        self.output = nn.Linear(config.hidden, shape.num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, [n, hidden], at least 0."""
        return F.relu(self.hidden(self.convolutions(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.features(images))

    def prepare(self, accelerator: Accelerator | None) -> None:
        """Make the optimizer and the wrapped network; without an accelerator, for this process alone."""
        self.to(accelerator.device if accelerator else "cpu").to(memory_format=torch.channels_last)
        optimizer = Adam(self.parameters(), lr=self.config.max_lr, betas=(0.7, 0.9), fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.config.max_lr, total_steps=self.config.steps + 1, cycle_momentum=False
        )
        # A list hides the wrapped network from nn.Module: the weights keep their names.
        self.wrapped, self.optimizer, self.backward = [self], optimizer, Tensor.backward
        if accelerator:
            self.wrapped, self.optimizer = [accelerator.prepare(self)], accelerator.prepare(optimizer)
            self.backward = accelerator.backward

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        loss = F.cross_entropy(self.wrapped[0](batch.images), batch.labels)
        self.optimizer.zero_grad()
        self.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return {"train/loss": loss.detach()}


def mixture(config: Config, real: Images, synthetic: Images | None) -> list[tuple[Images, int]]:
    """The sources of a batch: real images and, where there are any, the configured share of synthetic ones."""
    if synthetic is None:
        return [(real, config.batch_size)]
    share = config.synthetic_share
    if share is None:
        share = min(0.5, len(synthetic) / (len(real) + len(synthetic)))
    num_synthetic = round(share * config.batch_size)
    return [(real, config.batch_size - num_synthetic), (synthetic, num_synthetic)]


def build(config: Config, shape: ImageShape, seed: int) -> Classifier:
    """A classifier with the initial weights of `seed`."""
    with initial_weights(seed, "classifier"):
        return Classifier(config, shape)


@torch.inference_mode()
def predict(
    classifier: Classifier, images: Tensor, accelerator: Accelerator | None = None, chunk: int = 2000
) -> Tensor:
    """Predicted labels int64 [n], on the CPU, of uint8 images [n, C, H, W].

    With an accelerator its processes share the images, each seen once, and all have all predictions.
    """
    device = next(classifier.parameters()).device
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    mine = images.tensor_split(world)[rank]
    predicted = torch.cat([classifier(to_float(part.to(device))).argmax(1).cpu() for part in mine.split(chunk)])
    if world == 1:
        return predicted
    from accelerate.utils import gather_object

    return torch.cat(gather_object([predicted]))


def scores(predicted: Tensor, labels: Tensor, num_classes: int) -> dict[str, float]:
    """Accuracy and macro-averaged precision, recall and F1, each in 0 … 1.

    Means over the classes that are there or were predicted; one that is never predicted has precision 0.
    """
    counts = confusion_matrix(predicted, labels, num_classes).double()
    right, there, seen = counts.diagonal(), counts.sum(1), counts.sum(0)
    known = there + seen > 0
    ratios = {
        "precision": right / seen.clamp(min=1),
        "recall": right / there.clamp(min=1),
        "f1": 2 * right / (there + seen).clamp(min=1),
    }
    accuracy = {"accuracy": float(right.sum() / counts.sum())}
    return accuracy | {name: float(ratio[known].mean()) for name, ratio in ratios.items()}


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts int64 [classes, classes]: true label by row, predicted by column."""
    pairs = labels.cpu() * num_classes + predicted.cpu()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
