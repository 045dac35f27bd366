"""The classifier's scores against scikit-learn, and the make-up of its batches."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight

from harness.data import controls, datasets, moves
from harness.data.images import Images, ImageShape
from harness.errors import InputError
from harness.evaluation import classifier, judging
from harness.seeding import Draws
from harness.training.loop import Batch, Batches, train

DIGITS = datasets.load("digits", n_real=400)


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
    counts = tuple(count for _, count in classifier.batches_of(config, DIGITS.real, synthetic, 0).sources)
    assert counts == expected
    assert [count for _, count in classifier.batches_of(config, DIGITS.real, None, 0).sources] == [256]


def test_enlarged_batches_hold_the_real_images_that_they_would_hold_alone() -> None:
    alone = classifier.batches_of(classifier.Config(), DIGITS.real, None, 0)[3]
    enlarged = classifier.batches_of(classifier.Config(batch="enlarged"), DIGITS.real, DIGITS.test, 0)
    share = len(DIGITS.test) / (len(DIGITS.real) + len(DIGITS.test))
    batch = enlarged[3]
    assert enlarged.size == 256 + round(256 * share / (1 - share))
    assert torch.equal(batch.images[:256], alone.images)
    assert batch.sources.tolist() == [0] * 256 + [1] * (enlarged.size - 256)
    with pytest.raises(InputError, match="without end"):
        classifier.batches_of(classifier.Config(batch="enlarged", synthetic_share=1), DIGITS.real, DIGITS.test, 0)


def test_replaced_images_are_synthetic_ones_of_the_same_class_in_their_share() -> None:
    """A class of which there is no synthetic image keeps its real ones."""
    pixels = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    synthetic = Images(pixels, torch.tensor([1, 1, 2, 4, 4, 4]))
    config = classifier.Config(batch="replaced", synthetic_share=0.5)
    batches = classifier.batches_of(config, DIGITS.real, synthetic, 0)
    alone = classifier.batches_of(classifier.Config(), DIGITS.real, None, 0)
    found: dict[int, set[int]] = {label: set() for label in range(10)}
    num_replaced = 0
    for step in range(12):
        batch = batches[step]
        assert torch.equal(batch.labels, alone[step].labels)
        kept = batch.sources == 0
        assert torch.equal(batch.images[kept], alone[step].images[kept])
        for label, image in zip(batch.labels[~kept].tolist(), batch.images[~kept], strict=True):
            found[label].add(round(float((image.mean() + 1) * 127.5)))
        num_replaced += int((~kept).sum())
    assert {label: numbers for label, numbers in found.items() if numbers} == {1: {0, 1}, 2: {2}, 4: {3, 4, 5}}
    eligible = sum(int(torch.isin(alone[step].labels, torch.tensor([1, 2, 4])).sum()) for step in range(12))
    assert num_replaced / eligible == pytest.approx(0.5, abs=0.07)


def test_synthetic_images_weigh_less_in_the_loss() -> None:
    config = classifier.Config(synthetic_weight=0.25)
    model = classifier.build_classifier(config, DIGITS.image_shape, seed=0)
    model.prepare(None)
    batch = classifier.batches_of(config, DIGITS.real, DIGITS.test, 0)[0]
    each = F.cross_entropy(model(batch.images), batch.labels, reduction="none")
    expected = (each * torch.where(batch.sources == 1, 0.25, 1.0)).mean()
    assert float(model.step(batch, 0)["train/classifier_loss"]) == pytest.approx(float(expected.detach()))


def test_soft_labels_are_the_teachers_of_synthetic_images_alone() -> None:
    model, teacher = (classifier.build_classifier(classifier.Config(), DIGITS.image_shape, seed) for seed in (0, 1))
    model.prepare(None)
    model.teachers = [teacher]
    batch = classifier.batches_of(model.config, DIGITS.real, DIGITS.test, 0)[0]
    log_q, p = model(batch.images).log_softmax(1), teacher(batch.images).softmax(1)
    own = log_q[torch.arange(256), batch.labels]
    expected = -torch.where(batch.sources == 0, own, (p * log_q).sum(1)).mean()
    names = set(model.state_dict())
    assert float(model.step(batch, 0)["train/classifier_loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert set(model.state_dict()) == names
    assert all(weight.grad is None for weight in teacher.parameters())


def test_class_weights_make_rare_classes_count_as_much_as_frequent_ones() -> None:
    real = DIGITS.real[torch.cat([(DIGITS.real.labels == label).nonzero()[: 3 * label + 2, 0] for label in range(10)])]
    config = classifier.Config(class_weights=True)
    (model,) = classifier.Classifiers(config, real, DIGITS.image_shape, seed=0)
    model.prepare(None)
    batch = classifier.batches_of(config, real, None, 0)[0]
    each = F.cross_entropy(model(batch.images), batch.labels, reduction="none")
    weights = compute_class_weight("balanced", classes=np.arange(10), y=real.labels.numpy())
    expected = (each * torch.from_numpy(weights).float()[batch.labels]).mean()
    assert float(model.step(batch, 0)["train/classifier_loss"]) == pytest.approx(float(expected.detach()))


def test_initialisations_are_trained_as_each_would_be_alone() -> None:
    config = classifier.Config(steps=4, initialisations=3)
    together = classifier.Classifiers(config, DIGITS.real, DIGITS.image_shape, seed=5)
    alone = [classifier.build_classifier(config, DIGITS.image_shape, 5, number) for number in range(3)]
    for model in (together, *alone):
        model.prepare(None)
        for _ in train(model, classifier.batches_of(config, DIGITS.real, None, 5), 4):
            pass
    for one, other in zip(together, alone, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(alone[0].output.weight, alone[1].output.weight)


@pytest.mark.parametrize(
    ("config", "least"),
    [
        (classifier.Config(steps=120), 0.9),
        (classifier.Config(steps=100, batch_size=128, width=8, augment=True), 0.8),  # the network of images in colour
    ],
)
def test_it_learns_the_digits(config: classifier.Config, least: float) -> None:
    model = classifier.build_classifier(config, ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(None)
    for _ in train(model, Batches((DIGITS.real, config.batch_size), seed=0), config.steps):
        pass
    predicted = classifier.predict(model.eval(), DIGITS.validation.images)
    assert classifier.scores(predicted, DIGITS.validation.labels, 10)["accuracy"] > least


@pytest.mark.parametrize(("channels", "asked", "width"), [(1, None, 0), (3, None, 24), (3, 0, 0), (1, 16, 16)])
def test_the_size_is_by_the_colours_or_as_asked(channels: int, asked: int | None, width: int) -> None:
    config, shape = classifier.Config(width=asked, depth=2), ImageShape(channels, 12, 12, 5)
    model = classifier.build_classifier(config, shape, seed=0)
    assert model.config.width == width
    kernels = [name for name, _ in model.named_parameters() if ".kernels." in name]
    assert len(kernels) == (9 if width else 0)
    assert model(torch.zeros(2, channels, 12, 12)).shape == (2, 5)


def test_another_length_or_width_is_another_judge() -> None:
    configs = [judging.judge_config(DIGITS, *size) for size in ((None, None), (7, None), (None, 8))]
    assert [(config.steps, config.width) for config in configs] == [(1400, 0), (7, 0), (1400, 8)]
    assert len({judging.judge_key(DIGITS, config) for config in configs}) == 3


def test_moves_are_of_the_image_and_its_step() -> None:
    """Each image has its own, of things a reflection of half of them; an edge of one colour stays without a seam."""
    draws = Draws(0, "train", 3, 400, slice(0, 400), torch.device("cpu"))
    ramp = torch.linspace(-1, 1, 16).expand(400, 3, 16, 16)
    unit, turns = (draws.uniform("moves", moves.num_numbers(kind)) for kind in ("reflect", "rotate"))
    found = moves.move_images(ramp, unit, "reflect")
    rising = (found[..., -1] > found[..., 0]).float().mean((1, 2))
    assert rising.mean() == pytest.approx(0.5, abs=0.1)
    assert {*found[0, 0, 0].tolist()} <= {*ramp[0, 0, 0].tolist()}  # whole pixels
    assert (moves.move_images(ramp, turns, "rotate")[..., -1] > 0).all()
    assert torch.equal(moves.move_images(ramp[100:200], unit[100:200], "reflect"), found[100:200])
    white = torch.ones(400, 3, 16, 16)
    for kind, numbers in (("reflect", unit), ("rotate", turns)):
        assert torch.allclose(moves.move_images(white, numbers, kind), white)
        assert torch.allclose(moves.move_images(ramp, torch.full_like(numbers, 0.5), kind), ramp, atol=1e-6)


def test_who_was_trained_on_reflections_tells_by_both() -> None:
    config, images = classifier.Config(width=8, augment=True), torch.rand(4, 1, 8, 8)
    model = classifier.build_classifier(config, ImageShape(1, 8, 8, 5, "reflect"), seed=0).eval()
    assert torch.allclose(model.judged(images), model.judged(images.flip(3)), atol=1e-6)
    assert not torch.allclose(model(images), model(images.flip(3)), atol=1e-6)
    turned = classifier.build_classifier(config, ImageShape(1, 8, 8, 5), seed=0).eval()
    assert torch.equal(turned.judged(images), turned(images))


def test_a_residual_networks_norms_may_be_over_the_batch_and_its_labels_smooth() -> None:
    """The loss beside its definition; in use a batch's other images do not matter, in training they do."""
    config = classifier.Config(steps=3, width=8, label_smoothing=0.2, batch_norm=True)
    model = classifier.build_classifier(config, ImageShape(3, 8, 8, 5), seed=0)
    model.prepare(None)
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 5
    spread = 0.8 * F.one_hot(labels, 5) + 0.2 / 5
    expected = -(spread * model(images).log_softmax(1)).sum(1).mean()
    assert not torch.allclose(model(images)[:2], model(images[:2]), atol=1e-4)
    draws = Draws(0, "train", 0, 6, slice(0, 6), torch.device("cpu"))
    batch = Batch(images, labels, draws, sources=torch.zeros(6, dtype=torch.long))
    assert float(model.step(batch, 0)["train/classifier_loss"]) == pytest.approx(float(expected.detach()))
    model.eval()
    assert torch.allclose(model(images)[:2], model(images[:2]), atol=1e-6)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_judge_of_photographs_is_worth_its_name(tmp_path: Path) -> None:
    """CIFAR-10 as a folder of JPEG files."""
    file = Path(os.environ.get("HARNESS_DATA_ROOT", "")) / "cifar10-jpeg.tar"
    if os.environ.get("CI") != "true" and not file.exists():
        return  # a machine without these images; CI sets the folder
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path, filter="data")
    dataset = datasets.load(f"folder:{tmp_path}")
    judge = judging.train_judge(dataset, judging.judge_config(dataset))
    found = classifier.scores(classifier.predict(judge, dataset.test.images), dataset.test.labels, 10)
    assert found["accuracy"] > 0.85  # 0.86; a network made for digits has 0.669


