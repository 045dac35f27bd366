"""What a run shows to the eye: sample grids and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    from PIL import Image, ImageDraw, ImageFont

    picture = image_grid(images, len(images) // len(classes))
    names, font = [shortened(name) for name in classes], ImageFont.load_default(12)
    margin = 8 + max(round(font.getlength(name)) for name in names)
    canvas = Image.new("L" if picture.ndim == 2 else "RGB", (margin + picture.shape[1], picture.shape[0]))
    canvas.paste(Image.fromarray(picture), (margin, 0))
    height, draw = picture.shape[0] / len(classes), ImageDraw.Draw(canvas)
    for row, name in enumerate(names):
        draw.text((margin - 4, (row + 0.5) * height), name, "white", font, "rm")
    return np.asarray(canvas)


READABLE = 30
"""Classes up to which a confusion matrix has its numbers and names."""


def confusion(matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Counts [classes, classes], true label by row, as a heat map; the diagonal is left uncoloured, no count blank."""
    import seaborn
    from matplotlib.figure import Figure

    counts = matrix.numpy()
    is_readable = len(classes) <= READABLE
    side = max(5.0, 0.4 * len(classes)) if is_readable else 8.0
    figure = Figure(figsize=(side, side - 0.6), layout="constrained")
    axes = figure.subplots()
    off_diagonal = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    names = [shortened(name) for name in classes] if is_readable else "auto"
    seaborn.heatmap(
        off_diagonal, annot=np.where(counts, counts.astype(str), "") if is_readable else None, fmt="", cmap="Reds",
        square=True, cbar=not is_readable, xticklabels=names, yticklabels=names, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure
