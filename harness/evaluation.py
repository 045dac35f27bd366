"""How good a sample set is: what the judge sees in it, how it lies beside real images, what a classifier learns of it.

Real images that neither the judge nor the generator has seen are the reference: one half of the test split. The
other half is the floor, or the ceiling: what perfect samples, drawn from the same digits, would get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import classifier, neighbours, numerics
from harness.bounds import Within
from harness.classifier import Classifier
from harness.data import MIN_TEST, Dataset, Images, stratified_order, to_float
from harness.errors import InputError
from harness.methods import ImageShape
from harness.seeding import generator, permutation
from harness.training import Batches, shown, train

if TYPE_CHECKING:
    from accelerate import Accelerator

JUDGE_SEED = 0
KID_SUBSETS, KID_SUBSET = 50, 1000
MINIMUM = 10  # images in a reference, and in what is measured by it
Enough = Annotated[int, Within(int, MINIMUM)]
COMPARED = 4000  # samples


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors, which takes contiguous tensors alone."""
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names and values of a network's weights, hexadecimal."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def image_shape(dataset: Dataset) -> ImageShape:
    return ImageShape(*dataset.train.shape, dataset.num_classes)


def judge_config(dataset: Dataset, steps: int | None) -> classifier.Config:
    """The judge's size and training, by the images' colours; of so many steps."""
    if dataset.train.shape[0] > 1:
        config = classifier.Config(steps=steps or 3600, batch_size=128, augment=True)
    else:
        config = classifier.Config(steps=steps or 1400)
    return classifier.sized(config, image_shape(dataset))


def judge_key(dataset: Dataset, steps: int | None) -> str:
    """What a judge is of, 16 hexadecimal digits: equal ones may judge for one another."""
    parts = f"{dataset.train.digest}{judge_config(dataset, steps)}{numerics.VERSION}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def train_judge(dataset: Dataset, steps: int | None) -> Classifier:
    """The judge of a data set: a classifier trained on all training images; it never sees the test split.

    By this process alone, so that its weights do not depend on how many there are.
    """
    config = judge_config(dataset, steps)
    model = classifier.build(config, image_shape(dataset), JUDGE_SEED)
    model.prepare(None)
    batches = Batches((dataset.train, config.batch_size), seed=JUDGE_SEED)
    for _ in shown(train(model, batches, config.steps), "judge", config.steps, batches.size):
        pass
    return model.eval()


def restore_judge(dataset: Dataset, weights: Mapping[str, Tensor]) -> Classifier:
    """The judge of a data set from its weights, ready to predict."""
    model = classifier.build(judge_config(dataset, None), image_shape(dataset), JUDGE_SEED)
    model.load_state_dict(weights)
    return model.eval()


def conditional_accuracy(
    judge: Classifier, samples: Images, num_classes: int, accelerator: Accelerator
) -> dict[str, float]:
    """GAN-test (Shmelkov et al. 2018, arXiv:1807.09499): share (0 … 1) that the judge sees as it was asked for.

    Overall; of the images asked for as a class, which is the class's recall; of those seen as a class, its precision;
    where there are any.
    """
    seen = classifier.predict(judge, samples.images, accelerator)
    agrees = (seen == samples.labels).float()
    scores = {"samples/conditional_accuracy": float(agrees.mean())}
    for label in range(num_classes):
        if (samples.labels == label).any():  # a filter may have left none
            scores[f"samples/conditional_accuracy_class_{label}"] = float(agrees[samples.labels == label].mean())
        if (seen == label).any():
            scores[f"samples/conditional_precision_class_{label}"] = float(agrees[seen == label].mean())
    return scores


def classification_accuracy_score(
    samples: Images, dataset: Dataset, config: classifier.Config, seed: int, accelerator: Accelerator
) -> dict[str, float]:
    """CAS (Ravuri & Vinyals 2019, arXiv:1905.10887): accuracy on real images of a classifier that saw only samples.

    `samples/cas` is on the test split, `validation/cas` on the validation split, each where there is one.
    """
    model = taught(samples, image_shape(dataset), config, seed, accelerator)
    splits = {"samples/cas": dataset.test, "validation/cas": dataset.validation}
    return {name: accuracy(model, images, accelerator) for name, images in splits.items() if len(images)}


def taught(
    images: Images, shape: ImageShape, config: classifier.Config, seed: int, accelerator: Accelerator
) -> Classifier:
    """A classifier that has seen one set alone, for `config.steps` steps; ready to predict."""
    model = classifier.build(config, shape, seed)
    model.prepare(accelerator)
    batches = Batches((images, config.batch_size), seed=seed, accelerator=accelerator)
    training = train(model, batches, config.steps)
    for _ in shown(training, "classifier", config.steps, batches.size, accelerator.is_main_process):
        pass
    return model.eval()


def frechet_distance(judge: Classifier, samples: Images, real: Images) -> float:
    """FID (Heusel et al. 2017, arXiv:1706.08500, eq. 6) of two sets in the judge's features, at least 0.

    It falls with the number of images, so only distances of equally large sets may be compared.
    """
    ours, theirs = (features(judge, of.images).double().cpu() for of in (samples, real))
    apart = (ours.mean(0) - theirs.mean(0)).square().sum()
    covariances = [torch.cov(of.T) for of in (ours, theirs)]
    # The trace of the product's root is the sum of the roots of its eigenvalues, which are real and at least 0.
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt().sum()
    return max(0.0, float(apart + covariances[0].trace() + covariances[1].trace() - 2 * roots))


