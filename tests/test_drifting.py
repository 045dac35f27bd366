"""The drifting field against loops written from the paper's pseudocode, and what it must do by its argument."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from harness.data import datasets
from harness.data.images import ImageShape
from harness.methods import drifting
from harness.runs import generators
from harness.training.loop import Batches

TEMPERATURES = (0.05, 0.2, 1.0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field_by_loops(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Algorithm 2 between eqs. 18 and 25, a pair at a time: x [places, n, units], y [places, m, units]."""
    (places, n, units), m = x.shape, y.shape[1]
    others = [[[*y[p], *(x[p][k] for k in range(n) if k != i)] for i in range(n)] for p in range(places)]
    lengths = [math.dist(x[p][i], other) for p in range(places) for i in range(n) for other in others[p][i]]
    S = sum(lengths) / len(lengths) / math.sqrt(units)
    total = np.zeros_like(x)
    for tau in TEMPERATURES:
        V = np.zeros_like(x)
        for p in range(places):
            # Columns: the real ones, then the samples, of which none is its own neighbour.
            columns = [*y[p], *x[p]]
            k = [
                [0 if j == m + i else math.exp(-math.dist(x[p][i], z) / S / (tau * math.sqrt(units)))
                 for j, z in enumerate(columns)]
                for i in range(n)
            ]  # fmt: skip
            for i in range(n):
                A = [
                    math.sqrt(k[i][j] / sum(k[i]) * k[i][j] / sum(row[j] for row in k)) if k[i][j] else 0
                    for j in range(m + n)
                ]
                for a in range(m):
                    for b in range(m, m + n):
                        V[p, i] += A[a] * A[b] * (columns[a] - columns[b]) / S  # eq. 11
        total += V / math.sqrt((V**2).mean())
    return total, S


def test_the_field_is_algorithm_2() -> None:
    x, y = drawn(3, 4, 5), drawn(3, 6, 5, seed=1) + 0.5
    V, S, _ = drifting.drifting_field(x, y, TEMPERATURES)
    expected, scale = field_by_loops(x.numpy(), y.numpy())
    torch.testing.assert_close(V, torch.from_numpy(expected))
    assert float(S) == pytest.approx(scale)


def test_neither_the_size_of_a_feature_nor_its_place_matters() -> None:
    x, y = drawn(1, 5, 4), drawn(1, 7, 4, seed=1)
    V, S, size = drifting.drifting_field(x, y, TEMPERATURES)
    other = drifting.drifting_field(3 * x + 2, 3 * y + 2, TEMPERATURES)
    for found, expected in zip(other, (V, 3 * S, size), strict=True):
        torch.testing.assert_close(found, expected)


def test_points_that_have_collapsed_spread_over_both_modes() -> None:
    """The paper's figure 3, at its bottom: all begin in one mode, and half of them end in the other."""
    y = torch.cat([0.1 * drawn(1, 40, 2), 0.1 * drawn(1, 40, 2, seed=1) + torch.tensor([3.0, 0.0])], 1)
    x = 0.05 * drawn(1, 60, 2, seed=2)
    for step in range(300):
        V, S, _ = drifting.drifting_field(x, y, TEMPERATURES)
        x = x + 0.05 * (1 - step / 300) * S * V
    right = x[0, :, 0] > 1.5
    assert 24 <= right.sum() <= 36
    for mode, centre in ((x[0, ~right], 0.0), (x[0, right], 3.0)):
        distance = (mode - torch.tensor([centre, 0.0])).norm(dim=1)
        assert 0.03 < distance.median() < 0.3


@pytest.mark.parametrize("n", [1, 2])
def test_samples_that_stand_where_the_real_ones_do_stay(n: int) -> None:
    """One sample and one real image say nothing of how they are distributed; two of each may agree."""
    x = drawn(1, n, 4)
    V, _, size = drifting.drifting_field(x, x.flip(1) if n == 2 else x + 1, TEMPERATURES)
    assert V.isfinite().all()
    if n == 1:
        assert V.abs().max() == 0
        assert size == 0


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (12, 20, 3)])
def test_features_are_the_image_and_its_patches(height: int, width: int, channels: int) -> None:
    images = drawn(2, channels, height, width)
    whole, patches = drifting.features(images)
    torch.testing.assert_close(whole[0], images.flatten(1))
    places = [(top, left) for top in range(0, height - 7, 4) for left in range(0, width - 7, 4)]
    assert patches.shape == (len(places), 2, channels * 64)
    for found, (top, left) in zip(patches, places, strict=True):
        expected = images[:, :, top : top + 8, left : left + 8].flatten(1)
        torch.testing.assert_close(found.sort(1).values, expected.sort(1).values)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_steps_gradient_is_that_of_eq_14(accumulate: int) -> None:
    """Of the sum over features of eq. 26, through the features and the network at once."""
    config = drifting.Config(steps=5, batch_size=24, samples_per_image=2, hidden_channels=4, temperature=2.0)
    real = datasets.load("digits", n_real=200).real
    torch.set_default_dtype(torch.float64)
    try:
        model = generators.build_generator("drifting", config, ImageShape(1, 8, 8, 10), seed=0).double()
        model.prepare(Accelerator(cpu=True))
        batch: Any = Batches((real, 24), seed=0, accumulate=accumulate)[0]
        images, many = batch.images.double(), batch.labels.repeat_interleave(2)
        z = batch.draws.normal("z", 2, config.latent_size).flatten(0, 1)
        x, loss = model.G(z, many), torch.zeros(())
        for phi, target in zip(drifting.features(x), drifting.features(images), strict=True):
            for label in range(10):
                mine, others = phi[:, many == label], target[:, batch.labels == label]
                if mine.shape[1]:
                    V, S, _ = drifting.drifting_field(mine.detach(), others, (0.04, 0.1, 0.4))
                    error = (mine / S - (mine / S + V).detach()).square().mean((0, 2))
                    loss = loss + error.sum() / len(x)
        expected = torch.autograd.grad(loss, list(model.G.parameters()))
        model.step(dataclasses.replace(batch, images=images), 0)
        for weight, gradient in zip(model.G.parameters(), expected, strict=True):
            torch.testing.assert_close(weight.grad, gradient)
    finally:
        torch.set_default_dtype(torch.float32)
