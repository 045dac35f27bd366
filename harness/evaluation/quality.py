"""How good a sample set is: what the judge sees in it, how it lies beside real images, what a classifier learns of it.

Real images that neither the judge nor the generator has seen are the reference: one half of the test split. The
other half is the floor, or the ceiling: what perfect samples, drawn from the same digits, would get.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bounds import Within
from harness.data.datasets import MIN_TEST, Dataset
from harness.data.images import Images, ImageShape
from harness.data.splits import stratified_order
from harness.errors import InputError
from harness.evaluation import classifier, judging, neighbours
from harness.evaluation.classifier import Classifier
from harness.evaluation.copies import memorisation
from harness.seeding import generator, permutation
from harness.training.loop import train, with_progress_bar

if TYPE_CHECKING:
    from accelerate import Accelerator

KID_SUBSETS, KID_SUBSET = 50, 1000
TELLING_STEPS = 300
MINIMUM = 10  # images in a reference, and in what is measured by it
Enough = Annotated[int, Within(int, MINIMUM)]


def classification_accuracy_score(
    samples: Images, dataset: Dataset, config: classifier.Config, seed: int, accelerator: Accelerator
) -> dict[str, float]:
    """CAS (Ravuri & Vinyals 2019, arXiv:1905.10887): accuracy on real images of a classifier that saw only samples.

    `test/cas` is on the test split, `validation/cas` on the validation split, each where there is one.
    """
    model = train_on(samples, dataset.image_shape, config, seed, accelerator)
    splits = {"test/cas": dataset.test, "validation/cas": dataset.validation}
    return {name: accuracy(model, images, accelerator) for name, images in splits.items() if len(images)}


def train_on(
    images: Images, shape: ImageShape, config: classifier.Config, seed: int, accelerator: Accelerator
) -> Classifier:
    """A classifier that has seen one set alone, for `config.steps` steps; ready to predict."""
    model = classifier.build_classifier(config, shape, seed)
    model.prepare(accelerator)
    batches = classifier.batches_of(config, images, None, seed, accelerator, shape.moves)
    training = train(model, batches, config.steps)
    for _ in with_progress_bar(training, "classifier", config.steps, batches.size, accelerator.is_main_process):
        pass
    return model.eval()


def frechet_distance(judge: Classifier, samples: Images, real: Images) -> float:
    """FID (Heusel et al. 2017, arXiv:1706.08500, eq. 6) of two sets in the judge's features, at least 0.

    It falls with the number of images, so only distances of equally large sets may be compared.
    """
    ours, theirs = (judging.features(judge, of.images).double().cpu() for of in (samples, real))
    apart = (ours.mean(0) - theirs.mean(0)).square().sum()
    covariances = [torch.cov(of.T) for of in (ours, theirs)]
    # The trace of the product's root is the sum of the roots of its eigenvalues, which are real and at least 0.
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt().sum()
    return max(0.0, float(apart + covariances[0].trace() + covariances[1].trace() - 2 * roots))


def quality_metrics(judge: Classifier, samples: Images, dataset: Dataset, seed: int) -> dict[str, float]:
    """How a sample set lies beside unseen real images in the judge's features, and what real ones get there.

    `test/quality/fid`, `kid`, `precision`, `recall`, `density`, `coverage`, `diversity` (of the least varied class),
    `sharpness` (beside the reference's), each of as many samples as the reference has images, with its `test/floor/…`;
    `test/floor/conditional_accuracy`: what the judge gets of real images;
    `test/quality/copy_auc`, `copy_p`, `copy_odds`, `copy_share` and `copy_chance`: see `memorisation`. About 10 s for
    20,000 MNIST samples on 2 cores.

    Raises InputError where no test images were read, and for fewer than MINIMUM samples.
    """
    if len(samples) < MINIMUM:
        raise InputError(f"quality is measured of {MINIMUM} samples and more, not of {len(samples)}")
    reference, floor = reference_and_floor(dataset, seed)
    chosen = as_many(samples, reference, seed)
    found = memorisation(samples[stratified_order(samples.labels, seed, "copies")], dataset.real, dataset.test)
    recognised = classifier.predict(judge, floor.images) == floor.labels
    return {
        **{f"test/quality/{name}": value for name, value in compare_to_reference(judge, chosen, reference).items()},
        **{f"test/floor/{name}": value for name, value in compare_to_reference(judge, floor, reference).items()},
        "test/floor/conditional_accuracy": float(recognised.float().mean()),
        "test/quality/copy_auc": found.auc,
        "test/quality/copy_p": found.p,
        "test/quality/copy_odds": found.odds,
        "test/quality/copy_share": found.share,
        "test/quality/copy_chance": found.chance,
    }


def as_many(samples: Images, reference: Images, seed: int) -> Images:
    """As many of the samples as the reference has images, the classes in their shares."""
    return samples[stratified_order(samples.labels, seed, "quality")[: len(reference)]]


def reference_and_floor(dataset: Dataset, seed: int) -> tuple[Images, Images]:
    """The test images as two halves: the reference, and the floor. Raises InputError where no test images were read."""
    if len(dataset.test) < MIN_TEST:
        raise InputError(f"quality is measured against test images: {dataset.name} has {len(dataset.test)} here")
    order = stratified_order(dataset.test.labels, seed, "quality")
    half = len(order) // 2
    return dataset.test[order[:half]], dataset.test[order[half:]]


def compare_to_reference(judge: Classifier, images: Images, reference: Images) -> dict[str, float]:
    """FID, KID, precision, recall, density, coverage, diversity and sharpness of a set beside a reference."""
    ours, theirs = (judging.features(judge, of.images) for of in (images, reference))
    found = neighbours.likeness(ours, theirs)
    spread = neighbours.diversity(ours, images.labels.to(ours.device), theirs, reference.labels.to(ours.device))
    spread = spread[reference.labels.unique(return_counts=True)[1].to(ours.device) > 1]  # one image alone has none
    return {
        "fid": frechet_distance(judge, images, reference),
        "kid": kernel_distance(judge, images, reference),
        "precision": found.precision,
        "recall": found.recall,
        "density": found.density,
        "coverage": found.coverage,
        **({"diversity": float(spread.nan_to_num(0).min())} if len(spread) else {}),
        **({"sharpness": sharpness(images.images) / edges} if (edges := sharpness(reference.images)) else {}),
    }


def told_apart(samples: Images, real: Images, shape: ImageShape, seed: int, accelerator: Accelerator) -> float:
    """Share (0 … 1) of unseen images of which a classifier tells whether they are of one set or the other.

    A classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv:1610.06545, section 3): of as many images of each set
    half are learned from and the others are told. Two sets of real images have 0.5.
    """
    number = min(len(samples), len(real)) // 2
    two = [of.images.cpu()[stratified_order(of.labels, seed, "told apart")] for of in (samples, real)]
    halves = [
        Images(torch.cat([images[half] for images in two]), torch.arange(2).repeat_interleave(number))
        for half in (slice(number), slice(number, 2 * number))
    ]
    config = classifier.Config(steps=TELLING_STEPS)
    model = train_on(halves[0], dataclasses.replace(shape, num_classes=2), config, seed, accelerator)
    return accuracy(model, halves[1], accelerator)


def sharpness(images: Tensor, chunk: int = 2000) -> float:
    """The mean over uint8 images [n, C, H, W] of the variance of their Laplacian (Pech-Pacheco et al. 2000).

    Blur takes it away. Of pixels 0 … 1, with the kernel of four neighbours.
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    planes = images.cpu().flatten(0, 1).unsqueeze(1)  # each channel on its own
    edges = (F.conv2d(part.float().div(255), kernel) for part in planes.split(chunk))
    return float(torch.cat([part.flatten(1).var(1) for part in edges]).mean())


