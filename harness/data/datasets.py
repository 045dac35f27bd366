"""A data set and its splits: read once, moved to the device once, indexed per step."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from harness.bounds import Moves
from harness.data import published
from harness.data.folders import Folder, Pixels
from harness.data.images import Images, ImageShape, Source
from harness.data.moves import usual_moves
from harness.data.pixels import Seen
from harness.data.splits import TEST_SHARE, long_tail, split_order, stratified_order
from harness.errors import InputError

FOLDER = "folder:"
LARGEST, SMALLEST = 32, 8
"""Height and width at which the images of a folder are shown, in pixels, where nobody says another."""
MIN_TEST = 20  # samples are held against one half of the test images
VALIDATION_SHARE = 1 / 12  # 5,000 of MNIST's 60,000


@dataclass(frozen=True)
class Dataset:
    """The splits of one data set for one seed; `train` is all of its training images, of which `real` are some.

    `real` is what a generator and a classifier may see, `validation` is for selection, `test` for the table.
    """

    name: str
    classes: tuple[str, ...]
    """their names, by label"""
    train: Images
    real: Images
    validation: Images
    test: Images
    n_real: int
    """how many real images it is of, as asked: all of `real`, and in a cross-validation the held out fold besides"""
    notes: tuple[str, ...] = ()
    """what a user must know of the images, a sentence each: files that were not read, images that are there twice"""
    imbalance: float | None = None
    """how many times as many of `real` are of the first class as of the last one, where that was asked for"""
    asked_moves: Moves | None = None
    """the small moves of its images, where they were asked for"""

    @property
    def title(self) -> str:
        return title(self.name, self.imbalance, self.asked_moves)

    @property
    def moves(self) -> Moves:
        """The small moves of its images: as asked, or what is usual for things (in colour or known) and for others."""
        return self.asked_moves or ("reflect" if self.name in published.THINGS else usual_moves(self.train.shape[0]))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> ImageShape:
        return ImageShape(*self.train.shape, self.num_classes, self.moves)

    @property
    def unusual_moves(self) -> dict[str, str]:
        """The small moves where the images' colours do not say them: what identities have beside the images."""
        return {"moves": self.moves} if self.moves != usual_moves(self.train.shape[0]) else {}

    @property
    def contents(self) -> list[str]:
        """Digests of the training and the test images where the name does not say what they are."""
        return [] if self.name in published.DATASETS else [self.train.digest[:16], self.test.digest[:16]]


