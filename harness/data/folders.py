"""Folders of images, a class each, as people have them; as tensors of one size.

PATH/cat/1.png                                  a fifth of each class is put aside for the test
PATH/train/cat/1.png  PATH/test/cat/2.png       and PATH/val/…, where there is one; spelt as SPLITS has it
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.data import pixels
from harness.data.pixels import Look, Seen
from harness.errors import InputError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}  # fmt: skip
"""What a folder with a part of the images may be called, in any case."""
SOME = 16
"""Images of each class whose size is looked at."""
LINKS = "links or devices"
"""What is no file of the folder itself, and is not read."""


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

    @functools.cached_property
    def usual_size(self) -> tuple[int, int]:
        """Width and height (pixels) of the usual training image: the medians over some of each class."""
        by_class, _ = _files(self.parts["train"], self.classes)
        return pixels.usual_size([file for own in by_class for file in own[:: -(-len(own) // SOME)]])

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
    return images, [f"{path}: not read, since no images: {counted}"] if others else []


# --- Their pixels ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _read(path: Path, classes: tuple[str, ...], side: int, look: Look | None) -> Pixels:
    by_class, notes = _files(path, classes)
    files = [file for own in by_class for file in own]
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(own) for own in by_class]))
    images, seen = pixels.kept(path, files, side, look or Look())
    if look is None and seen != Seen() and seen.look != Look():
        images, _ = pixels.kept(path, files, side, seen.look)
    return Pixels(images, labels, tuple(files), seen, tuple(notes))
