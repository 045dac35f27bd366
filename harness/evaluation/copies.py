"""Whether a generator copies: its samples beside the images that it saw, and beside those that it did not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.data.images import Images
from harness.evaluation import neighbours

COMPARED = 4000  # samples


@dataclass(frozen=True)
class Memorisation:
    """How much closer a sample set lies to the images that its generator saw than chance would have it."""

    auc: float
    """how likely a sample is closer to the seen images than an unseen real image is; 0.5 without copies. Blur raises
    it too: a mean of digits is close to all of them"""
    p: float
    """of the one-sided Mann-Whitney test of that"""
    share: float
    """of samples whose nearest real image is a seen one"""
    chance: float
    """what that share is without copies: that of the seen among all images compared with"""
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
        auc=1 - float(test.statistic) / (len(ours) * len(theirs)),
        p=float(test.pvalue),
        share=nearer / len(ours),
        chance=len(seen) / (len(seen) + len(unseen)),
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
