"""Which samples are used: those that a classifier agrees with, those near to what it learns late. Whom they ask."""

import dataclasses
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from harness.data import controls, datasets
from harness.data.images import Images, to_float
from harness.evaluation import classifier, quality, selecting
from harness.runs import teachers

DIGITS = datasets.load("digits", n_real=300)
CONFIG = classifier.Config(steps=60)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / teachers.TEACHERS


def select(way: str, samples: Images, dataset: datasets.Dataset = DIGITS) -> torch.Tensor:
    share, choose = selecting.WAYS[way]
    accelerator = Accelerator(cpu=True)
    model = teachers.get_teacher(CONFIG, share, 0, dataset, accelerator)[0] if share else None
    return choose(model, dataset.real, samples, dataset.image_shape, accelerator)


def test_a_filter_keeps_what_is_labelled_rightly() -> None:
    """By a classifier that has seen moved images."""
    wrong = Images(DIGITS.test.images, (DIGITS.test.labels + 3) % 10)
    kept = torch.stack([select("filtered", samples) for samples in (DIGITS.test, wrong)]).float().mean(1)
    assert kept[0] > 0.85
    assert kept[1] < 0.05
    moved = quality.train_on(
        DIGITS.real, DIGITS.image_shape, dataclasses.replace(CONFIG, augment=True), 0, Accelerator(cpu=True)
    )
    agrees = classifier.predict(moved, DIGITS.test.images) == DIGITS.test.labels
    assert torch.equal(select("filtered", DIGITS.test), agrees)


def test_what_is_learned_late_gets_company() -> None:
    """Of the real images themselves, each its own nearest, those of each class that an early classifier gives least."""
    chosen = select("targeted", DIGITS.real)
    early = quality.train_on(
        DIGITS.real, DIGITS.image_shape, dataclasses.replace(CONFIG, steps=12, augment=True), 0, Accelerator(cpu=True)
    )
    with torch.no_grad():
        logits = early(to_float(DIGITS.real.images))
    known = logits.softmax(1)[torch.arange(300), DIGITS.real.labels]
    for label in range(10):
        of_class = DIGITS.real.labels == label
        late, others = known[of_class & chosen], known[of_class & ~chosen]
        assert late.max() <= others.min()
        assert abs(len(late) / int(of_class.sum()) - selecting.LATE) < 0.05


def test_a_class_without_a_real_image_gets_no_company() -> None:
    few = dataclasses.replace(DIGITS, real=DIGITS.real[DIGITS.real.labels != 4])
    chosen = select("targeted", DIGITS.test, few)
    assert not chosen[DIGITS.test.labels == 4].any()
    assert chosen[DIGITS.test.labels != 4].any()


def test_a_rare_class_is_made_as_large_as_the_largest() -> None:
    tail = datasets.load("digits", n_real=200, imbalance=20)
    counts = torch.bincount(tail.real.labels)
    samples = controls.make_control("duplicate", tail.real, 1500, 0)
    chosen = select("levelled", samples, tail)
    assert (counts + torch.bincount(samples[chosen].labels, minlength=10)).tolist() == [int(counts.max())] * 10
    few = samples[:50]  # five of each class, fewer than most lack
    chosen = select("levelled", few, tail)
    assert torch.bincount(few[chosen].labels, minlength=10).tolist() == (counts.max() - counts).clamp(max=5).tolist()


def test_who_is_asked_is_trained_once_for_all_cells_of_the_same_real_images(folder: Path) -> None:
    accelerator = Accelerator(cpu=True)

    def ask(config: classifier.Config = CONFIG, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor, float]:
        model, device_seconds = teachers.get_teacher(config, 1.0, seed, DIGITS, accelerator)
        return model.state_dict(), classifier.predict(model, DIGITS.test.images), device_seconds

    weights, told, device_seconds = ask()
    assert device_seconds > 0
    for same in (CONFIG, dataclasses.replace(CONFIG, soft_labels=True, initialisations=3, synthetic_weight=0.5)):
        again, told_again, seconds_then = ask(same)
        assert seconds_then == device_seconds  # to the bit: of the training that there was
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        assert torch.equal(told, told_again)
    (kept,) = folder.glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:1000])
    again, told_again, seconds_then = ask()
    assert seconds_then != device_seconds
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert torch.equal(told, told_again)
    assert not torch.equal(ask(seed=1)[0]["output.weight"], weights["output.weight"])
    assert not torch.equal(ask(dataclasses.replace(CONFIG, hidden=32))[1], told)
    assert len(list(folder.glob("*.safetensors"))) == 3