def load(
    name: str = "digits",
    root: str | None = None,
    n_real: int | None = None,
    seed: int = 0,
    with_test: bool = True,
    image_size: int | None = None,
    folds: int | None = None,
    imbalance: float | None = None,
    asked_moves: Moves | None = None,
) -> Dataset:
    """Read a data set and split it, stratified by class.

    The training images are put into one stratified order, a function of `seed`: `real` is its first
    `n_real` (all but the validation images by default), `validation` its end, a twelfth of it. So a smaller
    `real` is part of a larger one. With `n_real` above eleven twelfths the validation split shrinks, and
    with all training images it is empty. A folder may have a validation split of its own. `test` is the same
    for every seed: the published one, that of a folder, or else a fixed stratified fifth. Without `with_test`
    its files are not opened and it is empty.

    `folder:PATH` is as `harness.data.folders` reads it, its images `image_size` pixels high and wide, by default as the
    usual one's shorter side is, 32 at most.

    With `folds` one fold of the n_real images of seed `seed // folds`, the one with number `seed % folds`, is the
    validation split, the others are `real`, and `test` is empty.

    With `imbalance` the sizes of the classes in `real` fall geometrically from the first to the last (Cui et al. 2019,
    arXiv:1901.05555, section 5.1), n_real in all.

    Raises InputError for an unknown name, missing or damaged files, and an `n_real` that cannot be had.
    """
    if folds:
        whole = load(name, root, n_real, seed // folds, False, image_size, imbalance=imbalance, asked_moves=asked_moves)
        return _fold(whole, folds, seed % folds)
    if image_size is not None and not name.startswith(FOLDER):
        raise InputError(f"--image-size is for folder:PATH; the images of {name} have a size of their own")
    if name == "digits":
        source = published.digits()
    elif name in published.IDX_DATASETS:
        source = published.idx(name, root, with_test)
    elif name.startswith(FOLDER):
        if name == FOLDER:
            raise InputError(f"{FOLDER} names no folder: an unset variable, perhaps")
        path = Path(name.removeprefix(FOLDER)).expanduser().resolve()
        source = _folder(path, image_size, with_test)
    else:
        raise InputError(f"unknown data set {name!r}; known are {', '.join(published.DATASETS)}, folder:PATH")
    train, own = source.train, source.validation
    num_validation = round(len(train) * VALIDATION_SHARE) if own is None else 0
    n_real = len(train) - num_validation if n_real is None else n_real
    if not len(source.classes) <= n_real <= len(train):
        raise InputError(
            f"--n-real {n_real} cannot be taken from {source.name}: "
            f"it has {len(train)} training images in {len(source.classes)} classes"
        )
    order = split_order(train.labels, seed)
    num_validation = min(num_validation, len(train) - n_real)
    chosen = order[:n_real]
    if imbalance:
        chosen = long_tail(train.labels, order[: len(order) - num_validation], n_real, imbalance, source)
    return Dataset(
        name=source.name,
        classes=source.classes,
        train=train,
        real=train[chosen],
        validation=train[order[len(train) - num_validation :]] if own is None else own,
        test=source.test if with_test else source.test[:0],
        n_real=n_real,
        notes=source.notes,
        imbalance=imbalance,
        asked_moves=asked_moves,
    )


def title(name: str, imbalance: float | None, asked_moves: Moves | None) -> str:
    """What tables call a data set: its name, the imbalance of its classes and its moves where they were asked for."""
    imbalanced = "" if imbalance is None else f"-imbalance-{imbalance:g}"
    return name + imbalanced + (f"-{asked_moves}" if asked_moves else "")


def _fold(dataset: Dataset, folds: int, number: int) -> Dataset:
    """One of the folds, each with its share of every class, for validation, the others as `real`."""
    labels = dataset.real.labels
    rank = torch.empty_like(labels)
    for label in labels.unique():
        members = labels == label
        rank[members] = torch.arange(int(members.sum()))
    held = rank % folds == number
    if not held.any() or held.all():
        raise InputError(f"{len(labels)} real images of {dataset.name} cannot make {folds} folds; give fewer --folds")
    return dataclasses.replace(dataset, real=dataset.real[~held], validation=dataset.real[held])


@lru_cache(maxsize=8)
def name_of(dataset: str, image_size: int | None) -> str:
    """What runs call a data set: its own name; that of a folder stands for its training images, which are read."""
    return load(dataset, with_test=False, image_size=image_size).name if dataset.startswith(FOLDER) else dataset


def _folder(path: Path, image_size: int | None, with_test: bool) -> Source:
    folder = Folder(path)
    side = image_size or _usual_side(folder)
    whole = folder.read("train", side)
    others = {
        part: folder.read(part, side, whole.seen.look)
        for part in folder.parts
        if part != "train" and (part != "test" or with_test)
    }
    train = Images(whole.images, whole.labels)
    parts = {part: _with_channels(Images(read.images, read.labels), train, path, part) for part, read in others.items()}
    part_of = ["train"] * len(train)
    if not folder.is_split:
        is_test = _a_fifth(train, folder)
        part_of = ["test" if test else "train" for test in is_test]
        train, parts["test"] = train[~is_test], train[is_test]
    test = parts.get("test", train[:0])
    if with_test and len(test) < MIN_TEST:
        raise InputError(f"{path} has {len(test)} test images; at least {MIN_TEST} are needed to measure anything")
    placed = [*zip([whole] * len(part_of), range(len(part_of)), part_of, strict=True)]
    placed += [(read, place, part) for part, read in others.items() for place in range(len(read.files))]
    notes = [
        *(() if image_size else _shrunk(folder, side)),
        *folder.notes,
        *whole.notes,
        *(note for read in others.values() for note in read.notes),
    ]
    name = _safe_name(path, train, whole.seen)
    return Source(name, folder.classes, train, test, parts.get("validation"), (*notes, *_repeated(placed)))


def _usual_side(folder: Folder) -> int:
    """The usual image's shorter side, as far as it is not too large for a start; a multiple of 4."""
    return min(LARGEST, max(SMALLEST, min(folder.usual_size) // 4 * 4))


def _shrunk(folder: Folder, side: int) -> Iterator[str]:
    """A note of the size that was chosen for images, where it is not their own."""
    width, height = folder.usual_size
    if (width, height) != (side, side):
        yield f"its images, {width} x {height} pixels as a rule, are shown at {side} x {side} (--image-size)"


def _with_channels(images: Images, train: Images, path: Path, part: str) -> Images:
    """The images of another part, grey ones in the colours of a training set that is not."""
    if images.shape[0] > train.shape[0]:
        raise InputError(f"{path}: there are colour images in {part}, but only grey ones in train")
    return Images(images.images.expand(-1, train.shape[0], -1, -1), images.labels)


def _repeated(placed: Iterable[tuple[Pixels, int, str]]) -> Iterator[str]:
    """A note of images that are in two classes, or in two parts, whose figures count what was learned by heart."""
    first: dict[bytes, tuple[str, tuple[int, str]]] = {}
    pairs = []
    for pixels, place, part in placed:
        own = pixels.files[place], (int(pixels.labels[place]), part)
        known = first.setdefault(hashlib.blake2b(pixels.images[place].numpy().data).digest(), own)
        if known[1] != own[1]:
            pairs.append((known[0], own[0]))
    if pairs:
        one, other = pairs[0]
        yield (
            f"{len(pairs)} images are in two classes, or both in training and in another part, such as {one} and "
            f"{other}: no figure can be trusted before one of each is removed"
        )


def _a_fifth(every: Images, folder: Folder) -> Tensor:
    """Which images are for the test, bool [n]: the same always; of each class at least one is, and one is not."""
    order = stratified_order(every.labels, 0, "folder/test")
    is_test = torch.zeros(len(every), dtype=torch.bool)
    for label, name in enumerate(folder.classes):
        members = order[every.labels[order] == label]
        if len(members) < 2:
            raise InputError(
                f"{folder.path / name} has one image; each class needs at least 2, of which one is for the test"
            )
        is_test[members[: max(1, round(len(members) * TEST_SHARE))]] = True
    return is_test


def _safe_name(path: Path, train: Images, seen: Seen) -> str:
    """The folder's name and eight digits of what is in it, in letters that file names and MLflow's aliases may have."""
    name = re.sub("[^A-Za-z0-9]+", "-", path.name)[:40].strip("-") or "folder"
    ground = {0: "-on-black", 255: "-on-white"}[seen.look.background] if seen.opaque else ""
    return f"{name}{ground}-{train.digest[:8]}"
