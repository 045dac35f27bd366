"""Who carries tasks out: one after the other, or an engine's cluster. What a study and a comparison are driven by."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from harness import locks, tracking
from harness.engine import tasks
from harness.engine.tasks import Ending, Place, Task
from harness.engine.workers import WorkerSettings
from harness.errors import InputError
from harness.outputs import OUTPUTS

Hear = Callable[[str, tuple[Any, ...]], bool]
"""The name of a task and what it says, as for `tasks.Hear`; called in the driver's own thread."""


class Engine(Protocol):
    """Carries out named tasks; ends with its driver, and they with it."""

    slots: int
    """how many tasks are carried out at once"""

    def submit(self, name: str, task: Task, needs: str | None = None) -> None:
        """Have a task done; after the task `needs`, whose value becomes its last argument."""
        ...

    def endings(self, hear: Hear) -> Iterator[tuple[str, Ending]]:
        """How the tasks end, as they do, until none is under way; others may be submitted meanwhile."""
        ...


@contextlib.contextmanager
def hold_driver_lock(what: str) -> Iterator[None]:
    """One process of a folder drives a study or a comparison. Raises InputError where another one does."""
    with locks.held(OUTPUTS / "driven" / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock") as lock:
        if lock is None:
            raise InputError(f"the {what} is being carried out by another process in this folder; wait for its end")
        yield


def with_value(task: Task, needed: Ending) -> Task | Ending:
    """A task that knows the value of what it needs, or its ending where there is none."""
    if needed.state == "done":
        return dataclasses.replace(task, arguments=(*task.arguments, needed.value))
    return Ending("failed", reason=f"what it needs has no result: {needed.reason}")


class InOrder:
    """One task after the other, as they were submitted. Imports no engine."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.slots, self._retries = 1, settings.retries
        self._place = Place(tuple(tasks.devices()[: settings.processes_per_trial]))
        self._waiting: deque[tuple[str, Task, str | None]] = deque()
        self._ended: dict[str, Ending] = {}

    def submit(self, name: str, task: Task, needs: str | None = None) -> None:
        self._waiting.append((name, task, needs))

    def endings(self, hear: Hear) -> Iterator[tuple[str, Ending]]:
        while self._waiting:
            name, task, needs = self._waiting.popleft()
            ready = with_value(task, self._ended[needs]) if needs else task
            if isinstance(ready, Task):
                ready = self._done(name, ready, lambda words, name=name: hear(name, words))
            self._ended[name] = ready
            yield name, ready

    def _done(self, name: str, task: Task, hear: tasks.Hear) -> Ending:
        ending = Ending("died")
        for _ in range(self._retries + 1):
            ending = tasks.carry_out(task, self._place, hear, threading.Event())
            if ending.state != "died":
                break
            note_death(name, ending.reason)
        return ending


def note_death(name: str, reason: str) -> None:
    """Say that a task is tried again, or has died for good."""
    print(f"{name}: {reason}", file=sys.stderr, flush=True)


def with_progress_lines(
    endings: Iterator[tuple[str, Ending]], title: str, number: int, slots: int
) -> Iterator[tuple[str, Ending]]:
    """The same endings, each said in a line: how many of `number` are done, failed and running, and the time left."""
    start, failed = time.monotonic(), 0
    for done, (name, ending) in enumerate(endings, 1):
        failed += ending.state in ("failed", "died")
        if not ending.all_sent:
            tracking.note_left(name)
        left_s = (time.monotonic() - start) / done * (number - done)
        print(
            f"{title} {name}: {_how(ending)}; {done} of {number} done, "
            f"{failed} failed, {min(slots, number - done)} running, {_words(left_s)} left",
            file=sys.stderr if ending.state in ("failed", "died") else sys.stdout,
            flush=True,
        )
        yield name, ending


def _how(ending: Ending) -> str:
    if ending.state == "done" and isinstance(ending.value, list):
        return ", ".join(f"{value:.4g}" for value in ending.value)
    return f"{ending.state}: {ending.reason}" if ending.reason else ending.state


def _words(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
