"""Batches are a function of (seed, step), the same for any number of processes."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from accelerate import Accelerator

from harness.data.images import Images
from harness.errors import InputError
from harness.training.loop import Batches, num_steps, positions, train


def numbered(count: int) -> Images:
    """Images that carry their own index as label."""
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return Images(pixels, torch.arange(count))


def process(rank: int, world_size: int) -> Accelerator:
    """What `Batches` reads of an accelerator."""
    place = SimpleNamespace(process_index=rank, num_processes=world_size, device=torch.device("cpu"))
    return cast(Accelerator, place)


def test_an_epoch_passes_once_over_every_image() -> None:
    batches = Batches((numbered(50), 8), seed=1)
    seen = torch.cat([batches[step].labels for step in range(25)])  # 200 images, four epochs
    epochs = seen.view(4, 50)
    assert all(torch.equal(epoch.sort().values, torch.arange(50)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert sorted(positions(3, 10, 0, 0, 0).bincount().tolist()) == [3, 3, 4]


def test_processes_share_the_global_batch() -> None:
    sources = [(numbered(40), 8), (numbered(30), 4)]
    whole = Batches(*sources, seed=2)[5]
    for world_size in (2, 3, 4):
        parts = [Batches(*sources, seed=2, accelerator=process(rank, world_size))[5] for rank in range(world_size)]
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.draws.normal("eps", 2) for part in parts]), whole.draws.normal("eps", 2))


def test_any_step_can_be_the_first() -> None:
    straight = [Batches((numbered(50), 8), seed=1)[step].labels for step in range(12)]
    assert torch.equal(Batches((numbered(50), 8), seed=1)[11].labels, straight[11])


def test_the_order_of_real_images_does_not_depend_on_what_is_added() -> None:
    alone = Batches((numbered(40), 6), seed=3)
    mixed = Batches((numbered(40), 6), (numbered(90), 2), seed=3)
    for step in range(8):
        assert torch.equal(mixed[step].labels[:6], alone[step].labels)


def test_images_come_in_the_range_of_the_models() -> None:
    batch = Batches((Images(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.arange(2)), 2), seed=0)[0]
    assert batch.images.dtype == torch.float32
    assert sorted(batch.images.flatten().tolist()) == [-1, 1]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="--batch-size 10 is not divisible by 4 processes"):
        Batches((numbered(20), 10), seed=0, accelerator=process(0, 4))


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"), [(100, 1000, 100), (100, 2, 20), (100, 0.05, 1), (7, 1000, 7)]
)
def test_training_ends_at_whichever_comes_first(steps: int, epochs: float, expected: int) -> None:
    assert num_steps(steps, epochs, num_images=640, batch_size=64) == expected


def test_the_loop_yields_each_step_and_goes_on_where_told() -> None:
    class Counter:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def step(self, batch, step):
            self.steps.append(step)
            return {"train/loss": torch.tensor(float(step))}

    counter = Counter()
    batches = Batches((numbered(20), 4), seed=0)
    assert [step for step, _ in train(counter, batches, steps=6, start=4)] == [4, 5]
    assert counter.steps == [4, 5]
