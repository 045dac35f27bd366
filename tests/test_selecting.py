"""Which samples are used: those that a classifier agrees with, those near to what it learns late."""

import dataclasses

import torch
from accelerate import Accelerator

from harness.data import controls, datasets
from harness.data.images import Images, to_float
from harness.evaluation import classifier, quality, selecting

DIGITS = datasets.load("digits", n_real=300)
CONFIG = classifier.Config(steps=60)


def select(way: str, samples: Images) -> torch.Tensor:
    return selecting.WAYS[way](DIGITS.real, samples, DIGITS.image_shape, CONFIG, 0, Accelerator(cpu=True))


def test_a_filter_keeps_what_is_labelled_rightly() -> None:
    """By a classifier that has seen moved images."""
    wrong = Images(DIGITS.test.images, (DIGITS.test.labels + 3) % 10)
    kept = torch.stack([select("filtered", samples) for samples in (DIGITS.test, wrong)]).float().mean(1)
    assert kept[0] > 0.85
    assert kept[1] < 0.05
    moved = quality.train_on(
        DIGITS.real, DIGITS.image_shape, dataclasses.replace(CONFIG, augment=True), 0, Accelerator(cpu=True)
    )
    agrees = classifier.predict(moved, DIGITS.test.images) == DIGITS.test.labels
    assert torch.equal(select("filtered", DIGITS.test), agrees)


def test_what_is_learned_late_gets_company() -> None:
    """Of the real images themselves, each its own nearest, those of each class that an early classifier gives least."""
    chosen = select("targeted", DIGITS.real)
    early = quality.train_on(
        DIGITS.real, DIGITS.image_shape, dataclasses.replace(CONFIG, steps=12, augment=True), 0, Accelerator(cpu=True)
    )
    with torch.no_grad():
        logits = early(to_float(DIGITS.real.images))
    known = logits.softmax(1)[torch.arange(300), DIGITS.real.labels]
    for label in range(10):
        of_class = DIGITS.real.labels == label
        late, others = known[of_class & chosen], known[of_class & ~chosen]
        assert late.max() <= others.min()
        assert abs(len(late) / int(of_class.sum()) - selecting.LATE) < 0.05


def test_a_class_without_a_real_image_gets_no_company() -> None:
    few = dataclasses.replace(DIGITS, real=DIGITS.real[DIGITS.real.labels != 4])
    chosen = selecting.targeted(few.real, DIGITS.test, few.image_shape, CONFIG, 0, Accelerator(cpu=True))
    assert not chosen[DIGITS.test.labels == 4].any()
    assert chosen[DIGITS.test.labels != 4].any()


def test_a_rare_class_is_made_as_large_as_the_largest() -> None:
    tail = datasets.load("digits", n_real=200, imbalance=20)
    counts = torch.bincount(tail.real.labels)
    samples = controls.make_control("duplicate", tail.real, 1500, 0)
    chosen = selecting.levelled(tail.real, samples, tail.image_shape, CONFIG, 0, Accelerator(cpu=True))
    assert (counts + torch.bincount(samples[chosen].labels, minlength=10)).tolist() == [int(counts.max())] * 10
    few = samples[:50]  # five of each class, fewer than most lack
    chosen = selecting.levelled(tail.real, few, tail.image_shape, CONFIG, 0, Accelerator(cpu=True))
    assert torch.bincount(few[chosen].labels, minlength=10).tolist() == (counts.max() - counts).clamp(max=5).tolist()
