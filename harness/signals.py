"""Signals that end a run: as exceptions, or, in a training loop, noted until a step is whole."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from harness.errors import FailedElsewhere, Pruned

ENDING = (signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C is Python's own KeyboardInterrupt; SLURM sends SIGUSR1 ahead of a time limit."""
DEFERRED = (*ENDING, signal.SIGINT)
"""What a training notes, and ends after the step."""


class Killed(SystemExit):
    """The run ends as KILLED, the process without a traceback and with the shell's code for the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


STOPPED = "stopped by "


def reason(error: BaseException) -> str:
    """Why a run ended, in a line: an exception's last, or the signal."""
    if isinstance(error, Killed):
        return f"{STOPPED}{error.signal.name}"
    if isinstance(error, KeyboardInterrupt):
        return f"{STOPPED}Ctrl-C"
    if isinstance(error, Pruned | FailedElsewhere):
        return str(error)
    return traceback.format_exception_only(error)[-1].strip()


@contextlib.contextmanager
def raise_signals() -> Iterator[None]:
    """Ending signals raise `Killed` at once."""

    def handle(number: int, _: Any) -> None:
        raise Killed(number)

    with _handled(handle, ENDING):
        yield


@contextlib.contextmanager
def defer_signals() -> Iterator[Callable[[], int]]:
    """Ending signals and Ctrl-C are noted: the function gives the number of the first, 0 before any.

    A second one does not wait.
    """
    first = 0

    def handle(number: int, _: Any) -> None:
        nonlocal first
        if first:
            raise Killed(number)
        first = number

    with _handled(handle, DEFERRED):
        yield lambda: first


@contextlib.contextmanager
def ignore_signals() -> Iterator[None]:
    """For the closing of a run, which takes a moment and must not be cut short."""
    with _handled(lambda *_: None, DEFERRED):
        yield


@contextlib.contextmanager
def _handled(handle: Callable[[int, Any], None], numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
