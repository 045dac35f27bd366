"""The SLURM recipe under a real SLURM: a cluster of one node on the loopback, without systemd.

    sudo apt-get install slurm-wlm munge && sudo python tests/slurm.py

A comparison as a job; a study that is told to end ahead of its time limit, and the same command again, which goes on.
"""

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from processes import ROOT

from harness import storages, tracking

PATIENCE_S = 400
COMPARE = ("compare.py", "--dataset", "digits", "--n-real", "100", "--seeds", "2", "--num-synthetic", "200",
           "--methods", "vae", "--controls", "noise", "--vae.steps", "100", "--classifier.steps", "50",
           "--cas-steps", "40")  # fmt: skip
TUNE = ("tune.py", "vae", "--dataset", "digits", "--n-real", "100", "--num-synthetic", "200", "--steps", "3000",
        "--objectives", "conditional_accuracy", "--pruner", "none", "--trials", "3", "--confirm-seeds", "0",
        "--checkpoint-every", "50")  # fmt: skip
CONFIGURATION = """
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """A cluster of four processors, or so it believes."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=platform.node().partition(".")[0], folder=folder))
    (folder / "cgroup.conf").touch()
    os.environ["SLURM_CONF"] = str(configuration)
    for place, mode in (("/run/munge", "755"), ("/var/log/munge", "700"), ("/var/lib/munge", "700")):
        subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", mode, place], check=True)
    if not Path("/etc/munge/munge.key").exists():
        subprocess.run(["runuser", "-u", "munge", "--", "mungekey", "--create"], check=True)
    daemons = (
        ["runuser", "-u", "munge", "--", "munged", "--foreground", "--force"],
        ["slurmctld", "-D", "-c", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration)],
    )
    with contextlib.ExitStack() as stack:
        for command in daemons:
            log = stack.enter_context((folder / f"{command[0]}.log").open("wb"))
            daemon = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            time.sleep(1)
        wait_for(lambda: said("sinfo", "-h", "-o", "%T") == "idle")
        yield


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def wait_for(holds: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, said("squeue")
        time.sleep(0.2)


def checkpoints() -> set[Path]:
    return set(Path.cwd().glob("outputs/runs/*/checkpoints/step-*"))


class Job:
    """An experiment under the recipe, in the folder where this is."""

    def __init__(self, *command: str) -> None:
        program = (sys.executable, str(ROOT / "experiments" / command[0]), *command[1:])
        path = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
        recipe = str(ROOT / "experiments" / "cluster.sbatch")
        self.number = said("sbatch", "--parsable", f"--export=ALL,{path}", recipe, *program)
        self.log = Path(f"synthetic-gain-{self.number}.out")

    def end(self) -> tuple[str, str]:
        """How it ended and what it said."""
        wait_for(lambda: not said("squeue", "-h", "-j", self.number))
        shown = said("scontrol", "show", "job", self.number)
        return shown.partition("JobState=")[2].split()[0], self.log.read_text()


def main() -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        (Path(name) / "slurm").mkdir()
        with slurm(Path(name) / "slurm"):
            began = time.monotonic()
            state, words = Job(*COMPARE).end()
            assert state == "COMPLETED", words
            uri = f"sqlite:///{name}/outputs/mlflow.db"
            runs = tracking.read_runs(tracking_uri=uri)
            assert runs["tags.cell_name"].nunique() == 8
            assert set(runs["status"]) == {"FINISHED"}
            print(f"a comparison of 8 cells as a job of 4 tasks: {state}, {time.monotonic() - began:.0f} s", flush=True)
            before = checkpoints()
            job = Job(*TUNE)
            wait_for(lambda: checkpoints() - before)
            subprocess.run(["scancel", "--batch", "--signal=USR1", job.number], check=True)
            state, words = job.end()
            assert words.splitlines()[-1] == "stopped by SIGUSR1", words
            trials = storages.read_study(None, "outputs/studies.db").trials
            assert {trial.user_attrs["reason"] for trial in trials} == {"stopped by SIGUSR1"}
            print(f"a study that gets USR1 ahead of its time limit: {state}", flush=True)
            state, words = Job(*TUNE).end()
            assert state == "COMPLETED", words
            slots = storages.by_slot(storages.read_study(None, "outputs/studies.db").trials)
            assert {past[-1].state.name for past in slots.values()} == {"COMPLETE"}
            assert any(len(past) > 1 for past in slots.values())
            trials = tracking.read_runs("tags.kind = 'trial'", tracking_uri=uri, refresh=True)
            assert (len(trials), set(trials["status"])) == (3, {"FINISHED"})
            print(f"the same job again goes on in the same runs: {state}")


if __name__ == "__main__":
    main()