def test_all_arms_of_a_seed_start_from_the_same_weights() -> None:
    shape = ImageShape(1, 8, 8, 10)
    first, second, other = (
        classifier.build_classifier(classifier.Config(), shape, seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


@pytest.mark.parametrize("name", controls.CONTROLS)
def test_controls_are_made_of_the_real_images_alone(name: str) -> None:
    samples = controls.make_control(name, DIGITS.real, 1234, seed=1)
    assert samples.images.shape == (1234, 1, 8, 8)
    assert samples.images.dtype == torch.uint8
    assert samples.labels.bincount().tolist() == [124] * 4 + [123] * 6
    assert samples.digest == controls.make_control(name, DIGITS.real, 1234, seed=1).digest
    known = {image.numpy().tobytes() for image in DIGITS.real.images}
    copies = sum(image.numpy().tobytes() in known for image in samples.images)
    assert copies == (1234 if name == "duplicate" else 0)


@pytest.mark.parametrize("name", controls.CONTROLS)
def test_controls_of_colour_images_are_colour_images(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 12, 12), generator=draw, dtype=torch.uint8)
    samples = controls.make_control(name, Images(pixels, torch.arange(40) % 3), 100, seed=0)
    assert (samples.images.shape, samples.images.dtype) == ((100, 3, 12, 12), torch.uint8)
    assert samples.labels.bincount().tolist() == pytest.approx([33, 33, 33], abs=3)


def test_affine_lets_nothing_but_background_in() -> None:
    """A light sheet stays light at its corners, in each channel as it was; a dark one dark."""
    ink = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    ink[:, :, 5:11, 5:11] = torch.tensor([200, 120, 240], dtype=torch.uint8).view(1, 3, 1, 1)
    for images in (ink, 255 - ink, ink + 10):
        moved = controls.make_control("affine", Images(images, torch.zeros(1, dtype=torch.int64)), 50, seed=0).images
        assert torch.equal(moved[..., 0, 0], images[..., 0, 0].expand(50, -1))
        assert (moved != images).flatten(1).any(1).all()


def test_affine_moves_an_image_but_keeps_it() -> None:
    moved = controls.make_control("affine", DIGITS.real, 400, seed=0)
    original = controls.make_control("duplicate", DIGITS.real, 400, seed=0)
    assert torch.equal(moved.labels, original.labels)
    pairs = torch.stack([moved.images.flatten(1).float(), original.images.flatten(1).float()], 1)
    correlation = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    assert correlation.median() > 0.7


def test_unknown_controls_are_refused() -> None:
    with pytest.raises(InputError, match="unknown control 'flip'; known are duplicate, affine, noise"):
        controls.make_control("flip", Images(DIGITS.real.images, DIGITS.real.labels), 10, 0)
