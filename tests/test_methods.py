"""Every method that stands in the folder: it learns, it draws what was asked for, it is found by its file."""

import copy
import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from processes import ROOT, environment
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as reference_kl

from harness import methods
from harness.data import datasets, moves
from harness.data.images import Images, ImageShape, to_float
from harness.errors import InputError
from harness.methods import ddpm, gan, vae
from harness.runs import exported, generators
from harness.seeding import Draws
from harness.training import sampling
from harness.training.loop import Batches, train

CPU = torch.device("cpu")
VARIANTS = {
    "ddpm": {"steps": 150, "hidden_channels": 16, "num_steps": 50},
    "vae": {"steps": 60},
    "drifting": {"steps": 60},
    "gan": {"steps": 60, "critic_steps": 2},
    "ddpm conditioned": {"steps": 300, "hidden_channels": 16, "num_steps": 50, "augment": "conditioned"},
    "gan vanilla": {"steps": 60, "loss": "vanilla"},
    "gan saturating": {"steps": 60, "loss": "saturating", "augment": "diff"},
    "gan relativistic": {"steps": 60, "loss": "relativistic"},
    "gan wgan": {"steps": 60, "loss": "wgan"},
}
DIGITS = datasets.load("digits", n_real=400)


def trained(variant: str, steps: int | None = None) -> tuple[methods.Method, list[dict[str, float]]]:
    name = variant.split()[0]
    config = methods.find(name).Config(**VARIANTS[variant])
    model = generators.build_generator(name, config, ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(Accelerator(cpu=True))
    batches = Batches((DIGITS.real, 32), seed=0)
    history = [
        {name: float(value) for name, value in metrics.items()}
        for _, metrics in train(model, batches, steps or config.steps)
    ]
    return model, history


def test_every_method_is_tested_here() -> None:
    assert {variant.split()[0] for variant in VARIANTS} == set(methods.names())


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_have_the_images_shape_range_and_type(variant: str) -> None:
    model, history = trained(variant, steps=2)
    labels = torch.arange(20) % 10
    images = model.sample(labels, Draws(0, "sample", 0, 20, slice(0, 20), CPU))
    assert images.shape == (20, 1, 8, 8)
    assert images.isfinite().all()
    assert images.abs().max() <= 1
    assert sampling.draw_images(model, labels, 0, CPU).images.dtype == torch.uint8
    assert all(name.startswith("train/") for metrics in history for name in metrics)


@pytest.mark.parametrize(
    "shape", [ImageShape(1, 28, 28, 10), ImageShape(3, 32, 32, 3), ImageShape(2, 12, 20, 7), ImageShape(3, 20, 20, 3)]
)
@pytest.mark.parametrize("name", methods.names())
def test_any_channels_and_any_size_divisible_by_4(name: str, shape: ImageShape, tmp_path: Path) -> None:
    model = generators.build_generator(name, methods.find(name).Config(steps=1), shape, seed=0)
    model.prepare(Accelerator(cpu=True))
    pixels = torch.randint(256, (6, shape.channels, shape.height, shape.width), dtype=torch.uint8)
    images = Images(pixels, torch.arange(6) % shape.num_classes)
    for _ in train(model, Batches((images, 6), seed=0), steps=2):
        pass
    drawn = sampling.draw_images(model, torch.tensor([0, shape.num_classes - 1]), 0, CPU)
    assert drawn.images.shape == (2, shape.channels, shape.height, shape.width)
    exported.export_generator(tmp_path, name, model, shape, list(map(str, range(shape.num_classes))))
    assert torch.equal(
        exported.draw_labels(exported.restore_generator(tmp_path), [0, shape.num_classes - 1], 0), drawn.images
    )
    for pictured, columns in getattr(model, "pictures", dict)().values():
        assert pictured.shape == (shape.num_classes * columns, shape.channels, shape.height, shape.width)


@pytest.mark.parametrize("variant", ["ddpm", "vae"])
def test_the_loss_falls(variant: str) -> None:
    _, history = trained(variant)
    losses = torch.tensor([metrics[f"train/{variant}_loss"] for metrics in history])
    assert losses[-10:].mean() < 0.75 * losses[:10].mean()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.startswith("gan")])
