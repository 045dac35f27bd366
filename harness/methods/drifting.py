"""Drifting model: an image in one network evaluation (Deng, Li, Li, Du, He 2026, arXiv:2602.04770; numbers are v1's).

A generator f makes x = f(z, y) of noise z and a label y. In training the samples of a label drift: each towards the
real images of that label near it, and away from the other samples near it (eqs. 8 to 12). f learns to make its samples
where they drift to (eq. 6); where samples and real images are distributed alike nothing drifts (eq. 3).

Departures from the paper:
- Its features are those of an encoder that was trained on other images. Here are none: a feature is the image itself,
  or the pixels of a patch (appendix A.5 without an encoder).
- f is a small convolutional network, without the transformer, the style tokens and the guidance.
- The real images are those of the batch, without a queue (A.8), and the scales S and lambda (A.6) are a label's own.
- The gradient of eq. 14 is taken with respect to the samples first, and f then regresses on them (eq. 6): with respect
  to the weights that is the same gradient, and the field is one over all processes and accumulated parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.bounds import Count, Decay, Positive, Units, Within
from harness.data.images import ImageShape
from harness.methods.blocks import moving_average
from harness.seeding import Draws
from harness.spaces import searched
from harness.training.loop import Batch, accumulate_gradients
from harness.training.optimizers import Adam

if TYPE_CHECKING:
    from accelerate import Accelerator

TEMPERATURES = (0.02, 0.05, 0.2)
SELF = 1e6
"""Distance of a sample to itself in algorithm 2: none repels itself."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the drifting model."""

    steps: Count = 1000
    """optimizer steps at most"""
    epochs: Positive = 300.0
    """passes over the real images at most; training ends at whichever comes first"""
    batch_size: Count = 256
    """real images per optimizer step, over all processes; a label needs some to tell near from far"""
    augment: Literal["none", "moved"] = searched("none", choices=("none", "moved"))
    """moved: the training images are under fresh small moves, and samples show such moves too"""
    samples_per_image: Count = searched(1, low=1, high=3)
    """generated images per real one of a step, of the same label"""
    temperature: Positive = searched(2.8, low=0.3, high=5.0, log=True)
    """factor of the paper's temperatures 0.02, 0.05 and 0.2: how far is near, in mean distances"""
    latent_size: Units = searched(8, low=4, high=128, log=True)
    """units of z"""
    hidden_channels: Annotated[int, Within(int, 4, most=4096)] = 16
    """channels at half the image's resolution; twice as many at a quarter"""
    learning_rate: Positive = searched(3e-3, low=1e-3, high=2e-2, log=True)
    """peak of the learning rate (Adam); falls to 0 along a half cosine"""
    ema_decay: Decay = 0.99
    """decay of the weights' moving average per step, from which samples are drawn"""


def features(images: Tensor) -> list[Tensor]:
    """phi_j of images [n, C, H, W], each [places, n, units]: the image, and its patches of 8 x 8 every 4 pixels."""
    quarters = F.pixel_unshuffle(images, 4)
    corners = [quarters[:, :, top : top - 1 or None, left : left - 1 or None] for top in (0, 1) for left in (0, 1)]
    return [images.flatten(1)[None], torch.cat(corners, 1).flatten(2).permute(2, 0, 1)]


