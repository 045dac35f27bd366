"""Every random draw as a pure function of (seed, purpose, index).

No generator lives longer than one draw, so no generator's state is ever saved: a resumed run, a run on
more processes and a set drawn in another order see the same numbers.

The CPU draws with numpy's counter-based Philox (Salmon et al. 2011), whose key is 128 bits of a hash: torch's CPU
generator keeps 32 bits of a seed, so that of some 65,000 draws two are likely to be equal. On a GPU torch's own is a
Philox with 64.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def key_for(seed: int, purpose: str, *index: int) -> int:
    """128 bits for one purpose: a hash, so that neighbouring seeds and indices share nothing."""
    text = repr((int(seed), purpose, *map(int, index))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A fresh generator for one draw on the CPU."""
    return np.random.Generator(np.random.Philox(key=key_for(seed, purpose, *index)))


def permutation(n: int, draw: np.random.Generator) -> Tensor:
    """0 … n - 1 in a random order, int64 [n]."""
    return torch.from_numpy(draw.permutation(n))


def uniform(draw: np.random.Generator, *shape: int) -> Tensor:
    """U[0, 1), float32 (torch's default, of 24 bits) [*shape]."""
    return torch.from_numpy(draw.random(shape, dtype=np.float32)).to(torch.get_default_dtype())


def normal(draw: np.random.Generator, *shape: int) -> Tensor:
    """N(0, 1), float32 (torch's default) [*shape]."""
    return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32)).to(torch.get_default_dtype())


@contextmanager
def initial_weights(seed: int, purpose: str) -> Iterator[None]:
    """Networks built inside get weights that depend on (seed, purpose) alone; global state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(key_for(seed, purpose) >> 65)  # of which torch keeps 32 bits: enough for a draw a network
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

    def normal(self, name: str, *shape: int) -> Tensor:
        """N(0, 1), float32 [share, *shape]."""
        if self._on_cpu:
            return self._kept(normal(self._here(name), self.size, *shape))
        return self._kept(torch.randn(self.size, *shape, generator=self._there(name), device=self.source))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """U[0, 1), float32 [share, *shape]."""
        return self._kept(self._uniform(name, *shape))

    def stratified(self, name: str) -> Tensor:
        """U[0, 1), float32 [share], one in each of `size` equal stretches: less spread in a batch's mean."""
        place = torch.arange(self.size, device=self.source)
        return self._kept((place + self._uniform(name)) / self.size).clamp(max=1 - 2**-24)

    def integers(self, name: str, high: int) -> Tensor:
        """Uniform over 0 … high - 1, int64 [share]."""
        if self._on_cpu:
            return self._kept(torch.from_numpy(self._here(name).integers(high, size=self.size)))
        return self._kept(torch.randint(high, (self.size,), generator=self._there(name), device=self.source))

    def _uniform(self, name: str, *shape: int) -> Tensor:
        if self._on_cpu:
            return uniform(self._here(name), self.size, *shape)
        return torch.rand(self.size, *shape, generator=self._there(name), device=self.source)

    @property
    def _on_cpu(self) -> bool:
        return torch.device(self.source).type == "cpu"

    def _here(self, name: str) -> np.random.Generator:
        return generator(self.seed, f"{self.purpose}/{name}", self.index)

    def _there(self, name: str) -> torch.Generator:
        return torch.Generator(self.source).manual_seed(key_for(self.seed, f"{self.purpose}/{name}", self.index) >> 65)

    def _kept(self, drawn: Tensor) -> Tensor:
        return drawn[self.share].to(self.device)
