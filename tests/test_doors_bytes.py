"""What reads bytes: whatever comes, it is read, or refused in a sentence; and no more is taken than may be."""

import contextlib
import hashlib
import io
import itertools
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import known_cells
import numpy as np
import pytest
import torch
from PIL import Image

from analysis import accuracy_table, runs
from harness import cli, spaces
from harness.data import datasets, folders, images
from harness.data.images import Images
from harness.errors import InputError
from harness.methods import vae
from harness.tracking import journal
from harness.tracking.inputs import DAMAGE
from harness.training import checkpoint
from harness.training.checkpoint import Checkpoint, Damaged

# --- Sample sets -----------------------------------------------------------------------------------------


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def claimed(shape: tuple[int, ...]) -> bytes:
    """A set whose header says more than there is."""
    stream, header = io.BytesIO(), io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("images.npy", header.getvalue() + b"\0" * 100)
    return stream.getvalue()


PIXELS, LABELS = np.zeros((4, 1, 8, 8), np.uint8), np.arange(4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (claimed((10**12, 1, 8, 8)), "not whole"),
        (claimed((-1, 1, 8, 8)), "not whole"),
        (npz(images=PIXELS), "labels.npy"),
        (npz(images=PIXELS[:, 0], labels=LABELS), "no set of images"),
        (npz(images=PIXELS, labels=LABELS[:2]), "no set of images"),
        (npz(images=PIXELS, labels=-LABELS), "a label is -3"),
        (npz(images=PIXELS, labels=LABELS / 2), "of another kind, float64"),
        (npz(images=PIXELS, labels=LABELS > 1), "of another kind, bool"),
        (npz(images=PIXELS, labels=np.array([{}] * 4)), "of another kind, object"),
    ],
)
def test_a_sample_set_of_another_kind_is_damaged(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "samples.npz").write_bytes(content)
    with pytest.raises(DAMAGE, match=reason):
        Images.read(tmp_path / "samples.npz")


def test_a_sample_set_is_unpacked_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_BYTES", PIXELS.nbytes - 1)
    (tmp_path / "samples.npz").write_bytes(npz(images=PIXELS, labels=LABELS))
    with pytest.raises(DAMAGE, match="images are 256 bytes, of at most 255"):
        Images.read(tmp_path / "samples.npz")


# --- Folders of images -----------------------------------------------------------------------------------


def pictures(folder: Path, number: int, first: int = 0) -> None:
    folder.mkdir(parents=True)
    for place in range(number):
        draw = np.random.default_rng(first + place)
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{place}.png")


