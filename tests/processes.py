"""Experiments in processes of their own, as a user starts them but for the seconds of imports.

A server that has imported everything forks them; each gets a folder, flags, and the environment that torchrun
would give it. What they print is in FOLDER/rankN.out and .err. Agents are forked as well, before a run would start one.
"""

import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest import mock

from harness import locks
from harness.engine import forking
from harness.tracking import calls

ROOT = Path(__file__).parent.parent
PATIENCE_S = 120.0
DRIVERS = ("compare.py", "tune.py")


def environment(**more: str) -> dict[str, str]:
    """A clean environment: no settings of the caller's MLflow or launcher reach the processes under test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "ACCELERATE_"))}
    # One thread a process: several run at once, and threads that wait for each other's cores cost minutes.
    return {"OMP_NUM_THREADS": "1"} | kept | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))} | more


@functools.cache
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    large_pages = environment(GLIBC_TUNABLES="glibc.malloc.hugetlb=1")  # which are fewer to copy for a fork
    with mock.patch.dict(os.environ, large_pages, clear=True):
        forkserver.ensure_running()
    return context


def start(folder: Path, script: str, *flags: str, world: int = 1, **more: str) -> list[ForkServerProcess]:
    """A script (of `experiments/`), or a module, with its flags in `folder`: a job of `world` processes on the CPU."""
    launcher = {"ACCELERATE_USE_CPU": "true"}
    if world > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        launcher |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    started = []
    for rank in range(world):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
        program = str(ROOT / "experiments" / script) if script.endswith(".py") else script
        argv = [program, *quick(script, *flags)]
        arguments = (folder, rank, argv, launcher | ranks | more)
        started.append(server().Process(target=_become, args=arguments))
        started[-1].start()
    return started


def quick(script: str, *flags: str) -> list[str]:
    """The flags, with the CAS of a classifier that is trained for a moment: it is most of a small training's time."""
    trains = Path(script).name in ("ddpm.py", "vae.py", "gan.py", "compare.py", "tune.py")
    return [*flags, *(("--cas-steps", "5") if trains and not {"--help", "--cas-steps"} & {*flags} else ())]


def fill(outputs: Path) -> None:
    """In a process of its own: make a folder `outputs` with a store without a run and the digits' judge."""
    from harness import tracking
    from harness.data import datasets
    from harness.evaluation import judging
    from harness.runs import judges
    from harness.settings import Common

    dataset, aside = datasets.load("digits"), outputs.with_name("making")
    aside.mkdir()
    tracking.client(f"sqlite:///{aside}/mlflow.db").search_experiments()
    weights = aside / judges.path(dataset, Common()).relative_to(judges.OUTPUTS)
    weights.parent.mkdir(parents=True)
    config = judging.judge_config(dataset, steps=200)  # a seventh of its steps, in the place of the whole one
    judging.save_weights(judging.train_judge(dataset, config), weights)
    aside.rename(outputs)


@contextlib.contextmanager
def agent(folder: Path, **more: str) -> Iterator[ForkServerProcess]:
    """The agent of the runs in a folder, for the length of the block."""
    process = start_agent(folder, **more)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def start_agent(folder: Path, **more: str) -> ForkServerProcess:
    """Returns when it has its lock."""
    process = server().Process(target=_be_agent, args=(folder, more))
    process.start()
    until = time.monotonic() + PATIENCE_S
    while locks.is_free(folder / calls.place() / calls.LOCK):
        assert process.is_alive(), "the agent has ended"
        assert time.monotonic() < until, "the agent did not start"
        time.sleep(0.005)
    return process


def wait(processes: list[ForkServerProcess], patience_s: float = PATIENCE_S) -> list[int | None]:
    """The exit codes, negative for a signal; a process that outstays the patience is killed."""
    until = time.monotonic() + patience_s
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return when something is so. Who asks has a fifth of a core at most: what is waited for needs it."""
    limit = time.monotonic() + patience_s
    began = time.monotonic()
    while not condition():
        asked = time.monotonic()
        assert asked < limit, "what was waited for did not come"
        time.sleep(max(0.01, 4 * (asked - began)))
        began = time.monotonic()


def run(folder: Path, script: str, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The same as `subprocess.run` gives, of one process that ends by itself."""
    (code,) = wait(start(folder, script, *flags, **more))
    assert code is not None
    return subprocess.CompletedProcess([script, *flags], code, *said(folder))


def kill(process: ForkServerProcess, number: signal.Signals) -> None:
    assert process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def said(folder: Path, rank: int = 0) -> tuple[str, str]:
    """What a process has printed: output and errors."""
    out, err = ((folder / f"rank{rank}.{stream}").read_text() for stream in ("out", "err"))
    return out, err


def print_into(path: Path) -> None:
    """Have this process append what it prints to a file."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())


def _be_agent(folder: Path, variables: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(variables)
    calls.place().mkdir(parents=True, exist_ok=True)
    print_into(calls.place() / calls.LOG)
    from harness.tracking import agent

    agent.serve(idle_s=3600)


def _become(folder: Path, rank: int, argv: list[str], variables: dict[str, str]) -> None:
    """In the new process: what `python SCRIPT FLAGS` or `python -m MODULE FLAGS` does. Does not return."""
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that was started with & ignores Ctrl-C
    try:
        os.chdir(folder)
        os.environ.update(variables)
        for stream, place in ((sys.stdout, "out"), (sys.stderr, "err")):
            file = os.open(f"rank{rank}.{place}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, stream.fileno())
        sys.argv = argv
        if not {"--workers", "--cluster"} & {*argv}:
            # One task at a time is forked from here, where all that it needs is imported: a fork server of its own
            # would take seconds. Tests of tasks and engines have the real one.
            forking.fork_server = lambda: multiprocessing.get_context("fork")  # type: ignore[assignment, return-value]
            if Path(argv[0]).name in DRIVERS:
                sys.modules["torch"].set_num_threads(1)  # a pool of threads does not survive the fork of a task
        if argv[0].endswith(".py"):
            runpy.run_path(argv[0], run_name="__main__")
        else:
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
