"""Where everything lies that a command makes."""

import tempfile
from pathlib import Path

from harness.errors import InputError, lost_link

OUTPUTS = Path("outputs")


def as_part(name: str) -> str:
    """A name that a user has given, as one part of a path: a place inside the folder into which it is put."""
    return name.replace("/", "_").lstrip(".") or "_"


def make_folder(out: Path, flag: str = "--out") -> None:
    """See to it that the folder of a flag is there and takes files, before there is anything to lose.

    Raises InputError where it is none.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        reason = lost_link(out) or error.strerror
        raise InputError(f"{flag} {out} cannot be a folder to write to ({reason}); give another") from error


def check_file(out: Path, *endings: str) -> None:
    """The same for a file: that it can be written, and has one of these endings."""
    if out.suffix.lower() not in endings:
        raise InputError(f"--out {out} must end in {' or '.join(endings)}")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; give a file")
    make_folder(out.parent)
