"""The exceptions that a user is meant to read: one line each, without a traceback."""

import errno
import os
from pathlib import Path


class InputError(ValueError):
    """What was asked for cannot be done: one line that says what is wrong and what would be right.

    `harness.cli.main` prints it and exits with code 2, without a traceback.
    """


def unwritable(path: Path, error: OSError) -> InputError:
    """Why a file cannot be written, in a sentence."""
    advice = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return InputError(f"{path} cannot be written: {lost_link(path) or error.strerror}{advice}")


def lost_link(path: Path) -> str:
    """Which link to nothing leads to a file, such as to a disk that is not mounted; "" for none."""
    links = (place for place in (path, *path.parents) if place.is_symlink() and not place.exists())
    return next((f"{link} is a link to {os.readlink(link)}, which is not there" for link in links), "")


class Diverged(ArithmeticError):
    """A training's numbers are no longer finite: the step, and the last good checkpoint. Exit code 1."""


class FailedElsewhere(RuntimeError):
    """A failure in another process, which has said why: the message is the reason, with its rank."""


class Pruned(Exception):
    """A study has stopped a training that is no longer promising. No error: its run is closed as KILLED."""
