"""The fork server that the processes of tasks come from: it has imported what a training needs, once for all."""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.studies.preloaded"])
    return context


def start_fork_server() -> None:
    """Start it, so that it imports beside its caller; else the first task's process would wait for it."""
    if isinstance(fork_server(), ForkServerContext):
        forkserver.ensure_running()
