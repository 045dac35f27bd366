"""The classifier's scores against scikit-learn, and the make-up of its batches."""

import pytest
import torch
from sklearn import metrics

from harness import arms, classifier, data
from harness.data import Images
from harness.errors import InputError
from harness.methods import ImageShape
from harness.training import Batches, train

DIGITS = data.load("digits", n_real=400)


def test_scores_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    labels, predicted = (torch.randint(5, (300,), generator=draw) for _ in range(2))
    scores = classifier.scores(predicted, labels, 5)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    for name, reference in {
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
        "f1": metrics.f1_score,
    }.items():
        assert scores[name] == pytest.approx(reference(labels, predicted, average="macro"))
    matrix = classifier.confusion_matrix(predicted, labels, 5)
    assert matrix.tolist() == metrics.confusion_matrix(labels, predicted).tolist()


@pytest.mark.parametrize(
    ("share", "num_synthetic", "expected"), [(None, 100, (205, 51)), (None, 20_000, (128, 128)), (0.9, 100, (26, 230))]
)
def test_batches_hold_the_share_of_synthetic_images(
    share: float | None, num_synthetic: int, expected: tuple[int, int]
) -> None:
    config = classifier.Config(synthetic_share=share)
    synthetic = DIGITS.real[torch.zeros(num_synthetic, dtype=torch.long)]
    counts = tuple(count for _, count in classifier.mixture(config, DIGITS.real, synthetic))
    assert counts == expected
    assert classifier.mixture(config, DIGITS.real, None) == [(DIGITS.real, 256)]


def test_it_learns_the_digits() -> None:
    config = classifier.Config(steps=120)
    model = classifier.build(config, ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(None)
    for _ in train(model, Batches((DIGITS.real, 256), seed=0), config.steps):
        pass
    predicted = classifier.predict(model.eval(), DIGITS.validation.images)
    assert classifier.scores(predicted, DIGITS.validation.labels, 10)["accuracy"] > 0.9


def test_all_arms_of_a_seed_start_from_the_same_weights() -> None:
    shape = ImageShape(1, 8, 8, 10)
    first, second, other = (classifier.build(classifier.Config(), shape, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


@pytest.mark.parametrize("name", arms.CONTROLS)
def test_controls_are_made_of_the_real_images_alone(name: str) -> None:
    samples = arms.control(name, DIGITS.real, 1234, seed=1)
    assert samples.images.shape == (1234, 1, 8, 8)
    assert samples.images.dtype == torch.uint8
    counts = samples.labels.bincount() / 1234 - DIGITS.real.labels.bincount() / 400
    assert counts.abs().max() < 0.01
    assert samples.digest == arms.control(name, DIGITS.real, 1234, seed=1).digest
    known = {image.numpy().tobytes() for image in DIGITS.real.images}
    copies = sum(image.numpy().tobytes() in known for image in samples.images)
    assert copies == (1234 if name == "duplicate" else 0)


@pytest.mark.parametrize("name", arms.CONTROLS)
def test_controls_of_colour_images_are_colour_images(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 12, 12), generator=draw, dtype=torch.uint8)
    samples = arms.control(name, Images(pixels, torch.arange(40) % 3), 100, seed=0)
    assert (samples.images.shape, samples.images.dtype) == ((100, 3, 12, 12), torch.uint8)
    assert samples.labels.bincount().tolist() == pytest.approx([33, 33, 33], abs=3)


def test_affine_lets_nothing_but_background_in() -> None:
    """A light sheet stays light at its corners, in each channel as it was; a dark one dark."""
    ink = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    ink[:, :, 5:11, 5:11] = torch.tensor([200, 120, 240], dtype=torch.uint8).view(1, 3, 1, 1)
    for images in (ink, 255 - ink, ink + 10):
        moved = arms.control("affine", Images(images, torch.zeros(1, dtype=torch.int64)), 50, seed=0).images
        assert torch.equal(moved[..., 0, 0], images[..., 0, 0].expand(50, -1))
        assert (moved != images).flatten(1).any(1).all()


def test_affine_moves_an_image_but_keeps_it() -> None:
    moved = arms.control("affine", DIGITS.real, 400, seed=0)
    order = data.stratified_order(DIGITS.real.labels, 0, "control")
    original = DIGITS.real[order]
    assert torch.equal(moved.labels, original.labels)
    pairs = torch.stack([moved.images.flatten(1).float(), original.images.flatten(1).float()], 1)
    correlation = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    assert correlation.median() > 0.7


def test_unknown_controls_are_refused() -> None:
    with pytest.raises(InputError, match="unknown control 'flip'; known are duplicate, affine, noise"):
        arms.control("flip", Images(DIGITS.real.images, DIGITS.real.labels), 10, 0)
