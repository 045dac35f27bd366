"""Label-balanced sample sets, the same for any number of processes and any batch size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor
from tqdm import tqdm

from harness.data.images import Images, to_uint8
from harness.seeding import Draws

if TYPE_CHECKING:
    from accelerate import Accelerator

CHUNK = 500
"""Images per chunk. Part of what a set is: each chunk has a seed of its own."""


class Sampler(Protocol):
    def sample(self, labels: Tensor, draws: Draws) -> Tensor: ...


def draw_images(model: Sampler, labels: Tensor, seed: int, device: torch.device, index: int = 0) -> Images:
    """Images for `labels` (int64 [n]), a function of (model, labels, seed, index) alone."""
    draws = Draws(seed, "sample", index, len(labels), slice(0, len(labels)), device)
    images = to_uint8(model.sample(labels.to(device), draws))
    return Images(images.cpu(), labels.cpu())


def draw_sample_set(
    model: Sampler, num_images: int, num_classes: int, seed: int, accelerator: Accelerator
) -> tuple[Images, float]:
    """`num_images` images with balanced labels 0, 1, …, and the device-seconds that they took.

    The set is drawn in chunks; process r takes chunks r, r + world size, …. All processes get the whole set.
    """
    labels = torch.arange(num_images) % num_classes
    chunks = labels.split(CHUNK)
    world, start = accelerator.num_processes, time.perf_counter()
    mine = range(accelerator.process_index, len(chunks), world)
    progress = tqdm(mine, "sampling", unit="chunk", disable=None if accelerator.is_main_process else True)
    with accelerator.autocast():
        drawn = {index: draw_images(model, chunks[index], seed, accelerator.device, index).images for index in progress}
    images = _exchange(drawn, num_images, accelerator) if world > 1 else torch.cat(list(drawn.values()))
    return Images(images, labels), (time.perf_counter() - start) * world


def _exchange(drawn: dict[int, Tensor], num_images: int, accelerator: Accelerator) -> Tensor:
    """Every process's chunks, put in their places: disjoint parts of a sum of otherwise empty sets."""
    from accelerate.utils import gather_object, reduce

    shapes = gather_object([tuple(part.shape[1:]) for part in drawn.values()])
    images = torch.zeros(num_images, *shapes[0], dtype=torch.uint8, device=accelerator.device)
    for index, part in drawn.items():
        images[index * CHUNK : index * CHUNK + len(part)] = part.to(accelerator.device)
    return cast(Tensor, reduce(images, "sum")).cpu()
