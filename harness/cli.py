"""Dataclasses as flags, and bad input as one line."""

import contextlib
import dataclasses
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import tyro

from harness.errors import Diverged, InputError

FRAME = "╭╮╰╯│─ "  # what tyro draws around its messages


def main(function: Callable[..., Any]) -> None:
    """Call `function` with its parameters read from the command line.

    Every field of a dataclass parameter is a flag, its docstring the help. What cannot be parsed, and
    any InputError, is one line on stderr and exit code 2.
    """
    try:
        function(**_parse(function))
    except InputError as error:
        _refuse(str(error))
    except Diverged as error:
        _refuse(str(error), code=1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parse(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters' values; tyro's framed message is folded into one line."""

    def collect(**values: Any) -> dict[str, Any]:
        return values

    hints = get_type_hints(function)
    collect.__doc__ = function.__doc__
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
            return tyro.cli(collect, prog=Path(sys.argv[0]).name)
    except SystemExit as end:
        if end.code == 2:
            _refuse(_one_line(said.getvalue()))
        raise


def _one_line(framed: str) -> str:
    lines = [line.strip(FRAME) for line in framed.splitlines()]
    lines = [line for line in lines[1:] if line and not line.startswith(("Argument helptext", "For full"))]
    return "; ".join(lines) + "; --help shows every flag"


def _refuse(message: str, code: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
