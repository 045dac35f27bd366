"""Random inputs for what reads bytes: the same for a seed, so that what fails can be tried again by its number."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

FEW, MANY = 1000, 100_000
"""Inputs in the normal suite, and in `make soak`."""
SEED = int(os.environ.get("HARNESS_FUZZ_SEED", "0"))
WORDS = (
    b"", b"\n", b"\0", b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'"', b"[" * 3000, b"9" * 5000,
    b"\xff\xfe", b"../", b"99999999999999999999", "é".encode(), b"'", b"=", b",",
)  # fmt: skip
"""What is put into an input, beside bytes of its own."""


def mutations(samples: Sequence[bytes], number: int) -> Iterator[bytes]:
    """Samples with some bytes changed, cut out, doubled, put in or cut off."""
    draw = np.random.default_rng(SEED)
    for _ in range(number):
        content = samples[int(draw.integers(len(samples)))]
        for _ in range(int(draw.integers(1, 4))):
            content = _changed(content, draw)
        yield content


def _changed(content: bytes, draw: np.random.Generator) -> bytes:
    start, end = sorted(map(int, draw.integers(0, len(content) + 1, 2)))
    match int(draw.integers(6)):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + content[end:]
        case 2:
            return content[:end] + content[start:]
        case 3:
            return content[:start] + WORDS[int(draw.integers(len(WORDS)))] + content[start:]
        case 4:
            return content[:start] + WORDS[int(draw.integers(len(WORDS)))] + content[min(end, start + 8) :]
        case _:
            changed = bytearray(content)
            for place in draw.integers(0, max(1, len(changed)), 3)[: len(changed)]:
                changed[int(place)] = int(draw.integers(256))
            return bytes(changed)
