"""Two hosts on one machine: a Dask cluster over two network namespaces, whose cable is cut and whose one host dies.

    sudo python tests/two_hosts_cluster.py

A comparison and a study with the driver, the scheduler, MLflow's server and a worker on the first host and a second
worker, in a folder of its own, on the other. The cable is cut for a minute and mended; then the second host dies.
The comparison's figures are those of an undisturbed one; every trial of the study has ended once. About eight minutes.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState
from two_hosts import HOSTS, ROOT, hosts, ip, said, stop

from harness import storages, tracking

FIRST, SECOND = HOSTS
SERVER, SCHEDULER = f"http://{HOSTS[FIRST]}:5000", f"tcp://{HOSTS[FIRST]}:8786"
CUT_S, PATIENCE_S = 60, 600
TIMEOUT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "120s"}
"""Dask's own 30 s would take a worker that is cut off for a minute for dead."""
COMPARISON = (
    "compare.py", "--dataset", "digits", "--n-real", "200", "--num-synthetic", "500", "--methods", "vae", "--controls",
    "noise", "--seeds", "4", "--vae.steps", "1500", "--classifier.steps", "600", "--cas-steps", "300",
)  # fmt: skip
CELLS = 4 * 4
STUDY = (
    "tune.py", "vae", "--dataset", "digits", "--n-real", "200", "--num-synthetic", "500", "--steps", "800",
    "--objectives", "conditional_accuracy", "--pruner", "median", "--trials", "12", "--confirm-seeds", "0",
)  # fmt: skip


def start(place: Path, host: str, *command: str) -> subprocess.Popen:
    """A Python command in a host's folder, its output in `place`/HOST/log."""
    folder = place / host
    folder.mkdir(exist_ok=True)
    environment = os.environ | TIMEOUT | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, *command],
            cwd=folder, env=environment, stdout=log, stderr=log, process_group=0,
        )  # fmt: skip


def start_worker(place: Path, host: str) -> subprocess.Popen:
    own = ("--host", HOSTS[host], "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
    return start(place, host, "-m", "dask", "worker", SCHEDULER, *own)


def wait_for(place: Path, words: str, since: int, driver: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while words not in said(place, FIRST, since):
        assert time.monotonic() < until, said(place, FIRST, since)[-3000:]
        assert driver is None or driver.poll() is None, said(place, FIRST, since)[-3000:]
        time.sleep(0.1)


@contextlib.contextmanager
def cluster(place: Path) -> Iterator[list[subprocess.Popen]]:
    """The processes, that of the second host's worker last."""
    server = ("-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db", "--host", HOSTS[FIRST],
              "--port", "5000", "--workers", "1", "--allowed-hosts", "*")  # fmt: skip
    running = [start(place, FIRST, *server)]
    try:
        wait_for(place, "Application startup complete", 0, running[0])
        scheduler = ("--host", HOSTS[FIRST], "--port", "8786", "--no-dashboard")
        running.append(start(place, FIRST, "-m", "dask", "scheduler", *scheduler))
        running += [start_worker(place, host) for host in HOSTS]
        wait_for(place, f"Register worker addr: tcp://{HOSTS[SECOND]}", 0, running[-1])
        yield running
    finally:
        stop(running[::-1])


def drive(place: Path, *command: str) -> tuple[subprocess.Popen, int]:
    """The driver on the first host, and where in the log its words begin."""
    since = len(said(place, FIRST))
    program = str(ROOT / "experiments" / command[0])
    return start(place, FIRST, program, *command[1:], "--cluster", SCHEDULER, "--tracking-uri", SERVER), since


def end(place: Path, driver: subprocess.Popen, since: int) -> None:
    assert driver.wait(PATIENCE_S) == 0, said(place, FIRST, since)[-3000:]
    print(said(place, FIRST, since).strip().splitlines()[-1])


def cut_the_cable() -> None:
    ip("-n", FIRST, "link", "set", "cable", "down")
    time.sleep(CUT_S)
    ip("-n", FIRST, "link", "set", "cable", "up")


def lose_the_second_host(running: list[subprocess.Popen]) -> None:
    """Without a word on the cable: first it is gone, then the processes are."""
    ip("-n", FIRST, "link", "set", "cable", "down")
    running.pop()
    listed = subprocess.run(["ip", "netns", "pids", SECOND], check=True, capture_output=True, text=True)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def runs_of(place: Path) -> pd.DataFrame:
    return tracking.read_runs(tracking_uri=f"sqlite:///{place}/{FIRST}/mlflow.db", refresh=True)


def cells(place: Path) -> pd.Series:
    """A figure of each finished cell, by its name."""
    runs = runs_of(place)
    done = runs[(runs["status"] == "FINISHED") & runs["tags.cell_name"].notna()].set_index("tags.cell_name")
    return done["metrics.test/accuracy"].fillna(done["metrics.samples/conditional_accuracy"]).sort_index()


def comparison(place: Path, disturbed: bool) -> pd.Series:
    with cluster(place) as running:
        driver, since = drive(place, *COMPARISON)
        running.insert(0, driver)
        if disturbed:
            wait_for(place, f"3 of {CELLS} done", since, driver)
            print(f"comparison: the cable is cut for {CUT_S} s", flush=True)
            cut_the_cable()
            wait_for(place, f"8 of {CELLS} done", since, driver)
            assert running[-1].poll() is None, "the second host's worker has ended"
            print("comparison: the second host is lost", flush=True)
            lose_the_second_host(running)
        end(place, driver, since)
    return cells(place)


def study(place: Path) -> None:
    with cluster(place) as running:
        driver, since = drive(place, *STUDY)
        running.insert(0, driver)
        wait_for(place, "4 of 12 done", since, driver)
        print("study: the second host is lost", flush=True)
        lose_the_second_host(running)
        end(place, driver, since)
    trials = storages.read_study(None, f"{place}/{FIRST}/outputs/studies.db").trials
    slots = storages.by_slot(trials)
    assert len(slots) == 12
    assert all(past[-1].state in (TrialState.COMPLETE, TrialState.PRUNED) for past in slots.values())
    runs = runs_of(place).set_index("run_id")
    for past in slots.values():
        run = runs.loc[past[-1].user_attrs["run_id"]]
        if past[-1].state == TrialState.COMPLETE:
            assert (run["status"], run["metrics.objective/conditional_accuracy"]) == ("FINISHED", past[-1].value)
    print(f"study: {pd.Series([past[-1].state.name for past in slots.values()]).value_counts().to_dict()}")


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        figures = []
        for disturbed in (False, True):
            with hosts():
                place = Path(folder) / f"comparison {disturbed}"
                place.mkdir()
                start_s = time.monotonic()
                figures.append(comparison(place, disturbed))
                print(
                    f"comparison {'disturbed' if disturbed else 'alone'}: {time.monotonic() - start_s:.0f} s",
                    flush=True,
                )
        assert len(figures[0]) == CELLS
        pd.testing.assert_series_equal(*figures)
        print("the figures of both are equal")
        with hosts():
            place = Path(folder) / "study"
            place.mkdir()
            study(place)


if __name__ == "__main__":
    main()
