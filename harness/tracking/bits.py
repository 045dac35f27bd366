"""Many booleans as a short text, which fits into a tag: 10,000 of which a tenth is false are 800 characters."""

import base64
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def packed(bits: Sequence[bool]) -> str:
    """Count, colon, the bits by eight, deflated, in base 85."""
    content = zlib.compress(np.packbits(np.asarray(bits, dtype=bool)).tobytes(), 9)
    return f"{len(bits)}:{base64.b85encode(content).decode()}"


def unpacked(text: str) -> NDArray[np.bool_]:
    """Bool [n]. Raises ValueError for what `packed` has not written."""
    count, _, content = text.partition(":")
    try:
        found = np.frombuffer(zlib.decompress(base64.b85decode(content)), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(f"not packed bits: {text[:40]!r}") from error
    return np.unpackbits(found, count=int(count)).astype(bool)
