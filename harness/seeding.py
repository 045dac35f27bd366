"""Every random draw as a pure function of (seed, purpose, index).

No generator lives longer than one draw, so no generator's state is ever saved: a resumed run, a run on
more processes and a set drawn in another order see the same numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


def seed_for(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed for one purpose: a hash, so that neighbouring seeds and indices share nothing."""
    text = repr((int(seed), purpose, *map(int, index))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def generator(seed: int, purpose: str, *index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one draw."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, *index))


@contextmanager
def initial_weights(seed: int, purpose: str) -> Iterator[None]:
    """Networks built inside get weights that depend on (seed, purpose) alone; global state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, purpose))
        yield


@dataclass(frozen=True)
class Draws:
    """The random tensors of one training step, or of one chunk of a sample set.

    Each is drawn for all `size` positions of the global batch, of which this process keeps `share`: what
    an image meets does not depend on the number of processes.

    `index` is the step or the chunk. `source` is the device that draws: a sample set's numbers come from
    the CPU, whose generator is the same everywhere; training's may come from the device that uses them.
    """

    seed: int
    purpose: str
    index: int
    size: int
    share: slice
    device: torch.device
    source: torch.device | str = "cpu"

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.seed, f"{self.purpose}/{name}", self.index, device=self.source)

    def normal(self, name: str, *shape: int) -> Tensor:
        """N(0, 1), float32 [share, *shape]."""
        drawn = torch.randn(self.size, *shape, generator=self._generator(name), device=self.source)
        return drawn[self.share].to(self.device)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """U[0, 1), float32 [share, *shape]."""
        drawn = torch.rand(self.size, *shape, generator=self._generator(name), device=self.source)
        return drawn[self.share].to(self.device)

    def stratified(self, name: str) -> Tensor:
        """U[0, 1), float32 [share], one in each of `size` equal stretches: less spread in a batch's mean."""
        place = torch.arange(self.size, device=self.source)
        drawn = (place + torch.rand(self.size, generator=self._generator(name), device=self.source)) / self.size
        return drawn[self.share].clamp(max=1 - 2**-24).to(self.device)

    def integers(self, name: str, high: int) -> Tensor:
        """Uniform over 0 … high - 1, int64 [share]."""
        drawn = torch.randint(high, (self.size,), generator=self._generator(name), device=self.source)
        return drawn[self.share].to(self.device)