def test_the_critic_tells_real_from_fake_and_g_receives_a_gradient(variant: str) -> None:
    _, history = trained(variant)
    assert history[-1]["train/wasserstein"] > 0
    norms = [metrics["train/generator_gradient_norm"] for metrics in history if "train/gan_loss_generator" in metrics]
    assert len(norms) == 60 // methods.find("gan").Config(**VARIANTS[variant]).critic_steps
    assert min(norms) > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_is_a_function_of_the_seed(variant: str) -> None:
    torch.rand(5)  # global state must not matter
    first, second = (trained(variant, steps=4)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", methods.names())
def test_the_label_reaches_the_image(name: str) -> None:
    """After a short training, a class mean of samples is nearest to the real mean of its own class."""
    small: dict[str, Any] = {"hidden_channels": 16} if name == "ddpm" else {}
    steps = 100 if name == "drifting" else 200
    config = dataclasses.replace(methods.find(name).Config(), steps=steps, batch_size=64, **small)
    model = generators.build_generator(name, config, ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(Accelerator(cpu=True))
    for _ in train(model, Batches((DIGITS.real, 64), seed=0), steps):
        pass
    drawn = sampling.draw_images(model, torch.arange(500) % 10, 0, CPU)

    def means(images: Images) -> torch.Tensor:
        return torch.stack([images.images[images.labels == k].float().mean(0).flatten() for k in range(10)])

    distance = torch.cdist(means(drawn), means(DIGITS.real))
    assert (distance.argmin(1) == torch.arange(10)).sum() >= 9


# --- Equations -------------------------------------------------------------------------------------------


def test_kl_is_that_of_torch_distributions() -> None:
    mu, log_var = torch.randn(5, 7), torch.randn(5, 7)
    expected = reference_kl(Normal(mu, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(vae.kl_divergence(mu, log_var), expected)


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic(slope: float) -> None:
    """D(x) = w . x has the gradient w everywhere: the penalty is (|w| - 1)^2 (Gulrajani 2017, eq. 3)."""
    direction = torch.randn(1, 1, 4, 4)
    weight = (slope * direction / direction.norm()).requires_grad_()
    penalty = gan.gradient_penalty(
        lambda images, labels: (images * weight).flatten(1).sum(1), torch.randn(6, 1, 4, 4), torch.zeros(6).long()
    )
    torch.testing.assert_close(penalty, torch.tensor((slope - 1) ** 2), atol=1e-5, rtol=1e-5)
    if slope:
        penalty.backward()  # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|
        expected = 2 * (slope - 1) * direction / direction.norm()
        torch.testing.assert_close(weight.grad, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_the_penalty_is_of_each_images_own_gradient(norm: float) -> None:
    """D(x) = |x|^2 / 2 has the gradient x: with a norm of 0 the penalty is the mean |x|^2 (Mescheder 2018, eq. 9)."""
    images = torch.randn(6, 1, 4, 4)
    penalty = gan.gradient_penalty(
        lambda images, _: images.square().flatten(1).sum(1) / 2, images, torch.zeros(6).long(), norm
    )
    torch.testing.assert_close(penalty, (images.flatten(1).square().sum(1).sqrt() - norm).square().mean())


def test_a_relativistic_pair_is_told_apart_as_by_binary_cross_entropy() -> None:
    """Of D(x) - D(G(z)), that x is the real one; of G's own, that it is not (Huang 2024, eq. 2)."""
    config = gan.Config(steps=9, loss="relativistic", gp_weight=0, critic_steps=1)
    model = generators.build_generator("gan", config, ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(Accelerator(cpu=True))
    batch = Batches((DIGITS.real, 32), seed=0)[0]
    G, D = copy.deepcopy(model.G), copy.deepcopy(model.D)  # before the step; G's own loss is by the D after it

    def logits(critic: torch.nn.Module, name: str) -> torch.Tensor:
        fake = G(batch.draws.normal(name, config.latent_size), batch.labels)
        return critic(batch.images, batch.labels) - critic(fake, batch.labels)

    metrics = model.step(batch, 0)
    cross_entropy, ones = torch.nn.functional.binary_cross_entropy_with_logits, torch.ones(32)
    expected = cross_entropy(logits(D, "critic/z"), ones), cross_entropy(logits(model.D, "generator/z"), 0 * ones)
    torch.testing.assert_close((metrics["train/gan_loss_critic"], metrics["train/gan_loss_generator"]), expected)


def test_wgan_clips_every_weight_of_the_critic() -> None:
    model, _ = trained("gan wgan", steps=3)
    limit = model.config.clip_limit
    assert max(float(p.detach().abs().max()) for p in model.D.parameters()) <= limit * 1.0001


# --- Discovery -------------------------------------------------------------------------------------------


def test_unknown_methods_are_refused_with_the_known() -> None:
    with pytest.raises(InputError, match="unknown method 'flow'; known are ddpm, drifting, gan, vae"):
        methods.find("flow")


def test_the_houses_page_shows_a_generator_that_is_found_without_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its example as one more file: the comparison offers its flags, and it learns the digits' means."""
    _, example, *_ = re.split(r"```(?:python)?\n", (ROOT / "harness" / "README.md").read_text())
    for folder in ("harness", "experiments"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "harness/methods/mean.py").write_text(example)
    told = subprocess.run(
        [sys.executable, "experiments/compare.py", "--help"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--mean.noise" in told.stdout

    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "harness/methods")])
    assert "mean" in methods.names()
    monkeypatch.setitem(VARIANTS, "mean", {})
    model, _ = trained("mean")
    labels = torch.arange(10)
    means = torch.stack([to_float(DIGITS.real.images[DIGITS.real.labels == label]).mean(0) for label in labels])
    drawn = model.sample(labels, Draws(0, "sample", 0, 10, slice(0, 10), CPU))
    assert (drawn - means).square().mean() < 0.05


def test_an_arm_is_no_method() -> None:
    """A study of vae-moved would train a VAE whose images are not moved."""
    with pytest.raises(InputError, match="unknown method 'vae-moved'"):
        methods.find("vae-moved")
    assert methods.of_arm(vae.Config(steps=7), "vae-moved") == vae.Config(steps=7, augment="moved")
    assert methods.arm_name("vae", vae.Config(augment="moved")) == "vae-moved"


def test_the_saturating_generator_minimises_the_log_probability_of_being_found_out() -> None:
    """Goodfellow 2014, eq. 1; the non-saturating one maximises that of not being so."""
    batch = Batches((DIGITS.real, 8), seed=0)[0]
    for loss, expected in (("saturating", lambda p: (1 - p).log()), ("vanilla", lambda p: -p.log())):
        model = generators.build_generator("gan", gan.Config(loss=loss), DIGITS.image_shape, seed=0)
        model.prepare(Accelerator(cpu=True))
        fake = model.G(batch.draws.normal("generator/z", model.config.latent_size), batch.labels)
        probability = model.D(fake, batch.labels).sigmoid()
        torch.testing.assert_close(model._generator_loss(batch)[0], expected(probability).mean())


@pytest.mark.parametrize("arm", ["ddpm", "ddpm-moved", "ddpm-varied", "ddpm-conditioned-varied", "gan-diff"])
def test_an_arm_is_called_after_its_configuration(arm: str) -> None:
    method = arm.partition("-")[0]
    assert methods.arm_name(method, methods.of_arm(methods.find(method).Config(), arm)) == arm


@pytest.mark.parametrize(("given", "begins"), [(1.0, 0.5), (0.8, 0.8), (0.2, 0.2)])
def test_a_varied_arm_begins_where_it_is_told_to(given: float, begins: float) -> None:
    assert methods.of_arm(ddpm.Config(start=given), "ddpm-varied").start == begins


def test_a_critic_sees_real_and_generated_images_under_moves_and_gives_gradients_through_them() -> None:
    model = generators.build_generator("gan", gan.Config(augment="diff"), DIGITS.image_shape, seed=0)
    model.prepare(Accelerator(cpu=True))
    seen: list[torch.Tensor] = []
    model.D.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    batch = Batches((DIGITS.real, 8), seed=0)[0]
    model._critic_loss(batch)
    unit = batch.draws.uniform("critic/real moves", 4)
    torch.testing.assert_close(seen[0][:8], moves.move_images(batch.images, unit, "rotate"))
    assert not torch.allclose(seen[0][:8], batch.images, atol=0.1)
    loss, _ = model._generator_loss(batch)
    loss.backward()
    fake = model.G(batch.draws.normal("generator/z", model.config.latent_size), batch.labels)
    moved = moves.move_images(fake, batch.draws.uniform("generator/moves", 4), "rotate")
    torch.testing.assert_close(seen[-1], moved.detach())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.G.parameters())
    # Samples are not moved.
    torch.testing.assert_close(
        model.sample(batch.labels, batch.draws), model.average(0.95 * batch.draws.normal("z", 64), batch.labels)
    )
