"""What a flag takes, numbers and names, declared where the flag is: in the type of its field.

    learning_rate: Annotated[float, Within(float, above=0, most=1)] = 1e-3

`--help` shows them; others are refused in one line before any work, as flags and by `--fix` of a study.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from typing import Annotated, Any, Literal, get_args, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from harness.errors import InputError

MOST = 1_000_000_000
"""Where a field has no upper bound of its own."""
SIGNS = {
    ">=": ("at least", operator.ge),
    ">": ("above", operator.gt),
    "<=": ("at most", operator.le),
    "<": ("below", operator.lt),
    "multiple of ": ("a multiple of", lambda value, step: value % step == 0),
}


class Within(PrimitiveConstructorSpec[Any]):
    """The finite numbers of `kind` from `least` or above `above`, to `most` or below `below`, multiples of `step`."""

    def __init__(
        self,
        kind: type[int] | type[float],
        least: float | None = None,
        *,
        above: float | None = None,
        most: float | None = None,
        below: float | None = None,
        step: int | None = None,
    ) -> None:
        if below is None and most is None:
            most = MOST
        ends = zip(SIGNS, (least, above, most, below, step), strict=True)
        self.kind, self.ends = kind, {sign: end for sign, end in ends if end is not None}
        super().__init__(
            nargs=1,
            metavar=kind.__name__.upper()
            + ",".join(f"{sign}{end:.15g}" for sign, end in self.ends.items() if end != MOST),
            instance_from_str=lambda words: self._parse(words[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    def _parse(self, word: str) -> float | str:
        """The number; what is none is left as it is, for `check` to say so."""
        try:
            return self.kind(word)
        except ValueError:
            return word

    def __contains__(self, value: object) -> bool:
        return (
            isinstance(value, (int, float))
            and -math.inf < value < math.inf  # of a long whole number isfinite makes no float
            and all(SIGNS[sign][1](value, end) for sign, end in self.ends.items())
        )

    def check(self, value: object, flag: str) -> None:
        """Raises InputError for what is none of them."""
        if value not in self:
            kind = "a whole number" if self.kind is int else "a number"
            ends = " and ".join(f"{SIGNS[sign][0]} {end:.15g}" for sign, end in self.ends.items())
            raise InputError(f"{flag} {value} must be {kind}, {ends}")


class Short:
    """Words of at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self.most = most

    def check(self, value: str, flag: str) -> None:
        """Raises InputError for a longer one."""
        if (length := len(os.fsencode(value))) > self.most:
            raise InputError(f"{flag} {value[:20]}… has {length} bytes; give a name of at most {self.most}")


Name = Annotated[str, Short(150)]
"""Of a run or an experiment. A run's name is a comparison's and what a cell is: databases keep 250 characters."""
Count = Annotated[int, Within(int, 1)]
Natural = Annotated[int, Within(int, 0)]
"""0, 1, 2 …"""
Positive = Annotated[float, Within(float, above=0)]
NotNegative = Annotated[float, Within(float, 0)]
Share = Annotated[float, Within(float, 0, most=1)]
Decay = Annotated[float, Within(float, 0, below=1)]
Channels = Annotated[int, Within(int, 8, most=4096, step=8)]
Width = Annotated[int, Within(int, 0, most=4096, step=8)]
Units = Annotated[int, Within(int, 1, most=65_536)]
Folds = Annotated[int, Within(int, 2, most=100)]
Imbalance = Annotated[float, Within(float, 1, most=1e6)]
ImageSize = Annotated[int, Within(int, 8, most=4096, step=4)]
Seconds = Annotated[float, Within(float, above=0, most=1_000_000)]
Processes = Annotated[int, Within(int, 1, most=4096)]
Moves = Literal["rotate", "reflect"]
"""Of an image: rotated, scaled and shifted, or, every second one, reflected, and shifted."""


def of(hint: Any) -> Within | Short | None:
    """The bounds in a field's type, be it Count, Count | None or tuple[Count, ...]."""
    if isinstance(hint, Within | Short):
        return hint
    parts = getattr(hint, "__metadata__", ()) or get_args(hint)
    return next((found for part in parts if (found := of(part))), None)


def check(value: Any, hint: Any, flag: str) -> None:
    """Raises InputError for a flag's value that is out of the bounds in its type; of a dataclass, for a field's."""
    if dataclasses.is_dataclass(value):
        check_fields(value, f"{flag}.")
    elif bounds := of(hint):
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                bounds.check(each, flag.replace("_", "-"))


def check_fields(config: Any, prefix: str = "--") -> None:
    """The same for each field of a dataclass."""
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        check(getattr(config, name), hint, f"{prefix}{name}")
