"""Changed inputs for what reads bytes, by Hypothesis, which says the smallest one that fails."""

from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW, MANY = 300, 100_000
"""Inputs in the normal suite, the same on every run, and in `make soak`, of --hypothesis-seed."""
TRIED = "tried"
"""Under this name a test records how many inputs or faults it has tried."""
WORDS = (
    b"", b"\n", b"\0", b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'"', b"[" * 3000, b"9" * 5000,
    b"\xff\xfe", b"../", b"99999999999999999999", "é".encode(), b"'", b"=", b",",
)  # fmt: skip
"""What is put into an input, beside bytes of its own."""


@st.composite
def mutations(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A sample with some bytes cut out, replaced, put in or doubled, at one to three places."""
    content = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 3))):
        place = st.integers(0, len(content))
        content = content[: draw(place)] + draw(st.sampled_from(WORDS) | st.binary(max_size=3)) + content[draw(place) :]
    return content


def each(samples: Sequence[bytes], number: int, check: Callable[[bytes], object]) -> None:
    """Call `check` with so many inputs."""
    tried = settings(
        max_examples=number, derandomize=number <= FEW, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    tried(given(mutations(samples))(lambda content: check(content)))()
