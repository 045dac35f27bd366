"""Who does the work of a study or a comparison: its flags, without the engines."""

from dataclasses import dataclass

from harness import bounds
from harness.bounds import Natural, Processes, Seconds
from harness.errors import InputError
from harness.settings import Common


@dataclass(frozen=True)
class WorkerSettings(Common):
    """Who does the work of a study or a comparison."""

    workers: Processes = 1
    """cells or trials that are done at once on this host; where there are GPUs each has its own"""
    slots_per_device: Processes = 1
    """cells or trials that share a GPU"""
    cluster: str | None = None
    """a Dask cluster that does the work, instead of this host: tcp://HOST:8786, or its scheduler's file"""
    tls: str | None = None
    """folder of ca.pem, cert.pem and key.pem, for a cluster at tls://"""
    processes_per_trial: Processes = 1
    """processes (GPUs) that one trial or cell spans, under accelerate launch"""
    retries: Natural = 2
    """times that a trial or cell is tried again when its process has died"""
    trial_timeout: Seconds | None = None
    """seconds after which a trial or cell is taken for hung, and killed"""

    def check(self) -> None:
        """Raises InputError for what does not go together, and for a launch of several processes."""
        bounds.check_fields(self)
        if self.cluster and self.workers != 1:
            raise InputError("--workers is for this host; a --cluster has its own")
        if self.tls and not self.cluster:
            raise InputError("--tls is for a --cluster; on this host nothing listens")
        from harness.engine import tasks
        from harness.training import launch

        launch.check_single_process()
        launch.check_environment()
        devices = [] if self.cluster else tasks.devices()
        if devices and self.workers * self.processes_per_trial > len(devices) * self.slots_per_device:
            raise InputError(
                f"--workers {self.workers} with --processes-per-trial {self.processes_per_trial} need more than the "
                f"{len(devices)} GPUs that are here; give fewer, or a higher --slots-per-device"
            )
        if devices and self.processes_per_trial > len(devices):
            raise InputError(
                f"--processes-per-trial {self.processes_per_trial} must be at most the number of GPUs, {len(devices)}"
            )
