"""Figures of sample sets against independent references, and sets whose faults are known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.linalg import sqrtm

from harness import seeding
from harness.data import controls, datasets
from harness.data.datasets import Dataset
from harness.data.images import Images, to_float
from harness.errors import InputError
from harness.evaluation import classifier, copies, judging, quality
from harness.evaluation.classifier import Classifier
from harness.runs import scores
from harness.settings import Single

FIGURES = ("fid", "kid", "precision", "recall", "density", "coverage", "diversity", "sharpness")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", n_real=400)


@pytest.fixture(scope="module")
def judge(digits: Dataset) -> Classifier:
    """One of a minute's tenth: its features tell digits apart, and are not those of the real judge."""
    config = classifier.Config(steps=60, hidden=32)
    return quality.train_on(digits.train, digits.image_shape, config, 0, Accelerator(cpu=True))


@pytest.fixture(scope="module")
def fresh() -> Images:
    """Real images that are neither in the first 400 nor in the test split."""
    return datasets.load("digits", n_real=1200).real[400:]


@pytest.fixture(scope="module")
def found_of_fresh(judge: Classifier, fresh: Images, digits: Dataset) -> dict[str, float]:
    return quality.quality_metrics(judge, fresh, digits, seed=0) | quality.floor_metrics(judge, digits, seed=0)


def test_the_frechet_distance_is_that_of_two_gaussians(digits: Dataset) -> None:
    """Heusel et al. 2017, eq. 6, with the covariances' product's root by scipy."""
    judge = classifier.build_classifier(classifier.Config(hidden=12), digits.image_shape, 0).eval()
    samples = Images(255 - digits.real.images[:300], digits.real.labels[:300])
    with torch.inference_mode():
        ours, theirs = (
            judge.features(to_float(images.images)).double().numpy() for images in (samples, digits.validation)
        )
    root = sqrtm(np.cov(ours.T) @ np.cov(theirs.T)).real
    shift = np.square(ours.mean(0) - theirs.mean(0)).sum()
    expected = shift + np.trace(np.cov(ours.T) + np.cov(theirs.T) - 2 * root)
    assert quality.frechet_distance(*map(torch.from_numpy, (ours, theirs))) == pytest.approx(expected, rel=1e-4)
    assert quality.frechet_distance(*[torch.from_numpy(theirs)] * 2) == pytest.approx(0, abs=1e-6)


