"""Folders of images, a class each, as torchvision's ImageFolder knows them; as tensors of one size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harness.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

PARTS = ("train", "test")


def parts(path: Path) -> list[Path]:
    """`path` itself, or its `train` and `test` where they hold the class folders.

    A class may be called so as well: then there are images in its folder, not classes.

    Raises InputError for what is no folder, for one of the two without the other, and for classes that differ.
    """
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; --dataset folder:PATH takes one with a folder for each class")
    found = [path / part for part in PARTS if (path / part).is_dir() and classes(path / part)]
    if not found:
        return [path]
    if len(found) == 1:
        raise InputError(f"{path} has class folders in {found[0].name} alone: it needs both train and test, or neither")
    differing = set(classes(found[0])) ^ set(classes(found[1]))
    if differing:
        raise InputError(f"{path}: train and test have different classes, such as {min(differing)}")
    return found


def classes(path: Path) -> list[str]:
    """The names of the class folders; a class's label is its place among them."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


@lru_cache(maxsize=4)
def read(path: Path, side: int) -> tuple[Tensor, Tensor]:
    """The images of all class folders, uint8 [n, C, side, side], and labels int64 [n]; read once per process.

    Labels count the classes by name. The shorter side of each image is resized to `side`, antialiased, and the
    middle cut out of the longer one. C is 1 where all images are grey, else 3.

    Raises InputError for fewer than two classes, a class without images, and a file that is no image.
    """
    from torchvision import datasets, transforms
    from torchvision.transforms.functional import pil_to_tensor

    try:
        folder = datasets.ImageFolder(str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read as classes of images: {error}") from error
    if len(folder.classes) < 2:
        raise InputError(f"{path} has one class alone, {folder.classes[0]}; it needs a folder for each of two or more")
    fit = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side)])
    bar = tqdm(folder.samples, f"reading {path}", unit="img", delay=2, disable=None)
    images = torch.stack([pil_to_tensor(fit(_image(Path(file)))) for file, _ in bar])
    if (images == images[:, :1]).all():
        images = images[:, :1].clone()
    return images, torch.tensor(folder.targets)


def _image(path: Path) -> Image.Image:
    """A file as RGB of 8 bits, upright; of 16 bits the upper ones."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode == "F":
                raise ValueError("its pixels are real numbers of no known range")
            if image.mode.startswith("I"):  # whose conversion by PIL cuts off what is above 255
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            return image.convert("RGB")
    except Exception as error:  # of a damaged file PIL's readers raise more than OSError
        raise InputError(f"{path} cannot be read as an image: {error}") from error