def quality(judge: Classifier, samples: Images, dataset: Dataset, seed: int) -> dict[str, float]:
    """How a sample set lies beside unseen real images in the judge's features, and what real ones get there.

    `quality/fid`, `kid`, `precision`, `recall`, `density`, `coverage`, `diversity` (of the least varied class),
    `sharpness` (beside the reference's), each of as many samples as the reference has images, with its `floor/…`;
    `floor/conditional_accuracy`: what the judge gets of real images;
    `quality/closer`, `copy_p` and `copy_odds`: see `memorisation`. About 10 s for 20,000 MNIST samples on 2 cores.

    Raises InputError where no test images were read, and for fewer than MINIMUM samples.
    """
    if len(samples) < MINIMUM:
        raise InputError(f"quality is measured of {MINIMUM} samples and more, not of {len(samples)}")
    reference, floor = halves(dataset, seed)
    chosen = samples[stratified_order(samples.labels, seed, "quality")[: len(reference)]]
    copies = memorisation(samples[stratified_order(samples.labels, seed, "copies")], dataset.real, dataset.test)
    recognised = classifier.predict(judge, floor.images) == floor.labels
    return {
        **{f"quality/{name}": value for name, value in beside(judge, chosen, reference).items()},
        **{f"floor/{name}": value for name, value in beside(judge, floor, reference).items()},
        "floor/conditional_accuracy": float(recognised.float().mean()),
        "quality/closer": copies.closer,
        "quality/copy_p": copies.p,
        "quality/copy_odds": copies.odds,
    }


def halves(dataset: Dataset, seed: int) -> tuple[Images, Images]:
    """The test images as two halves: the reference, and the floor. Raises InputError where no test images were read."""
    if len(dataset.test) < MIN_TEST:
        raise InputError(f"quality is measured against test images: {dataset.name} has {len(dataset.test)} here")
    order = stratified_order(dataset.test.labels, seed, "quality")
    half = len(order) // 2
    return dataset.test[order[:half]], dataset.test[order[half:]]


def beside(judge: Classifier, images: Images, reference: Images) -> dict[str, float]:
    """FID, KID, precision, recall, density, coverage, diversity and sharpness of a set beside a reference."""
    ours, theirs = (features(judge, of.images) for of in (images, reference))
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


def sharpness(images: Tensor, chunk: int = 2000) -> float:
    """The mean over uint8 images [n, C, H, W] of the variance of their Laplacian (Pech-Pacheco et al. 2000).

    Blur takes it away. Of pixels 0 … 1, with the kernel of four neighbours.
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    planes = images.cpu().flatten(0, 1).unsqueeze(1)  # each channel on its own
    edges = (F.conv2d(part.float().div(255), kernel) for part in planes.split(chunk))
    return float(torch.cat([part.flatten(1).var(1) for part in edges]).mean())


@dataclass(frozen=True)
class Memorisation:
    """How much closer a sample set lies to the images that its generator saw than chance would have it."""

    closer: float
    """how likely a sample is closer to the seen images than an unseen real image is; 0.5 without copies. Blur raises
    it too: a mean of digits is close to all of them"""
    p: float
    """of the one-sided Mann-Whitney test of that"""
    odds: float
    """how much likelier a sample's nearest real image is a seen one than an unseen one, image for image; 1 without
    copies, and blur does not change it"""


def memorisation(samples: Images, seen: Images, unseen: Images) -> Memorisation:
    """Whether a generator copies, by its samples' pixels: the test of Meehan et al. 2020 (arXiv:2004.05675, over the
    whole space) and, beside it, the odds of `Memorisation`. Of at most COMPARED samples and unseen images each.
    """
    from scipy.stats import mannwhitneyu

    ours, unseen_too = (_pixels(of.images[:COMPARED]) for of in (samples, unseen))
    to_seen, _ = neighbours.nearest(ours, _pixels(seen.images))
    to_unseen, _ = neighbours.nearest(ours, _pixels(unseen.images))
    theirs, _ = neighbours.nearest(unseen_too, _pixels(seen.images))
    test = mannwhitneyu(to_seen.numpy(), theirs.numpy(), alternative="less")
    nearer = int((to_seen < to_unseen).sum())
    odds = (nearer + 0.5) / (len(ours) - nearer + 0.5)  # Haldane's halves: finite for a set of copies
    return Memorisation(
        closer=1 - float(test.statistic) / (len(ours) * len(theirs)),
        p=float(test.pvalue),
        odds=odds * len(unseen) / len(seen),
    )


def closest_pairs(samples: Images, seen: Images, number: int) -> Tensor:
    """Of each label the samples that lie closest to seen images, each before that image: uint8 [2 * n, C, H, W].

    `number` of a label, closest first, or as many as there are, among the first COMPARED samples.
    """
    own = samples[:COMPARED]
    distance, which = neighbours.nearest(_pixels(own.images), _pixels(seen.images))
    order = distance.argsort()
    closest = torch.cat([order[own.labels[order] == label][:number] for label in own.labels.unique()])
    return torch.stack([own.images[closest], seen.images[which[closest]]], 1).flatten(0, 1)


def _pixels(images: Tensor) -> Tensor:
    return images.cpu().flatten(1).float().div(255)


@torch.inference_mode()
def features(judge: Classifier, images: Tensor, chunk: int = 2000) -> Tensor:
    """The judge's last hidden layer of uint8 images, float [n, hidden]."""
    device = next(judge.parameters()).device
    return torch.cat([judge.features(to_float(part.to(device))).float() for part in images.split(chunk)])


def kernel_distance(judge: Classifier, samples: Images, real: Images) -> float:
    """KID (Bińkowski et al. 2018, arXiv:1801.01401, section 4) of two sets in the judge's features.

    The mean over KID_SUBSETS pairs of subsets of `squared_discrepancy`. Unbiased, so it does not depend on the number
    of images and may be negative. The subsets are drawn with a seed.
    """
    ours, theirs = (features(judge, of.images) for of in (samples, real))
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
