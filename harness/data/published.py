"""Data sets that others have published: scikit-learn's digits, MNIST and its kin."""

import functools
import gzip
import hashlib
import math
import os
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data.images import Images, Source
from harness.data.splits import TEST_SHARE, stratified_order
from harness.errors import InputError

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
THINGS = ("fashion-mnist",)
"""Those whose grey images have no side: a reflected shoe is a shoe."""
NAMES = {
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
"""What the classes of a published set are called, where they are no digits."""


def digits() -> Source:
    pixels, target = digits_of_scikit_learn()
    images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    every = Images(images, torch.from_numpy(target).long())
    order = stratified_order(every.labels, 0, "digits/test")
    num_test = round(len(every) * TEST_SHARE)
    return Source("digits", _digit_names(10), every[order[num_test:]], every[order[:num_test]])


def _digit_names(number: int) -> tuple[str, ...]:
    return tuple(map(str, range(number)))


@functools.cache
def digits_of_scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [1797, 64] in 0 … 16 and labels, uint8: what `load_digits` reads, without the seconds of its import."""
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits

        pixels, target = load_digits(return_X_y=True)
        return np.asarray(pixels, np.uint8), np.asarray(target, np.uint8)
    with gzip.open(file, "rt") as table:
        rows = np.fromstring(table.read().strip().replace("\n", ","), dtype=np.uint8, sep=",").reshape(-1, 65)
    return rows[:, :-1], rows[:, -1]


def idx(name: str, root: str | None, with_test: bool) -> Source:
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
