"""Folders of a reader's own images: what is read from them, and what is said about those that cannot be."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from harness.data import datasets, folders
from harness.data.datasets import Dataset
from harness.data.images import Images
from harness.errors import InputError
from harness.evaluation import classifier, judging, quality
from harness.methods import vae
from harness.runs import exported, identities, pictures, records
from harness.runs.arms import Arm
from harness.settings import Single
from harness.studies.trials import Plan

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


def load(path: Path, **how: Any) -> Dataset:
    return datasets.load(f"folder:{path}", **{"image_size": 8, **how})  # type: ignore[arg-type]


def read(path: Path, side: int = 8) -> folders.Pixels:
    return folders.Folder(path).read("train", side)


def save(image: Image.Image, *paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


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


@pytest.mark.parametrize("names", [("Train", "Test", "Val"), ("training", "TESTING", "validation"), ("train", "test")])
def test_parts_may_be_spelt_as_the_field_does(names: tuple[str, ...], tmp_path: Path) -> None:
    for first, name in enumerate(names):
        make(tmp_path / name, {"ant": 15, "bee": 10}, first=100 * first)
    found = load(tmp_path)
    assert found.classes == ("ant", "bee")
    assert len(found.test) == 25
    assert len(found.train) == 25
    # A validation part of the folder's own leaves all training images for training.
    assert (len(found.real), len(found.validation)) == ((25, 25) if len(names) == 3 else (23, 2))
    assert not rows(found.validation) & rows(found.test)
    assert found.notes == ()


def test_of_a_rare_class_every_seed_has_the_same_number_at_least_one(tmp_path: Path) -> None:
    path = make(tmp_path, {"common": 600, "rare": 30, "rarest": 6}, colour=False)
    for n_real, expected in ((3, [1, 1, 1]), (20, [18, 1, 1]), (100, [94, 5, 1]), (466, [439, 22, 5])):
        assert {tuple(load(path, n_real=n_real, seed=seed).real.labels.bincount().tolist()) for seed in range(5)} == {
            tuple(expected)
        }


def test_classes_are_in_natural_order_and_known_by_name(tmp_path: Path) -> None:
    found = load(make(tmp_path, {str(number): 12 for number in range(12)}))
    assert found.classes == tuple(map(str, range(12)))
    assert records.params(vae.Config(), Single(), found, Accelerator(cpu=True))["classes"] == ", ".join(found.classes)


def test_a_class_is_asked_for_by_its_name_or_its_number(tmp_path: Path) -> None:
    shape = load(make(tmp_path / "images", {"2": 40, "dog": 40, "cat": 40})).image_shape
    model = vae.VAE(vae.Config(), shape)
    exported.export_generator(tmp_path / "model", "vae", model, shape, ["2", "cat", "dog"])
    restored = exported.restore_generator(tmp_path / "model")
    assert exported.labels_of(restored, ["dog", "cat", "1", "2"]) == [2, 1, 1, 0]  # a name comes before a number
    for word in ("bird", "3", "-1"):
        with pytest.raises(InputError, match=f"label {word} is no class of this generator, which draws 2, cat, dog"):
            exported.labels_of(restored, [word])


# --- What is no image, and what should not be there ------------------------------------------------------


def test_hidden_files_are_none_and_others_are_counted(animals: Path, tmp_path: Path) -> None:
    path = shutil.copytree(animals, tmp_path / "it")
    for hidden in (".ipynb_checkpoints", "__MACOSX/ant", ".hidden"):
        save(Image.new("RGB", (8, 8)), path / hidden / "a.png")
    for junk in ("ant/._000.png", "bee/.DS_Store"):
        (path / junk).write_bytes(b"junk")
    assert load(path).train.digest == load(animals).train.digest
    assert load(path).notes == ()
    for other in ("ant/notes.txt", "bee/table.csv", "bee/more.txt", "bee/README"):
        (path / other).write_text("text")
    save(Image.new("RGB", (8, 8)), path / "beside.png")
    folders._read.cache_clear()
    assert load(path).notes == (
        f"1 folders or images are in no class and were not read, such as {path}/beside.png",
        f"{path}: not read, since no images: 2 .txt, 1 .csv, 1 no ending",
    )


def test_folders_beside_the_parts_are_said(tmp_path: Path) -> None:
    for first, name in enumerate(("train", "test", "unlabelled")):
        make(tmp_path / name, {"ant": 15, "bee": 10}, first=100 * first)
    (note,) = load(tmp_path).notes
    assert note == f"1 folders or images are in no class and were not read, such as {tmp_path}/unlabelled"


@pytest.mark.parametrize("ending", ["gif", "jfif", "JPG", "bmp", "webp", "tif", "ppm"])
def test_what_pillow_reads_is_read(ending: str, tmp_path: Path) -> None:
    path = make(tmp_path, {"ant": 60, "bee": 60})
    image = Image.fromarray(pixels(7, 12, 16, 3))
    image.save(path / f"ant/new.{ending}", format="JPEG" if ending in ("jfif", "JPG") else None)
    found = load(path)
    assert len(found.train) + len(found.test) == 121
    assert found.notes == ()


def test_the_same_image_in_two_classes_or_parts_is_said(tmp_path: Path) -> None:
    make(tmp_path / "train", {"ant": 15, "bee": 10})
    make(tmp_path / "test", {"ant": 15, "bee": 10}, first=100)
    assert load(tmp_path).notes == ()
    shutil.copy(tmp_path / "train/ant/003.png", tmp_path / "train/bee/copy.png")
    shutil.copy(tmp_path / "train/ant/004.png", tmp_path / "train/ant/copy.png")  # twice in one class: no harm
    shutil.copy(tmp_path / "train/ant/005.png", tmp_path / "test/ant/copy.png")
    folders._read.cache_clear()
    (note,) = load(tmp_path).notes
    assert note.startswith("2 images are in two classes, or both in training and in another part, such as ")
    assert f"{tmp_path}/train/ant/003.png and {tmp_path}/train/bee/copy.png" in note
    assert len(load(tmp_path, with_test=False).notes) == 1


def test_a_note_is_said_once_and_is_in_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = dataclasses.replace(load(make(tmp_path)), notes=("one thing", "another"))
    records.print_notes(dataset)
    assert capsys.readouterr().err.startswith("note: one thing\nnote: another\n")
    assert records.tags("generator", "vae", dataset, 0, "cell")["data_notes"] == "one thing; another"


def test_many_images_are_read_by_several_processes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "images", {"ant": 70, "bee": 50})
    one = load(tmp_path / "images")
    assert not list(tmp_path.glob("outputs/cache/images/*"))
    monkeypatch.setattr("harness.data.pixels.MANY", 10)
    monkeypatch.setattr("harness.data.pixels.CHUNK", 16)
    assert capsys.readouterr().err == ""
    for said in (f"reading 120 images of {tmp_path}/images\n", ""):
        folders._read.cache_clear()
        many = load(tmp_path / "images")
        assert (many.train.digest, many.test.digest) == (one.train.digest, one.test.digest)
        assert capsys.readouterr().err == said
    save(Image.new("RGB", (9, 9)), tmp_path / "images/ant/000.png")  # another file, and all is read again
    folders._read.cache_clear()
    assert load(tmp_path / "images").name != one.name
    (tmp_path / "images/bee/001.png").write_bytes(b"no image")
    folders._read.cache_clear()
    with pytest.raises(InputError, match=r"bee/001.png cannot be read as an image: cannot identify"):
        load(tmp_path / "images")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(make(tmp_path, {"boat": 60, "train": 60})).num_classes == 2


# --- Pixels ----------------------------------------------------------------------------------------------


def test_images_are_resized_as_pil_does_it_and_the_middle_is_kept(tmp_path: Path) -> None:
    """16 x 12 pixels to a height of 8: PIL's antialiased bilinear filter to 10 x 8, and of that the middle."""
    make(tmp_path)
    images, labels = (found := read(tmp_path)).images, found.labels
    assert (images.shape, images.dtype) == ((122, 3, 8, 8), torch.uint8)
    assert labels.tolist() == [0] * 60 + [1] * 40 + [2] * 22
    with Image.open(tmp_path / "bee/005.png") as file:
        resized = np.asarray(file.resize((int(8 * 16 / 12), 8), Image.Resampling.BILINEAR))
    assert np.array_equal(images[65].permute(1, 2, 0).numpy(), resized[:, 1:9])


