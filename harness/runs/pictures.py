"""What a run shows to the eye: sample grids and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

FONT = ImageFont.load_default(12)
READABLE = 30
"""Classes up to which a confusion matrix has its numbers and names."""


def shortened(name: str, length: int = 16) -> str:
    """A class's name with room beside a picture or in a table's head."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def image_grid(images: Tensor, columns: int, scale: int = 2) -> np.ndarray:
    """uint8 images [n, C, H, W] as one picture [rows * (H + 1) * scale, …, C or none], row by row."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    canvas = torch.full((rows * columns, channels, height + 1, width + 1), 96, dtype=torch.uint8)
    canvas[:n, :, :height, :width] = images.cpu()
    picture = canvas.view(rows, columns, channels, height + 1, width + 1).permute(0, 3, 1, 4, 2)
    picture = picture.reshape(rows * (height + 1), columns * (width + 1), channels)
    picture = picture.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    return picture.squeeze(2).numpy() if channels == 1 else picture.numpy()


def class_grid(images: Tensor, classes: Sequence[str]) -> np.ndarray:
    """The grid of as many images of each class in turn, a row a class, its name before it; uint8 [H, W, 3 or none]."""
    picture = image_grid(images, len(images) // len(classes))
    names = _names(classes, picture.shape[0] / len(classes))
    canvas = Image.new("L" if picture.ndim == 2 else "RGB", (names.width + picture.shape[1], picture.shape[0]))
    canvas.paste(names, (0, 0))
    canvas.paste(Image.fromarray(picture), (names.width, 0))
    return np.asarray(canvas)


def _names(classes: Sequence[str], height: float) -> Image.Image:
    """The names of classes below one another, in white, a row of so many pixels each."""
    names = [shortened(name) for name in classes]
    strip = Image.new("L", (8 + max(round(FONT.getlength(name)) for name in names), round(height * len(names))))
    for row, name in enumerate(names):
        ImageDraw.Draw(strip).text((strip.width - 4, (row + 0.5) * height), name, "white", FONT, "rm")
    return strip


def confusion(matrix: Tensor, classes: Sequence[str]) -> np.ndarray:
    """Counts [classes, classes], true class by row, as a picture, uint8 [H, W, 3].

    The more a mistake was made the redder it is; no count is blank, and more classes than READABLE have no counts.
    """
    counts, is_readable = matrix.numpy(), len(classes) <= READABLE
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    most, cell = int(wrong.max()), 32 if is_readable else 8
    rest = (255 - 200 * wrong / max(most, 1)).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    names = ImageOps.invert(_names(classes if is_readable else [""] * len(classes), cell))
    margin, side = names.width, names.height
    canvas = Image.new("RGB", (margin + side, side + margin + 20), "white")
    canvas.paste(names, (0, 0))
    canvas.paste(Image.fromarray(np.stack([np.full_like(rest, 255), rest, rest], -1)), (margin, 0))
    draw = ImageDraw.Draw(canvas)
    if margin > cell:  # names that are longer than a column is wide
        canvas.paste(names.transpose(Image.Transpose.ROTATE_90), (margin, side))
    else:
        for column, name in enumerate(classes if is_readable else ()):
            draw.text((margin + (column + 0.5) * cell, side + margin / 2), name, "black", FONT, "mm")
    for row, column in zip(*counts.nonzero(), strict=True) if is_readable else ():
        place = (margin + (column + 0.5) * cell, (row + 0.5) * cell)
        draw.text(place, str(counts[row, column]), "black", FONT, "mm")
    said = f"true class by row, predicted by column; reddest: {most}"
    draw.text((canvas.width / 2, canvas.height - 10), said, "black", FONT, "mm")
    return np.asarray(canvas)
