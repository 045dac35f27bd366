"""Folders of a reader's own images: what is read from them, and what is said about those that cannot be."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from harness import classifier, data, evaluation, folders, identities, pictures
from harness.data import Dataset, Images
from harness.errors import InputError
from harness.methods import vae
from harness.settings import Single
from harness.trials import Plan

COUNTS = {"ant": 60, "bee": 40, "cat": 22}


def pixels(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def make(path: Path, counts: dict[str, int] = COUNTS, colour: bool = True, first: int = 0) -> Path:
    """A folder of noise, a class each; the images are 12 x 16 pixels, and no two alike."""
    for name, count in counts.items():
        (path / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = (12, 16, 3) if colour else (12, 16)
            Image.fromarray(pixels(first + number, *shape) // (1 + len(name))).save(path / name / f"{number:03}.png")
        first += count
    return path


def load(path: Path, **how: int | bool) -> Dataset:
    return data.load(f"folder:{path}", **{"image_size": 8, **how})  # type: ignore[arg-type]


def rows(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("own") / "my animals!")


# --- Splits ----------------------------------------------------------------------------------------------


def test_a_fifth_of_each_class_is_the_test_split(animals: Path) -> None:
    first, second = (load(animals, seed=seed) for seed in (0, 1))
    assert first.num_classes == 3
    assert first.train.labels.bincount().tolist() == [48, 32, 18]
    assert first.test.labels.bincount().tolist() == [12, 8, 4]
    assert first.test.digest == second.test.digest
    assert first.real.digest != second.real.digest
    assert not rows(first.train) & rows(first.test)
    assert not rows(first.real) & rows(first.validation)
    assert len(load(animals, with_test=False).test) == 0


def test_published_splits_are_kept_and_the_test_files_not_opened_unasked(tmp_path: Path) -> None:
    make(tmp_path / "train", {"ant": 30, "bee": 12})
    make(tmp_path / "test", {"ant": 15, "bee": 10}, first=100)
    broken = tmp_path / "test/bee/007.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    training = load(tmp_path, with_test=False)
    assert (len(training.train), len(training.test)) == (42, 0)
    with pytest.raises(InputError, match=r"test/bee/007.png cannot be read as an image"):
        load(tmp_path)
    broken.write_bytes(whole)
    both = load(tmp_path)
    assert both.train.digest == training.train.digest
    assert both.test.labels.bincount().tolist() == [15, 10]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(make(tmp_path, {"boat": 60, "train": 60})).num_classes == 2


# --- Pixels ----------------------------------------------------------------------------------------------


def test_images_are_resized_as_pil_does_it_and_the_middle_is_kept(tmp_path: Path) -> None:
    """16 x 12 pixels to a height of 8: PIL's antialiased bilinear filter to 10 x 8, and of that the middle."""
    make(tmp_path)
    images, labels = folders.read(tmp_path, 8)
    assert (images.shape, images.dtype) == ((122, 3, 8, 8), torch.uint8)
    assert labels.tolist() == [0] * 60 + [1] * 40 + [2] * 22
    with Image.open(tmp_path / "bee/005.png") as file:
        resized = np.asarray(file.resize((int(8 * 16 / 12), 8), Image.Resampling.BILINEAR))
    assert np.array_equal(images[65].permute(1, 2, 0).numpy(), resized[:, 1:9])


def test_without_a_size_images_have_32_pixels_a_side(animals: Path) -> None:
    assert data.load(f"folder:{animals}").real.shape == (3, 32, 32)


def grey(values: np.ndarray, form: str) -> Image.Image:
    if form == "16 bits":
        return Image.fromarray(values.astype(np.uint16) * 257)
    return Image.fromarray(values).convert({"palette": "P", "equal channels": "RGB", "alpha": "LA"}.get(form, "L"))


@pytest.mark.parametrize("form", ["8 bits", "16 bits", "palette", "equal channels", "alpha"])
def test_what_is_grey_has_one_channel_in_whatever_form(form: str, tmp_path: Path) -> None:
    values = pixels(0, 12, 12)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        grey(values, form).save(tmp_path / name / "1.png")
    images, _ = folders.read(tmp_path, 12)
    assert images.shape == (2, 1, 12, 12)
    assert np.array_equal(images[0, 0].numpy(), values)
    Image.fromarray(pixels(0, 12, 12, 3)).save(tmp_path / "b" / "2.png")  # one of three in colour
    folders.read.cache_clear()
    images, _ = folders.read(tmp_path, 12)
    assert images.shape == (3, 3, 12, 12)
    assert np.array_equal(images[0, 2].numpy(), values)


def test_black_and_white_is_grey(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels(1, 8, 8)).convert("1").save(tmp_path / name / "1.png")
    images, _ = folders.read(tmp_path, 8)
    assert images.shape == (2, 1, 8, 8)
    assert set(images.unique().tolist()) == {0, 255}


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    image, exif = Image.fromarray(pixels(2, 8, 8, 3)), Image.Exif()
    exif[0x0112] = 6  # its right side is where the top is
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png", exif=exif)
    images, _ = folders.read(tmp_path, 8)
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(image.rotate(-90)))


def test_grey_test_images_of_a_colour_set_have_three_channels(tmp_path: Path) -> None:
    make(tmp_path / "train", {"a": 20, "b": 20})
    make(tmp_path / "test", {"a": 10, "b": 10}, colour=False)
    found = load(tmp_path).test.images
    assert found.shape == (20, 3, 8, 8)
    assert torch.equal(found[:, 0], found[:, 2])


# --- Names and identities --------------------------------------------------------------------------------


