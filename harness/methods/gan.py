"""Conditional GANs: vanilla and relativistic, and the Wasserstein GAN with clipped weights and with gradient penalty.

Goodfellow et al. 2014 (arXiv:1406.2661), Jolicoeur-Martineau 2018 (arXiv:1807.00734), Arjovsky et al. 2017
(arXiv:1701.07875), Gulrajani et al. 2017 (arXiv:1704.00028). The label enters G through class-conditional normalisation
(de Vries et al. 2017, arXiv:1707.00683) and D through a projection (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.bounds import Count, Decay, NotNegative, Positive, Units, Within
from harness.data import moves
from harness.data.images import ImageShape
from harness.errors import InputError
from harness.methods.blocks import moving_average
from harness.seeding import Draws
from harness.spaces import searched
from harness.training.loop import Batch, accumulate_gradients
from harness.training.optimizers import Adam, RMSprop

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the GAN. A step is a batch of real images, as everywhere: one update of the critic."""

    steps: Count = 10_000
    """batches of real images, each an update of the critic; training ends here or at `epochs`, whichever comes first"""
    epochs: Positive = searched(100.0, low=5.0, high=500.0, log=True)
    """passes over the real images; training ends here or at `steps`, whichever comes first"""
    batch_size: Count = 64
    """real images per step, over all processes"""
    augment: Literal["none", "moved", "diff"] = searched("none", choices=("none", "moved", "diff"))
    """moved: the training images are under fresh small moves, and samples show such moves too; diff: all that the
    critic sees is, real or generated, so that samples show none (Zhao et al. 2020, arXiv:2006.10738)"""
    loss: Literal["vanilla", "saturating", "relativistic", "wgan", "wgan-gp"] = searched(
        "wgan-gp", choices=("vanilla", "relativistic", "wgan", "wgan-gp")
    )
    """vanilla: non-saturating; saturating: G minimises log(1 - D), as in the minimax game of Goodfellow 2014, eq. 1;
    relativistic: each real image against a generated one of its label (Huang 2024, arXiv:2501.05441, eq. 2), with a
    penalty on the critic's gradient at real images; wgan: clipped weights; wgan-gp: gradient penalty"""
    critic_steps: Count = searched(2, low=1, high=5)
    """steps from one update of the generator to the next (n_critic)"""
    latent_size: Units = 64
    """dimensions of z"""
    hidden_channels: Annotated[int, Within(int, 16, most=4096, step=16)] = 64
    """channels at a quarter of the image's height and width; half as many at half of them"""
    generator_lr: Positive = 1e-3
    """learning rate of the generator's Adam"""
    critic_lr: Positive = 1e-3
    """learning rate of the critic's Adam"""
    beta1: Decay = 0.0
    """first-moment decay of Adam"""
    rmsprop_lr: Positive = searched(5e-5, low=5e-5, high=5e-3, log=True, when={"loss": "wgan"})
    """learning rate of both networks' RMSprop, which takes Adam's place for wgan"""
    clip_limit: Positive = searched(0.01, low=0.003, high=0.1, log=True, when={"loss": "wgan"})
    """wgan: the critic's weights are clipped to [-clip_limit, clip_limit]"""
    gp_weight: NotNegative = 10.0
    """wgan-gp: weight of the gradient penalty (lambda); relativistic: twice that of its own (gamma of Mescheder 2018,
    arXiv:1801.04406, eq. 9)"""
    ema_decay: Decay = 0.999
    """decay per generator step of the averaged weights that sample"""
    latent_scale: Positive = 0.95
    """standard deviation of z in sampling; below the training's 1, faithfulness is bought with diversity"""


