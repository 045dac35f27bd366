"""A task in a process of its own: how it ends, what it says meanwhile, and that it ends with whoever waits for it."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import processes
import psutil
import pytest

from harness.engine import tasks
from harness.engine.tasks import Ending, Place, Talk, Task
from harness.errors import InputError, Pruned


@pytest.fixture(autouse=True, scope="module")
def _forked() -> None:
    """Tasks come from the server that has all imports already."""
    processes.server()


def done(task: Task, place: Place = Place(), heard: list | None = None, stop: threading.Event | None = None) -> Ending:
    def hear(words: tuple[Any, ...]) -> bool:
        if heard is not None:
            heard.append(words)
        return words == ("ask",) and len(heard or ()) > 2

    return tasks.carry_out(task, place, hear, stop or threading.Event())


def process_and(talk: Talk, *arguments: Any) -> tuple[Any, ...]:
    return os.getpid(), *arguments


def ends(talk: Talk, how: str, folder: Path | None = None) -> int:
    match how:
        case "pruned":
            raise Pruned("pruned at step 3: fid is 7")
        case "failed":
            raise MemoryError("no memory is left")
        case "refused":
            raise InputError("--n-real 0 must be at least 1")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "left":
            os._exit(3)
        case "hung":
            assert folder
            try:
                (folder / "pid").write_text(str(os.getpid()))  # from here on it may be stopped
                while True:
                    time.sleep(1)
            finally:
                (folder / "ended").touch()
    return 1


def talks(talk: Talk) -> list[bool]:
    talk.begun("a run")
    answers = []
    for step in (1, 2):
        talk.report(step, step / 4)
        answers.append(talk.should_stop())
    return answers


def sees(talk: Talk, *names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def test_a_task_is_done_in_a_process_of_its_own() -> None:
    ending = done(Task(process_and, ("x", {"a": 1})))
    process, *arguments = ending.value
    assert ending.state == "done"
    assert process != os.getpid()
    assert arguments == ["x", {"a": 1}]


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [
        ("pruned", "pruned", "pruned at step 3: fid is 7"),
        ("failed", "failed", "MemoryError: no memory is left"),
        ("refused", "failed", "harness.errors.InputError: --n-real 0 must be at least 1"),
        ("killed", "died", "its process ended with SIGKILL and gave no reason"),
        ("left", "died", "its process ended with exit code 3 and gave no reason"),
    ],
)
def test_how_a_task_ends_is_told(how: str, state: str, reason: str) -> None:
    ending = done(Task(ends, (how,)))
    assert (ending.state, ending.reason) == (state, reason)


def test_a_task_says_how_it_goes_and_hears_whether_to_stop() -> None:
    heard: list[Any] = []
    ending = done(Task(talks), heard=heard)
    assert heard == [("run", "a run"), ("report", 1, 0.25), ("ask",), ("report", 2, 0.5), ("ask",)]
    assert (ending.value, ending.run) == ([True, True], "a run")


def test_a_task_that_is_stopped_ends_as_by_a_signal(tmp_path: Path) -> None:
    stop = threading.Event()
    waits = threading.Thread(target=lambda: (processes.until((tmp_path / "pid").exists), stop.set()))
    waits.start()
    ending = done(Task(ends, ("hung", tmp_path)), stop=stop)
    waits.join()
    assert (ending.state, ending.reason) == ("stopped", "stopped by SIGTERM")
    assert (tmp_path / "ended").exists()


def test_a_task_that_hangs_is_killed(tmp_path: Path) -> None:
    ending = done(Task(ends, ("hung", tmp_path), timeout_s=3))
    assert (ending.state, ending.reason) == ("died", "it was not over after 3 s (--trial-timeout)")
    pid = tmp_path / "pid"  # which it has not written yet where it took longer to start
    assert not pid.exists() or not psutil.pid_exists(int(pid.read_text()))


def wait_for_a_hung_task(folder: Path) -> None:
    done(Task(ends, ("hung", folder)))


def test_a_task_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    caller = processes.server().Process(target=wait_for_a_hung_task, args=(tmp_path,))
    caller.start()
    processes.until((tmp_path / "pid").exists)
    caller.kill()
    processes.until((tmp_path / "ended").exists)


def test_a_task_sees_its_place_and_nothing_of_the_callers_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_SIZE", "WORLD_SIZE", "RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HARNESS_TOLD", "yes")
    names = ("PMI_SIZE", "WORLD_SIZE", "RANK", "MASTER_PORT", "HARNESS_TOLD", "CUDA_VISIBLE_DEVICES")
    ending = done(Task(sees, names), Place(("2", "3")))
    assert ending.value == [None, None, None, None, "yes", "2,3"]


def rank(talk: Talk) -> tuple[str, str]:
    return os.environ["RANK"], os.environ["WORLD_SIZE"]


def wait_as_a_daemon(folder: Path) -> None:
    (folder / "said").write_text(repr(done(Task(process_and, ("from a daemon",)))))


@pytest.mark.parametrize("kind", ["two processes", "from a daemon"])
def test_a_task_of_several_processes_and_one_whose_caller_may_fork_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{processes.ROOT}:{Path(__file__).parent}")
    if kind == "two processes":
        assert done(Task(rank, processes=2)).value == ("0", "2")
        return
    # as a Dask nanny's worker is
    caller = multiprocessing.get_context("spawn").Process(target=wait_as_a_daemon, args=(tmp_path,), daemon=True)
    caller.start()
    caller.join()
    assert "from a daemon" in (tmp_path / "said").read_text()


def test_only_what_a_task_needs_is_imported_by_who_waits_for_it() -> None:
    assert "distributed" not in sys.modules or "test_engine" in sys.modules  # another test module of this process
