"""Dataclasses as flags, and bad input as one line."""

import codecs
import contextlib
import dataclasses
import errno
import gc
import inspect
import io
import json
import os
import re
import shutil
import signal
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import tyro

from harness import bounds, signals
from harness.errors import Diverged, InputError

RARELY = 100_000
"""New objects between two looks for garbage: with Python's 700 these take a fifth of the time of `import mlflow`."""
CONFIG = "--config"
FIRST = ("dataset", "n_real", "methods", "seeds", "trials", "steps", "seed", "workers", "resume")
"""What --help shows before all else: five of them."""
FRAME = "╭╮╰╯│─ "  # what tyro draws around its messages
FLAG = re.compile(r"^  (\S.*?)(?: {2,}(\S.*))?\n((?: {3,}\S.*\n)*)", re.MULTILINE)
"""In a --help a flag, or an argument, and its words."""
SHOWABLE = "showable"
"""How stdout shows what its encoding lacks: as something like it."""
PASSWORD = re.compile(r"(?<=://)[^/\s@'\"]*:[^/\s'\"]*@|(?<=[?&])\w*passw(?:or)?d=[^&\s'\"]*", re.IGNORECASE)
"""In an address: USER:PASSWORD@, which may itself have an @, and password=PASSWORD behind a question mark."""
AsJson = Annotated[bool, tyro.conf.arg(help="print one JSON object instead, of unrounded numbers and run ids")]
"""The flag of a command that takes an `answer`."""
ALIKE = {"†": "+", "‡": "++", "–": "-", "−": "-", "…": "...", "×": "x", "≥": ">=", "≤": "<=", "│": "|", "─": "-"}


def _showable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ALIKE.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error(SHOWABLE, _showable)


def main(function: Callable[..., Any]) -> None:
    """Call `function` with its parameters read from the command line.

    Every field of a dataclass parameter is a flag, its docstring the help; `--config FILE.toml` gives some of them,
    such as a study's best.toml. Its result is the exit code, if it has one. What cannot be parsed, and any InputError,
    is one line on stderr and exit code 2; so is the signal that ended it, with the shell's code for it.
    """
    gc.set_threshold(RARELY)
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=SHOWABLE)
    if any(map(PASSWORD.search, sys.argv[1:])):
        print(
            "warning: a password in a flag is seen by every user of this machine, and kept by the shell: a database's "
            "belongs in PGPASSFILE or PGPASSWORD, a server's in MLFLOW_TRACKING_PASSWORD",
            file=sys.stderr,
        )
    try:
        code = _call(function)
    except InputError as error:
        _refuse(str(error))
    except Diverged as error:
        _refuse(str(error), code=1)
    except (signals.Killed, KeyboardInterrupt) as error:
        print(signals.reason(error), file=sys.stderr)
        sys.exit(error.code if isinstance(error, signals.Killed) else 130)
    if code:
        sys.exit(code)


@contextlib.contextmanager
def answer(as_json: bool) -> Iterator[dict[str, Any]]:
    """A dict for what a command has found, printed at the end of the block if that is wanted: one JSON object, a line.

    All else that is printed in the block goes to stderr then. What an exception leaves in the dict is printed too.
    """
    found: dict[str, Any] = {}
    if not as_json:
        yield found
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield found
    finally:
        if found:
            print(json.dumps(found, default=str, allow_nan=False))


def _open_what_is_closed() -> None:
    """Where stdin, stdout or stderr is closed, as by `>&-`: the next file that is opened must not become it."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(file)
    sys.stdout, sys.stderr = (file or open(os.devnull, "w") for file in (sys.stdout, sys.stderr))  # noqa: SIM115


def _call(function: Callable[..., Any]) -> Any:
    """What `function` returns. Ends in silence where who reads its output has seen enough, as `head` does."""
    try:
        try:
            return function(**_parse(function))
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not _is_of_stdout(error):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        _refuse(f"what is printed cannot be written: {error.strerror}", code=1)


def _is_of_stdout(error: OSError) -> bool:
    """Whether stdout takes no more, as the error may say of any file: then it takes no empty line either."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return False
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")
    except OSError as again:
        return again.errno == error.errno
    return False


