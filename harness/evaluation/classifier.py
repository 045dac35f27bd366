"""The downstream classifier: a small network, of two sizes. The judge is one, trained on all real training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.bounds import Count, Moves, Positive, Share, Units, Width
from harness.data.images import Images, ImageShape, to_float
from harness.errors import InputError
from harness.seeding import initial_weights
from harness.training.loop import Batch, Batches
from harness.training.optimizers import Adam, AdamW, Muon

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the classifier: the same for every arm."""

    steps: Count = 600
    """optimizer steps, the same for every arm"""
    batch_size: Count = 256
    """images per optimizer step, over all processes"""
    hidden: Units = 256
    """units of the hidden layer, the judge's feature space; a residual network's are its last stage's channels"""
    max_lr: Positive = 0.01
    """peak of the one-cycle learning rate (Adam); in a residual network the kernels have ten times as much (Muon)"""
    initialisations: Count = 1
    """networks that are trained side by side on the same batches and differ in their initial weights alone; figures
    are their means"""
    batch: Literal["shared", "enlarged", "replaced"] = "shared"
    """shared: synthetic images take real ones' places in a batch; enlarged: they come beside as many real ones as
    without them; replaced: each real image is, with the probability of their share, a synthetic one of its class"""
    synthetic_share: Share | None = None
    """synthetic images' share of each batch; by default their share of all images, at most 0.5"""
    synthetic_weight: Share = 1.0
    """weight of a synthetic image in the loss, where a real one has 1"""
    width: Width | None = None
    """channels of a residual network's first stage; by default 24 for images in colour, and for grey ones 0: two
    convolutions in its place"""
    depth: Count = 1
    """convolutions in each of its three stages, after the one that halves the side"""
    augment: bool = False
    """whether every image is under a fresh small move at each step"""
    soft_labels: bool = False
    """whether a synthetic image's label is what a classifier of the real images, under fresh moves, makes of it"""
    class_weights: bool = False
    """whether an image's loss is divided by how many real images its class has, as a share of the mean"""
    label_smoothing: Share = 0.0
    """share of a label that is spread over all classes (arXiv:1512.00567, section 7)"""
    batch_norm: bool = False
    """whether a residual network's norms are over the whole batch, for a training by one process; by default they are
    over each image, the same on any number of processes"""


COLOUR_WIDTH = 24
BETAS = (0.7, 0.9)


class Classifier(nn.Module):
    """Convolutions and one linear layer. Images float [n, C, H, W] -> logits [n, classes].

    Digits need no more than two convolutions and a hidden layer; images in colour have a small residual network.
    """

    class_weights: Tensor | None
    teachers: Sequence[Classifier] = ()
    """who says what synthetic images show: one or none"""

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        self.config = config = with_size(config, shape)
        self.body, outputs = _residual(config, shape) if config.width else _plain(config, shape)
        self.output = nn.Linear(outputs, shape.num_classes)
        self.is_of_reflections = config.augment and shape.moves == "reflect"
        self.register_buffer("class_weights", None, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, [n, features]: the judge's feature space."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.features(images))

    def judged(self, images: Tensor) -> Tensor:
        """The logits by which a class is told: with those of the reflections, where it was trained on both."""
        logits = self(images)
        return logits + self(images.flip(3)) if self.is_of_reflections else logits

    def prepare(self, accelerator: Accelerator | None) -> None:
        """Make the optimizer and the wrapped network; without an accelerator, for this process alone.

        Raises InputError where several processes would each have norms over their own part of a batch.
        """
        if self.config.batch_norm and accelerator and accelerator.num_processes > 1:
            raise InputError("--batch-norm is for one process: norms over a part of a batch are not those of the whole")
        self.to(accelerator.device if accelerator else "cpu").to(memory_format=torch.channels_last)
        kernels = [weight for name, weight in self.named_parameters() if ".kernels." in name]
        if kernels:
            others = [weight for name, weight in self.named_parameters() if ".kernels." not in name]
            optimizers: list[Optimizer] = [Muon(kernels, lr=10 * self.config.max_lr, momentum=0.9)]
            optimizers.append(AdamW(others, lr=self.config.max_lr, betas=BETAS, weight_decay=0.05, fused=True))
            cycle: dict[str, Any] = {"pct_start": 0.2, "anneal_strategy": "linear"}
        else:
            optimizers, cycle = [Adam(self.parameters(), lr=self.config.max_lr, betas=BETAS, fused=True)], {}
        self.schedules = [
            torch.optim.lr_scheduler.OneCycleLR(
                optimizer, optimizer.defaults["lr"], self.config.steps + 1, cycle_momentum=False, **cycle
            )
            for optimizer in optimizers
        ]
        # A list hides the wrapped network from nn.Module: the weights keep their names.
        self.wrapped, self.optimizers, self.backward = [self], optimizers, Tensor.backward
        if accelerator:
            self.wrapped = [accelerator.prepare(self)]
            self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers]
            self.backward = accelerator.backward

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        smoothing, weight = self.config.label_smoothing, self.config.synthetic_weight
        logits = self.wrapped[0](batch.images)
        labels = self._softened(batch) if self.teachers else batch.labels
        losses = F.cross_entropy(logits, labels, self.class_weights, reduction="none", label_smoothing=smoothing)
        loss = (losses.where(batch.sources == 0, weight * losses) if weight != 1 else losses).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.backward(loss)
        for optimizer in self.optimizers:
            optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        return {"train/classifier_loss": loss.detach()}

    @torch.no_grad()
    def _softened(self, batch: Batch) -> Tensor:
        """The labels as probabilities, [n, classes]: of real images their own, of synthetic ones the teacher's."""
        told = self.teachers[0](batch.images).softmax(1)
        return torch.where(batch.sources[:, None] == 0, F.one_hot(batch.labels, told.shape[1]).to(told.dtype), told)


