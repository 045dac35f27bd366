"""A training that ends early goes on as if it had not."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from harness.data import datasets
from harness.data.images import ImageShape
from harness.errors import Diverged, InputError
from harness.methods import vae
from harness.runs import generators
from harness.signals import Killed
from harness.tracking import Run, journal
from harness.training.loop import Batches
from harness.training.resumable import POINTS, Curves, Progress, train_resumably

STEPS, EVERY = 24, 8
REAL = datasets.load("digits", n_real=100).real


def progress(folder: Path, **identity: Any) -> Progress:
    accelerator = Accelerator(cpu=True)
    model = generators.build_generator("vae", vae.Config(steps=STEPS, batch_size=16), ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(accelerator)
    return Progress(model, accelerator, folder, {"method": "vae", **identity})


def steps(here: Progress) -> Iterator[int]:
    batches = Batches((REAL, 16), seed=0, accelerator=here.accelerator)
    return train_resumably(here, batches, STEPS, EVERY, Run(None))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    here = progress(tmp_path_factory.mktemp("unbroken"))
    assert list(steps(here)) == list(range(STEPS))
    return here.model.state_dict()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_leaves_a_checkpoint_from_which_it_goes_on(
    number: signal.Signals, tmp_path: Path, unbroken: dict[str, torch.Tensor]
) -> None:
    def stopped() -> None:
        for step in steps(progress(tmp_path)):
            if step == 11:
                os.kill(os.getpid(), number)

    with pytest.raises(Killed) as ending:
        stopped()
    assert ending.value.code == 128 + number
    resumed = progress(tmp_path)
    resumed.restore(Run(None))
    first = resumed.step
    assert 12 <= first < STEPS
    assert resumed.device_seconds > 0
    assert list(steps(resumed)) == list(range(first, STEPS))
    assert all(torch.equal(weight, unbroken[name]) for name, weight in resumed.model.state_dict().items())


def test_a_loss_that_is_not_finite_ends_the_training_with_its_step(tmp_path: Path) -> None:
    def spoiled() -> None:
        here = progress(tmp_path)
        for step in steps(here):
            if step == 12:
                with torch.no_grad():
                    next(here.model.parameters()).fill_(float("nan"))

    with pytest.raises(Diverged, match=r"train/vae_loss is nan at step 13; the last good checkpoint is of step 8"):
        spoiled()


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    here = progress(tmp_path)
    with torch.no_grad():
        next(here.model.parameters()).fill_(float("inf"))
    with pytest.raises(Diverged, match="there is no checkpoint yet"):
        here.save(Run(None))
    assert not list(tmp_path.iterdir())


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    progress(tmp_path, seed=0).save(Run(None))
    with pytest.raises(InputError, match="seed is 1, the checkpoint has 0"):
        progress(tmp_path, seed=1).restore(Run(None))


def points(folder: Path) -> list[tuple[str, int, float]]:
    rows = [(row["step"], row["metrics"]) for row, _ in journal.read(folder / "journal")]
    return [(name, step, value) for step, metrics in rows for name, value in metrics.items()]


def test_a_long_curve_has_points_enough_and_the_same_after_a_kill(tmp_path: Path) -> None:
    length = 2 * POINTS + 100

    def log(folder: Path, first: int, last: int) -> None:
        curves = Curves(Run(folder), length)
        for step in range(first, last):
            seldom = (
                {"generator": step / 7} if step % 5 == 4 else {}
            )  # as a GAN's generator, after its critic's updates
            curves.log({"critic": float(step), **seldom}, step, 1_700_000_000_000)

    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    log(tmp_path / "whole", 0, length)
    killed = multiprocessing.get_context("fork").Process(target=log, args=(tmp_path / "broken", 0, 2222))
    killed.start()
    killed.join()
    log(tmp_path / "broken", 2210, length)
    whole = points(tmp_path / "whole")
    assert points(tmp_path / "broken") == whole
    critic, generator = ([step for name, step, _ in whole if name == wanted] for wanted in ("critic", "generator"))
    assert (critic[0], critic[-1], generator[0]) == (0, length - 1, 4)
    assert POINTS / 2 < len(critic) <= POINTS + 1
    assert len(generator) > POINTS / 4