@pytest.mark.parametrize(("shape", "side"), [((12, 16), 12), ((30, 30), 28), ((6, 90), 8), ((480, 640), 32)])
def test_without_a_size_images_have_that_of_the_usual_one_as_far_as_it_is_small(
    shape: tuple[int, int], side: int, tmp_path: Path
) -> None:
    for number, name in enumerate(["a"] * 60 + ["b"] * 60):
        flat = np.full((*((7, 7) if number % 12 == 5 else shape), 3), (number, 0, 9), np.uint8)
        save(Image.fromarray(flat), tmp_path / name / f"{number}.png")
    found = datasets.load(f"folder:{tmp_path}")
    assert found.real.shape == (3, side, side)
    said = f"its images, {shape[1]} x {shape[0]} pixels as a rule, are shown at {side} x {side} (--image-size)"
    assert found.notes == (said,)


def test_what_is_chosen_for_a_folder_is_said(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load(animals)
    records.print_notes(dataset, identities.with_final_steps(vae.Config(), dataset))
    moves, training = capsys.readouterr().err.splitlines()
    assert moves == (
        "note: small moves reflect and shift these images (--moves); classifiers are residual networks, "
        "24 channels wide (--classifier.width)"
    )
    assert re.fullmatch(r"note: the generator trains [\d,]+ steps of 64 images, \d+ times through .*", training)
    records.print_notes(datasets.load("digits"), vae.Config())
    assert capsys.readouterr().err == ""


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
    images = read(tmp_path, 12).images
    assert images.shape == (2, 1, 12, 12)
    assert np.array_equal(images[0, 0].numpy(), values)
    Image.fromarray(pixels(0, 12, 12, 3)).save(tmp_path / "b" / "2.png")  # one of three in colour
    folders._read.cache_clear()
    images = read(tmp_path, 12).images
    assert images.shape == (3, 3, 12, 12)
    assert np.array_equal(images[0, 2].numpy(), values)


def test_black_and_white_is_grey(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels(1, 8, 8)).convert("1").save(tmp_path / name / "1.png")
    images = read(tmp_path).images
    assert images.shape == (2, 1, 8, 8)
    assert set(images.unique().tolist()) == {0, 255}


def icon(value: int, cover: np.ndarray) -> Image.Image:
    """An icon of one grey value, opaque where `cover` says so."""
    image = Image.new("RGBA", (12, 12), (value, value, value, 255))
    image.putalpha(Image.fromarray(cover.astype(np.uint8) * 255))
    return image


@pytest.mark.parametrize(("value", "ground", "name"), [(0, 255, "white"), (60, 255, "white"), (230, 0, "black")])
def test_what_is_transparent_is_seen_over_one_background(value: int, ground: int, name: str, tmp_path: Path) -> None:
    """Dark icons on white and light ones on black, which the name says."""
    covers = [np.random.default_rng(number).random((12, 12)) < 0.5 for number in range(120)]
    for number, cover in enumerate(covers):
        save(icon(value, cover), tmp_path / "icons" / "ab"[number % 2] / f"{number:02}.png")
    found = load(tmp_path / "icons", image_size=12)
    assert re.fullmatch(rf"icons-on-{name}-[0-9a-f]{{8}}", found.name)
    expected = {np.where(cover, value, ground).astype(np.uint8).tobytes() for cover in covers}
    assert rows(found.train) | rows(found.test) == expected


def test_pixels_of_twelve_bits_fill_the_range(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (80, 12, 12)).astype(np.uint16)
    values[0, 0, 0] = 4095
    for number, image in enumerate(values):
        save(Image.fromarray(image), tmp_path / "ab"[number % 2] / f"{number:02}.png")
    found = read(tmp_path, 12).images
    order = [*range(0, 80, 2), *range(1, 80, 2)]
    assert np.array_equal(found[:, 0].numpy(), (values[order] / 4095 * 255).round().astype(np.uint8))


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    image, exif = Image.fromarray(pixels(2, 8, 8, 3)), Image.Exif()
    exif[0x0112] = 6  # its right side is where the top is
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png", exif=exif)
    images = read(tmp_path).images
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
    assert (
        datasets.name_of(f"folder:{animals}", 8) == Single(dataset=f"folder:{animals}", image_size=8).data_name == name
    )
    assert load(shutil.copytree(animals, tmp_path / "my animals!")).name == name
    assert load(animals, image_size=12).name != name
    assert load(make(tmp_path / "else" / "my animals!", first=1000)).name not in (name, "my-animals")
    assert Plan(method="vae", dataset=f"folder:{animals}", image_size=8).study == f"vae-{name}"
    assert datasets.name_of("mnist", None) == "mnist"


def test_figures_are_not_shared_where_other_images_gave_them_but_weights_are(tmp_path: Path) -> None:
    """The same training images, another test split."""
    make(tmp_path / "train", {"a": 20, "b": 20})
    make(tmp_path / "test", {"a": 10, "b": 10}, first=100)
    one = load(tmp_path)
    make(tmp_path / "test", {"a": 10, "b": 10}, first=200)
    folders._read.cache_clear()
    other = load(tmp_path)
    assert one.name == other.name
    accelerator = Accelerator(cpu=True)
    first, second = (
        identities.generator_identity("vae", vae.Config(), Single(), dataset, accelerator) for dataset in (one, other)
    )
    assert first != second
    assert identities.training_identity(first) == identities.training_identity(second)


def test_the_moves_that_images_have_unless_others_are_asked_for(tmp_path: Path) -> None:
    """Who asks for others has another data set in tables, other generators and, in colour, another judge."""
    colour, grey = (load(make(tmp_path / str(of), {"a": 60, "b": 60}, colour=of)) for of in (True, False))
    assert (colour.moves, grey.moves) == ("reflect", "rotate")
    fashion = dataclasses.replace(grey, name="fashion-mnist")
    assert (fashion.moves, fashion.title) == ("reflect", "fashion-mnist")
    turned = load(tmp_path / "True", asked_moves="rotate")
    assert turned.moves == turned.image_shape.moves == "rotate"
    asked = Single(dataset=f"folder:{tmp_path}/True", image_size=8, moves="rotate")
    assert turned.title == asked.data_name == f"{colour.name}-rotate"
    accelerator, moved, augmented = Accelerator(cpu=True), vae.Config(augment="moved"), classifier.Config(augment=True)
    one, other = (
        identities.training_identity(identities.generator_identity("vae", moved, Single(), dataset, accelerator))
        for dataset in (colour, turned)
    )
    assert {**one, "moves": "rotate"} == other
    keys = [judging.judge_key(dataset, judging.judge_config(dataset)) for dataset in (colour, turned)]
    assert keys[0] != keys[1]
    cells = [
        identities.classifier_identity(Arm("none", None), augmented, Single(), dataset, accelerator)
        for dataset in (colour, turned)
    ]
    assert cells[0] != cells[1]


# --- Few and unequal classes -----------------------------------------------------------------------------


def test_few_unequal_colour_classes_are_judged_and_shown(animals: Path) -> None:
    dataset, accelerator = load(animals), Accelerator(cpu=True)
    judge = judging.train_judge(dataset, judging.judge_config(dataset, steps=5))
    samples = dataset.real[dataset.real.labels < 2]  # of the third class there is none
    figures = judging.conditional_accuracy(judge, samples, 3, accelerator)
    assert "samples/conditional_accuracy_class_2" not in figures
    figures |= quality.quality_metrics(judge, samples, dataset, seed=0) | quality.floor_metrics(judge, dataset, 0)
    assert all(np.isfinite(list(figures.values())))
    assert figures["test/floor/diversity"] > 0 == figures["test/quality/diversity"]
    matrix = classifier.confusion_matrix(classifier.predict(judge, dataset.test.images), dataset.test.labels, 3)
    assert matrix.sum(1).tolist() == [12, 8, 4]
    assert pictures.image_grid(dataset.test.images[:7], columns=3).shape == (3 * 9 * 2, 3 * 9 * 2, 3)
    shown = pictures.class_grid(dataset.test.images[:6], dataset.classes)
    width = 2 * 9 * 2
    assert np.array_equal(shown[:, -width:], pictures.image_grid(dataset.test.images[:6], columns=2))
    assert all(row[:, :-width].any() for row in np.split(shown, 3))  # each has its name


def test_a_wider_judge_of_colour_is_deeper_and_learns_longer(animals: Path) -> None:
    few = load(animals)
    many = dataclasses.replace(few, train=Images(torch.zeros(50_000, 3, 8, 8, dtype=torch.uint8), torch.zeros(50_000)))
    usual, wide = (judging.judge_config(many, width=width) for width in (None, 48))
    assert (usual.width, usual.depth, usual.steps) == (24, 1, 1600)
    assert (wide.width, wide.depth, wide.steps) == (48, 2, 3200)
    assert judging.judge_config(few, width=48).steps == judging.judge_config(few).steps == 300
    assert judging.judge_config(many, steps=7, width=48).steps == 7
    judge = classifier.build_classifier(dataclasses.replace(wide, width=32), few.image_shape, 0)
    assert judge.features(torch.zeros(2, 3, 8, 8)).shape == (2, 128)


def test_flat_images_are_no_error(tmp_path: Path) -> None:
    for number in range(120):
        save(Image.new("L", (8, 8), 90 * (number % 2)), tmp_path / "ab"[number % 2] / f"{number:03}.png")
    dataset = load(tmp_path)
    judge = judging.train_judge(dataset, judging.judge_config(dataset, steps=5))
    figures = quality.quality_metrics(judge, dataset.real, dataset, seed=0)
    assert "test/quality/sharpness" not in figures
    assert all(np.isfinite(list(figures.values())))
    assert figures["test/quality/diversity"] == 1


@pytest.mark.parametrize(("number", "cell"), [(3, 32), (100, 8)])
def test_the_most_made_mistake_is_the_reddest_and_a_hundred_classes_have_no_numbers(number: int, cell: int) -> None:
    matrix = 7 * torch.eye(number, dtype=torch.long)
    matrix[1, 2], matrix[2, 0] = 4, 2
    shown = pictures.confusion(matrix, [f"class {label}" for label in range(number)])
    margin = shown.shape[1] - number * cell
    cells = shown[: number * cell, margin:].reshape(number, cell, number, cell, 3).swapaxes(1, 2)
    assert np.argwhere((cells[:, :, 0, 0] != 255).any(-1)).tolist() == [[1, 2], [2, 0]]
    assert cells[1, 2, 0, 0].tolist() == [255, 55, 55]
    assert cells[2, 0, 0, 0].tolist() == [255, 155, 155]
    has_number = [(cells[place] != cells[place][0, 0]).any() for place in ((0, 0), (1, 2), (0, 1))]
    assert has_number == ([True, True, False] if number == 3 else [False] * 3)
    names = shown[: number * cell, :margin].reshape(number, -1)
    assert all((name != 255).any() for name in names) == (number == 3)


def test_short_names_stand_upright_below_their_columns() -> None:
    """The same ink, up to its place between two pixels, as beside their rows."""
    shown = pictures.confusion(torch.eye(3, dtype=torch.long), ["0", "1", "W"])
    margin = shown.shape[1] - 3 * 32
    beside = shown[: 3 * 32, :margin].reshape(3, 32, margin, 3)
    below = shown[3 * 32 : -20, margin:].reshape(margin, 3, 32, 3).swapaxes(0, 1)

    def size(name: np.ndarray) -> np.ndarray:
        return np.ptp(np.argwhere((name < 128).any(-1)), axis=0)

    for row, column in zip(beside, below, strict=True):
        assert np.abs(size(row) - size(column)).max() <= 1
    assert size(below[0])[0] > size(below[0])[1]  # a digit is higher than it is wide


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
        wrong(
            lambda path: [shutil.rmtree(path / name) for name in COUNTS],
            "has no class folders; it needs a folder for each",
        ),
        wrong(lambda path: [shutil.rmtree(path / name) for name in ("ant", "bee")], "has one class alone, cat"),
        wrong(lambda path: (path / "dog").mkdir(), "dog has no image that can be read; each class needs some"),
        wrong(lambda path: spoil(path, b"no image"), "bee/003.png cannot be read as an image: cannot identify"),
        wrong(lambda path: spoil(path, b""), "bee/003.png cannot be read as an image"),
        wrong(lambda path: spoil(path, (path / "ant/001.png").read_bytes()[:200]), "bee/003.png cannot be read"),
        wrong(save_floats, "x.tiff cannot be read as an image: its pixels are real numbers"),
        wrong(
            lambda path: make(path / "train"),
            "has class folders in train alone: it needs both train and test, or no such folder",
        ),
        wrong(lambda path: make(path / "test"), "has class folders in test alone"),
        wrong(lambda path: (make(path / "Train"), make(path / "VAL")), "has class folders in Train and VAL alone"),
        wrong(
            lambda path: (make(path / "train"), make(path / "training"), make(path / "test")),
            "has two folders of the same part, train and training",
        ),
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
        datasets.load("digits", image_size=32)
