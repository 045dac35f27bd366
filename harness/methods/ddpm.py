"""Denoising diffusion (Ho, Jain & Abbeel 2020, arXiv:2006.11239), conditional on the label.

The paper's letters: x_0 is an image in [-1, 1], x_t its noised version at t = 0 … T - 1 (the paper's
1 … T), eps the noise, beta and alpha_bar the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.bounds import Channels, Count, Decay, NotNegative, Positive, Share, Within
from harness.data import moves
from harness.data.images import ByLabel, Images, ImageShape, to_float
from harness.methods.blocks import moving_average
from harness.seeding import Draws
from harness.spaces import searched
from harness.training.loop import Batch, accumulate_gradients
from harness.training.optimizers import AdamW, Muon

if TYPE_CHECKING:
    from accelerate import Accelerator

IMAGE_STD = 0.6  # of pixels in [-1, 1]: MNIST has 0.62; only the size matters

MOVED_SHARE = 0.12
"""Probability of each move of `augment="conditioned"`, as in Karras 2022, table 6."""

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""eps(x_t, t): the predicted noise [n, C, H, W] for x_t [n, C, H, W] and t int64 [n]."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of DDPM."""

    steps: Count = 16_000
    """optimizer steps at most"""
    epochs: Positive = 150.0
    """passes over the real images at most; training ends at whichever of steps and epochs comes first"""
    batch_size: Count = 64
    """images per optimizer step, over all processes"""
    learning_rate: Positive = searched(2e-3, low=2e-4, high=4e-3, log=True)
    """peak learning rate (AdamW); falls to 0 along a half cosine"""
    kernel_learning_rate: NotNegative = searched(0.02, low=5e-3, high=1e-1, log=True)
    """peak learning rate of the convolutions between the first and the last (Muon), likewise; 0: AdamW for all"""
    augment: Literal["none", "moved", "conditioned"] = searched("none", choices=("none", "moved", "conditioned"))
    """moved: the training images are under fresh small moves, and samples show such moves too; conditioned: under a few
    of which the network is told, and samples show none (Karras 2022, arXiv:2206.00364, appendix F.2)"""
    schedule: Literal["linear", "cosine"] = searched("linear", choices=("linear", "cosine"))
    """beta schedule: linear (Ho 2020) or cosine (Nichol & Dhariwal 2021, eq. 17)"""
    num_steps: Annotated[int, Within(int, 1, most=100_000)] = searched(1000, low=100, high=1000, log=True)
    """T, diffusion steps of the forward process"""
    min_beta: Annotated[float, Within(float, above=0, below=1)] = searched(
        0.006, low=1e-4, high=1e-2, log=True, when={"schedule": "linear"}
    )
    """first beta of the linear schedule at 1000 steps, else 1000 / num_steps times as much; Ho 2020 has 1e-4"""
    max_beta: Annotated[float, Within(float, above=0, below=1)] = searched(
        0.006, low=5e-3, high=5e-2, log=True, when={"schedule": "linear"}
    )
    """last beta of the linear schedule, likewise; Ho 2020 has 0.02"""
    hidden_channels: Channels = 32
    """channels of the U-Net at its finest level; the coarser one has twice as many"""
    label_dropout: Share = 0.1
    """share of the training images whose label is hidden, for guidance"""
    guidance: NotNegative = searched(0.8, low=0.0, high=2.0)
    """w of classifier-free guidance: eps = (1 + w) eps(label) - w eps(no label); 0 is without"""
    guided_alpha_bar: Share = 0.08
    """least alpha_bar_t at which guidance works; where there is more noise it costs diversity"""
    ema_decay: Decay = 0.999
    """decay of the weights' moving average per step, from which samples are drawn"""
    sampler: Literal["dpm-solver++", "ddim", "ancestral"] = "dpm-solver++"
    """how sample sets are drawn; ancestral takes all T steps"""
    sampler_steps: Count = 10
    """network evaluations per image of the fast samplers"""
    start: Annotated[float, Within(float, above=0, most=1)] = 1.0
    """where between an image (0) and noise (1) samples begin, by the angle arctan(sigma_t / alpha_t); below 1 each
    begins as a real image of its class under so much noise (SDEdit, Meng 2022, arXiv:2108.01073, Algorithm 1). A model
    has no real images and draws from noise: it is not registered with the figures of such samples"""

    def betas(self) -> Tensor:
        """beta_t, float64 [T]; with fewer steps than 1000 each is larger, so that x_T is noise at any T."""
        scale = 1000 / self.num_steps
        return betas(self.schedule, self.num_steps, scale * self.min_beta, scale * self.max_beta)


