"""Small moves of an image that keep what it shows."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bounds import Moves

MAX_ROTATION_DEGREES = 12.0
MAX_SCALE = 0.12
MAX_SHIFT = 0.08  # of the image's side
CROP = 16  # as a part of the image's side: 2 pixels of 32


def move_images(images: Tensor, unit: Tensor, kind: Moves) -> Tensor:
    """Each image, float [n, C, H, W], under a move of its own, by `unit`, U[0, 1) [n, num_numbers(kind)]; 0.5 is none.

    Things and scenes are reflected, and shifted by up to a CROPth of their side, as is usual for CIFAR-10. Digits have
    a side: they are rotated, scaled and shifted.
    """
    if kind == "reflect":
        return _cropped(images, unit)
    return F.grid_sample(
        images, affine_grids(unit.to(images.dtype), images), padding_mode="border", align_corners=False
    )


def num_numbers(kind: Moves) -> int:
    """How many random numbers a move takes."""
    return 3 if kind == "reflect" else 4


def usual_moves(channels: int) -> Moves:
    """The moves of images of which nothing else is known: grey ones may be digits."""
    return "reflect" if channels > 1 else "rotate"


def affine_grids(unit: Tensor, images: Tensor) -> Tensor:
    """Where each pixel of moved images comes from, as `grid_sample` takes it; the moves by `unit`, U[0, 1) [n, 4]."""
    angle, scale, *shift = (unit * 2 - 1).unbind(1)
    angle, scale = angle * math.radians(MAX_ROTATION_DEGREES), 1 + scale * MAX_SCALE
    right, down = (part * 2 * MAX_SHIFT for part in shift)  # the grid's side is 2
    cos, sin = angle.cos() / scale, angle.sin() / scale
    maps = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    return F.affine_grid(maps, list(images.shape), align_corners=False)


def _cropped(images: Tensor, unit: Tensor) -> Tensor:
    """Reflected and shifted by whole pixels; beyond an edge the image is mirrored. By `unit`, U[0, 1) [n, 3]."""
    height, width = images.shape[2:]
    most = (max(1, height // CROP), max(1, width // CROP))
    padded = F.pad(images, (most[1], most[1], most[0], most[0]), mode="reflect")
    top, left = ((part * (2 * far + 1)).long()[:, None] for part, far in zip(unit.unbind(1), most, strict=False))
    rows = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    columns = torch.where(unit[:, 2:] < 0.5, columns.flip(1), columns)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
