"""The only training loop: a generator that yields (step, metrics), for every method and the classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from harness.bounds import Moves
from harness.data import moves
from harness.data.images import ByLabel, Images, to_float
from harness.errors import InputError
from harness.seeding import Draws, generator, permutation

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Batch:
    """This process's share of one global batch.

    `images` float32 [n, C, H, W] in [-1, 1], `labels` int64 [n], `draws` the step's random tensors.
    """

    images: Tensor
    labels: Tensor
    draws: Draws
    sources: Tensor
    """int64 [n]: which of the sets of images each is from"""
    num_parts: int = 1
    """parts whose gradients are accumulated one after the other"""

    def parts(self) -> Iterator[Batch]:
        """The batch in `num_parts` equal parts; every image keeps its random numbers."""
        size = len(self.labels) // self.num_parts
        for start in range(0, len(self.labels), size):
            part, first = slice(start, start + size), self.draws.share.start + start
            draws = replace(self.draws, share=slice(first, first + size))
            yield Batch(self.images[part], self.labels[part], draws, self.sources[part])


class Trainable(Protocol):
    """What the loop asks of a generator or a classifier."""

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """One optimisation step; scalars to be logged, left on the device."""
        ...


class Batches:
    """Batches as a pure function of (seed, step): no loader, no state.

    `sources` are sets with the number of images that each gives to every global batch. A set is passed
    over in a fresh random order per epoch; a batch may straddle two epochs. With a `replacement` each image
    becomes, with its probability, one of that set with the same label. `moved` images are under fresh small
    moves, of this kind.

    Raises InputError for an empty set and for a global batch that the processes and the parts in which they
    accumulate it cannot share equally.
    """

    def __init__(
        self,
        *sources: tuple[Images, int],
        seed: int,
        accelerator: Accelerator | None = None,
        accumulate: int = 1,
        replacement: tuple[Images, float] | None = None,
        moved: Moves | None = None,
    ) -> None:
        rank, world_size = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
        self.size, self.accumulate = sum(count for _, count in sources), accumulate
        if self.size % (world_size * accumulate):
            parts = f" in {accumulate} parts each (--accumulate)" if accumulate > 1 else ""
            raise InputError(
                f"--batch-size {self.size} is not divisible by {world_size} processes{parts}; it is the global size"
            )
        if any(count and not len(source) for source, count in sources):
            raise InputError("an empty set of images cannot give batches")
        self.seed = seed
        self.device = accelerator.device if accelerator else torch.device("cpu")
        self.sources = [(source.to(self.device), count) for source, count in sources if count]
        self.replacement = replacement and (ByLabel(replacement[0].to(self.device)), replacement[1])
        self.moved: Moves | None = moved
        share = self.size // world_size
        self.share = slice(rank * share, (rank + 1) * share)

    def __getitem__(self, step: int) -> Batch:
        images, labels, places, start = [], [], [], 0
        for place, (source, count) in enumerate(self.sources):
            # The global batch is source after source; only what lies in the share is gathered.
            indices = positions(len(source), count, self.seed, place, step)
            first, last = max(self.share.start - start, 0), max(self.share.stop - start, 0)
            mine = indices[first:last].to(self.device)
            images.append(source.images[mine])
            labels.append(source.labels[mine])
            places.append(torch.full_like(mine, place))
            start += count
        draws = Draws(self.seed, "train", step, self.size, self.share, self.device, self.device)
        batch = Batch(torch.cat(images), torch.cat(labels), draws, torch.cat(places), self.accumulate)
        if self.replacement:
            batch = _replace_some(batch, *self.replacement)
        whole = to_float(batch.images)
        if self.moved:
            whole = moves.move_images(whole, draws.uniform("moves", moves.num_numbers(self.moved)), self.moved)
        return replace(batch, images=whole)


def _replace_some(batch: Batch, others: ByLabel, probability: float) -> Batch:
    """Each image of a batch becomes, with the probability, one of the others with its label, where there is one."""
    chosen, there = others.choose(batch.labels, batch.draws.uniform("replacing image"))
    due = there & (batch.draws.uniform("replacement") < probability)
    images = torch.where(due[:, None, None, None], chosen, batch.images)
    return replace(batch, images=images, sources=batch.sources.masked_fill(due, 1))


def positions(num_images: int, count: int, seed: int, source: int, step: int) -> Tensor:
    """Indices (int64 [count]) of step `step` into a set of `num_images`, in the order of its epochs."""
    start, end = step * count, (step + 1) * count
    parts = []
    while start < end:
        epoch, place = divmod(start, num_images)
        parts.append(epoch_order(num_images, seed, source, epoch)[place : place + end - start])
        start += len(parts[-1])
    return torch.cat(parts)


@lru_cache(maxsize=8)
def epoch_order(num_images: int, seed: int, source: int, epoch: int) -> Tensor:
    """The order (int64 [num_images]) in which one epoch passes over a set."""
    return permutation(num_images, generator(seed, "order", source, epoch))


def num_steps(steps: int, epochs: float, num_images: int, batch_size: int) -> int:
    """The length of a training: `steps` optimizer steps or `epochs` passes, whichever is less."""
    return max(1, min(steps, round(epochs * num_images / batch_size)))


def accumulate_gradients(
    accelerator: Accelerator,
    network: nn.Module,
    batch: Batch,
    loss: Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """Gradients of a batch's mean loss through a prepared network, part by part; returns its metrics' means.

    `loss(part)` gives a part's mean loss and metrics. The processes exchange gradients with the last part only.
    """
    means: dict[str, Tensor] = {}
    for place, part in enumerate(batch.parts(), start=1):
        waits = accelerator.no_sync(network) if place < batch.num_parts else nullcontext()
        with waits:
            mean, metrics = loss(part)
            accelerator.backward(mean / batch.num_parts)
        for name, value in metrics.items():
            means[name] = means.get(name, 0) + value.detach() / batch.num_parts
    return means


def train(model: Trainable, batches: Batches, steps: int, start: int = 0) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
    """Run steps `start` … `steps` - 1; the caller logs, evaluates, prunes, stops between them."""
    for step in range(start, steps):
        yield step, model.step(batches[step], step)


def with_progress_bar(
    training: Iterator[tuple[int, Mapping[str, Tensor]]],
    name: str,
    steps: int,
    batch_size: int,
    active: bool = True,
    start: int = 0,
) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
    """Pass a training on with a bar of images, images/s, time left, step and loss: on a terminal only."""
    bar = tqdm(
        desc=name,
        total=steps * batch_size,
        initial=start * batch_size,
        unit="img",
        unit_scale=True,
        disable=None if active else True,
    )
    with bar:
        for step, metrics in training:
            if not bar.disable and step % 50 == 0:
                loss = float(next(iter(metrics.values())))
                bar.set_postfix({"step": f"{step}/{steps}", "loss": f"{loss:.4f}"})
            bar.update(batch_size)
            yield step, metrics