# --- The diffusion ---------------------------------------------------------------------------------------


def betas(schedule: str, num_steps: int, min_beta: float, max_beta: float) -> Tensor:
    """beta_t, float64 [T]: evenly spaced (Ho 2020, section 4) or from a squared cosine (Nichol 2021, eq. 17)."""
    if schedule == "linear":
        return torch.linspace(min_beta, max_beta, num_steps, dtype=torch.float64).clamp(max=0.999)
    s = 0.008
    angle = (torch.arange(num_steps + 1, dtype=torch.float64) / num_steps + s) / (1 + s) * math.pi / 2
    f = angle.cos() ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def diffuse(x_0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0) by its closed form (Ho 2020, eq. 4): sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps."""
    signal = alpha_bar[t].view(-1, 1, 1, 1)
    return (signal.sqrt() * x_0 + (1 - signal).sqrt() * eps).to(x_0.dtype)


def angles(alpha_bar: Tensor) -> Tensor:
    """arctan(sigma_t / alpha_t), 0 … pi / 2: from an image to noise."""
    return torch.atan2((1 - alpha_bar).sqrt(), alpha_bar.sqrt())


def timesteps(alpha_bar: Tensor, count: int) -> list[int]:
    """`count` distinct t from T - 1 down, evenly spread over the angle arctan(sigma_t / alpha_t), 0 left out.

    Of a cosine schedule these are even strides of t; any other schedule gets the same noise levels.
    """
    angle = angles(alpha_bar)
    count = min(count, len(angle))
    times = [len(angle)]
    for left in reversed(range(count)):
        nearest = int((angle - angle[-1] * (left + 1) / count).abs().argmin())
        times.append(max(left, min(nearest, times[-1] - 1)))
    return times[1:]


def ancestral(
    denoise: Denoiser, x: Tensor, beta: Tensor, noise: Callable[[int], Tensor], clip: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """Ho 2020, Algorithm 2 with sigma_t^2 = beta_t, over all T steps; `noise(t)` is z. Yields (t, x_t).

    The mean is eq. 7 at the predicted x_0, which without clipping is the algorithm's line 4.
    """
    alpha_bar = (1 - beta).cumprod(0)
    for t in reversed(range(len(beta))):
        b, bar, bar_before = float(beta[t]), float(alpha_bar[t]), float(alpha_bar[t - 1]) if t else 1.0
        x_0 = predicted_x_0(denoise, x, t, bar, clip)
        x = (math.sqrt(bar_before) * b * x_0 + math.sqrt(1 - b) * (1 - bar_before) * x) / (1 - bar)
        if t > 0:
            x = x + math.sqrt(b) * noise(t)
        yield t, x


def ddim(
    denoise: Denoiser, x: Tensor, beta: Tensor, times: list[int], clip: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """Deterministic DDIM (Song 2021, arXiv:2010.02502, eq. 12, sigma = 0) over `times`. Yields (t, x_t)."""
    alpha_bar = (1 - beta).cumprod(0)
    for t, following in zip(times, [*times[1:], None], strict=True):
        bar = float(alpha_bar[t])
        x_0 = predicted_x_0(denoise, x, t, bar, clip)
        eps = (x - math.sqrt(bar) * x_0) / math.sqrt(1 - bar)
        bar = 1.0 if following is None else float(alpha_bar[following])
        x = math.sqrt(bar) * x_0 + math.sqrt(1 - bar) * eps
        yield following or 0, x


def dpm_solver(
    denoise: Denoiser, x: Tensor, beta: Tensor, times: list[int], clip: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """DPM-Solver++(2M) (Lu 2022, arXiv:2211.01095, Algorithm 2) over `times`. Yields (t, x_t).

    The first step and the last, to the noiseless end, are of first order.
    """
    alpha_bar = (1 - beta).cumprod(0)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam = (alpha / sigma).log()
    previous: tuple[Tensor, float] | None = None  # x_0 and h of the step before
    for t, following in zip(times, [*times[1:], None], strict=True):
        x_0 = predicted_x_0(denoise, x, t, float(alpha_bar[t]), clip)
        if following is None:
            yield 0, x_0
            return
        h = float(lam[following] - lam[t])
        D = x_0
        if previous is not None:
            before, h_before = previous
            D = x_0 + (x_0 - before) * (h / (2 * h_before))
        x = float(sigma[following] / sigma[t]) * x - float(alpha[following]) * math.expm1(-h) * D
        previous = x_0, h
        yield following, x


def predicted_x_0(denoise: Denoiser, x: Tensor, t: int, alpha_bar_t: float, clip: bool) -> Tensor:
    """x_0 from x_t and the predicted noise (eq. 4 solved for x_0), clipped to the images' range [-1, 1].

    Near t = T the division by sqrt(alpha_bar) blows up any error of eps; the clip takes it back.
    """
    eps = denoise(x, torch.full((len(x),), t, device=x.device))
    x_0 = (x - math.sqrt(1 - alpha_bar_t) * eps) / math.sqrt(alpha_bar_t)
    return x_0.clamp(-1, 1) if clip else x_0


# --- The network -----------------------------------------------------------------------------------------


class Block(nn.Module):
    """Residual block: norm, SiLU, 3x3 convolution, twice; scaled and shifted by the time and label."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Residual self-attention over all places of the coarse level."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(1, (3, self.heads, -1)).flatten(4).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(x.shape))