def test_the_kernel_distance_is_the_papers_unbiased_estimate(
    judge: Classifier, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bińkowski et al. 2018, eq. 4, in float64: the mean over subsets of 100 images of two sets that differ in size."""
    monkeypatch.setattr(quality, "KID_SUBSETS", 3)
    monkeypatch.setattr(quality, "KID_SUBSET", 100)
    seen = [judging.features(judge, of.images) for of in (digits.validation, digits.test[:150])]

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    found = []
    for number in range(3):
        draw = seeding.generator(0, "kid", number)
        ours, theirs = (of[seeding.permutation(len(of), draw)[:100]].double().numpy() for of in seen)
        within = [(kernel(x, x).sum() - np.trace(kernel(x, x))) / (100 * 99) for x in (ours, theirs)]
        found.append(sum(within) - 2 * kernel(ours, theirs).mean())
    assert quality.kernel_distance(*seen) == pytest.approx(np.mean(found), rel=1e-3)


def test_the_kernel_distance_of_equal_sets_is_nothing_and_grows_with_a_shift(
    judge: Classifier, digits: Dataset, fresh: Images
) -> None:
    real = judging.features(judge, digits.test.images)
    shifted = [judging.features(judge, fresh.images.roll(by, 3)) for by in (0, 1, 2)]
    none, one, two = (quality.kernel_distance(ours, real) for ours in shifted)
    assert abs(none) < 0.1 * one
    assert one < two


def test_quality_stands_beside_its_floor(found_of_fresh: dict[str, float]) -> None:
    figures = {f"{part}/{name}" for part in ("test/quality", "test/floor") for name in FIGURES}
    assert figures <= set(found_of_fresh)
    assert set(found_of_fresh) - figures == {
        "test/floor/conditional_accuracy", "test/quality/copy_auc", "test/quality/copy_p", "test/quality/copy_odds",
        "test/quality/copy_share", "test/quality/copy_chance",
    }  # fmt: skip
    for name in ("precision", "recall", "coverage", "diversity", "sharpness"):
        assert found_of_fresh[f"test/quality/{name}"] == pytest.approx(found_of_fresh[f"test/floor/{name}"], abs=0.15)
        assert 0 < found_of_fresh[f"test/floor/{name}"] <= 1.5


def test_the_same_sets_have_the_same_quality(
    judge: Classifier, fresh: Images, digits: Dataset, found_of_fresh: dict[str, float]
) -> None:
    torch.manual_seed(99)  # the caller's generator is neither read nor moved
    before = torch.random.get_rng_state()
    again = quality.quality_metrics(judge, fresh, digits, seed=0)
    assert again == {name: found_of_fresh[name] for name in again}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert quality.quality_metrics(judge, fresh, digits, seed=1) != again


def test_sample_sets_of_a_judge_a_seed_and_test_images_share_their_floor(
    judge: Classifier, digits: Dataset, fresh: Images, found_of_fresh: dict[str, float], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Which is kept, and made again where its file is torn."""
    monkeypatch.setattr(scores, "FLOORS", tmp_path)

    def score(samples: Images, seed: int = 0, test: Images = digits.test) -> dict[str, float]:
        of = dataclasses.replace(digits, test=test)
        return scores.score(["quality"], judge, samples, of, Single(seed=seed), Accelerator(cpu=True))

    assert score(fresh) == found_of_fresh
    [kept] = tmp_path.iterdir()
    inverted = Images(255 - digits.real.images, digits.real.labels)
    kept.write_text(kept.read_text().replace("}", ', "test/floor/kept": 1.0}'))
    found = score(inverted)
    assert found["test/floor/kept"] == 1
    assert found["test/quality/fid"] > 3 * found_of_fresh["test/quality/fid"]
    kept.write_text(kept.read_text()[:-9])
    assert score(fresh) == found_of_fresh
    for other in (score(fresh, seed=1), score(fresh, test=digits.test[:200])):
        assert other["test/floor/fid"] != found_of_fresh["test/floor/fid"]
    assert len(list(tmp_path.iterdir())) == 3


def test_real_images_are_not_told_from_others_and_changed_ones_are(digits: Dataset, fresh: Images) -> None:
    """400 images are told: chance has a standard deviation of 2.5 points."""
    noisy = controls.make_control("noise", digits.real, 700, seed=0)
    how = (digits.image_shape, 0, Accelerator(cpu=True))
    assert quality.told_apart(fresh, digits.real, *how) == pytest.approx(0.5, abs=0.1)
    assert quality.told_apart(noisy, fresh, *how) > 0.55  # 0.65 here: what tells them is little
    assert quality.told_apart(dataclasses.replace(fresh, images=255 - fresh.images), digits.real, *how) > 0.95


def test_a_collapsed_set_keeps_its_precision_and_loses_recall_coverage_and_diversity(
    judge: Classifier, digits: Dataset, found_of_fresh: dict[str, float]
) -> None:
    """One image per class, with noise around it."""
    first = torch.stack([digits.real.images[digits.real.labels == label][0] for label in range(10)])
    labels = torch.arange(10).repeat(40)
    noise = torch.randint(-3, 4, (400, *first.shape[1:]), generator=torch.Generator().manual_seed(0))
    collapsed = Images((first[labels].int() + noise).clamp(0, 255).to(torch.uint8), labels)
    found = quality.quality_metrics(judge, collapsed, digits, seed=0)
    for name, share in {"recall": 0.25, "coverage": 0.5, "diversity": 0.25}.items():
        assert found[f"test/quality/{name}"] < share * found_of_fresh[f"test/quality/{name}"]
    assert found["test/quality/precision"] > 0.5


def test_a_set_without_a_class_has_no_diversity_there(judge: Classifier, fresh: Images, digits: Dataset) -> None:
    assert quality.quality_metrics(judge, fresh[fresh.labels != 3], digits, seed=0)["test/quality/diversity"] == 0


@pytest.mark.parametrize("control", ["duplicate", "noise"])
def test_copies_are_seen_as_such(control: str, digits: Dataset) -> None:
    """The real images again, as they are and slightly noised."""
    found = copies.memorisation(controls.make_control(control, digits.real, 800, 0), digits.real, digits.test)
    assert found.odds >= 10
    assert found.share > 0.95 > found.chance == len(digits.real) / (len(digits.real) + len(digits.test))
    assert found.p < 0.001
    assert found.auc > 0.9


def test_fresh_real_images_are_no_copies(digits: Dataset, fresh: Images) -> None:
    """Nor are those of the test split, where they are not compared with themselves."""
    halves = digits.test[::2], digits.test[1::2]
    for samples, unseen in ((fresh, digits.test), halves, halves[::-1]):
        found = copies.memorisation(samples, digits.real, unseen)
        assert 0.6 < found.odds < 1.6
        assert found.p > 0.001


def test_half_a_set_of_copies_is_seen_too(digits: Dataset, fresh: Images) -> None:
    images = torch.cat([fresh.images[:400], digits.real.images])
    found = copies.memorisation(Images(images, torch.zeros(800)), digits.real, digits.test)
    assert found.odds > 2
    assert found.p < 0.001


def test_the_odds_know_no_size(digits: Dataset, fresh: Images) -> None:
    """Four times as many seen as unseen images: a nearest one is a seen one four times as often by chance."""
    found = copies.memorisation(fresh, digits.real, digits.test[:100])
    assert 0.6 < found.odds < 1.6
    assert found.chance == pytest.approx(len(digits.real) / (len(digits.real) + 100))
    assert abs(found.share - found.chance) < 0.1


def test_the_closest_pairs_are_a_copy_and_its_original(digits: Dataset, fresh: Images) -> None:
    """Of the second label; the first has the closest of its own, whatever the second's distance."""
    labels = torch.tensor([0] * 50 + [1] * 20)
    samples = Images(torch.cat([fresh.images[:69], digits.real.images[7:8]]), labels)
    zero, _, sample, original = copies.closest_pairs(samples, digits.real, 1)
    assert torch.equal(sample, digits.real.images[7])
    assert torch.equal(original, digits.real.images[7])
    assert (fresh.images[:50] == zero).flatten(1).all(1).any()
    assert len(copies.closest_pairs(samples, digits.real, 30)) == 2 * (30 + 20)


def test_quality_is_refused_where_it_cannot_be_had(judge: Classifier, fresh: Images, digits: Dataset) -> None:
    without = dataclasses.replace(digits, test=digits.test[:0])
    with pytest.raises(InputError, match="quality is measured against test images: digits has 0 here"):
        quality.quality_metrics(judge, fresh, without, seed=0)
    with pytest.raises(InputError, match="of 10 samples and more, not of 9"):
        quality.quality_metrics(judge, fresh[:9], digits, seed=0)
    assert quality.quality_metrics(judge, fresh[:10], digits, seed=0)["test/quality/recall"] >= 0


def test_conditional_accuracy_leaves_out_classes_without_samples(judge: Classifier, fresh: Images) -> None:
    found = judging.conditional_accuracy(judge, fresh[fresh.labels != 3], 10, Accelerator(cpu=True))
    assert "samples/conditional_accuracy_class_3" not in found
    assert found["samples/conditional_accuracy_class_4"] > 0.5
    assert not np.isnan(list(found.values())).any()