def with_size(config: Config, shape: ImageShape) -> Config:
    """The configuration with the width that the images' colours call for, where it has none of its own."""
    if config.width is None:
        return dataclasses.replace(config, width=COLOUR_WIDTH if shape.channels > 1 else 0)
    return config


def _plain(config: Config, shape: ImageShape) -> tuple[nn.Sequential, int]:
    """Two convolutions and a hidden layer, and how many numbers they make of an image.

    Pixels are folded 2 x 2 into channels at the door: at full size a convolution waits for memory.
    """
    layers = nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(4 * shape.channels, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * (shape.height // 4) * (shape.width // 4), config.hidden), nn.ReLU(),
    )  # fmt: skip
    return layers, config.hidden


def _residual(config: Config, shape: ImageShape) -> tuple[nn.Sequential, int]:
    """A convolution of the image at its full size, three stages, each of half the side of the one before, and maxima.

    As ResNet-9 and its kin for CIFAR-10 (Page 2018, Jordan 2024, arXiv:2404.00498): few layers, wide where they are
    small.
    """
    width = config.width or COLOUR_WIDTH
    widths = (width, width, 4 * width, 4 * width)
    stages = [Stage(inputs, outputs, config) for inputs, outputs in pairwise(widths)]
    door = nn.Conv2d(shape.channels, width, 3, padding=1)
    return nn.Sequential(door, nn.GELU(), *stages, nn.AdaptiveMaxPool2d(1), nn.Flatten()), widths[-1]


class Stage(nn.Module):
    """A convolution to half the side, then `config.depth` more. Float [n, inputs, H, W] -> [n, outputs, H/2, W/2].

    From two on a short cut leads around them.
    """

    def __init__(self, inputs: int, outputs: int, config: Config) -> None:
        super().__init__()
        more = (_kernel(outputs, outputs) for _ in range(config.depth))
        self.kernels = nn.ModuleList([_kernel(inputs, outputs), *more])
        self.norms = nn.ModuleList([_norm(outputs, config.batch_norm) for _ in self.kernels])

    def forward(self, images: Tensor) -> Tensor:
        begun = hidden = F.gelu(self.norms[0](F.max_pool2d(self.kernels[0](images), 2, ceil_mode=True)))
        for kernel, norm in zip(self.kernels[1:], self.norms[1:], strict=True):
            hidden = norm(kernel(hidden))
            if kernel is self.kernels[-1] and len(self.kernels) > 2:
                hidden = hidden + begun
            hidden = F.gelu(hidden)
        return hidden


def _kernel(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _norm(channels: int, of_batch: bool) -> nn.Module:
    """Over the batch (arXiv:1502.03167), or over groups of 8 channels of each image by itself (arXiv:1803.08494)."""
    return nn.BatchNorm2d(channels) if of_batch else nn.GroupNorm(channels // 8, channels)


def batches_of(
    config: Config,
    real: Images,
    synthetic: Images | None,
    seed: int,
    accelerator: Accelerator | None = None,
    moves: Moves = "rotate",
) -> Batches:
    """The batches of a training on real images and, where there are any, synthetic ones, as `config` mixes them."""
    share = config.synthetic_share
    if synthetic is not None and share is None:
        share = min(0.5, len(synthetic) / (len(real) + len(synthetic)))
    size, sources, replacement = config.batch_size, [(real, config.batch_size)], None
    if synthetic is not None and share is not None:
        if config.batch == "replaced":
            replacement = (synthetic, share)
        elif config.batch == "enlarged":
            if share == 1:
                raise InputError("--synthetic-share 1 enlarges a batch without end; give less, or --batch shared")
            sources.append((synthetic, round(size * share / (1 - share))))
        else:
            sources = [(real, size - round(share * size)), (synthetic, round(share * size))]
    moved = moves if config.augment else None
    return Batches(*sources, seed=seed, accelerator=accelerator, replacement=replacement, moved=moved)


def build_classifier(config: Config, shape: ImageShape, seed: int, initialisation: int = 0) -> Classifier:
    """A classifier with the initial weights of `seed`; of several the one with this number."""
    with initial_weights(seed, f"classifier {initialisation}" if initialisation else "classifier"):
        return Classifier(config, shape)


class Classifiers(nn.Module):
    """`config.initialisations` classifiers, trained side by side on the same batches of `real` images and others."""

    def __init__(self, config: Config, real: Images, shape: ImageShape, seed: int) -> None:
        super().__init__()
        counts = torch.bincount(real.labels, minlength=shape.num_classes)
        numbers = range(config.initialisations)
        self.members = nn.ModuleList([build_classifier(config, shape, seed, number) for number in numbers])
        self.config = next(iter(self)).config
        weights = counts.sum() / (shape.num_classes * counts.clamp(min=1))
        for member in self:
            member.class_weights = weights if config.class_weights else None

    def __iter__(self) -> Iterator[Classifier]:
        return (cast(Classifier, member) for member in self.members)

    def prepare(self, accelerator: Accelerator | None) -> None:
        for member in self:
            member.prepare(accelerator)

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        losses = [member.step(batch, step)["train/classifier_loss"] for member in self]
        return {"train/classifier_loss": torch.stack(losses).mean()}


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
    predicted = torch.cat([classifier.judged(to_float(part.to(device))).argmax(1).cpu() for part in mine.split(chunk)])
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