def preconditioning(alpha_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c_in, c_skip, c_out (float32 [T]): eps(x_t) = c_skip x_t + c_out F(c_in x_t), F of unit size at every t.

    The argument of Karras 2022 (arXiv:2206.00364, appendix B.6) for the prediction of eps: c_skip x_t is its
    best linear guess for images of variance s^2, c_out the deviation that is left. Where there is almost
    only noise the network need not copy it, but can spend itself on the little that shows of the image.
    """
    signal, noise = alpha_bar * IMAGE_STD**2, 1 - alpha_bar
    total = signal + noise
    return total.rsqrt().float(), (noise.sqrt() / total).float(), (signal / total).sqrt().float()


class UNet(nn.Module):
    """eps(x_t, t, label) on two levels, after pixels have been folded 2 x 2 into channels.

    Most of the work is at half and a quarter of the image's size: at full size a convolution costs four
    times as much and a digit gains nothing from it. The label `num_classes` means "hidden". `moved` are the
    numbers in -1 … 1, [n, moves.num_numbers(shape.moves)], by which x_0 was moved; without them it was not.
    """

    time_table: Tensor
    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor

    def __init__(self, shape: ImageShape, alpha_bar: Tensor, width: int, is_told_moves: bool = False) -> None:
        super().__init__()
        embedding = 4 * width
        num_steps = len(alpha_bar)
        for name, scale in zip(("c_in", "c_skip", "c_out"), preconditioning(alpha_bar), strict=True):
            self.register_buffer(name, scale, persistent=False)
        frequencies = torch.exp(-math.log(10_000) * torch.arange(width) / width)
        angles = torch.arange(num_steps)[:, None] * frequencies
        self.register_buffer("time_table", torch.cat([angles.sin(), angles.cos()], 1), persistent=False)
        self.time = nn.Sequential(nn.Linear(2 * width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = nn.Embedding(shape.num_classes + 1, embedding)
        self.entry = nn.Conv2d(4 * shape.channels, width, 3, padding=1)
        self.fine_down = nn.ModuleList(Block(width, width, embedding) for _ in range(1))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(Block(2 * width, 2 * width, embedding) for _ in range(3))
        self.attention = Attention(2 * width)
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.fine_up = nn.ModuleList(Block(2 * width, width, embedding) for _ in range(1))
        self.exit = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 4 * shape.channels, 3, padding=1))
        if is_told_moves:
            self.moves = nn.Linear(moves.num_numbers(shape.moves), embedding, bias=False)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor, moved: Tensor | None = None) -> Tensor:
        c_in, c_skip, c_out = (scale[t].view(-1, 1, 1, 1) for scale in (self.c_in, self.c_skip, self.c_out))
        return torch.addcmul(c_skip * x_t, c_out, self._residual(c_in * x_t, t, labels, moved).to(x_t.dtype))

    def _residual(self, x: Tensor, t: Tensor, labels: Tensor, moved: Tensor | None) -> Tensor:
        known = self.time(self.time_table[t]) + self.label(labels)
        embedding = F.silu(known if moved is None else known + self.moves(moved))
        x = self.entry(F.pixel_unshuffle(x, 2))
        skips = []
        for block in self.fine_down:
            x = block(x, embedding)
            skips.append(x)
        x = self.down(x)
        for place, block in enumerate(self.coarse):
            x = block(x, embedding)
            if place == 0:
                x = self.attention(x)
        x = F.pixel_shuffle(self.up(x), 2)
        for block in self.fine_up:
            x = block(torch.cat([x, skips.pop()], 1), embedding)
        return F.pixel_shuffle(self.exit(x), 2)


# --- The method ------------------------------------------------------------------------------------------


class DDPM(nn.Module):
    """Trains eps(x_t, t, label) by the simple loss and samples from the average of its weights."""

    Config = Config
    sampling_fields = ("guidance", "guided_alpha_bar", "sampler", "sampler_steps", "start")
    real: ByLabel | None = None
    """the images as which samples begin, where there are any: an exported generator begins at noise"""
    beta: Tensor
    alpha_bar: Tensor

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        beta = config.betas()
        alpha_bar = (1 - beta).cumprod(0)
        self.net = UNet(shape, alpha_bar, config.hidden_channels, config.augment == "conditioned")
        self.ema = moving_average(self.net, config.ema_decay)
        self.register_buffer("beta", beta, persistent=False)
        self.register_buffer("alpha_bar", alpha_bar, persistent=False)

    def prepare(self, accelerator: Accelerator) -> None:
        self.to(accelerator.device)
        weights, rate = dict(self.net.named_parameters()), self.config.kernel_learning_rate
        inner = {
            name: weight
            for name, weight in weights.items()
            if rate and weight.ndim == 4 and not name.startswith(("entry", "exit"))
        }
        others = [weight for name, weight in weights.items() if name not in inner]
        optimizers: list[Optimizer] = [AdamW(others, lr=self.config.learning_rate, betas=(0.9, 0.99), fused=True)]
        if inner:
            optimizers.append(Muon(inner.values(), lr=rate, momentum=0.95, weight_decay=0.0))
        self.accelerator = accelerator
        # A list hides the wrapped network from nn.Module: the weights keep their names.
        self.wrapped = [accelerator.prepare(self.net)]
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers]

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """One step of Ho 2020's Algorithm 1, with the simple loss of its eq. 14.

        Three things depart from it: t is stratified over the batch (as in Kingma 2021, arXiv:2107.00630),
        some labels are hidden for guidance (Ho & Salimans 2022), and the loss is a mean over pixels, not a sum.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        metrics = accumulate_gradients(self.accelerator, self.wrapped[0], batch, self._loss)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * self.learning_rate(step)
            optimizer.step()
        self.ema.update_parameters(self.net)
        return metrics

    def _loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        eps = batch.draws.normal("eps", *batch.images.shape[1:])
        t = (batch.draws.stratified("t") * self.config.num_steps).long()
        hidden = batch.draws.uniform("label dropout") < self.config.label_dropout
        labels = batch.labels.masked_fill(hidden, self.shape.num_classes)
        x_0, told = self._moved(batch) if self.config.augment == "conditioned" else (batch.images, [])
        x_t = diffuse(x_0, t, eps, self.alpha_bar)
        loss = F.mse_loss(self.wrapped[0](x_t, t, labels, *told), eps)
        return loss, {"train/ddpm_loss": loss}

    def _moved(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The images under a few moves, and by what, in -1 … 1."""
        number = moves.num_numbers(self.shape.moves)
        unit = batch.draws.uniform("moves", number)
        unit = unit.where(batch.draws.uniform("moved", number) < MOVED_SHARE, 0.5)
        return moves.move_images(batch.images, unit, self.shape.moves), [2 * unit - 1]

    def learning_rate(self, step: int) -> float:
        """In parts of its peak: a short linear rise, then half a cosine down to 0 at `steps`."""
        rise = min(1.0, (step + 1) / 200)
        return rise * 0.5 * (1 + math.cos(math.pi * step / self.config.steps))

    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        """Images [n, C, H, W] in [-1, 1] for `labels` [n], by the configured sampler."""
        for _, x in self.trajectory(labels, draws):  # noqa: B007  the last one is the sample
            pass
        return x.clamp(-1, 1)

    @torch.no_grad()
    def trajectory(self, labels: Tensor, draws: Draws) -> Iterator[tuple[int, Tensor]]:
        """(t, x_t) from noise, or a noisy image, to digit."""
        x, length = self._begin(labels, draws)
        yield length - 1, x
        denoise, beta = self._guided(labels), self.beta[:length]
        if self.config.sampler == "ancestral":
            yield from ancestral(denoise, x, beta, lambda t: draws.normal(f"z_{t}", *x.shape[1:]))
        else:
            solver = ddim if self.config.sampler == "ddim" else dpm_solver
            yield from solver(denoise, x, beta, timesteps(self.alpha_bar[:length], self.config.sampler_steps))

    def begin_with(self, real: Images) -> None:
        """Let samples begin as these images, where `start` says so."""
        self.real = ByLabel(real.to(self.beta.device)) if self.config.start < 1 else None

    def _begin(self, labels: Tensor, draws: Draws) -> tuple[Tensor, int]:
        """x_t at the first t, and how many steps there are from it to the image."""
        noise = draws.normal("x_T", self.shape.channels, self.shape.height, self.shape.width)
        if self.real is None:
            return noise, self.config.num_steps
        angle = angles(self.alpha_bar)
        t = int((angle - self.config.start * angle[-1]).abs().argmin())
        images, _ = self.real.choose(labels, draws.uniform("real image"))
        return diffuse(to_float(images), torch.full_like(labels, t), noise, self.alpha_bar), t + 1

    def pictures(self) -> dict[str, tuple[Tensor, int]]:
        """`trajectory`: from noise to digit, a row per label; images [labels * shown, C, H, W] and the columns."""
        labels = torch.arange(self.shape.num_classes, device=self.beta.device)
        draws = Draws(0, "trajectory", 0, len(labels), slice(0, len(labels)), self.beta.device)
        states = [x for _, x in self.trajectory(labels, draws)]
        shown = [states[round(i * (len(states) - 1) / 9)] for i in range(10)]
        return {"trajectory": (torch.stack(shown, 1).flatten(0, 1), len(shown))}

    def _guided(self, labels: Tensor) -> Denoiser:
        """eps with classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6).

        Only below a noise level, after Kynkäänniemi 2024 (arXiv:2404.07724).
        """
        w = self.config.guidance
        both = torch.cat([labels, torch.full_like(labels, self.shape.num_classes)])

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            if w == 0 or self.alpha_bar[t[0]] < self.config.guided_alpha_bar:  # one t for all
                return self.ema(x, t, labels)
            conditional, unconditional = self.ema(x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
            return torch.lerp(unconditional, conditional, 1 + w)

        return denoise


Generator = DDPM
