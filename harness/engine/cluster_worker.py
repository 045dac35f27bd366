"""A worker's side of a cluster: a task on one of its threads, which waits for the task's own process."""

from __future__ import annotations

import contextlib
import functools
import pickle
import platform
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dask.system import cpu_count
from distributed import Event, Status, Worker, WorkerPlugin, get_client, get_worker

from harness import numerics
from harness.engine import tasks
from harness.engine.engines import with_value
from harness.engine.tasks import Ending, Place, Task
from harness.tracking import provenance

DIED = "died"
"""What the driver hears of a task that may be tried again."""


def facts(token: str) -> dict[str, Any]:
    """What a driver must know of a worker."""
    return {
        "host": platform.node(),
        "version": provenance.version(),
        "numerics": numerics.VERSION,
        "devices": len(tasks.devices()),
        "shares outputs": Path(token).exists(),  # it works in the very same folder
    }


class _Died(RuntimeError):
    """A task's process is gone; the engine tries again."""


class Stops(WorkerPlugin):
    """Ends a task's process when the scheduler takes the task back (it was cancelled, or its driver is gone), and all
    when the worker ends or has lost its scheduler.
    """

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        if start == "executing" and finish in ("released", "cancelled"):
            with _lock:
                if key in _stops:
                    _stops[key].set()

    def teardown(self, worker: Worker) -> None:
        if worker.status == Status.closing:  # and not another driver's plugin in this one's place
            with _lock:
                for stop in _stops.values():
                    stop.set()


_lock = threading.Condition()
_stops: dict[Any, threading.Event] = {}
_topics: list[str] = []
_loads: dict[str, int] = {}


def num_live(topic: str) -> int:
    """How many tasks of a driver are carried out here."""
    return _topics.count(topic)


def done(name: str, task: Task, needed: Ending | None, topic: str, slots_per_device: int) -> Ending:
    """A task, on a worker's thread; the driver hears its ending. Raises _Died where it may be tried again."""
    worker = get_worker()
    ending = _ending(worker, name, task, needed, topic, slots_per_device)
    if ending.state == "died":
        worker.log_event(topic, pickle.dumps(("", name, (DIED, ending.reason))))
        raise _Died(ending.reason)
    if worker.status != Status.closing:  # else the engine has it done elsewhere
        worker.log_event(topic, pickle.dumps(("", name, ending)))
    return ending


def _ending(worker: Worker, name: str, task: Task, needed: Ending | None, topic: str, slots_per_device: int) -> Ending:
    if task.numerics != numerics.VERSION:
        return Ending("failed", reason=f"{platform.node()} has numerics {numerics.VERSION}, the driver {task.numerics}")
    ready = with_value(task, needed) if needed else task
    if isinstance(ready, Ending):
        return ready
    stop = threading.Event()
    key = worker.get_current_task()
    with _lock:
        _stops[key] = stop
        _topics.append(topic)
    try:
        with _place(task, worker.state.nthreads, slots_per_device) as place:
            return tasks.carry_out(ready, place, functools.partial(_hear, worker, name, topic, stop), stop)
    finally:
        with _lock:
            del _stops[key]
            _topics.remove(topic)


def _hear(worker: Worker, name: str, topic: str, stop: threading.Event, words: tuple[Any, ...]) -> bool:
    """Pass on what a task says; wait for the answer where it asks."""
    question = uuid.uuid4().hex if words[0] == "ask" else ""
    worker.log_event(topic, pickle.dumps((question, name, words)))
    if not question:
        return False
    answered, told_to_stop = (Event(name, client=get_client()) for name in (question, stopping(question)))
    while not stop.is_set():
        if answered.wait(timeout=1):
            stop_it = bool(told_to_stop.is_set())
            for event in (answered, told_to_stop):
                event.clear()
            return stop_it
    return True


def stopping(question: str) -> str:
    """The name of the event by which the driver answers a question with yes."""
    return f"{question} to be stopped"


@contextlib.contextmanager
def _place(task: Task, slots: int, slots_per_device: int) -> Iterator[Place]:
    """As many of this worker's least used devices as the task has processes, once they have room for it."""
    threads = max(1, cpu_count() // slots)
    names = tasks.devices()
    if not names:
        yield Place((), threads)
        return
    with _lock:
        while True:
            free = sorted(
                (name for name in names if _loads.get(name, 0) < slots_per_device), key=lambda n: _loads.get(n, 0)
            )
            if len(free) >= task.processes:
                break
            _lock.wait()
        own = tuple(free[: task.processes])
        for name in own:
            _loads[name] = _loads.get(name, 0) + 1
    try:
        yield Place(own, threads)
    finally:
        with _lock:
            for name in own:
                _loads[name] -= 1
            _lock.notify_all()
