"""What the machine does during a run: MLflow's monitors, whose figures go through the journal like all others."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from harness.errors import InputError

if TYPE_CHECKING:
    from harness.tracking.writing import Run

INTERVAL_S = 10.0


@contextlib.contextmanager
def watched(run: "Run") -> Iterator[None]:
    """Around a run: `system/…` every INTERVAL_S seconds and at its end, so that the shortest run has them too.

    The names are those of MLflow's own logging, which its UI knows; steps go on where the run was gone on with.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(run, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(run: "Run", ended: threading.Event) -> None:
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):  # there is no GPU, or nothing that reads it
        monitors.append(GPUMonitor())
    for monitor in monitors:
        monitor.collect_metrics()  # what follows is relative to it
        monitor.clear_metrics()
    step, over = run.said_until("system/cpu_utilization_percentage") + 1, False
    while not over:
        over = ended.wait(INTERVAL_S)
        figures: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            figures.update(monitor.aggregate_metrics() or {})
            monitor.clear_metrics()
        with contextlib.suppress(InputError):  # a full disk is the training's to report
            run.metrics({f"system/{name}": value for name, value in figures.items()}, step)
        step += 1
