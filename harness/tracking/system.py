"""What the machine does: MLflow's own monitors, whose names its UI knows."""

import contextlib

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor


class Monitors:
    """The monitors of one host."""

    def __init__(self) -> None:
        self.monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(Exception):  # there is no GPU, or nothing that reads it
            self.monitors.append(GPUMonitor())
        self.figures()  # what follows is relative to it

    def figures(self) -> dict[str, float]:
        """`system/NAME`: since the last call, or of this moment."""
        found: dict[str, float] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in (monitor.aggregate_metrics() or {}).items()}
            monitor.clear_metrics()
        return found
