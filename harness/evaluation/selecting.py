"""Which of the samples are used: small functions of (a classifier of the real images, these, the samples)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.images import Images, ImageShape, to_float
from harness.evaluation import classifier, neighbours
from harness.evaluation.judging import features
from harness.training import launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

    from harness.evaluation.classifier import Classifier

EARLY = 0.2
"""Share of the classifier's steps after which what it does not know counts as learned late."""
LATE = 0.35
"""Share of the real images that count as learned late (arXiv:2505.21574 finds 30 to 40 %)."""


def filtered(model: Classifier, real: Images, samples: Images, shape: ImageShape, accelerator: Accelerator) -> Tensor:
    """The samples, bool [n], in which a classifier of the real images, under fresh moves, sees what was asked for.

    A classifier that has not seen moved images throws away samples that are like them.
    """
    return classifier.predict(model, samples.images, accelerator) == samples.labels


def targeted(model: Classifier, real: Images, samples: Images, shape: ImageShape, accelerator: Accelerator) -> Tensor:
    """The samples, bool [n], whose nearest real image of their label is learned late.

    As arXiv:2505.21574, which makes company only for the images that a classifier does not know early in its training:
    here those LATE of each class that have the least probability after EARLY of the steps. Near is in its features.
    """
    chosen = None
    if accelerator.is_main_process:
        chosen = torch.zeros(len(samples), dtype=torch.bool)
        of_real, of_samples = (features(model, of.images).cpu() for of in (real, samples))
        known = _probabilities(model, real)
        for label in samples.labels.unique():
            mine, theirs = (samples.labels == label).nonzero()[:, 0], (real.labels == label).nonzero()[:, 0]
            if len(theirs):
                late = known[theirs] <= known[theirs].quantile(LATE)
                chosen[mine] = late[neighbours.nearest(of_samples[mine], of_real[theirs])[1]]
    return launch.broadcast_from_main(chosen, accelerator)


def levelled(model: None, real: Images, samples: Images, shape: ImageShape, accelerator: Accelerator) -> Tensor:
    """The first samples of each label, bool [n], that with the real ones are as many as the largest class has.

    Of `duplicate` that is oversampling. Where the classes are equally large none is left.
    """
    counts = torch.bincount(real.labels, minlength=shape.num_classes)
    rank = torch.empty_like(samples.labels)
    for label in samples.labels.unique():
        members = samples.labels == label
        rank[members] = torch.arange(int(members.sum()))
    return rank < (counts.max() - counts)[samples.labels]


@torch.inference_mode()
def _probabilities(model: classifier.Classifier, images: Images, chunk: int = 2000) -> Tensor:
    """What a classifier gives each image's own label, [n] in 0 … 1."""
    device = next(model.parameters()).device
    parts = [F.softmax(model(to_float(part.to(device))), 1).cpu() for part in images.images.split(chunk)]
    return torch.cat(parts).gather(1, images.labels.cpu()[:, None])[:, 0]


WAYS: dict[str, tuple[float, Callable[..., Tensor]]] = {
    "filtered": (1.0, filtered), "targeted": (EARLY, targeted), "levelled": (0.0, levelled),
}  # fmt: skip
"""By the end of an arm's name: for what share of the steps of an arm's classifier the one that is asked has learned
(0: none is), and what it chooses."""
