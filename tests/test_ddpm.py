"""The diffusion's equations against diffusers, an independent implementation."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from harness.data import datasets, moves
from harness.data.images import ImageShape, to_float
from harness.methods import ddpm
from harness.seeding import Draws
from harness.training.loop import Batches

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
T = 100


def reference(kind: type, schedule: str, **options: object):
    return kind(num_train_timesteps=T, beta_start=1e-3, beta_end=0.05, beta_schedule=SCHEDULES[schedule], **options)


def own_betas(schedule: str) -> Tensor:
    return ddpm.betas(schedule, T, 1e-3, 0.05)


def eps_of(x: Tensor, t: Tensor) -> Tensor:
    """A smooth stand-in for the network, of a size that a trained one has."""
    return torch.tanh(x * 1.3 + 0.01 * t.view(-1, 1, 1, 1).double())


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_forward_process_is_eq_4(schedule: str, noise: Tensor) -> None:
    x_0 = torch.rand_like(noise) * 2 - 1
    t = torch.tensor([0, 17, 63, T - 1])
    expected = reference(DDPMScheduler, schedule).add_noise(x_0, noise, t)
    alpha_bar = (1 - own_betas(schedule)).cumprod(0)
    torch.testing.assert_close(ddpm.diffuse(x_0, t, noise, alpha_bar), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_steps_are_algorithm_2(schedule: str, clip: bool, noise: Tensor) -> None:
    scheduler = reference(DDPMScheduler, schedule, variance_type="fixed_large", clip_sample=clip)
    scheduler.set_timesteps(T)
    beta = own_betas(schedule)
    for t in (T - 2, 40, 1, 0):
        eps = eps_of(noise, torch.full((len(noise),), t))
        drawn = torch.Generator().manual_seed(t)
        expected = scheduler.step(eps, t, noise, generator=drawn).prev_sample
        z = torch.randn(noise.shape, generator=torch.Generator().manual_seed(t), dtype=noise.dtype)
        steps = ddpm.ancestral(eps_of, noise, beta[: t + 1], lambda _: z, clip)  # noqa: B023  used at once
        _, after = next(steps)
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_trajectory(schedule: str, clip: bool, noise: Tensor) -> None:
    scheduler = reference(DDIMScheduler, schedule, clip_sample=clip, set_alpha_to_one=True, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    times = scheduler.timesteps.tolist()
    x = noise
    ours = list(ddpm.ddim(eps_of, noise, own_betas(schedule), times, clip))
    for t, (_, after) in zip(times, ours, strict=True):
        x = scheduler.step(eps_of(x, torch.full((len(x),), t)), t, x, use_clipped_model_output=True).prev_sample
        torch.testing.assert_close(after, x, atol=1e-5, rtol=1e-5)


# Not cosine without the clip: there alpha_bar_T is so small that diffusers' float32 schedule shows.
@pytest.mark.parametrize(("schedule", "clip"), [("linear", False), ("linear", True), ("cosine", True)])
def test_dpm_solver_trajectory(schedule: str, clip: bool, noise: Tensor) -> None:
    scheduler = reference(
        DPMSolverMultistepScheduler,
        schedule,
        solver_order=2,
        algorithm_type="dpmsolver++",
        final_sigmas_type="zero",
        lower_order_final=True,
        thresholding=clip,  # with the greatest value 1 its dynamic threshold is the plain clip
        sample_max_value=1.0,
    )
    scheduler.set_timesteps(10)
    times = scheduler.timesteps.tolist()
    x = noise
    for t, (_, after) in zip(times, ddpm.dpm_solver(eps_of, noise, own_betas(schedule), times, clip), strict=True):
        x = scheduler.step(eps_of(x, torch.full((len(x),), t)), t, x).prev_sample
        torch.testing.assert_close(after, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_timesteps_fall_from_the_last_and_stay_above_zero(schedule: str) -> None:
    alpha_bar = (1 - own_betas(schedule)).cumprod(0)
    for count in (1, 2, 10, T - 1, T):
        times = ddpm.timesteps(alpha_bar, count)
        assert len(times) == count
        assert times[0] == T - 1
        assert times == sorted(set(times), reverse=True)
        assert times[-1] >= 0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("num_steps", [10, 100, 1000])
def test_the_default_schedule_ends_in_noise_for_any_number_of_steps(schedule: Any, num_steps: int) -> None:
    alpha_bar = (1 - ddpm.Config(schedule=schedule, num_steps=num_steps).betas()).cumprod(0)
    assert alpha_bar[-1] < 0.005
    assert alpha_bar.diff().max() < 0


def test_timesteps_have_the_same_noise_levels_under_every_schedule() -> None:
    """On the cosine schedule, where the angle is linear in t, they are even strides of t."""
    beta = {name: ddpm.betas(name, 1000, 0.006, 0.006) for name in ("linear", "cosine")}
    levels = {name: (1 - b).cumprod(0)[ddpm.timesteps((1 - b).cumprod(0), 10)] for name, b in beta.items()}
    torch.testing.assert_close(levels["linear"].sqrt(), levels["cosine"].sqrt(), atol=0.05, rtol=0)
    strides = -torch.tensor(ddpm.timesteps((1 - beta["cosine"]).cumprod(0), 10)).diff()
    assert strides.min() >= 99
    assert strides.max() <= 101


def test_the_fast_samplers_reach_the_exact_posterior_mean_of_a_point() -> None:
    """For data that are one single image, the perfect denoiser is known, and every sampler must end there."""
    image = torch.linspace(-0.9, 0.9, 64, dtype=torch.float64).view(1, 1, 8, 8)
    beta = own_betas("cosine")
    alpha_bar = (1 - beta).cumprod(0)

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        bar = alpha_bar[t].view(-1, 1, 1, 1)
        return (x - bar.sqrt() * image) / (1 - bar).sqrt()

    start = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for solver in (ddpm.ddim, ddpm.dpm_solver):
        *_, (_, end) = solver(perfect, start, beta, ddpm.timesteps(alpha_bar, 10))
        torch.testing.assert_close(end, image.expand_as(end), atol=1e-6, rtol=0)


def test_guidance_is_the_extrapolation_from_the_hidden_label_where_noise_is_low() -> None:
    shape = ImageShape(1, 8, 8, 10)
    model = ddpm.DDPM(ddpm.Config(schedule="cosine", num_steps=20, hidden_channels=8, guidance=1.5), shape)
    for parameter in model.ema.parameters():
        parameter.data.normal_(std=0.2)
    labels, x = torch.tensor([3, 8]), torch.randn(2, 1, 8, 8)
    for step, weight in ((5, 1.5), (18, 0.0)):  # alpha_bar 0.79 and 0.006
        t = torch.tensor([step, step])
        with torch.no_grad():
            conditional, hidden = model.ema(x, t, labels), model.ema(x, t, torch.tensor([10, 10]))
            expected = (1 + weight) * conditional - weight * hidden
            torch.testing.assert_close(model._guided(labels)(x, t), expected, atol=1e-5, rtol=1e-5)
        assert (conditional - hidden).abs().max() > 2e-4  # else the formula would not matter


@pytest.mark.parametrize("sampler", ["dpm-solver++", "ddim", "ancestral"])
def test_samplers_draw_images_that_depend_on_the_seed_alone(sampler: str) -> None:
    config = ddpm.Config(num_steps=12, hidden_channels=8, sampler=sampler, sampler_steps=4)
    model = ddpm.DDPM(config, ImageShape(3, 12, 8, 7))
    labels = torch.arange(7)

    def draw(seed: int) -> Tensor:
        return model.sample(labels, Draws(seed, "sample", 0, 7, slice(0, 7), torch.device("cpu")))

    first = draw(1)
    assert first.shape == (7, 3, 12, 8)
    assert first.abs().max() <= 1
    assert torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))


@pytest.mark.parametrize(("rate", "number"), [(0.02, 2), (0.0, 1)])
def test_each_weight_is_of_one_optimizer(rate: float, number: int) -> None:
    model = ddpm.DDPM(ddpm.Config(num_steps=10, hidden_channels=16, kernel_learning_rate=rate), ImageShape(1, 8, 8, 10))
    model.prepare(Accelerator(cpu=True))
    assert len(model.optimizers) == number
    trained = [weight for each in model.optimizers for group in each.param_groups for weight in group["params"]]
    assert sorted(map(id, trained)) == sorted(map(id, model.net.parameters()))


@pytest.mark.parametrize("sampler", ["dpm-solver++", "ddim", "ancestral"])
def test_samples_may_begin_as_noisy_real_images_of_their_classes(sampler: Any) -> None:
    """SDEdit (Meng 2022), Algorithm 1: noised at once to the first t, from which all steps are taken that are left."""
    config = ddpm.Config(num_steps=40, hidden_channels=8, sampler=sampler, sampler_steps=3, guidance=0.0, start=0.6)
    model = ddpm.DDPM(config, ImageShape(1, 8, 8, 10))
    digits = datasets.load("digits", n_real=100).real
    labels, draws = torch.arange(10).repeat(5), Draws(0, "sample", 0, 50, slice(0, 50), torch.device("cpu"))
    from_noise = list(model.trajectory(labels, draws))
    assert torch.equal(from_noise[0][1], draws.normal("x_T", 1, 8, 8))
    model.begin_with(digits)
    times, states = zip(*model.trajectory(labels, draws), strict=True)
    signal = model.alpha_bar[times[0]]
    angles = torch.atan((1 - model.alpha_bar).sqrt() / model.alpha_bar.sqrt())
    assert float(angles[times[0]] / angles[-1]) == pytest.approx(0.6, abs=0.03)
    assert len(times) == (times[0] + 2 if sampler == "ancestral" else 4)
    begun = (states[0] - (1 - signal).sqrt() * draws.normal("x_T", 1, 8, 8)) / signal.sqrt()
    for label in range(10):
        real = to_float(digits[digits.labels == label].images)
        apart = torch.cdist(begun[labels == label].flatten(1).float(), real.flatten(1))
        assert apart.min(1).values.max() < 1e-4
        assert apart.argmin(1).unique().numel() > 1  # not one of them alone

    class Perfect(torch.nn.Module):
        """Knows what noise was added."""

        def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            bar = model.alpha_bar[t].view(-1, 1, 1, 1)
            return ((x - bar.sqrt() * begun) / (1 - bar).sqrt()).to(x.dtype)

    model.ema = Perfect()
    torch.testing.assert_close(model.sample(labels, draws), begun.float(), atol=1e-3, rtol=0)


def test_a_conditioned_network_is_told_its_images_moves_and_samples_as_if_there_were_none() -> None:
    """Each of the four numbers moves its share of the images, which the loss sees moved by just what is told."""
    model = ddpm.DDPM(ddpm.Config(num_steps=10, hidden_channels=8, augment="conditioned"), ImageShape(1, 8, 8, 10))
    digits = datasets.load("digits", n_real=400).real
    batch = Batches((digits, 400), seed=0)[0]
    images, (told,) = model._moved(batch)
    assert (told != 0).float().mean(0).tolist() == pytest.approx([ddpm.MOVED_SHARE] * 4, abs=0.05)
    still = (told == 0).all(1)
    torch.testing.assert_close(images[still], batch.images[still], atol=1e-5, rtol=0)
    torch.testing.assert_close(images, moves.move_images(batch.images, (told + 1) / 2, "rotate"))
    assert not torch.allclose(images[~still], batch.images[~still], atol=0.1)

    x, t, labels = batch.images[:2], torch.tensor([3, 8]), torch.tensor([1, 2])
    for weight in model.net.parameters():
        weight.data.normal_(std=0.2)
    none, some = torch.zeros(2, 4), torch.full((2, 4), 0.5)
    torch.testing.assert_close(model.net(x, t, labels, none), model.net(x, t, labels))
    assert not torch.allclose(model.net(x, t, labels, some), model.net(x, t, labels), atol=1e-4)