def test_the_name_is_safe_and_stands_for_the_images(animals: Path, tmp_path: Path) -> None:
    name = load(animals).name
    assert re.fullmatch(r"my-animals-[0-9a-f]{8}", name)
    assert data.name_of(f"folder:{animals}", 8) == Single(dataset=f"folder:{animals}", image_size=8).data_name == name
    assert load(shutil.copytree(animals, tmp_path / "my animals!")).name == name
    assert load(animals, image_size=12).name != name
    assert load(make(tmp_path / "else" / "my animals!", first=1000)).name not in (name, "my-animals")
    assert Plan(method="vae", dataset=f"folder:{animals}", image_size=8).study == f"vae-{name}"
    assert data.name_of("mnist", None) == "mnist"


def test_figures_are_not_shared_where_other_images_gave_them_but_weights_are(tmp_path: Path) -> None:
    """The same training images, another test split."""
    make(tmp_path / "train", {"a": 20, "b": 20})
    make(tmp_path / "test", {"a": 10, "b": 10}, first=100)
    one = load(tmp_path)
    make(tmp_path / "test", {"a": 10, "b": 10}, first=200)
    folders.read.cache_clear()
    other = load(tmp_path)
    assert one.name == other.name
    accelerator = Accelerator(cpu=True)
    first, second = (
        identities.of_generator("vae", vae.Config(), Single(), dataset, accelerator) for dataset in (one, other)
    )
    assert first != second
    assert identities.of_training(first) == identities.of_training(second)


# --- Few and unequal classes -----------------------------------------------------------------------------


def test_few_unequal_colour_classes_are_judged_and_shown(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "JUDGE", classifier.Config(steps=5, batch_size=16))
    dataset, accelerator = load(animals), Accelerator(cpu=True)
    judge = evaluation.restore_judge(dataset, evaluation.train_judge(dataset).state_dict())
    samples = dataset.real[dataset.real.labels < 2]  # of the third class there is none
    figures = evaluation.conditional_accuracy(judge, samples, 3, accelerator)
    assert "samples/conditional_accuracy_class_2" not in figures
    figures |= evaluation.quality(judge, samples, dataset, seed=0)
    assert all(np.isfinite(list(figures.values())))
    assert figures["floor/diversity"] > 0 == figures["quality/diversity"]
    matrix = classifier.confusion_matrix(classifier.predict(judge, dataset.test.images), dataset.test.labels, 3)
    assert matrix.sum(1).tolist() == [12, 8, 4]
    pictures.confusion(matrix)
    assert pictures.grid(dataset.test.images[:7], columns=3).shape == (3 * 9 * 2, 3 * 9 * 2, 3)


# --- What is refused -------------------------------------------------------------------------------------


def wrong(change: Callable[[Path], object], message: str, **how: int) -> object:
    return pytest.param(change, message, how, id=message)


def spoil(path: Path, content: bytes) -> None:
    (path / "bee" / "003.png").write_bytes(content)


def save_floats(path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(path / "bee" / "x.tiff")


@pytest.mark.parametrize(
    ("change", "message", "how"),
    [
        wrong(shutil.rmtree, "there is no folder"),
        wrong(lambda path: [shutil.rmtree(path / name) for name in COUNTS], "Couldn't find any class folder"),
        wrong(lambda path: [shutil.rmtree(path / name) for name in ("ant", "bee")], "has one class alone, cat"),
        wrong(lambda path: (path / "dog").mkdir(), "Found no valid file for the classes dog"),
        wrong(lambda path: spoil(path, b"no image"), "bee/003.png cannot be read as an image: cannot identify"),
        wrong(lambda path: spoil(path, b""), "bee/003.png cannot be read as an image"),
        wrong(lambda path: spoil(path, (path / "ant/001.png").read_bytes()[:200]), "bee/003.png cannot be read"),
        wrong(save_floats, "x.tiff cannot be read as an image: its pixels are real numbers"),
        wrong(lambda path: make(path / "train"), "has class folders in train alone: it needs both train and test"),
        wrong(lambda path: make(path / "test"), "has class folders in test alone"),
        wrong(
            lambda path: (make(path / "train"), make(path / "test", {"ant": 20, "dog": 20})),
            "train and test have different classes, such as bee",
        ),
        wrong(
            lambda path: (make(path / "train", colour=False), make(path / "test")),
            "there are colour images in test, but only grey ones in train",
        ),
        wrong(lambda path: (make(path / "train"), make(path / "test", dict.fromkeys(COUNTS, 5))), "has 15 test images"),
        wrong(lambda path: make(path, {"dog": 1}), "dog has one image; each class needs at least 2"),
        wrong(lambda path: shutil.rmtree(path / "ant"), "has 12 test images; at least 20 are needed"),
        wrong(lambda path: None, "--image-size 30 must be a multiple of 4, at least 8", image_size=30),
        wrong(lambda path: None, "--image-size 4 must be", image_size=4),
        wrong(lambda path: None, "--image-size 0 must be", image_size=0),
        wrong(lambda path: None, "--n-real 99 cannot be taken from it-", n_real=99),
    ],
)
def test_what_cannot_be_read_is_one_line(
    change: Callable[[Path], object], message: str, how: dict[str, int], animals: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(animals, tmp_path / "it")
    change(path)
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        load(path, **how)
    assert "\n" not in str(refused.value)


def test_published_sets_have_a_size_of_their_own() -> None:
    with pytest.raises(InputError, match="--image-size is for folder:PATH; the images of digits have a size"):
        data.load("digits", image_size=32)
