"""Labelled images as tensors: uint8 [n, C, H, W] outside, float in [-1, 1] within a model."""

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.bounds import Moves

MOST_BYTES = 4 * 2**30
"""Of a sample set's images, unpacked: a million of 32 x 32 pixels in colour are 3 GB."""


@dataclass(frozen=True)
class Images:
    """Labelled images: `images` uint8 [n, C, H, W], `labels` int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Images":
        return Images(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> "Images":
        return Images(self.images.to(device), self.labels.to(device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, pixels and labels, hexadecimal: equal digests are equal sets in equal order."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a compressed `.npz` with the arrays `images` and `labels`."""
        np.savez_compressed(path, images=self.images.cpu().numpy(), labels=self.labels.cpu().numpy())

    @classmethod
    def read(cls, path: Path) -> "Images":
        """What `save` wrote. Raises ValueError for another file, and for one that would take more than MOST_BYTES."""
        content = io.BytesIO(path.read_bytes())
        try:
            with zipfile.ZipFile(content) as file:
                shapes = [_npy_shape(file, name, kind) for name, kind in (("images", np.uint8), ("labels", np.int64))]
            if len(shapes[0]) != 4 or shapes[1] != shapes[0][:1]:
                raise ValueError(f"no set of images and their labels: arrays of {shapes[0]} and {shapes[1]}")
            content.seek(0)
            with np.load(content, allow_pickle=False) as arrays:
                found = cls(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]))
            if len(found) and found.labels.min() < 0:
                raise ValueError(f"a label is {int(found.labels.min())}")
            return found
        except Exception as error:  # of a damaged file zipfile and numpy raise more than they say
            raise ValueError(f"{path.name} is no whole sample set: {error}") from error


class ByLabel:
    """A set of images from which those with a label are drawn."""

    def __init__(self, images: Images) -> None:
        self.images, self.order = images.images, images.labels.argsort(stable=True)
        self.counts = torch.bincount(images.labels)

    def choose(self, labels: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """For each of `labels` [n] an image with it, by `unit`, U[0, 1) [n]; and whether there is one, bool [n]."""
        known = labels.clamp(max=len(self.counts) - 1)
        counts, ends = self.counts[known], self.counts.cumsum(0)[known]
        place = ends - counts + (unit * counts).long().clamp(max=counts - 1)
        return self.images[self.order[place.clamp(min=0)]], (counts > 0) & (known == labels)


@dataclass(frozen=True)
class ImageShape:
    """What a method must know of the data: image size, number of classes, and by what moves there may be more."""

    channels: int
    height: int
    width: int
    num_classes: int
    moves: Moves = "rotate"
    """the small moves that keep what such an image shows"""


@dataclass(frozen=True)
class Source:
    """All images of a data set, before they are split by a seed; `validation` where it has one of its own."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    validation: Images | None = None
    notes: tuple[str, ...] = ()


def _npy_shape(file: zipfile.ZipFile, name: str, kind: type) -> tuple[int, ...]:
    """The shape of an array of an npz, of whose content the header alone is unpacked: it is as long as that says."""
    about = file.getinfo(f"{name}.npy")
    with file.open(about) as content:
        major, _ = np.lib.format.read_magic(content)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(content)
        length = math.prod(shape) * dtype.itemsize
        if dtype != kind or min(shape, default=0) < 0 or about.file_size != content.tell() + length:
            raise ValueError(f"{name} are of another kind, {dtype} {shape}, or not whole")
    if length > MOST_BYTES:
        raise ValueError(f"{name} are {length:,} bytes, of at most {MOST_BYTES:,}")
    return shape


def to_float(images: Tensor) -> Tensor:
    """uint8 0 … 255 -> float32 [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Float [-1, 1] -> uint8 0 … 255, rounded; values outside are clamped."""
    return images.float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)
