"""A thousand cells of no length in fifty slots of one process: what the driver and MLflow's server have to do.

    python tests/benchmarks/engine.py

A cell is a task of its own process that makes a run of ten params, three tags and three metrics under one parent.
"""

import contextlib
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import paths  # noqa: F401
from servers import TrackingServer
from small_tasks import makes_a_run

from harness import cli, tracking
from harness.bounds import Count
from harness.engine import opening
from harness.engine.tasks import Task
from harness.engine.workers import WorkerSettings


def main(cells: Count = 1000, workers: Count = 50) -> None:
    """Have so many cells done by so many workers, print what that took."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        server = TrackingServer(Path(folder))
        server.start()
        try:
            with tracking.run("comparisons", "all", tags={}, params={}, tracking_uri=server.uri) as parent:
                pass
            began, used = time.perf_counter(), time.process_time()
            log = Path(folder) / "server.log"
            before = len(log.read_text())
            with opening.open_engine(WorkerSettings(workers=workers)) as engine:
                for number in range(cells):
                    engine.submit(f"cell {number}", Task(makes_a_run, (number, parent.id, server.uri)))
                states = Counter(ending.state for _, ending in engine.endings(lambda *_: False))
            took, used = time.perf_counter() - began, time.process_time() - used
            asked = log.read_text()[before:].count(" HTTP/1.1")
            found = tracking.read_runs("tags.kind = 'classifier'", tracking_uri=server.uri)
        finally:
            server.kill()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{cells} cells on {workers} slots: {dict(states)}, {took:.0f} s")
    print(f"driver: {1e3 * used / cells:.1f} ms of processor time a cell, {memory:.0f} MB at most")
    print(f"MLflow's server: {asked} requests, {asked / cells:.1f} a cell, {asked / took:.0f} a second")
    print(f"runs in the store: {len(found)}, {found['status'].value_counts().to_dict()}")


if __name__ == "__main__":
    cli.main(main)
