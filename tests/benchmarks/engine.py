"""A thousand cells of no length in fifty slots of one process: what the driver and MLflow's server have to do.

    python tests/benchmarks/engine.py

A cell is a task of its own process that makes a run of ten params, three tags and three metrics under one parent.
"""

import argparse
import contextlib
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import paths  # noqa: F401
from servers import TrackingServer
from small_tasks import makes_a_run

from harness import tracking
from harness.engine import opening
from harness.engine.tasks import Task
from harness.engine.workers import WorkerSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        server = TrackingServer(Path(folder))
        server.start()
        try:
            with tracking.run("comparisons", "all", tags={}, params={}, tracking_uri=server.uri) as parent:
                pass
            began, used = time.perf_counter(), time.process_time()
            log = Path(folder) / "server.log"
            before = len(log.read_text())
            with opening.open_engine(WorkerSettings(workers=arguments.workers)) as workers:
                for number in range(arguments.cells):
                    workers.submit(f"cell {number}", Task(makes_a_run, (number, parent.id, server.uri)))
                states = Counter(ending.state for _, ending in workers.endings(lambda *_: False))
            took, used = time.perf_counter() - began, time.process_time() - used
            asked = log.read_text()[before:].count(" HTTP/1.1")
            found = tracking.read_runs("tags.kind = 'classifier'", tracking_uri=server.uri)
        finally:
            server.kill()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{arguments.cells} cells on {arguments.workers} slots: {dict(states)}, {took:.0f} s")
    print(f"driver: {1e3 * used / arguments.cells:.1f} ms of processor time a cell, {memory:.0f} MB at most")
    print(f"MLflow's server: {asked} requests, {asked / arguments.cells:.1f} a cell, {asked / took:.0f} a second")
    print(f"runs in the store: {len(found)}, {found['status'].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
