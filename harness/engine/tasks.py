"""A cell or a trial as a task: a function of plain data that returns plain data, in a process of its own.

    python -m harness.engine.tasks FOLDER       # such a process, under `accelerate launch` or where none can be forked

A crash, a kill for want of memory or a leaked CUDA context ends that task alone. The process comes from a fork server
that has imported what a training needs, so that its start costs little. What it has to say meanwhile lies as files in
a folder that it shares with whoever waits for it; nobody here knows of an engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import psutil
import torch

from harness import numerics, signals, tracking
from harness.engine import forking
from harness.errors import Pruned
from harness.tracking import local
from harness.training import launch

DEVICES = "CUDA_VISIBLE_DEVICES"
RANK = "rank"
POLL_S = 0.01
LISTEN_S = 0.03
"""Between two looks at what a task has said; its end is seen at once."""
STOP_S = 600.0
"""How long a stopped task may take for its step and its checkpoint."""


@dataclass(frozen=True)
class Task:
    """`function(talk, *arguments)`, of a module that any process can import, in `processes` processes."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    processes: int = 1
    timeout_s: float | None = None
    """after which the task is taken for hung and killed"""
    environment: dict[str, str] = field(
        default_factory=lambda: {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
    )
    """precision and compiler of whoever made the task, which hold on every host"""
    command: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))
    """what its runs say that they were made by"""
    numerics: int = numerics.VERSION


@dataclass(frozen=True)
class Place:
    """What a task may use."""

    devices: tuple[str, ...] = ()
    """names of GPUs; none where there are no GPUs"""
    threads: int | None = None


@dataclass(frozen=True)
class Ending:
    """How a task has ended. `stopped`: by a signal; `died`: without a word, or hung."""

    state: Literal["done", "pruned", "failed", "stopped", "died"]
    value: Any = None
    reason: str = ""
    run: str = ""
    """the id of the task's run, where it told one: the store's, if the store has it"""
    all_sent: bool = True
    """whether the store has all that the task's runs said, or is not to be reached from there"""


class Talk:
    """A task's side of the conversation: plain calls, from one thread of its main process."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0

    def begun(self, run: str) -> None:
        """Tell the id of the task's run."""
        self._say("run", run)

    def report(self, step: int, value: float) -> None:
        """Tell how good what is trained is so far."""
        self._say("report", step, value)

    def should_stop(self) -> bool:
        """Ask whether to end, after the last report. Waits for the answer."""
        self._say("ask")
        answer = self._folder / f"answer-{self._number}"
        while not answer.exists():
            time.sleep(POLL_S)
        return pickle.loads(answer.read_bytes())

    def _say(self, *words: Any) -> None:
        self._number += 1
        _write(self._folder / f"say-{self._number}", words)


Hear = Callable[[tuple[Any, ...]], bool]
"""What a task says, ("run", id), ("report", step, value) or ("ask",) -> for an "ask": whether it should stop."""


# --- Whoever waits for a task ----------------------------------------------------------------------------


def carry_out(task: Task, place: Place, hear: Hear, stop: threading.Event) -> Ending:
    """Have a task done, in a process of its own, and wait for its end; `stop` ends it after its step."""
    with tempfile.TemporaryDirectory(prefix="task-") as name:
        folder = Path(name)
        (folder / "task").write_bytes(pickle.dumps((os.getpid(), _environment(task, place), place, task)))
        ears, until = _Ears(folder, hear), time.monotonic() + (task.timeout_s or math.inf)
        reason, stopped = "", False
        with _process(folder) as process:
            while process.poll() is None:
                ears.listen()
                if stop.is_set() and not stopped:
                    process.terminate()
                    stopped = True
                if time.monotonic() > until:
                    process.kill()
                    reason, until = f"it was not over after {task.timeout_s:g} s (--trial-timeout)", math.inf
                process.wait(LISTEN_S)
            ears.listen()
        if not reason and (folder / "ending").exists():
            return dataclasses.replace(pickle.loads((folder / "ending").read_bytes()), run=local.in_the_store(ears.run))
        return Ending("died", reason=reason or _last_words(process.poll()), run=local.in_the_store(ears.run))


class _Ears:
    """What a task has said, each word once and in its order."""

    def __init__(self, folder: Path, hear: Hear) -> None:
        self._folder, self._hear, self._number, self.run = folder, hear, 0, ""

    def listen(self) -> None:
        while (path := self._folder / f"say-{self._number + 1}").exists():
            self._number += 1
            words = pickle.loads(path.read_bytes())
            stop = self._hear(words)
            if words[0] == "run":
                self.run = words[1]
            if words[0] == "ask":
                _write(self._folder / f"answer-{self._number}", stop)