class ConditionalNorm(nn.Module):
    """Group normalisation whose scale and shift depend on the label."""

    def __init__(self, channels: int, num_classes: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, affine=False)
        self.affine = nn.Embedding(num_classes, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        scale, shift = self.affine(labels)[:, :, None, None].chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class G(nn.Module):
    """z float [n, latent_size], labels int64 [n] -> images float [n, C, H, W] in [-1, 1]."""

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        wide, narrow = config.hidden_channels, config.hidden_channels // 2
        self.grid = (wide, shape.height // 4, shape.width // 4)
        self.door = nn.Linear(config.latent_size, wide * self.grid[1] * self.grid[2])
        self.label = nn.Embedding(shape.num_classes, config.latent_size)
        self.norm1 = ConditionalNorm(wide, shape.num_classes)
        self.conv1 = nn.Conv2d(wide, 4 * narrow, 3, padding=1)
        self.norm2 = ConditionalNorm(narrow, shape.num_classes)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.norm3 = ConditionalNorm(narrow, shape.num_classes)
        self.conv3 = nn.Conv2d(narrow, 4 * shape.channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.door(z + self.label(labels)).unflatten(1, self.grid)
        x = F.pixel_shuffle(self.conv1(F.relu(self.norm1(x, labels))), 2)
        x = self.conv2(F.relu(self.norm2(x, labels)))
        x = F.pixel_shuffle(self.conv3(F.relu(self.norm3(x, labels))), 2)
        return x.tanh()


class D(nn.Module):
    """Images float [n, C, H, W], labels int64 [n] -> logit or critic's value [n].

    Without normalisation: the gradient penalty is per image.
    """

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        wide, narrow = config.hidden_channels, config.hidden_channels // 2
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),  # a convolution over 4 C channels costs a fraction of one over C at full size
            nn.Conv2d(4 * shape.channels, narrow, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(wide * (shape.height // 4) * (shape.width // 4), 4 * wide), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.value = nn.Linear(4 * wide, 1)
        self.projection = nn.Embedding(shape.num_classes, 4 * wide)
        nn.init.normal_(self.projection.weight, std=(4 * wide) ** -0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        phi = self.features(images)
        return self.value(phi).squeeze(1) + (self.projection(labels) * phi).sum(1)


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, norm: float = 1.0
) -> Tensor:
    """The mean of (||grad D(x)|| - norm)^2 over images x: the last factor of Gulrajani 2017, eq. 3.

    With a norm of 0 at real images it is the factor of Mescheder 2018, eq. 9 (R1).
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images, labels).sum(), images, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - norm).square().mean()


class GAN(nn.Module):
    """A generator G, its critic D and the running average of G that samples."""

    Config = Config
    sampling_fields = ("latent_scale",)

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.G = G(config, shape)
        self.D = D(config, shape)
        self.average = moving_average(self.G, config.ema_decay)

    def prepare(self, accelerator: Accelerator) -> None:
        from accelerate.utils import DynamoBackend

        compiler = accelerator.state.dynamo_plugin
        if self.config.loss in ("wgan-gp", "relativistic") and compiler and compiler.backend != DynamoBackend.NO:
            raise InputError(
                f"--loss {self.config.loss} takes a gradient's gradient, which torch.compile does not give: "
                "leave out --dynamo_backend, or choose --loss wgan or vanilla"
            )
        self.to(accelerator.device)
        self.accelerator = accelerator
        # A list hides the wrapped networks from nn.Module: the weights keep their names.
        self.wrapped = [accelerator.prepare(self.G), accelerator.prepare(self.D)]
        self.optimizers = [
            accelerator.prepare(self._optimizer(self.G, self.config.generator_lr)),
            accelerator.prepare(self._optimizer(self.D, self.config.critic_lr)),
        ]

    def _optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        if self.config.loss == "wgan":
            lr = self.config.rmsprop_lr
        weights = [{"params": list(network.parameters()), "initial_lr": lr}]
        if self.config.loss == "wgan":
            return RMSprop(weights, lr, foreach=True)
        return Adam(weights, lr, betas=(self.config.beta1, 0.9), fused=True)

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.decay(step)
        metrics = self._critic_step(batch)
        if (step + 1) % self.config.critic_steps == 0:
            metrics |= self._generator_step(batch)
        return metrics

    def decay(self, step: int) -> float:
        """Factor of the learning rates: 1 in the first half, then linearly down to 0 at `steps`."""
        return min(1.0, 2 * (1 - step / self.config.steps))

    def _critic_step(self, batch: Batch) -> dict[str, Tensor]:
        _, optimizer = self.optimizers
        optimizer.zero_grad()
        metrics = accumulate_gradients(self.accelerator, self.wrapped[1], batch, self._critic_loss)
        optimizer.step()
        if self.config.loss == "wgan":
            with torch.no_grad():
                for weight in self.D.parameters():
                    weight.clamp_(-self.config.clip_limit, self.config.clip_limit)
        return metrics

    def _critic_loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        G, D = self.wrapped
        x, labels = batch.images, batch.labels
        with torch.no_grad():
            x_fake = G(batch.draws.normal("critic/z", self.config.latent_size), labels)
        x, x_fake = self._seen(x, batch.draws, "critic/real moves"), self._seen(x_fake, batch.draws, "critic/moves")
        real, fake = D(torch.cat([x, x_fake]), labels.repeat(2)).chunk(2)
        match self.config.loss:
            case "vanilla" | "saturating":
                loss = F.softplus(-real).mean() + F.softplus(fake).mean()
            case "relativistic":
                penalty = gradient_penalty(D, x, labels, norm=0)
                loss = F.softplus(fake - real).mean() + self.config.gp_weight / 2 * penalty
            case "wgan":
                loss = fake.mean() - real.mean()
            case "wgan-gp":
                u = batch.draws.uniform("interpolation", 1, 1, 1)
                penalty = gradient_penalty(D, torch.lerp(x_fake, x, u), labels)
                loss = fake.mean() - real.mean() + self.config.gp_weight * penalty
        return loss, {"train/gan_loss_critic": loss, "train/wasserstein": real.mean() - fake.mean()}

    def _generator_step(self, batch: Batch) -> dict[str, Tensor]:
        optimizer, _ = self.optimizers
        # The bare and frozen D: its weights take no gradient here, and its processes have nothing to share.
        self.D.requires_grad_(False)
        optimizer.zero_grad()
        metrics = accumulate_gradients(self.accelerator, self.wrapped[0], batch, self._generator_loss)
        self.accelerator.unscale_gradients(optimizer)  # of fp16
        norm = nn.utils.get_total_norm([w.grad for w in self.G.parameters() if w.grad is not None])
        optimizer.step()
        self.average.update_parameters(self.G)
        self.D.requires_grad_(True)
        return {**metrics, "train/generator_gradient_norm": norm}

    def _generator_loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        z = batch.draws.normal("generator/z", self.config.latent_size)
        images = self._seen(self.wrapped[0](z, batch.labels), batch.draws, "generator/moves")
        fake = self.D(images, batch.labels)
        match self.config.loss:
            case "vanilla":
                loss = F.softplus(-fake).mean()
            case "saturating":
                loss = -F.softplus(fake).mean()
            case "relativistic":
                with torch.no_grad():
                    real = self.D(self._seen(batch.images, batch.draws, "generator/real moves"), batch.labels)
                loss = F.softplus(real - fake).mean()
            case _:
                loss = -fake.mean()
        return loss, {"train/gan_loss_generator": loss}

    def _seen(self, images: Tensor, draws: Draws, name: str) -> Tensor:
        """What the critic sees of images: with `augment="diff"` each under a fresh move."""
        if self.config.augment != "diff":
            return images
        return moves.move_images(images, draws.uniform(name, moves.num_numbers(self.shape.moves)), self.shape.moves)

    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        """Images [n, C, H, W] in [-1, 1]; z is drawn a little narrower (Brock 2019, arXiv:1809.11096, section 3.1)."""
        z = self.config.latent_scale * draws.normal("z", self.config.latent_size)
        return self.average(z, labels)


Generator = GAN
