"""Image files as people have them, as pixels of one size; those of many files are kept."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harness import locks
from harness.errors import InputError
from harness.outputs import OUTPUTS

if TYPE_CHECKING:
    from PIL import Image

MANY = 2000
"""Images from which on several processes read, the reading is announced, and what was read is kept in outputs/cache."""
VERSION = 1
"""of what is kept: another one where other pixels come of the same files"""
CHUNK = 256
READING_S = 3600.0


@dataclass(frozen=True)
class Look:
    """How files become pixels where that is not said in the file: one for all images of a data set."""

    background: int = 255
    """0 or 255: what is seen through transparent pixels"""
    bits: int = 16
    """8 … 16, of images with more than 8: the brightest pixel of the training images has so many"""


@dataclass(frozen=True)
class Seen:
    """What the images of a part have in common, from which the look is chosen."""

    highest: int = 0
    """brightest pixel of the images with more than 8 bits; 0 where there are none"""
    opaque: float = 0.0
    """sum of the opacities (0 … 1) of all pixels of images that have transparent ones"""
    light: float = 0.0
    """sum over the same of opacity times lightness (0 … 1)"""

    def __add__(self, other: Seen) -> Seen:
        return Seen(max(self.highest, other.highest), self.opaque + other.opaque, self.light + other.light)

    @property
    def look(self) -> Look:
        """Dark things on white, light ones on black; of deep pixels those bits that are used."""
        bits = max(8, self.highest.bit_length()) if self.highest else Look.bits
        return Look(0 if self.light > self.opaque / 2 else 255, bits)


def usual_size(files: list[str]) -> tuple[int, int]:
    """Width and height (pixels), the medians, by the files' headers; of those that have one."""
    from PIL import Image

    sizes = []
    for path in files:
        with contextlib.suppress(Exception), Image.open(path) as file:  # a damaged one is named when it is read
            sizes.append(file.size)
    width, height = np.median(sizes or [(0, 0)], axis=0).astype(int)
    return int(width), int(height)


def kept(path: Path, files: list[str], side: int, look: Look) -> tuple[Tensor, Seen]:
    """The pixels of files; of many from outputs/cache, where the first process of this machine that reads puts them."""
    if len(files) < MANY:
        return _decoded(path, files, side, look)
    stats = (os.stat(file) for file in files)
    listed = [(os.path.relpath(file, path), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
              for file, found in zip(files, stats, strict=True)]  # fmt: skip
    key = hashlib.sha256(repr((VERSION, side, look, listed)).encode()).hexdigest()[:16]
    kept = OUTPUTS / "cache" / "images" / key
    pixels, about = kept.with_suffix(".npy"), kept.with_suffix(".json")
    with locks.held(kept.with_suffix(".lock"), READING_S):
        if not about.exists():
            images, seen = _decoded(path, files, side, look)
            np.save(pixels, images.numpy())
            about.write_text(json.dumps(vars(seen)))  # last: what has one is whole
            return images, seen
    return torch.from_numpy(np.load(pixels)), Seen(**json.loads(about.read_text()))


def _decoded(path: Path, files: list[str], side: int, look: Look) -> tuple[Tensor, Seen]:
    images = torch.empty(len(files), 3, side, side, dtype=torch.uint8)
    if len(files) >= MANY:
        print(f"reading {len(files):,} images of {path}", file=sys.stderr)
    bar = tqdm(total=len(files), desc=f"reading {path}", unit="img", delay=2, disable=None)
    seen, first = Seen(), 0
    for pixels, of_chunk in _chunks(files, side, look):
        images[first : first + len(pixels)] = pixels
        seen, first = seen + of_chunk, first + len(pixels)
        bar.update(len(pixels))
    bar.close()
    is_grey = all(bool((part == part[:, :1]).all()) for part in images.split(CHUNK))
    return images[:, :1].clone() if is_grey else images, seen


def _chunks(files: list[str], side: int, look: Look) -> Iterator[tuple[Tensor, Seen]]:
    """The files' pixels uint8 [at most CHUNK, 3, side, side], in their order; of many by as many processes as cores."""
    parts = [files[first : first + CHUNK] for first in range(0, len(files), CHUNK)]
    if len(files) < MANY:
        found: Iterable[tuple[Tensor, Seen] | str] = (_chunk(part, side, look) for part in parts)
    else:
        from dask.system import cpu_count  # of what this process may use: affinity and cgroups' limits
        from torch.utils.data import DataLoader

        decode = functools.partial(_chunk, side=side, look=look)
        found = DataLoader(parts, batch_size=None, num_workers=cpu_count(), collate_fn=decode)  # type: ignore[arg-type]
    for each in found:
        if isinstance(each, str):
            raise InputError(each)
        yield each


def _chunk(files: list[str], side: int, look: Look) -> tuple[Tensor, Seen] | str:
    """Or why a file is no image: an exception would come out of a reading process with its traceback as the message."""
    images, seen = np.empty((len(files), 3, side, side), np.uint8), Seen()
    for place, file in enumerate(files):
        try:
            pixels, of_one = _image(file, look)
        except Exception as error:  # of a damaged file PIL's readers raise more than OSError
            return f"{file} cannot be read as an image: {error}"
        images[place] = np.asarray(_fitted(pixels, side)).transpose(2, 0, 1)
        seen += of_one
    return torch.from_numpy(images), seen


def _image(path: str, look: Look) -> tuple[Image.Image, Seen]:
    """A file as RGB of 8 bits, upright, its transparent pixels over the look's background."""
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode == "F":
            raise ValueError("its pixels are real numbers of no known range")
        if image.mode.startswith("I"):  # whose conversion by PIL cuts off what is above 255
            deep = np.asarray(image).astype(np.int64).clip(0)
            if deep.max() > 65535:
                raise ValueError("its pixels have more than 16 bits")
            flat = (deep * 255.0 / (2**look.bits - 1)).round().clip(0, 255).astype(np.uint8)
            return Image.fromarray(flat).convert("RGB"), Seen(highest=int(deep.max()))
        if not image.has_transparency_data:
            return image.convert("RGB"), Seen()
        image = image.convert("RGBA")
        opacity = np.asarray(image.getchannel("A")) / 255.0
        if opacity.min() == 1:
            return image.convert("RGB"), Seen()
        lightness = np.asarray(image.convert("RGB").convert("L")) / 255.0
        ground = Image.new("RGBA", image.size, (look.background,) * 3 + (255,))
        seen = Seen(opaque=float(opacity.sum()), light=float((opacity * lightness).sum()))
        return Image.alpha_composite(ground, image).convert("RGB"), seen


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """The shorter side resized to `side`, bilinear and antialiased, and the middle of the longer one."""
    from PIL import Image

    if image.size == (side, side):
        return image
    width, height = image.size
    short = min(width, height)
    width, height = int(side * width / short), int(side * height / short)
    resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return resized.crop((left, top, left + side, top + side))
