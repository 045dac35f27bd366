"""How good a sample set is: what the judge sees in it, how it lies beside real images, what a classifier learns of it.

Real images that neither the judge nor the generator has seen are the reference: one half of the test split. The
other half is the floor, or the ceiling: what perfect samples, drawn from the same digits, would get.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Seen:
    """Images with the judge's features of them, float [n, hidden]."""

    images: Images
    features: Tensor


def see(judge: Classifier, images: Images) -> Seen:
    return Seen(images, judging.features(judge, images.images))


def frechet_distance(ours: Tensor, theirs: Tensor) -> float:
    """FID (Heusel et al. 2017, arXiv:1706.08500, eq. 6) of two sets of features [n, d], at least 0.

    It falls with the number of images, so only distances of equally large sets may be compared.
    """
    sets = [of.double().cpu() for of in (ours, theirs)]
    means = [of.mean(0) for of in sets]
    # With a covariance as R'R, the trace of the root of the two's product is the sum of R1 R2's singular values.
    roots = [
        torch.linalg.qr((of - mean) / (len(of) - 1) ** 0.5, mode="r").R for of, mean in zip(sets, means, strict=True)
    ]
    variances = sum(root.square().sum() for root in roots)
    shared = torch.linalg.matrix_norm(roots[0] @ roots[1].T, "nuc")
    return max(0.0, float((means[0] - means[1]).square().sum() + variances - 2 * shared))


def quality_metrics(judge: Classifier, samples: Images, dataset: Dataset, seed: int) -> dict[str, float]:
    """How a sample set lies beside unseen real images in the judge's features.

    `test/quality/fid`, `kid`, `precision`, `recall`, `density`, `coverage`, `diversity` (of the least varied class),
    `sharpness` (beside the reference's), each of as many samples as the reference has images;
    `test/quality/copy_auc`, `copy_p`, `copy_odds`, `copy_share` and `copy_chance`: see `memorisation`.

    Raises InputError where no test images were read, and for fewer than MINIMUM samples.
    """
    if len(samples) < MINIMUM:
        raise InputError(f"quality is measured of {MINIMUM} samples and more, not of {len(samples)}")
    reference, _ = reference_and_floor(dataset, seed)
    seen = compare_to_reference(see(judge, as_many(samples, reference, seed)), see(judge, reference))
    found = memorisation(samples[stratified_order(samples.labels, seed, "copies")], dataset.real, dataset.test)
    copies = {f"copy_{name}": value for name, value in dataclasses.asdict(found).items()}
    return {f"test/quality/{name}": value for name, value in (seen | copies).items()}


def floor_metrics(judge: Classifier, dataset: Dataset, seed: int) -> dict[str, float]:
    """What unseen real images get beside the reference: `test/floor/fid` and so on, as `quality_metrics` has them.

    And `test/floor/conditional_accuracy`: of how many of them the judge knows the class.
    """
    reference, floor = reference_and_floor(dataset, seed)
    seen = compare_to_reference(see(judge, floor), see(judge, reference))
    recognised = (classifier.predict(judge, floor.images) == floor.labels).float().mean()
    return {f"test/floor/{name}": value for name, value in (seen | {"conditional_accuracy": float(recognised)}).items()}


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


def compare_to_reference(seen: Seen, reference: Seen) -> dict[str, float]:
    """FID, KID, precision, recall, density, coverage, diversity and sharpness of a set beside a reference."""
    ours, theirs = seen.features, reference.features
    labels = [of.images.labels.to(ours.device) for of in (seen, reference)]
    found = neighbours.likeness(ours, theirs)
    spread = neighbours.diversity(ours, labels[0], theirs, labels[1])
    spread = spread[labels[1].unique(return_counts=True)[1] > 1]  # one image alone has none
    edges = sharpness(reference.images.images)
    return {
        "fid": frechet_distance(ours, theirs),
        "kid": kernel_distance(ours, theirs),
        "precision": found.precision,
        "recall": found.recall,
        "density": found.density,
        "coverage": found.coverage,
        **({"diversity": float(spread.nan_to_num(0).min())} if len(spread) else {}),
        **({"sharpness": sharpness(seen.images.images) / edges} if edges else {}),
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


def kernel_distance(ours: Tensor, theirs: Tensor) -> float:
    """KID (Bińkowski et al. 2018, arXiv:1801.01401, section 4) of two sets of features [n, d].

    The mean over KID_SUBSETS pairs of subsets of the unbiased squared maximum mean discrepancy (Gretton et al. 2012,
    lemma 6) under the kernel (x·y / d + 1)³. So it does not depend on the number of images and may be negative. The
    subsets are drawn with a seed.
    """
    sets = (ours, theirs)
    size = min(KID_SUBSET, *map(len, sets))
    masks = [torch.zeros(KID_SUBSETS, len(of), dtype=torch.float64, device=of.device) for of in sets]
    for number in range(KID_SUBSETS):
        draw = generator(0, "kid", number)
        for mask in masks:
            mask[number, permutation(mask.shape[1], draw)[:size].to(mask.device)] = 1
    within = sum(
        _kernel_sums(of, of, mask, mask) - mask @ _kernel(of.square().sum(1), of.shape[1])
        for of, mask in zip(sets, masks, strict=True)
    )
    apart = _kernel_sums(ours, theirs, masks[0], masks[1])
    return float((within / (size * (size - 1)) - 2 * apart / size**2).mean())


def _kernel_sums(ours: Tensor, theirs: Tensor, our_masks: Tensor, their_masks: Tensor, chunk: int = 1000) -> Tensor:
    """The kernel's sum over each pair of subsets, [subsets], which masks [subsets, n] of 0 and 1 mark."""
    parts = zip(ours.split(chunk), our_masks.split(chunk, dim=1), strict=True)
    sums = [((mask @ _kernel(part @ theirs.T, ours.shape[1])) * their_masks).sum(1) for part, mask in parts]
    return torch.stack(sums).sum(0)


def _kernel(products: Tensor, width: int) -> Tensor:
    """Of products x·y of features [d]; float64, since what is left of its sums lies in their last digits."""
    return ((products / width + 1) ** 3).double()


def accuracy(model: Classifier, images: Images, accelerator: Accelerator) -> float:
    return float((classifier.predict(model, images.images, accelerator) == images.labels.cpu()).float().mean())
