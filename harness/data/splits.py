"""Orders of which every stretch holds the classes in their shares, as functions of a seed; long tails."""

import torch
from torch import Tensor

from harness.data.images import Source
from harness.errors import InputError
from harness.seeding import generator, permutation

TEST_SHARE = 0.2
"""Of the images of a set that has no test split of its own."""


def long_tail(labels: Tensor, order: Tensor, n_real: int, imbalance: float, source: Source) -> Tensor:
    """The first of each class in `order`, as many as its place in the tail says, at least one; int64 [n_real]."""
    shares = torch.logspace(0, -1, len(source.classes), base=imbalance, dtype=torch.float64)
    sizes = (n_real * shares / shares.sum()).long().clamp(min=1)
    sizes[0] += n_real - sizes.sum()
    rank = torch.empty_like(order)
    for label, size in enumerate(sizes.tolist()):
        members = labels[order] == label
        if int(members.sum()) < size:
            most = f"{source.classes[label]} has {int(members.sum())}"
            raise InputError(f"--imbalance {imbalance:g} needs {size} images of a class, {most}; give a lower --n-real")
        rank[members] = torch.arange(int(members.sum()))
    return order[rank < sizes[labels[order]]]


def stratified_order(labels: Tensor, seed: int, purpose: str) -> Tensor:
    """A random order (int64 [n]) of which every stretch holds the classes in their shares, up to one image.

    Image i of a class of k, in random order, is put at (i + u) / k for u ~ U[0, 1).
    """
    draw = generator(seed, purpose)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        rank = permutation(len(members), draw).double()
        place[members] = (rank + draw.random()) / len(members)
    return place.argsort(stable=True)


def split_order(labels: Tensor, seed: int) -> Tensor:
    """A random order (int64 [n]) whose first m images have as many of each class as for any other seed, at least one.

    Image i of a class of k, in random order, is put at i / k: seats of a parliament by Adams' method.
    """
    draw = generator(seed, "split")
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        place[members] = permutation(len(members), draw).double() / len(members)
    by_class = labels.argsort(stable=True)
    return by_class[place[by_class].argsort(stable=True)]
