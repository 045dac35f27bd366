"""Folders of images, a class each, as people have them; as tensors of one size.

PATH/cat/1.png                                  a fifth of each class is put aside for the test
PATH/train/cat/1.png  PATH/test/cat/2.png       and PATH/val/…, where there is one; spelt as SPLITS has it
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import stat
import sys
from collections import Counter
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

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}  # fmt: skip
"""What a folder with a part of the images may be called, in any case."""
MANY = 2000
"""Images from which on several processes read, the reading is announced, and what was read is kept in outputs/cache."""
VERSION = 1
"""of what is kept: another one where other pixels come of the same files"""
LINKS = "links or devices"
"""What is no file of the folder itself, and is not read."""
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


@dataclass(frozen=True)
class Pixels:
    """The images of a part: uint8 [n, C, side, side], C 1 where all are grey, else 3, and their labels int64 [n]."""

    images: Tensor
    labels: Tensor
    files: tuple[str, ...]
    seen: Seen
    notes: tuple[str, ...] = ()
    """what a user must know of the files that were not read, a sentence each"""


# --- Which files -----------------------------------------------------------------------------------------


class Folder:
    """A folder with classes of images, whole or in parts."""

    def __init__(self, path: Path) -> None:
        """Raises InputError for what is no folder, for parts that do not fit together, and for classes that differ."""
        if not path.is_dir():
            raise InputError(f"there is no folder {path}; --dataset folder:PATH takes one with a folder for each class")
        self.path, self.parts = path, _parts(path)
        self.classes = tuple(_classes(self.parts["train"]))
        if len(self.classes) < 2:
            raise InputError(
                f"{path} has {f'one class alone, {self.classes[0]}' if self.classes else 'no class folders'}; "
                "it needs a folder for each of two or more classes"
            )
        for part, place in self.parts.items():
            if differing := set(self.classes) ^ set(_classes(place)):
                raise InputError(f"{path}: {self.parts['train'].name} and {self.parts[part].name} have different "
                                 f"classes, such as {min(differing)}")  # fmt: skip

    @property
    def is_split(self) -> bool:
        return "test" in self.parts

    def read(self, part: str, side: int, look: Look | None = None) -> Pixels:
        """The images of a part ("train" is the whole where there are no parts), each class's in the order of names.

        The shorter side of each image is resized to `side`, antialiased, and the middle cut out of the longer one.
        Without a look it is chosen for these images. Raises InputError for a class without images, and for a file
        that is no image.
        """
        return _read(self.parts[part], self.classes, side, look)

    @property
    def notes(self) -> Iterator[str]:
        """A note of folders beside the parts, and of images beside the class folders: nobody reads them."""
        places = {self.path, *self.parts.values()}
        known = {*self.parts.values(), *(place / name for place in self.parts.values() for name in self.classes)}
        unread = [entry for place in sorted(places) for entry in _entries(place)
                  if entry not in known and (entry.is_dir() or _is_image(entry.name))]  # fmt: skip
        if unread:
            yield f"{len(unread)} folders or images are in no class and were not read, such as {unread[0]}"


def _parts(path: Path) -> dict[str, Path]:
    """The parts by their names in SPLITS, or the whole as `train`.

    A class may be called so as well: then there are images in its folder, not classes.
    """
    found: dict[str, Path] = {}
    for entry in _entries(path):
        part = next((part for part, names in SPLITS.items() if entry.name.lower() in names), None)
        if part and _is_folder(entry) and _classes(entry):
            if part in found:
                raise InputError(f"{path} has two folders of the same part, {found[part].name} and {entry.name}")
            found[part] = entry
    if found and not {"train", "test"} <= set(found):
        names = " and ".join(place.name for place in found.values())
        raise InputError(f"{path} has class folders in {names} alone: it needs both train and test, or no such folder")
    return found or {"train": path}


def _classes(path: Path) -> list[str]:
    """The names of the class folders, `2` before `10`; a class's label is its place among them."""
    names = [entry.name for entry in _entries(path) if _is_folder(entry)]
    return sorted(names, key=lambda name: [(0, int(part), "") if part.isdecimal() else (1, 0, part)
                                           for part in re.split(r"(\d+)", name) if part])  # fmt: skip


def _entries(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if not _is_hidden(entry.name))


def _is_folder(entry: Path) -> bool:
    """Whether it is one itself: a link may lead out of the data set, in a circle, or to images of another part."""
    return entry.is_dir() and not entry.is_symlink()


def _is_hidden(name: str) -> bool:
    """What systems and programs leave in folders: .DS_Store, .ipynb_checkpoints, ._1.png, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _endings()


@functools.lru_cache(maxsize=1)
def _endings() -> set[str]:
    """Of the files that Pillow reads."""
    from PIL import Image

    Image.init()
    return {ending for ending, form in Image.registered_extensions().items() if form in Image.OPEN}


def _files(path: Path, classes: Iterable[str]) -> tuple[list[list[str]], list[str]]:
    """Of each class the images below its folder, by name, and a note of the other files."""
    images, others = [], Counter[str]()
    for name in classes:
        own: list[str] = []
        for folder, below, files in os.walk(path / name):
            below[:] = sorted(each for each in below if not _is_hidden(each))
            for file in files:
                if _is_hidden(file):
                    continue
                if not stat.S_ISREG(os.lstat(os.path.join(folder, file)).st_mode):
                    others[LINKS] += 1
                elif _is_image(file):
                    own.append(os.path.join(folder, file))
                else:
                    others[os.path.splitext(file)[1].lower() or "no ending"] += 1
        if not own:
            links = f"; its {others[LINKS]} {LINKS} are not followed" if others[LINKS] else ""
            raise InputError(f"{path / name} has no image that can be read; each class needs some{links}")
        images.append(sorted(own))
    counted = ", ".join(f"{number} {ending}" for ending, number in others.most_common())
    return images, [f"{path}: {others.total()} files are no images and were not read ({counted})"] if others else []


# --- Their pixels ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _read(path: Path, classes: tuple[str, ...], side: int, look: Look | None) -> Pixels:
    by_class, notes = _files(path, classes)
    files = [file for own in by_class for file in own]
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(own) for own in by_class]))
    images, seen = _kept(path, files, side, look or Look())
    if look is None and seen != Seen() and seen.look != Look():
        images, _ = _kept(path, files, side, seen.look)
    return Pixels(images, labels, tuple(files), seen, tuple(notes))


def _kept(path: Path, files: list[str], side: int, look: Look) -> tuple[Tensor, Seen]:
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
