"""The controls: "synthetic" sets that no generator made. What they gain, a generator must beat."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data import Images, stratified_order, to_float, to_uint8
from harness.errors import InputError
from harness.seeding import generator

MAX_ROTATION_DEGREES = 12.0
MAX_SCALE = 0.12
MAX_SHIFT = 0.08  # of the image's side
NOISE_STD = 0.15  # in units of [-1, 1] pixels
CONTROLS = ("duplicate", "affine", "noise")


def control(name: str, real: Images, num_images: int, seed: int) -> Images:
    """`num_images` images made from `real` alone: repeated, moved by small affine maps, or with noise added.

    Raises InputError for an unknown name.
    """
    if name not in CONTROLS:
        raise InputError(f"unknown control {name!r}; known are {', '.join(CONTROLS)}")
    order = stratified_order(real.labels, seed, "control")
    repeated = real[order.repeat(math.ceil(num_images / len(real)))[:num_images]]
    if name == "duplicate":
        return repeated
    change = _affine if name == "affine" else _noise
    chunks = [
        to_uint8(change(to_float(part), generator(seed, f"control/{name}", index)))
        for index, part in enumerate(repeated.images.split(1000))
    ]
    return Images(torch.cat(chunks), repeated.labels)


def _affine(images: Tensor, draw: torch.Generator) -> Tensor:
    """A rotation, a scale and a shift of its own for each image [n, C, H, W]; no flips: digits have a side."""
    unit = torch.rand(4, len(images), generator=draw) * 2 - 1
    angle = unit[0] * math.radians(MAX_ROTATION_DEGREES)
    scale = 1 + unit[1] * MAX_SCALE
    shift = unit[2:] * 2 * MAX_SHIFT  # the grid's side is 2
    cos, sin = angle.cos() / scale, angle.sin() / scale
    maps = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    background = images.amin()
    return F.grid_sample(images - background, grid, align_corners=False) + background


def _noise(images: Tensor, draw: torch.Generator) -> Tensor:
    return images + NOISE_STD * torch.randn(images.shape, generator=draw)
