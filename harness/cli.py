"""Dataclasses as flags, and bad input as one line."""

import contextlib
import dataclasses
import inspect
import io
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import tyro

from harness import signals
from harness.errors import Diverged, InputError

CONFIG = "--config"
FRAME = "╭╮╰╯│─ "  # what tyro draws around its messages


def main(function: Callable[..., Any]) -> None:
    """Call `function` with its parameters read from the command line.

    Every field of a dataclass parameter is a flag, its docstring the help; `--config FILE.toml` gives some of them,
    such as a study's best.toml. Its result is the exit code, if it has one. What cannot be parsed, and any InputError,
    is one line on stderr and exit code 2; so is the signal that ended it, with the shell's code for it.
    """
    try:
        code = function(**_parse(function))
    except InputError as error:
        _refuse(str(error))
    except Diverged as error:
        _refuse(str(error), code=1)
    except (signals.Killed, KeyboardInterrupt) as error:
        print(signals.reason(error), file=sys.stderr)
        sys.exit(error.code if isinstance(error, signals.Killed) else 130)
    if code:
        sys.exit(code)


def _parse(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters' values; tyro's framed message is folded into one line."""

    def collect(**values: Any) -> dict[str, Any]:
        return values

    hints = get_type_hints(function, include_extras=True)
    collect.__doc__ = (
        f"{function.__doc__}\n\n{CONFIG} FILE.toml gives flags of a table such as [gan]; others override it."
    )
    collect.__annotations__ = {
        name: Annotated[hint, tyro.conf.arg(name="")] if dataclasses.is_dataclass(hint) else hint
        for name, hint in hints.items()
    }
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=collect.__annotations__[name])
            for name, parameter in inspect.signature(function).parameters.items()
        ]
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(collect, prog=Path(sys.argv[0]).name, args=_with_config(sys.argv[1:], hints))
    except SystemExit as end:
        if end.code == 2:
            _refuse(_one_line(said.getvalue()))
        raise


def _with_config(arguments: list[str], hints: Mapping[str, Any]) -> list[str]:
    """The arguments, after those that a file given by --config stands for: what comes later counts."""
    if CONFIG not in arguments:
        return arguments
    place = arguments.index(CONFIG)
    if place + 1 == len(arguments):
        raise InputError(f"{CONFIG} needs a file, such as a study's best.toml")
    path, prefixes = Path(arguments[place + 1]), _tables(hints)
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{CONFIG} {path} cannot be read: {str(error).splitlines()[0]}") from error
    given = []
    for table, values in tables.items():
        if table not in prefixes or not isinstance(values, dict):
            raise InputError(f"{CONFIG} {path}: {table!r} is not for this script, which takes {_listed(prefixes)}")
        given += [word for key, value in values.items() for word in (f"--{prefixes[table]}{key}", str(value))]
    return [*given, *arguments[:place], *arguments[place + 2 :]]


def _tables(hints: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The prefix of each Config's flags, by the name of its module: `gan` for harness.methods.gan.Config."""
    found: dict[str, str] = {}
    for hint in hints.values():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if hint.__name__ == "Config":
                found[hint.__module__.rpartition(".")[2]] = prefix
            else:
                parts = get_type_hints(hint)
                for part in parts:
                    found |= _tables({part: parts[part]}, f"{prefix}{part}.")
    return found


def _listed(prefixes: Mapping[str, str]) -> str:
    return ", ".join(f"[{name}]" for name in prefixes) or "none"


def _one_line(framed: str) -> str:
    lines = [line.strip(FRAME) for line in framed.splitlines()]
    lines = [line for line in lines[1:] if line and not line.startswith(("Argument helptext", "For full"))]
    return "; ".join(lines) + "; --help shows every flag"


def _refuse(message: str, code: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
