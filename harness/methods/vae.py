"""Conditional variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114; Sohn et al. 2015).

The model of an image x with label y is p(x | z, y) p(z), p(z) = N(0, I); the encoder is q(z | x, y). Both
networks see the label, so z is left with what the label does not say: the style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.bounds import Count, NotNegative, Positive, Share, Units, Within
from harness.data.images import ImageShape
from harness.seeding import Draws
from harness.spaces import searched
from harness.training.loop import Batch, accumulate_gradients
from harness.training.optimizers import Adam

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the VAE."""

    steps: Count = 5000
    """optimizer steps at most"""
    epochs: Positive = 500.0
    """passes over the real images at most; training ends at whichever comes first"""
    batch_size: Count = 64
    """images per optimizer step, over all processes"""
    augment: Literal["none", "moved"] = searched("none", choices=("none", "moved"))
    """moved: the training images are under fresh small moves, and samples show such moves too"""
    latent_size: Units = searched(16, low=4, high=64, log=True)
    """units of z"""
    hidden_channels: Annotated[int, Within(int, 1, most=4096)] = searched(16, choices=(8, 16, 32))
    """channels at half the image's resolution; twice as many at a quarter"""
    kl_weight: NotNegative = searched(1.0, low=0.25, high=4.0, log=True)
    """weight of the KL against the reconstruction (the beta of Higgins et al. 2017); 1 is the ELBO. More makes samples
    that are more often what was asked for, and less varied"""
    learning_rate: Positive = searched(2e-3, low=3e-4, high=1e-2, log=True)
    """peak of the learning rate (Adam): linear warm-up, then a cosine to 0"""
    warmup: Share = 0.05
    """share of the steps in which the learning rate rises"""


def kl_divergence(mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mu, exp(log_var)) || N(0, I)) in nats: [n, units] twice -> [n] (Kingma & Welling 2014, app. B)."""
    return -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(1)


def learning_rate_at(step: int, config: Config) -> float:
    """A function of the step alone: a resumed run has no schedule to restore."""
    warmup = max(1, round(config.warmup * config.steps))
    progress = (step - warmup) / max(1, config.steps - warmup)
    factor = (step + 1) / warmup if step < warmup else 0.5 + 0.5 * cos(pi * min(1.0, progress))
    return config.learning_rate * factor


class Conditional(nn.Module):
    """A linear layer whose every unit the label scales and shifts (FiLM, Perez et al. 2018), and a ReLU.

    As a few inputs beside many features the label would start out weak; here it acts on every unit.
    """

    def __init__(self, features: int, units: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, units)
        self.scale, self.shift = nn.Embedding(num_classes, units), nn.Embedding(num_classes, units)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return F.relu(self.linear(features) * (1 + self.scale(labels)) + self.shift(labels))


class Encoder(nn.Module):
    """q(z | x, y): images [n, C, H, W], labels int64 [n] -> mu, log_var [n, latent_size]."""

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        narrow, wide = config.hidden_channels, 2 * config.hidden_channels
        self.convolutions = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * shape.channels, narrow, 3, padding=1), nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        features = wide * (shape.height // 4) * (shape.width // 4)
        self.conditional = Conditional(features, 16 * narrow, shape.num_classes)
        self.output = nn.Linear(16 * narrow, 2 * config.latent_size)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.conditional(self.convolutions(images), labels)
        mu, log_var = self.output(hidden).to(images.dtype).chunk(2, 1)
        return mu, log_var


class Decoder(nn.Module):
    """p(x | z, y): z [n, latent_size], labels int64 [n] -> logits of the pixels [n, C, H, W]."""

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        narrow, wide = config.hidden_channels, 2 * config.hidden_channels
        grid = (shape.height // 4, shape.width // 4)
        fine = max(1, narrow // 4)  # few channels: full resolution is where the time would go
        self.conditional = Conditional(config.latent_size, 16 * narrow, shape.num_classes)
        self.layers = nn.Sequential(
            nn.Linear(16 * narrow, wide * grid[0] * grid[1]), nn.Unflatten(1, (wide, *grid)), nn.ReLU(),
            nn.Conv2d(wide, 4 * narrow, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(narrow, 4 * fine, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.AdaptiveAvgPool2d((shape.height, shape.width)),
            nn.Conv2d(fine, shape.channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.layers(self.conditional(z, labels)).to(z.dtype)


class VAE(nn.Module):
    """Encoder and decoder, trained on the negative ELBO (Kingma & Welling 2014, eq. 7).

    A pixel in [0, 1] is taken as the probability of a Bernoulli (their appendix C.1); a sample shows the
    decoder's mean.
    """

    Config = Config
    sampling_fields = ()

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.encoder, self.decoder = Encoder(config, shape), Decoder(config, shape)

    def forward(self, images: Tensor, labels: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the pixels [n, C, H, W] of images [n, C, H, W] in [-1, 1]; mu and log_var [n, units]."""
        mu, log_var = self.encoder(images, labels)
        z = mu + (0.5 * log_var).exp() * eps  # the reparameterisation, eq. 4
        return self.decoder(z, labels), mu, log_var

    def prepare(self, accelerator: Accelerator) -> None:
        self.to(accelerator.device).to(memory_format=torch.channels_last)
        optimizer = Adam(self.parameters(), lr=self.config.learning_rate, fused=True)
        self.accelerator = accelerator
        # A list hides the wrapped network from nn.Module: the weights keep their names.
        self.wrapped, self.optimizers = [accelerator.prepare(self)], [accelerator.prepare(optimizer)]

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        (optimizer,) = self.optimizers
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.config)
        optimizer.zero_grad()
        metrics = accumulate_gradients(self.accelerator, self.wrapped[0], batch, self._loss)
        optimizer.step()
        return metrics

    def _loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        eps = batch.draws.normal("eps", self.config.latent_size)
        logits, mu, log_var = self.wrapped[0](batch.images, batch.labels, eps)
        pixels = (batch.images + 1) / 2
        errors = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none")
        reconstruction = errors.flatten(1).sum(1).mean()
        kl = kl_divergence(mu, log_var).mean()
        loss = reconstruction + self.config.kl_weight * kl
        active = mu.var(0, correction=0) > 0.01  # Burda et al. 2016, section 5.2
        return loss, {
            "train/vae_loss": loss,
            "train/reconstruction": reconstruction,
            "train/kl": kl,
            "train/active_units": active.sum().float(),
        }

    @torch.inference_mode()
    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        """The decoder's mean for z ~ N(0, I): float [n, C, H, W] in [-1, 1] for labels int64 [n]."""
        z = draws.normal("z", self.config.latent_size)
        return self.decoder(z, labels).sigmoid() * 2 - 1


Generator = VAE