def test_no_link_leads_out_of_a_folder_or_in_circles_or_into_two_splits(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", 3)
    for part in ("train", "test"):
        for first, name in enumerate(("a", "b")):
            pictures(tmp_path / "own" / part / name, 12, first=100 * first + 1000 * len(part))
    own = tmp_path / "own"
    (own / "train" / "a" / "out.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    (own / "train" / "a" / "outside").symlink_to(tmp_path / "elsewhere")
    (own / "train" / "a" / "circle").symlink_to(own)
    (own / "train" / "c").symlink_to(own)
    (own / "test" / "a" / "seen.png").symlink_to(own / "train" / "a" / "0.png")
    os.mkfifo(own / "train" / "b" / "pipe.png")
    found = datasets.load(f"folder:{own}", image_size=8)
    assert (found.classes, len(found.train), len(found.test)) == (("a", "b"), 24, 24)
    said = " ".join(found.notes)
    assert "2 links or devices" in said
    assert "1 links or devices" in said
    assert str(own / "train" / "c") in said


def test_a_folder_of_links_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pictures(tmp_path / "elsewhere" / name, 12)
        (tmp_path / "own" / name).mkdir(parents=True)
        for file in (tmp_path / "elsewhere" / name).iterdir():
            (tmp_path / "own" / name / file.name).symlink_to(file)
    with pytest.raises(InputError, match="its 12 links or devices are not followed"):
        datasets.load(f"folder:{tmp_path / 'own'}", image_size=8)


# --- Whatever comes --------------------------------------------------------------------------------------


Refusal = type[Exception] | tuple[type[Exception], ...]


@pytest.fixture
def reads_each(fuzzed: Callable[..., None]) -> Callable[..., None]:
    """`reads_each(samples, read, InputError)`: each is read, or refused; and both happen."""

    def reads(samples: Sequence[bytes], read: Callable[[bytes], object], refusal: Refusal) -> None:
        counted = {"read": 0, "refused": 0}

        def check(content: bytes) -> None:
            try:
                with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(content)
                counted["read"] += 1
            except refusal:
                counted["refused"] += 1

        fuzzed(samples, check)
        assert min(counted.values()) > 0, counted

    return reads


RECORDS = [journal.encode({"metrics": {"train/loss": step / 7}, "step": step, "time": step}) for step in range(5)]


def test_a_journal_gives_every_record_that_is_whole(fuzzed: Callable[..., None], tmp_path: Path) -> None:
    whole, path = b"".join(RECORDS), tmp_path / "journal"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.redirect_stderr(io.StringIO()):
            found = [record for record, _ in journal.read(path)]
            last = journal.last(path)
        kept = [record for record in RECORDS if b"\n" + record in b"\n" + content]
        missing = [record for record in kept if journal.decode(record) not in found]
        assert not missing
        assert last in [*found, None]
        opened = journal.Journal(path)
        opened.append(status="FINISHED")
        opened.close()
        assert journal.last(path)["status"] == "FINISHED"

    fuzzed([whole], check)


def test_samples(reads_each: Callable[..., None], tmp_path: Path) -> None:
    def read(content: bytes) -> Images:
        (tmp_path / "samples.npz").write_bytes(content)
        return Images.read(tmp_path / "samples.npz")

    stream = io.BytesIO()
    np.savez(stream, images=PIXELS, labels=LABELS)
    reads_each([npz(images=PIXELS, labels=LABELS), stream.getvalue()], read, DAMAGE)


def test_checkpoints(reads_each: Callable[..., None], tmp_path: Path) -> None:
    made = checkpoint.save(tmp_path, Checkpoint(3, {"a": 1}, {"b": 2}, {"w": torch.zeros(2)}, {"lr": 0.1}))
    assert made
    manifest = (made / checkpoint.MANIFEST).read_bytes()

    def read(content: bytes) -> Checkpoint:
        """Under a name that fits it: the digest alone would find all of these."""
        path = tmp_path / f"step-00000003-{hashlib.sha256(content).hexdigest()}"
        made.rename(path)
        try:
            (path / checkpoint.MANIFEST).write_bytes(content)
            return checkpoint.read(path)
        finally:
            path.rename(made)

    reads_each([manifest, manifest.replace(b"\n", b"")], read, Damaged)


def test_configurations(reads_each: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "best.toml"
    monkeypatch.setattr(sys, "argv", ["vae.py", "--config", str(file)])

    def main(config: vae.Config) -> None:
        pass

    def read(content: bytes) -> None:
        file.write_bytes(content)
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                cli.main(main)
        except SystemExit as end:
            assert (end.code, said.getvalue().count("\n")) == (2, 1), said.getvalue()  # noqa: PT017
            raise InputError("refused") from end

    with pytest.raises(InputError):
        read(b"[vae]\nsteps = " + b"[" * 3000)
    reads_each([b"[vae]\nsteps = 20\nlearning_rate = 0.01\n", b"[vae]\nsteps = 1\n"], read, InputError)


def test_what_a_study_searches(reads_each: Callable[..., None]) -> None:
    samples = [b"learning_rate=0.001:0.01:log", b"hidden_channels=8,16", b"latent_size=4:64", b"steps=20"]
    for reader in (spaces.fixed_values, lambda config, texts: spaces.narrowed(config, texts, {})):
        reads_each(samples, lambda content, reader=reader: reader(
            vae.Config, (content.decode(errors="surrogateescape"),)), InputError)  # fmt: skip


def test_rows_of_cells(reads_each: Callable[..., None], tmp_path: Path) -> None:
    """What is read is a table, too, of which one in twenty is made."""
    places = itertools.count()
    rows = tmp_path / "rows.csv"
    runs.add_rows(known_cells.measured_cells(seeds=(0, 1)), rows)
    samples = [rows.read_bytes(), b"".join(rows.read_bytes().splitlines(keepends=True)[:4])]

    def read(content: bytes) -> object:
        rows.write_bytes(content)
        cells = runs.read_rows(rows)
        return None if next(places) % 20 else accuracy_table.accuracy_table(cells)

    reads_each(samples, read, InputError)


def test_images(reads_each: Callable[..., None], tmp_path: Path) -> None:
    samples = []
    for form in ("png", "jpeg", "gif", "bmp"):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(stream, form)
        samples.append(stream.getvalue())
    pictures(tmp_path / "own" / "b", 1)
    (tmp_path / "own" / "a").mkdir()

    def read(content: bytes) -> folders.Pixels:
        (tmp_path / "own" / "a" / "1.png").write_bytes(content)
        folders._read.cache_clear()
        return folders.Folder(tmp_path / "own").read("train", 8)

    reads_each(samples, read, InputError)