def _parse(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters' values; tyro's framed message is folded into one line."""

    def collect(**values: Any) -> dict[str, Any]:
        return values

    hints = get_type_hints(function, include_extras=True)
    about, args, flags = inspect.cleandoc(function.__doc__ or "").partition("\n\nArgs:")
    if tables := _listed(_tables(hints)):
        about += (
            f"\n\nFlags of a table such as {tables[0]} may stand in a file: {CONFIG} FILE.toml; others override it."
        )
    collect.__doc__ = f"{about}{args}{flags}"
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
    said, told = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(told):
            values = tyro.cli(
                collect,
                prog=Path(sys.argv[0]).name,
                args=_with_config(sys.argv[1:], hints),
                config=(tyro.conf.DisallowNone,),
            )
    except SystemExit as end:
        if end.code == 2:
            _refuse(_one_line(said.getvalue()))
        settings = [hint for hint in hints.values() if dataclasses.is_dataclass(hint)]
        rows = [row.rstrip() for row in told.getvalue().splitlines()]
        print(_filled(_grouped("\n".join([*rows, "", ""]), settings)).rstrip())
        raise
    for name, value in values.items():
        if dataclasses.is_dataclass(value):
            bounds.check_fields(value)
        else:
            bounds.check(value, hints[name], f"--{name}")
    return values


def _filled(helptext: str) -> str:
    """A --help with each flag's words below it, as wide as the terminal: tyro breaks them where the source does."""
    margin, width = " " * 8, shutil.get_terminal_size().columns

    def fill(flag: re.Match[str]) -> str:
        words = re.sub(r" \(default: (None|'')?\)", "", " ".join(" ".join(flag.groups("")[1:]).split()))
        filled = textwrap.wrap(words, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
        return "\n".join([f"  {flag[1]}", *filled, ""])

    return FLAG.sub(fill, helptext)


def _grouped(helptext: str, settings: list[Any]) -> str:
    """A script's --help with its flags in groups: those of FIRST, then those of each class."""
    rows = helptext.splitlines()
    titles = {name: title for each in settings for name, title in _titles(each)}
    if "dataset" not in titles:
        return helptext
    first = [name for name in FIRST if name in titles][:5]
    begin = rows.index(" options")
    end = rows.index("", begin)
    groups: dict[str, dict[str, list[str]]] = {"What matters first": {name: [] for name in first}}
    flag: list[str] = []
    for row in rows[begin + 2 : end]:
        if row.startswith("  -"):
            name = row.split()[0].rstrip(",").lstrip("-").replace("-", "_")
            group = (
                groups["What matters first"]
                if name in (*first, "h")
                else groups.setdefault(titles.get(name, "Others"), {})
            )
            flag = group[name] = []
        flag.append(row)
    grouped = [f" {title}\n{rows[begin + 1]}\n{_joined(flags.values())}\n" for title, flags in groups.items()]
    return "\n".join([*rows[:begin], *grouped, *rows[end + 1 :], ""])


def _joined(flags: Iterable[list[str]]) -> str:
    return "\n".join(row for flag in flags for row in flag)


def _titles(settings: Any) -> Iterator[tuple[str, str]]:
    """The fields of a dataclass, each with the first line of the docstring of the class that has made it."""
    for field in dataclasses.fields(settings):
        owner = next(base for base in reversed(settings.__mro__) if field.name in vars(base).get("__annotations__", {}))
        yield field.name, str(owner.__doc__).partition("\n")[0].rstrip(".")


def _with_config(arguments: list[str], hints: Mapping[str, Any]) -> list[str]:
    """The arguments, after those that a file given by --config stands for: what comes later counts."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise InputError(
                f"{word.rstrip('=') or before or 'the first argument'} is empty: an unset variable, perhaps"
            )
    place = next((at for at, word in enumerate(arguments) if word.partition("=")[0] == CONFIG), None)
    if place is None:
        return arguments
    _, equals, file = arguments[place].partition("=")
    following = arguments[place + 1 :]
    if not equals:
        file, *following = following or [""]
    if not file:
        raise InputError(f"{CONFIG} needs a file, such as a study's best.toml")
    path, prefixes = Path(file), _tables(hints)
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{CONFIG} {path} cannot be read: {str(error).splitlines()[0]}") from error
    given = []
    for table, values in tables.items():
        if table not in prefixes or not isinstance(values, dict):
            taken = ", ".join(_listed(prefixes)) or "none"
            raise InputError(f"{CONFIG} {path}: {table!r} is not for this script, which takes {taken}")
        given += [word for key, value in values.items() for word in (f"--{prefixes[table]}{key}", str(value))]
    return [*given, *arguments[:place], *following]


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


def _listed(prefixes: Mapping[str, str]) -> list[str]:
    return [f"[{name}]" for name in prefixes]


def _one_line(framed: str) -> str:
    """What tyro says in its frame; a line that it has broken, since the next word did not fit, is whole again."""
    said, room = "", 0
    for row in framed.splitlines()[1:]:
        line, end = row.strip(FRAME), len(row) - len("│")
        if line.strip("-") and not line.startswith(("Argument helptext", "For full")):
            goes_on = len(line.split()[0]) >= room or said.endswith(":")
            said += (" " if goes_on else "; ") * bool(said) + line
            room = end - len(row.rstrip(FRAME)) - 1
    return said.rstrip(".") + "; --help shows every flag"


def _refuse(message: str, code: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
