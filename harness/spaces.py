"""Search ranges that stand beside the defaults, in the fields of a method's Config.

    clip_limit: float = searched(0.01, low=0.003, high=0.1, log=True, when={"loss": "wgan"})

A study suggests values of these fields; the command line narrows their ranges or fixes them.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness import bounds
from harness.errors import InputError


@dataclass(frozen=True)
class Range:
    """What may be suggested for a field: numbers from low to high (both included), or one of `choices`.

    Only where the fields in `when` have the values that stand there: a clip limit for clipped weights alone.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        if self.choices:
            return ",".join(map(str, self.choices))
        return f"{self.low}:{self.high}{':log' if self.log else ''}"


Space = dict[str, Range]
"""Ranges by field, a field after those that its range depends on."""


def searched(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    choices: tuple[Any, ...] = (),
    when: Mapping[str, Any] | None = None,
) -> Any:
    """A dataclass field with its default and the range in which a study searches it."""
    return dataclasses.field(default=default, metadata={"range": Range(low, high, log, choices, when or {})})


def space_of(config: type) -> Space:
    """The ranges in the fields of a Config."""
    return {field.name: field.metadata["range"] for field in dataclasses.fields(config) if "range" in field.metadata}


def narrowed(config: type, ranges: tuple[str, ...], fixed: Mapping[str, Any]) -> Space:
    """The space of a Config within `ranges` (NAME=low:high[:log] or NAME=a,b), without the fields in `fixed`.

    Raises InputError for a name that is not searched and for a range that is not part of the field's own.
    """
    space = space_of(config)
    for text, name, value in _named(ranges, "--space", "NAME=low:high[:log] or NAME=a,b"):
        if name not in space:
            raise InputError(f"--space {text}: {name!r} is not searched; those that are: {_listed(space)}")
        space[name] = _within(space[name], get_type_hints(config)[name], text, value)
    return {name: found for name, found in space.items() if name not in fixed}


def fixed_values(config: type, settings: tuple[str, ...], flag: str = "--fix") -> dict[str, Any]:
    """The values of NAME=value settings in the types of a Config's fields.

    Raises InputError for a name that is no field and for a value that the field does not take.
    """
    hints, values = get_type_hints(config), {}
    bounded = get_type_hints(config, include_extras=True)
    for text, name, value in _named(settings, flag, "NAME=value"):
        if name not in hints:
            raise InputError(f"{flag} {text}: there is no {name!r}; there are {', '.join(hints)}")
        values[name] = _typed(hints[name], value, f"{flag} {text}")
        bounds.check(values[name], bounded[name], f"{flag} {name}")
    return values


def _named(texts: tuple[str, ...], flag: str, form: str) -> Iterator[tuple[str, str, str]]:
    """Each text with its name and value. Raises InputError for another form, and for a name that comes twice."""
    seen: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{flag} {text} must be {form}")
        name = name.replace("-", "_")
        if name in seen:
            raise InputError(f"{flag} has {name} twice, as {seen[name]} and {text}; give it once")
        seen[name] = text
        yield text, name, value


def _within(known: Range, kind: Any, text: str, value: str) -> Range:
    if known.choices:
        choices = tuple(_typed(type(known.choices[0]), part, f"--space {text}") for part in value.split(","))
        wrong = [choice for choice in choices if choice not in known.choices]
        if wrong:
            raise InputError(f"--space {text}: {wrong[0]!r} is none of {known}")
        return dataclasses.replace(known, choices=choices)
    low_text, _, rest = value.partition(":")
    high_text, _, scale = rest.partition(":")
    if not high_text or scale not in ("", "log"):
        raise InputError(f"--space {text} must be NAME=low:high or NAME=low:high:log, within {known}")
    low, high = (_typed(kind, part, f"--space {text}") for part in (low_text, high_text))
    if low > high:
        raise InputError(f"--space {text}: low {low} is above high {high}; give NAME=low:high, within {known}")
    if not known.low <= low <= high <= known.high:  # type: ignore[operator]
        raise InputError(f"--space {text} is not within {known}")
    return dataclasses.replace(known, low=low, high=high, log=known.log or bool(scale))


def _typed(kind: Any, value: str, said: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InputError(f"{said}: {value!r} is none of {', '.join(get_args(kind))}")
        return value
    if kind is bool:
        if value not in ("True", "False"):
            raise InputError(f"{said}: {value!r} is none of True, False")
        return value == "True"
    if get_origin(kind) in (Union, UnionType):  # such as int | None
        kind = next(each for each in get_args(kind) if each is not NoneType)
    try:
        return kind(value)
    except ValueError as error:
        raise InputError(f"{said}: {value!r} is no {kind.__name__}") from error


def _listed(space: Space) -> str:
    return ", ".join(f"{name}={found}" for name, found in space.items())
