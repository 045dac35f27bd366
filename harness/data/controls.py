"""The controls: images made of the real ones alone, which no generator made."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data import moves
from harness.data.images import Images, to_float, to_uint8
from harness.data.splits import stratified_order
from harness.errors import InputError
from harness.seeding import generator, normal, uniform

NOISE_STD = 0.15  # in units of [-1, 1] pixels


CONTROLS = ("duplicate", "affine", "noise")
"""What they gain, a generator must beat."""


def make_control(name: str, real: Images, num_images: int, seed: int) -> Images:
    """`num_images` images made from `real` alone, equally many of each class that it has: repeated, moved by small
    affine maps, or with noise added.

    Raises InputError for an unknown name.
    """
    if name not in CONTROLS:
        raise InputError(f"unknown control {name!r}; known are {', '.join(CONTROLS)}")
    repeated = real[_by_class(real.labels, num_images, seed)]
    if name == "duplicate":
        return repeated
    change = _affine if name == "affine" else _noise
    chunks = [
        to_uint8(change(to_float(part), generator(seed, f"control/{name}", index)))
        for index, part in enumerate(repeated.images.split(1000))
    ]
    return Images(torch.cat(chunks), repeated.labels)


def _by_class(labels: Tensor, num_images: int, seed: int) -> Tensor:
    """Places of `num_images` images, int64: the classes in turn, as in a generator's set, each passed over in order."""
    order = stratified_order(labels, seed, "control")
    members = [order[labels[order] == label] for label in labels.unique()]
    turns = math.ceil(num_images / len(members))
    return torch.stack([own.repeat(math.ceil(turns / len(own)))[:turns] for own in members], 1).flatten()[:num_images]


def _affine(images: Tensor, draw: np.random.Generator) -> Tensor:
    """A rotation, a scale and a shift of its own for each image [n, C, H, W]; no flips: digits have a side."""
    where = moves.affine_grids(uniform(draw, 4, len(images)).T, images)
    background = images.amin()
    edges = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], -1)
    # Beside a digit is black; beside a photograph or a drawing on white what is at its edge.
    padding = "zeros" if edges.median() == background else "border"
    return F.grid_sample(images - background, where, padding_mode=padding, align_corners=False) + background


def _noise(images: Tensor, draw: np.random.Generator) -> Tensor:
    return images + NOISE_STD * normal(draw, *images.shape)