def drifting_field(x: Tensor, y: Tensor, temperatures: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """V [places, n, units] of samples x [places, n, units] among real y [places, m, units]; S; lambda (A.6).

    V is in units of S and summed over the temperatures, of the last of which lambda is (algorithm 2, eqs. 18 to 25).
    """
    (places, n, units), m = x.shape, y.shape[1]
    distance = torch.cdist(x, torch.cat([y, x], 1))
    S = (distance.sum() / (places * n * (m + n - 1) * units**0.5)).clamp(min=1e-6)
    distance = distance / (S * units**0.5)
    distance[:, :, m:] += SELF * torch.eye(n, dtype=x.dtype, device=x.device)
    V, size = torch.zeros_like(x), x.new_zeros(())
    for tau in temperatures:
        logits = -distance / tau
        A = ((logits.log_softmax(2) + logits.log_softmax(1)) / 2).exp()
        attraction, repulsion = A.split([m, n], 2)
        drift = repulsion.sum(2, keepdim=True) * (attraction @ y) - attraction.sum(2, keepdim=True) * (repulsion @ x)
        size = (drift / S).square().mean().sqrt()
        V += drift / S / size.clamp(min=1e-8)
    return V, S, size


def drift_images(x: Tensor, y: Tensor, labels: Tensor, temperatures: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """How x [n, samples, C, H, W] drift among real y [n, C, H, W] of `labels` [n]; lambda's mean.

    The sum over features and labels of dphi/dx^T V / S: -n samples / 2 times the gradient of the sum of eq. 26.
    """
    found, samples_labels = labels.unique(), labels.repeat_interleave(x.shape[1])
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        along, sizes = x.new_zeros(()), []
        for phi, real in zip(features(x.flatten(0, 1)), features(y), strict=True):
            for label in found:
                mine = phi[:, samples_labels == label]
                V, S, size = drifting_field(mine.detach(), real[:, labels == label], temperatures)
                along = along + (mine * V).sum() / (S * len(V) * V.shape[2])
                sizes.append(size)
        (moves,) = torch.autograd.grad(along, x)
    return moves, torch.stack(sizes).mean()


class G(nn.Module):
    """z float [n, latent_size], labels int64 [n] -> images float [n, C, H, W], not clamped."""

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        narrow, wide = config.hidden_channels, 2 * config.hidden_channels
        grid, units, fine = (shape.height // 4, shape.width // 4), 16 * narrow, max(1, narrow // 4)
        self.door = nn.Linear(config.latent_size, units)
        self.scale, self.shift = (nn.Embedding(shape.num_classes, units) for _ in range(2))
        self.layers = nn.Sequential(
            nn.Linear(units, wide * grid[0] * grid[1]), nn.Unflatten(1, (wide, *grid)), nn.ReLU(),
            nn.Conv2d(wide, 4 * narrow, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(narrow, 4 * fine, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(fine, shape.channels, 3, padding=1),
        )  # fmt: skip
        for layer in self.layers:  # torch's own initial weights let z fade: samples all alike hardly drift apart
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        hidden = F.relu(self.door(z) * (1 + self.scale(labels)) + self.shift(labels))
        return self.layers(hidden).to(z.dtype)


class Drifting(nn.Module):
    """The generator and the running average of it that samples."""

    Config = Config
    sampling_fields = ()

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.G = G(config, shape)
        self.average = moving_average(self.G, config.ema_decay)

    def prepare(self, accelerator: Accelerator) -> None:
        self.to(accelerator.device)
        optimizer = Adam(self.G.parameters(), lr=self.config.learning_rate, fused=True)
        self.accelerator = accelerator
        # A list hides the wrapped network from nn.Module: the weights keep their names.
        self.wrapped, self.optimizers = [accelerator.prepare(self.G)], [accelerator.prepare(optimizer)]

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        (optimizer,) = self.optimizers
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (0.5 + 0.5 * cos(pi * step / self.config.steps))
        optimizer.zero_grad()
        drift = None
        if batch.num_parts > 1:  # one part is the whole: its own samples drift
            with torch.no_grad():
                drift = self._drift(self._generated(batch), batch)
        metrics = accumulate_gradients(self.accelerator, self.wrapped[0], batch, lambda part: self._loss(part, drift))
        optimizer.step()
        self.average.update_parameters(self.G)
        return metrics

    def _generated(self, batch: Batch) -> Tensor:
        """Samples [n, samples_per_image, C, H, W] for the labels of a batch."""
        count = self.config.samples_per_image
        z = batch.draws.normal("z", count, self.config.latent_size)
        return self.wrapped[0](z.flatten(0, 1), batch.labels.repeat_interleave(count)).unflatten(0, (-1, count))

    def _loss(self, part: Batch, drift: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        x = self._generated(part)
        moves, size = drift or self._drift(x.detach(), part)
        target = x.detach() + moves[part.draws.share]
        loss = (x - target).square().flatten(2).sum(2).mean()
        return loss, {"train/drifting_loss": loss, "train/drift": size}

    def _drift(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """How the samples of the global batch drift, for this process's x; and the image's lambda, over the labels."""
        x, y, labels = self.accelerator.gather((x, batch.images, batch.labels))
        return drift_images(x, y, labels, tuple(self.config.temperature * tau for tau in TEMPERATURES))

    @torch.inference_mode()
    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        """Images [n, C, H, W] in [-1, 1], by one evaluation of the average."""
        return self.average(draws.normal("z", self.config.latent_size), labels).clamp(-1, 1)


Generator = Drifting