def _last_words(code: int | None) -> str:
    said = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
    return f"its process ended with {said} and gave no reason"


def _environment(task: Task, place: Place) -> dict[str, str]:
    """This process's, without what a launcher of it has promised."""
    launched = {*launch.WORLDS, *launch.WORLDS.values(), "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    known = {name: value for name, value in os.environ.items() if name not in launched} | task.environment
    return known | ({DEVICES: ",".join(place.devices)} if place.devices else {})


@dataclass
class _Process:
    """A child, forked or started, with what it has started itself."""

    pid: int
    poll: Callable[[], int | None]
    wait: Callable[[float], object]
    """for its end, so many seconds at most"""

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def _process(folder: Path) -> Iterator[_Process]:
    """The process of a task; what is left of it and of its own ends with the block."""
    if multiprocessing.current_process().daemon:  # as a Dask nanny's worker is, which may have no such children
        started = subprocess.Popen([sys.executable, "-m", "harness.engine.tasks", str(folder)], start_new_session=True)
        process = _Process(started.pid, started.poll, functools.partial(_wait, started))
    else:
        forked = forking.fork_server().Process(target=_be, args=(folder,), daemon=False)
        forked.start()
        assert forked.pid
        process = _Process(forked.pid, lambda: forked.exitcode, forked.join)
    try:
        yield process
    except BaseException:
        process.terminate()
        raise
    finally:
        with signals.ignore_signals():
            until = time.monotonic() + STOP_S
            while process.poll() is None and time.monotonic() < until:
                time.sleep(POLL_S)
            process.kill()


def _wait(started: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(seconds)


def devices() -> list[str]:
    """The names of the GPUs that this process may use."""
    if DEVICES in os.environ:
        return [name for name in os.environ[DEVICES].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


# --- The process of a task -------------------------------------------------------------------------------


def _be(folder: Path) -> None:
    """Become the task's process, or the launcher of its processes."""
    _, environment, place, task = pickle.loads((folder / "task").read_bytes())
    os.environ.clear()
    os.environ.update(environment)
    if os.getsid(0) != os.getpid():
        os.setsid()  # a terminal's Ctrl-C reaches the caller alone, which passes it on
    if task.processes == 1:
        _rank(folder)
    from dask.system import cpu_count  # of what this process may use: affinity and cgroups' limits

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (place.threads or cpu_count()) // task.processes)))
    if not place.devices:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    os.execv(
        sys.executable, [sys.executable, *_launcher(task.processes), "-m", "harness.engine.tasks", str(folder), RANK]
    )


def _launcher(processes: int) -> list[str]:
    return [
        "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", str(processes),
        "--main_process_port", "0", "--mixed_precision", launch.precision(),
        "--dynamo_backend", os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower(),
    ]  # fmt: skip


def _rank(folder: Path) -> NoReturn:
    """The task, or one of its processes: the first that fails, else the main one, writes down how it ended."""
    caller, _, place, task = pickle.loads((folder / "task").read_bytes())
    threading.Thread(target=_end_after, args=(caller,), daemon=True).start()
    sys.argv = list(task.command)
    if task.processes == 1 and place.threads and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(place.threads)
    code = 0
    try:
        with signals.raise_signals():
            ending = Ending("done", task.function(Talk(folder), *task.arguments))
    except Pruned as error:
        ending = Ending("pruned", reason=str(error))
    except (signals.Killed, KeyboardInterrupt) as error:
        ending = Ending("stopped", reason=signals.reason(error))
        code = 128 + signal.SIGTERM
    except BaseException as error:
        ending, code = Ending("failed", reason=launch.first_failure(error)), 1
    if ending.state != "done" or os.environ.get("RANK", "0") == "0":
        _write(folder / "ending", dataclasses.replace(ending, all_sent=tracking.exit_code() == 0))
    sys.exit(code)


def _end_after(caller: int) -> None:
    """End this process as by SIGTERM when the one that waits for it has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(caller).wait()
    os.kill(os.getpid(), signal.SIGTERM)


def _write(path: Path, content: Any) -> None:
    """Whole, and once: the first word counts."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(pickle.dumps(content))
    with contextlib.suppress(FileExistsError):
        os.link(aside, path)


if __name__ == "__main__":
    from harness.engine import tasks  # what is pickled names this module so

    (tasks._rank if sys.argv[-1] == RANK else tasks._be)(Path(sys.argv[1]))
