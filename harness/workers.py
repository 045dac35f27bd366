"""The processes of a study: several workers of one host, and one trial that spans several processes.

python -m harness.workers FILE          # one process of a spanning trial, under `accelerate launch`
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import torch

from harness import launch, signals
from harness.errors import FailedElsewhere, InputError, Pruned
from harness.plans import Crew
from harness.signals import Killed

DEVICES = "CUDA_VISIBLE_DEVICES"
ENDED_BY_OTHERS = 128 + signal.SIGTERM


# --- Workers ---------------------------------------------------------------------------------------------


def work(crew: Crew, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in `crew.workers` workers, or in this process where that is one; returns when all have ended.

    Each worker has devices of its own where there are several, one for each of the processes that its trials span,
    and its share of the CPU's threads. A worker that dies is named, and the others go on. Ctrl-C and SIGTERM reach
    each of them once.

    Raises InputError where a worker was refused, or all have died.
    """
    if crew.workers == 1:
        with signals.raised():
            function(*arguments)
        return
    context = multiprocessing.get_context("forkserver")
    # What a training imports when it first needs it, in seconds: once, not in each worker.
    context.set_forkserver_preload([function.__module__, "accelerate.utils", "matplotlib.figure", "scipy.stats"])
    workers = [
        context.Process(
            target=_worker, args=(dict(os.environ), place, crew, function, arguments), name=f"worker {place}"
        )
        for place in range(crew.workers)
    ]
    for worker in workers:
        worker.start()
    try:
        with signals.raised():
            for worker in workers:
                worker.join()
                _say_death(worker)
    except (KeyboardInterrupt, Killed):
        with signals.ignored():
            _end(workers)
        raise
    codes = [worker.exitcode for worker in workers]
    if 2 in codes:
        raise InputError("a worker was refused, see above")
    if not any(code == 0 for code in codes):
        raise InputError(f"all {crew.workers} workers have died; the same command goes on")


def _say_death(worker: ForkServerProcess) -> None:
    if worker.exitcode not in (0, 2):
        print(f"{worker.name} (process {worker.pid}) ended with {worker.exitcode}", file=sys.stderr)


def _end(workers: list[ForkServerProcess]) -> None:
    """Have each end its trial after the step, as on Ctrl-C, and wait for it."""
    for worker in workers:
        if worker.is_alive() and worker.pid:
            os.kill(worker.pid, signal.SIGTERM)
    for worker in workers:
        worker.join()


def _worker(
    environment: dict[str, str], place: int, crew: Crew, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    os.setsid()  # a terminal's Ctrl-C reaches the parent alone, which passes it on
    parent = multiprocessing.parent_process()
    assert parent
    threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()
    if torch.cuda.device_count() > 1:
        known = os.environ.get(DEVICES) or ",".join(map(str, range(torch.cuda.device_count())))
        os.environ[DEVICES] = ",".join(devices_of(place, crew.processes_per_trial, known.split(",")))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // crew.workers))
    try:
        with signals.raised():
            function(*arguments)
    except InputError as error:
        print(f"{multiprocessing.current_process().name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(ENDED_BY_OTHERS)


def devices_of(place: int, number: int, devices: list[str]) -> list[str]:
    """The `number` devices of the worker at a place; with more workers than devices they are shared in turn."""
    return [devices[index % len(devices)] for index in range(place * number, (place + 1) * number)][: len(devices)]


def _end_after(wait: Callable[[], Any]) -> None:
    """End this process as by SIGTERM when another one has."""
    wait()
    os.kill(os.getpid(), signal.SIGTERM)


# --- A trial that spans processes ------------------------------------------------------------------------


def span(processes: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a harness module in `processes` processes under `accelerate launch`: rank 0's result.

    Raises Pruned, FailedElsewhere with the reason that the processes gave, and Killed after a signal, when all of them
    have ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        task, outcome = Path(folder) / "task", Path(folder) / "outcome"
        task.write_bytes(pickle.dumps((os.getpid(), function, arguments)))
        with _launched(processes, task) as launcher:
            code = launcher.wait()
        if not outcome.exists():
            raise FailedElsewhere(f"the {processes} processes of the trial ended with {code} and gave no reason")
        ending, value = pickle.loads(outcome.read_bytes())
    if ending is not None:
        raise ending(value)
    return value


@contextlib.contextmanager
def _launched(processes: int, task: Path) -> Iterator[subprocess.Popen]:
    """The launcher; a signal to this process ends it, with all its processes, after their step."""
    on_gpus = torch.cuda.is_available()
    environment = os.environ | ({} if on_gpus else {"ACCELERATE_USE_CPU": "true"})
    environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    launcher = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes",
         str(processes), "--main_process_port", "0", "--mixed_precision",
         os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), "--dynamo_backend",
         os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower(), "-m", "harness.workers", str(task)],
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        yield launcher
    except BaseException:
        with signals.ignored():
            launcher.terminate()
            launcher.wait()
        raise


def main(task: Path) -> None:
    """One process of a spanning trial: rank 0, or the first that fails, writes down how it ended."""
    worker, function, arguments = pickle.loads(task.read_bytes())
    threading.Thread(target=_end_after, args=(psutil.Process(worker).wait,), daemon=True).start()
    outcome = task.with_name("outcome")
    try:
        value = function(*arguments)
    except BaseException as error:
        if isinstance(error, Pruned):
            _write(outcome, (Pruned, str(error)))
            return
        _write(outcome, (FailedElsewhere, launch.blame(error)))
        sys.exit(1)
    if os.environ.get("RANK", "0") == "0":
        _write(outcome, (None, value))


def _write(outcome: Path, content: Any) -> None:
    """Once: the first word counts."""
    aside = outcome.with_name(f"outcome.{os.getpid()}")
    aside.write_bytes(pickle.dumps(content))
    with contextlib.suppress(FileExistsError):
        os.link(aside, outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
