"""Splits, digests, and what is said about files that cannot be read."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from harness.data import datasets, published
from harness.data.images import Images, to_float, to_uint8
from harness.errors import InputError


def rows(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits", n_real=500, seed=3)


def test_digits_are_the_real_ones(digits: datasets.Dataset) -> None:
    assert len(digits.train) + len(digits.test) == 1797
    assert digits.train.shape == (1, 8, 8)
    assert digits.num_classes == 10
    assert digits.train.images.dtype == torch.uint8
    assert int(digits.train.images.max()) == 255
    # The UCI set's own class counts.
    labels = torch.cat([digits.train.labels, digits.test.labels])
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_read_as_scikit_learn_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, target = published.digits_of_scikit_learn()
    monkeypatch.setattr(published, "find_spec", lambda _: None)  # an installation that is no folder of files
    published.digits_of_scikit_learn.cache_clear()
    expected = published.digits_of_scikit_learn()
    assert np.array_equal(pixels, expected[0])
    assert np.array_equal(target, expected[1])
    assert np.array_equal(pixels, load_digits().data)


def test_splits_are_disjoint_stratified_and_reproducible(digits: datasets.Dataset) -> None:
    parts = [digits.real, digits.validation, digits.test]
    assert [len(part) for part in parts] == [500, 120, 359]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not rows(parts[one]) & rows(parts[other])
    for part in (*parts, digits.real[slice(0, 100)]):
        share = part.labels.bincount(minlength=10) / len(part)
        expected = digits.train.labels.bincount() / len(digits.train)
        assert ((share - expected).abs() * len(part)).max() < 1.5
    again = datasets.load("digits", n_real=500, seed=3)
    assert again.real.digest == digits.real.digest
    other = datasets.load("digits", n_real=500, seed=4)
    assert other.real.digest != digits.real.digest
    assert other.test.digest == digits.test.digest


def test_a_smaller_set_is_part_of_a_larger_one(digits: datasets.Dataset) -> None:
    small = datasets.load("digits", n_real=100, seed=3)
    assert torch.equal(small.real.images, digits.real.images[:100])
    assert small.validation.digest == digits.validation.digest


def test_all_images_leave_no_validation() -> None:
    whole = datasets.load("digits", n_real=1438)
    assert len(whole.validation) == 0
    assert len(whole.real) == 1438


def test_the_digest_is_of_pixels_labels_and_order(digits: datasets.Dataset) -> None:
    real = digits.real
    assert Images(real.images.clone(), real.labels.clone()).digest == real.digest
    pixels = real.images.clone()
    pixels[7, 0, 3, 3] ^= 1
    changed = [Images(pixels, real.labels), Images(real.images, real.labels.flip(0)), real[torch.arange(499, -1, -1)]]
    assert len({real.digest, *(images.digest for images in changed)}) == 4


def test_a_saved_set_is_read_back(digits: datasets.Dataset, tmp_path: Path) -> None:
    digits.test.save(tmp_path / "set.npz")
    assert Images.read(tmp_path / "set.npz").digest == digits.test.digest


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    floats = to_float(every)
    assert (float(floats.min()), float(floats.max())) == (-1.0, 1.0)
    assert torch.equal(to_uint8(floats), every)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


@pytest.mark.parametrize("n_real", [0, 9, 1439, -5])
def test_more_images_than_exist_are_refused(n_real: int) -> None:
    with pytest.raises(InputError, match=rf"--n-real {n_real} .* 1438 training images in 10 classes"):
        datasets.load("digits", n_real=n_real)


def test_unknown_data_set() -> None:
    with pytest.raises(InputError, match="unknown data set 'cifar'; known are digits, mnist"):
        datasets.load("cifar")
    with pytest.raises(InputError, match="folder: names no folder: an unset variable, perhaps"):
        datasets.load("folder:")  # which is not the folder that one is in


# --- idx files -------------------------------------------------------------------------------------------


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    """A small KMNIST in the published format."""
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part, count in (("train", 120), ("t10k", 40)):
        pixels = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = np.array([2051, count, 28, 28], dtype=">u4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(np.array([2049, count], ">u4").tobytes() + labels.tobytes())
    return raw


def test_idx_files_are_read(idx: Path) -> None:
    kmnist = datasets.load("kmnist", str(idx.parent.parent), n_real=50)
    assert kmnist.real.shape == (1, 28, 28)
    assert len(kmnist.test) == 40


def test_a_package_of_the_system_is_read_where_no_folder_is_named(idx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA_ROOT", raising=False)
    expected = datasets.load("kmnist", str(idx.parent.parent), n_real=50)
    packaged = idx.parent.parent / "packages" / "kmnist"
    packaged.mkdir(parents=True)
    for file in idx.iterdir():
        (packaged / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    monkeypatch.setattr(published, "PACKAGED", packaged.parent)
    assert datasets.load("kmnist", n_real=50).real.digest == expected.real.digest
    (packaged / "t10k-labels-idx1-ubyte.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        datasets.load("kmnist", n_real=50)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "is damaged: it has .* bytes, its header says"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "magic number is 2049, not 2051"),
        (lambda content: b"", "magic number is 0, not 2051"),
        (lambda content: content[:9], "is damaged: it has 9 bytes"),
        (gzip.compress, "magic number is"),
    ],
)
def test_damaged_files_are_named(idx: Path, damage, message: str) -> None:
    path = idx / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as refused:
        datasets.load("kmnist", str(idx.parent.parent))
    assert str(path) in str(refused.value)


def test_mnist_is_known_by_its_checksum(idx: Path) -> None:
    idx.parent.rename(idx.parent.parent / "MNIST")
    with pytest.raises(InputError, match="its checksum is not that of the published file"):
        datasets.load("mnist", str(idx.parent.parent))


def test_missing_files_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy on a port of this machine that nobody listens on: every download fails at once.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"could not be downloaded .* put its four idx files there"):
        datasets.load("fashion-mnist", str(tmp_path))


def test_a_folder_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA_ROOT", raising=False)
    with pytest.raises(InputError, match="give --data-root or set HARNESS_DATA_ROOT"):
        datasets.load("mnist")


def test_the_setting_is_used(idx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA_ROOT", str(idx.parent.parent))
    assert len(datasets.load("kmnist").test) == 40


def test_real_mnist_where_it_is_configured() -> None:
    if os.environ.get("CI") != "true" and "HARNESS_DATA_ROOT" not in os.environ:
        return  # a machine without MNIST; CI sets the folder
    mnist = datasets.load("mnist", n_real=60_000)
    assert (len(mnist.real), len(mnist.test)) == (60_000, 10_000)
    # The published class counts of the 60,000.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.real.labels.bincount().tolist() == counts


def test_folds_share_one_sets_images_and_hold_each_class_out_in_turn() -> None:
    whole = datasets.load("digits", n_real=103, seed=1)
    parts = [datasets.load("digits", n_real=103, seed=5 + number, folds=5) for number in range(5)]  # of set 1

    def rows(*sets: Images) -> list[bytes]:
        return sorted(image.numpy().tobytes() for images in sets for image in images.images)

    for part in parts:
        assert rows(part.real, part.validation) == rows(whole.real)
        assert len(part.test) == 0
        per_class = torch.bincount(part.validation.labels, minlength=10)
        assert (per_class - torch.bincount(whole.real.labels) / 5).abs().max() < 1
    assert rows(*(part.validation for part in parts)) == rows(whole.real)
    assert rows(datasets.load("digits", n_real=103, seed=0, folds=5).validation) != rows(parts[0].validation)
    with pytest.raises(InputError, match="cannot make 50 folds"):
        datasets.load("digits", n_real=10, seed=3, folds=50)


def test_the_classes_of_a_long_tail_fall_geometrically() -> None:
    tail, whole = (datasets.load("digits", n_real=300, seed=2, imbalance=of) for of in (30, None))
    counts = torch.bincount(tail.real.labels).tolist()
    assert sum(counts) == 300
    assert counts[0] / counts[-1] == pytest.approx(30, rel=0.25)  # whole images
    expected = [300 * 30 ** (-label / 9) / sum(30 ** (-other / 9) for other in range(10)) for label in range(10)]
    assert counts[1:] == [int(count) for count in expected[1:]]
    assert tail.title == "digits-imbalance-30"
    assert tail.test.digest == whole.test.digest
    assert tail.validation.digest == whole.validation.digest
    again = datasets.load("digits", n_real=300, seed=2, imbalance=30)
    assert again.real.digest == tail.real.digest
    with pytest.raises(InputError, match="--imbalance 30 needs 327 images of a class, 0 has 130"):
        datasets.load("digits", n_real=1000, imbalance=30)