def kernel_distance(judge: Classifier, samples: Images, real: Images) -> float:
    """KID (Bińkowski et al. 2018, arXiv:1801.01401, section 4) of two sets in the judge's features.

    The mean over KID_SUBSETS pairs of subsets of `squared_discrepancy`. Unbiased, so it does not depend on the number
    of images and may be negative. The subsets are drawn with a seed.
    """
    ours, theirs = (judging.features(judge, of.images) for of in (samples, real))
    size = min(KID_SUBSET, len(ours), len(theirs))
    found = []
    for number in range(KID_SUBSETS):
        draw = generator(0, "kid", number)
        chosen = [of[permutation(len(of), draw)[:size].to(of.device)] for of in (ours, theirs)]
        found.append(squared_discrepancy(*chosen))
    return float(torch.stack(found).mean())


def squared_discrepancy(ours: Tensor, theirs: Tensor) -> Tensor:
    """The unbiased squared maximum mean discrepancy of two sets [n, d] under the kernel (x·y / d + 1)³.

    Gretton et al. 2012, lemma 6.
    """
    n, width = ours.shape
    within = [_kernel(of, of, width) for of in (ours, theirs)]
    apart = [(each.sum(dtype=torch.float64) - each.trace()) / (n * (n - 1)) for each in within]
    return apart[0] + apart[1] - 2 * _kernel(ours, theirs, width).mean(dtype=torch.float64)


def _kernel(ours: Tensor, theirs: Tensor, width: int) -> Tensor:
    return (ours @ theirs.T / width + 1) ** 3


def accuracy(model: Classifier, images: Images, accelerator: Accelerator) -> float:
    return float((classifier.predict(model, images.images, accelerator) == images.labels.cpu()).float().mean())
