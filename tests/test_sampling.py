"""Sample sets: balanced, and the same however they are drawn."""

import torch
from accelerate import Accelerator

from harness.data.images import ImageShape
from harness.methods import vae
from harness.runs import generators
from harness.training import sampling

CPU = torch.device("cpu")


def model() -> vae.VAE:
    return generators.build_generator("vae", vae.Config(steps=1), ImageShape(1, 8, 8, 10), seed=0)


def test_a_set_is_balanced_and_of_the_size_asked_for() -> None:
    for count in (10, 505, 1207):
        samples, seconds = sampling.draw_sample_set(model(), count, 10, 0, Accelerator(cpu=True))
        assert len(samples) == count
        counts = samples.labels.bincount()
        assert counts.max() - counts.min() <= 1
        assert seconds > 0


def test_a_set_is_a_function_of_the_seed() -> None:
    sets = [sampling.draw_sample_set(model(), 600, 10, seed, Accelerator(cpu=True))[0].digest for seed in (0, 0, 1)]
    assert sets[0] == sets[1] != sets[2]


def test_a_larger_set_begins_with_the_smaller() -> None:
    small, large = (sampling.draw_sample_set(model(), n, 10, 0, Accelerator(cpu=True))[0] for n in (500, 1500))
    assert torch.equal(large.images[:500], small.images)
    assert len(large.images.flatten(1).unique(dim=0)) == 1500  # no chunk repeats another
