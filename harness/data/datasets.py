"""Data sets as tensors: loaded once, moved to the device once, indexed per step.

A set is `images` (uint8 [n, C, H, W]) and `labels` (int64 [n]). Models see `to_float(images)` in [-1, 1].
"""

import dataclasses
import gzip
import hashlib
import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data.folders import Folder, Pixels, Seen
from harness.errors import InputError
from harness.seeding import generator, permutation

# md5 of the four uncompressed files as published; torchvision checks only the archives that it downloads.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CHECKSUMS = {"mnist": MNIST_FILES, "fashion-mnist": FASHION_FILES}
PACKAGED = Path("/usr/share/datasets")
"""Where Debian's packages put data sets: dataset-fashion-mnist four gzipped files in fashion-mnist/."""
IDX_DATASETS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
DATASETS = ("digits", *IDX_DATASETS)
NAMES = {
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
"""What the classes of a published set are called, where they are no digits."""
FOLDER = "folder:"
IMAGE_SIZE = 32
TEST_SHARE = 0.2
MIN_TEST = 20  # samples are held against one half of the test images
MOST_BYTES = 4 * 2**30
"""Of a sample set's images, unpacked: a million of 32 x 32 pixels in colour are 3 GB."""
VALIDATION_SHARE = 1 / 12  # 5,000 of MNIST's 60,000


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


@dataclass(frozen=True)
class ImageShape:
    """What a method must know of the data: image size and number of classes."""

    channels: int
    height: int
    width: int
    num_classes: int


@dataclass(frozen=True)
class Source:
    """All images of a data set, before they are split by a seed; `validation` where it has one of its own."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    validation: Images | None = None
    notes: tuple[str, ...] = ()


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
    notes: tuple[str, ...] = ()
    """what a user must know of the images, a sentence each: files that were not read, images that are there twice"""
    imbalance: float | None = None
    """how many times as many of `real` are of the first class as of the last one, where that was asked for"""

    @property
    def title(self) -> str:
        return title(self.name, self.imbalance)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> ImageShape:
        return ImageShape(*self.train.shape, self.num_classes)

    @property
    def contents(self) -> list[str]:
        """Digests of the training and the test images where the name does not say what they are."""
        return [] if self.name in DATASETS else [self.train.digest[:16], self.test.digest[:16]]


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


def load(
    name: str = "digits",
    root: str | None = None,
    n_real: int | None = None,
    seed: int = 0,
    with_test: bool = True,
    image_size: int | None = None,
    folds: int | None = None,
    imbalance: float | None = None,
) -> Dataset:
    """Read a data set and split it, stratified by class.

    The training images are put into one stratified order, a function of `seed`: `real` is its first
    `n_real` (all but the validation images by default), `validation` its end, a twelfth of it. So a smaller
    `real` is part of a larger one. With `n_real` above eleven twelfths the validation split shrinks, and
    with all training images it is empty. A folder may have a validation split of its own. `test` is the same
    for every seed: the published one, that of a folder, or else a fixed stratified fifth. Without `with_test`
    its files are not opened and it is empty.

    `folder:PATH` is as `harness.data.folders` reads it, its images `image_size` pixels high and wide.

    With `folds` one fold of the n_real images of seed `seed // folds`, the one with number `seed % folds`, is the
    validation split, the others are `real`, and `test` is empty.

    With `imbalance` the sizes of the classes in `real` fall geometrically from the first to the last (Cui et al. 2019,
    arXiv:1901.05555, section 5.1), n_real in all.

    Raises InputError for an unknown name, missing or damaged files, and an `n_real` that cannot be had.
    """
    if folds:
        whole = load(name, root, n_real, seed // folds, False, image_size, imbalance=imbalance)
        return _fold(whole, folds, seed % folds)
    if image_size is not None and not name.startswith(FOLDER):
        raise InputError(f"--image-size is for folder:PATH; the images of {name} have a size of their own")
    if name == "digits":
        source = _digits()
    elif name in IDX_DATASETS:
        source = _idx(name, root, with_test)
    elif name.startswith(FOLDER):
        path = Path(name.removeprefix(FOLDER)).expanduser().resolve()
        source = _folder(path, IMAGE_SIZE if image_size is None else image_size, with_test)
    else:
        raise InputError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}, folder:PATH")
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
        chosen = _long_tail(train.labels, order[: len(order) - num_validation], n_real, imbalance, source)
    return Dataset(
        name=source.name,
        classes=source.classes,
        train=train,
        real=train[chosen],
        validation=train[order[len(train) - num_validation :]] if own is None else own,
        test=source.test if with_test else source.test[:0],
        notes=source.notes,
        imbalance=imbalance,
    )


def _long_tail(labels: Tensor, order: Tensor, n_real: int, imbalance: float, source: Source) -> Tensor:
    """The first of each class in `order`, as many as its place in the tail says, at least one; int64 [n_real]."""
    shares = torch.logspace(0, -1, len(source.classes), base=imbalance, dtype=torch.float64)
    sizes = (n_real * shares / shares.sum()).long().clamp(min=1)
    sizes[0] += n_real - sizes.sum()
    rank = torch.empty_like(order)
    for label, size in enumerate(sizes.tolist()):
        members = labels[order] == label
        if int(members.sum()) < size:
            most = f"{source.classes[label]} has {int(members.sum())}"
            raise InputError(f"--imbalance {imbalance:g} needs {size} images of a class, {most}; give a lower --n-real")
        rank[members] = torch.arange(int(members.sum()))
    return order[rank < sizes[labels[order]]]


def title(name: str, imbalance: float | None) -> str:
    """What tables call a data set: its name, and the imbalance of its classes where one was asked for."""
    return name if imbalance is None else f"{name}-imbalance-{imbalance:g}"


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


def stratified_order(labels: Tensor, seed: int, purpose: str) -> Tensor:
    """A random order (int64 [n]) of which every stretch holds the classes in their shares, up to one image.

    Image i of a class of k, in random order, is put at (i + u) / k for u ~ U[0, 1).
    """
    draw = generator(seed, purpose)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        rank = permutation(len(members), draw).double()
        place[members] = (rank + draw.random()) / len(members)
    return place.argsort(stable=True)


def split_order(labels: Tensor, seed: int) -> Tensor:
    """A random order (int64 [n]) whose first m images have as many of each class as for any other seed, at least one.

    Image i of a class of k, in random order, is put at i / k: seats of a parliament by Adams' method.
    """
    draw = generator(seed, "split")
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        place[members] = permutation(len(members), draw).double() / len(members)
    by_class = labels.argsort(stable=True)
    return by_class[place[by_class].argsort(stable=True)]


def _digits() -> Source:
    pixels, target = _digits_of_scikit_learn()
    images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    every = Images(images, torch.from_numpy(target).long())
    order = stratified_order(every.labels, 0, "digits/test")
    num_test = round(len(every) * TEST_SHARE)
    return Source("digits", _digit_names(10), every[order[num_test:]], every[order[:num_test]])


def _digit_names(number: int) -> tuple[str, ...]:
    return tuple(map(str, range(number)))


def _digits_of_scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    """Pixels float64 [1797, 64] in 0 … 16 and labels: what `load_digits` reads, without the seconds of its import."""
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits

        pixels, target = load_digits(return_X_y=True)
        return np.asarray(pixels), np.asarray(target)
    with gzip.open(file, "rt") as table:
        rows = np.fromstring(table.read().strip().replace("\n", ","), sep=",").reshape(-1, 65)
    return rows[:, :-1], rows[:, -1]


def _folder(path: Path, side: int, with_test: bool) -> Source:
    folder = Folder(path)
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
    notes = [*folder.notes, *whole.notes, *(note for read in others.values() for note in read.notes)]
    name = _safe_name(path, train, whole.seen)
    return Source(name, folder.classes, train, test, parts.get("validation"), (*notes, *_repeated(placed)))


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


def _idx(name: str, root: str | None, with_test: bool) -> Source:
    """MNIST and its kin: of the data folder or a package of the system, else downloaded by torchvision."""
    root, packaged, ending = root or os.environ.get("HARNESS_DATA_ROOT"), PACKAGED / name, ""
    folder = Path(root).expanduser() / IDX_DATASETS[name] / "raw" if root else packaged
    if not all((folder / file).is_file() for file in MNIST_FILES):
        if all((packaged / f"{file}.gz").is_file() for file in MNIST_FILES):
            folder, ending = packaged, ".gz"
        elif not root:
            raise InputError(f"{name} needs a folder for its files: give --data-root or set HARNESS_DATA_ROOT")
        else:
            _download(name, str(Path(root).expanduser()), folder)
    known = CHECKSUMS.get(name, {})

    def part(prefix: str) -> Images:
        files = [file for file in MNIST_FILES if file.startswith(prefix)]
        images, labels = (_read_idx(folder / f"{file}{ending}", known.get(file)) for file in files)
        return Images(images.unsqueeze(1), labels.long())

    train = part("train")
    test = part("t10k") if with_test else train[:0]
    return Source(name, NAMES.get(name, _digit_names(int(train.labels.max()) + 1)), train, test)


def _download(name: str, root: str, raw: Path) -> None:
    from torchvision import datasets  # whose import takes seconds

    try:
        getattr(datasets, IDX_DATASETS[name])(root, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name} is not in {raw} and could not be downloaded ({str(error).splitlines()[0]}); "
            f"put its four idx files there or point --data-root at a folder that has them"
        ) from error


def _read_idx(path: Path, md5: str | None) -> Tensor:
    """The numbers in a file, uint8 [n, H, W] or, of labels, [n].

    Raises InputError where its magic number, length or (where known) content is not that of the published one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}; fetch the file again") from error
    num_dims = 3 if "images" in path.name else 1
    magic = 0x0800 + num_dims  # idx: unsigned bytes, number of dimensions
    header = 4 + 4 * num_dims
    found = int.from_bytes(content[:4])
    if found != magic:
        raise InputError(f"{path} is damaged: its magic number is {found}, not {magic}; fetch the file again")
    dims = np.frombuffer(content[4:header], ">u4").tolist() if len(content) >= header else [0]
    expected = header + math.prod(dims)
    if len(content) != expected or len(content) <= header:
        raise InputError(
            f"{path} is damaged: it has {len(content)} bytes, its header says {expected}; fetch the file again"
        )
    if md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise InputError(f"{path} is damaged: its checksum is not that of the published file; fetch it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(dims).copy())
