"""Locks on files, which the kernel takes from a process that dies: the only sign of life in `outputs/`."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InputError, unwritable

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""What a system says of a lock that another process has; anything else is said of the file system."""
GLANCE_S = 2.0
"""Longer than anybody holds another's lock to see whether it is free."""


def taken(file: int, path: Path, wait_s: float = 0.0) -> bool:
    """Take the lock of an open file, which must be open for writing (NFS asks for that); whether it was free.

    Raises InputError where the file system has no locks.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in HELD:
                raise InputError(
                    f"{path}: its file system has no locks ({error.strerror}), by which runs are kept apart; "
                    "start where outputs/ lies on a local disk"
                ) from error
        if time.monotonic() > until:
            return False
        time.sleep(0.01)


def is_free(path: Path) -> bool:
    """Whether no process holds the lock of a file; True where there is no such file."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        return taken(file, path)
    finally:
        os.close(file)


def is_of(file: int, path: Path) -> bool:
    """Whether an open lock file is the one at a path still: the folder may have been deleted, and made again."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def held(path: Path, wait_s: float = 0.0) -> Iterator[int | None]:
    """A lock file, made where it is missing, held for the length of the block; None where another has it.

    What is given is the open file: a process that inherits it has the lock too, until both have closed it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield file if taken(file, path, wait_s) else None
    finally:
        os.close(file)
