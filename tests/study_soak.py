"""Studies and comparisons under fire: processes and the driver killed, the tracking server away. Checked afterwards.

    python tests/study_soak.py

Forty trials, and the cells of a comparison, of four workers: two of their processes killed at random moments, the
driver once, which is then started again, and the tracking server away for a while; then trials of two processes that
are pruned, raise on rank 1, diverge, and end well. Exit code 1 where a check fails.
"""

import contextlib
import dataclasses
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import counted
import optuna
import pandas as pd
import processes
import psutil
import spanning
import tyro
from optuna.trial import FrozenTrial, Trial, TrialState
from servers import TrackingServer

from harness import storages, tracking
from harness.engine.engines import InOrder
from harness.engine.tasks import Task
from harness.errors import InputError
from harness.studies import trials
from harness.studies.plans import StudyPlan
from harness.studies.searching import Search
from harness.studies.trials import Job

PATIENCE_S = 600.0
AWAY_S = 2.0
STUDY = (
    "tune.py", "vae", "--n-real", "100", "--num-synthetic", "100", "--steps", "40", "--batch-size", "16",
    "--classifier.steps", "20", "--checkpoint-every", "10", "--pruner", "none", "--confirm-seeds", "0",
    "--judge-steps", "40", "--name", "soak",
)  # fmt: skip
COMPARISON = (
    "compare.py", "--dataset", "digits", "--n-real", "100", "--num-synthetic", "100", "--methods", "vae", "--controls",
    "noise", "--vae.steps", "60", "--classifier.steps", "60", "--checkpoint-every", "10",
    "--judge-steps", "40",
)  # fmt: skip


class Drive:
    """A command of several workers in a folder, with a server and an agent, and what befalls it."""

    def __init__(self, folder: Path, workers: int, *command: str) -> None:
        self.folder, self._workers = folder, workers
        (folder / "server").mkdir()
        self._server = TrackingServer(folder / "server")
        self._server.start()
        self.uri = self._server.uri
        self._command = (*command, "--workers", str(workers), "--tracking-uri", self.uri)
        self._agent = processes.start_agent(folder, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        self._driver = self._started()

    def __enter__(self) -> "Drive":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._driver, self._agent):
            process.kill()
            process.join()
        self._server.kill()

    def _started(self) -> ForkServerProcess:
        (driver,) = processes.start(self.folder, *self._command)
        return driver

    def under(self, draw: random.Random, kills: int, done: Callable[[], int], number: int) -> None:
        """Let it end, under so many kills of a process, one of the driver and an outage, at random moments."""
        events = [*[self.kill_one] * kills, self.kill_the_driver, self.take_the_server_away]
        draw.shuffle(events)
        moments = sorted(draw.sample(range(1, number - self._workers), len(events)))
        for moment, event in zip(moments, events, strict=True):
            wait_for(lambda moment=moment: done() >= moment)
            time.sleep(draw.random())
            event()
        (code,) = processes.wait([self._driver], PATIENCE_S)
        assert code == 0, processes.said(self.folder)

    def kill_one(self) -> None:
        wait_for(lambda: writers(self.folder, self._driver))
        writers(self.folder, self._driver)[0].kill()

    def kill_the_driver(self) -> None:
        self._driver.kill()
        self._driver.join()
        self._driver = self._started()

    def take_the_server_away(self) -> None:
        self._server.kill()
        time.sleep(AWAY_S)
        self._server.start()


def writers(folder: Path, driver: ForkServerProcess) -> list[psutil.Process]:
    """The processes that write a run's journal in the folder, less the driver."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            files = [Path(file.path) for file in process.open_files() if file.mode != "r"]  # as the agent reads
            if any(file.name == "journal" and file.is_relative_to(folder) for file in files):
                found.append(process)
    return [process for process in found if process.pid != driver.pid]


def wait_for(holds: Callable[[], object]) -> None:
    processes.until(holds, PATIENCE_S)


def all_runs(uri: str) -> pd.DataFrame:
    return tracking.read_runs(tracking_uri=uri, refresh=True)


# --- A study ---------------------------------------------------------------------------------------------


def study_case(folder: Path, number: int, kills: int, seed: int, workers: int = 4) -> None:
    """A study of a VAE in `folder`; asserts that each trial ended once, as its run says, and none is RUNNING."""
    with Drive(folder, workers, *STUDY, "--trials", str(number)) as drive:
        drive.under(random.Random(seed), kills, lambda: len(finished(folder)), number)
        slots = storages.by_slot(trials_of(folder))
        assert len(slots) == number
        ends = Counter(tuple(trial.state.name for trial in past) for past in slots.values())
        assert all(states[-1] == "COMPLETE" and set(states[:-1]) <= {"FAIL"} for states in ends), ends
        runs = all_runs(drive.uri)
    own = runs[runs["tags.kind"] == "trial"].set_index("run_id")
    last = [past[-1] for past in slots.values()]
    assert set(own["status"]) == {"FINISHED"}
    assert set(own.index) == {trial.user_attrs["run_id"] for trial in last}  # gone on with, not begun anew
    cut_off = runs[runs["status"] != "FINISHED"]  # a classifier is trained anew, its generator gone on with
    assert set(cut_off["status"]) <= {"KILLED"}
    assert len(cut_off) <= kills + workers
    for trial in last:
        run = own.loc[trial.user_attrs["run_id"]]
        assert (run["metrics.objective/accuracy"], run["tags.trial"]) == (trial.value, str(trial.number))
        for name, value in trial.params.items():
            assert type(value)(run[f"params.{name}"]) == value


def trials_of(folder: Path) -> list[FrozenTrial]:
    place = folder / "outputs" / "studies.db"
    if not place.exists():
        return []
    storage = storages.open_storage(str(place))
    if "soak" not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name="soak", storage=storage).trials


def finished(folder: Path) -> list[FrozenTrial]:
    return [trial for trial in trials_of(folder) if trial.state == TrialState.COMPLETE]


# --- A comparison ----------------------------------------------------------------------------------------


def comparison_case(folder: Path, seeds: int, kills: int, seed: int, workers: int = 4) -> None:
    """A comparison, disturbed and not: each cell has ended once, none is RUNNING, and the figures are the same."""
    figures = []
    for disturbed in (True, False):
        own = folder / ("disturbed" if disturbed else "quiet")
        own.mkdir()
        with Drive(own, workers, *COMPARISON, "--seeds", str(seeds)) as drive:
            if disturbed:
                drive.under(random.Random(seed), kills, lambda drive=drive: len(cells(drive.uri)), 4 * seeds)
            else:
                wait_for(lambda drive=drive: len(cells(drive.uri)) == 4 * seeds)
            wait_for(lambda drive=drive: "RUNNING" not in set(all_runs(drive.uri)["status"]))
            runs = all_runs(drive.uri)
            assert set(runs["status"]) <= {"FINISHED", "KILLED"}
            names = runs.loc[runs["status"] == "FINISHED", "tags.cell_name"].dropna()
            assert sorted(names) == sorted(set(names))
            figures.append(cells(drive.uri))
    pd.testing.assert_series_equal(*figures)
    assert len(figures[0]) == 4 * seeds


def cells(uri: str) -> pd.Series:
    """A figure of each finished cell, by its name: a classifier's accuracy, a sample set's agreement with the judge."""
    columns = ["metrics.test/accuracy", "metrics.samples/conditional_accuracy", "tags.cell_name"]
    with contextlib.suppress(InputError):  # the server is away
        runs = tracking.read_runs("attributes.status = 'FINISHED'", tracking_uri=uri, columns=columns, refresh=True)
        named = runs.dropna(subset=["tags.cell_name"]).set_index("tags.cell_name").sort_index()
        return named["metrics.test/accuracy"].fillna(named["metrics.samples/conditional_accuracy"])
    return pd.Series()


# --- Trials that span processes --------------------------------------------------------------------------

SPANNING = (
    "vae", "--n-real", "100", "--num-synthetic", "100", "--steps", "20", "--batch-size", "16", "--objectives", "fid",
    "--processes-per-trial", "2", "--process-timeout", "60", "--judge-steps", "40",
)  # fmt: skip
REASONS = {
    "exception": "rank 1: MemoryError: no memory is left on rank 1",
    "nan": "Diverged: train/vae_loss is nan at step 7",
    "prune": "pruned at step 8: fid of 500 samples",
}


def spanning_case(faults: list[str]) -> None:
    """One study, here, whose trials end as the faults say (see spanning.py), each in two processes but `alone`."""
    uri = f"sqlite:///{Path.cwd()}/outputs/mlflow.db"  # MLflow keeps a relative one where it first was
    plan = tyro.cli(StudyPlan, args=[*SPANNING, "--tracking-uri", uri])
    storage = storages.open_storage(plan.storage)
    parent = storages.make_study(plan.study, storage, ["minimize"], {}, lambda: "")
    study = optuna.load_study(study_name=plan.study, storage=storage)

    def task(trial: Trial, fault: str) -> Task:
        job = Job(plan, parent, "trial", fault, trial.number, trials.suggest_values(plan, trial), [0])
        faulty = dataclasses.replace(job.task(), function=spanning.carry_out, arguments=(job, fault))
        return dataclasses.replace(faulty, processes=1) if fault == "alone" else faulty

    with processes.agent(Path.cwd()):
        Search(study, {fault: {} for fault in faults}, task).run(InOrder(plan))
    runs = tracking.read_runs(tracking_uri=uri).set_index("run_id")
    assert set(runs["status"]) <= {"FINISHED", "FAILED", "KILLED"}
    for trial in study.trials:
        run, fault = runs.loc[trial.user_attrs["run_id"]], trial.user_attrs["slot"]
        generator = runs[runs["parent_run_id"] == run.name].iloc[0]
        assert generator["params.world_size"] == ("1" if fault == "alone" else "2")
        for name, value in trial.params.items():  # the value used is the value stored, to the last bit
            assert type(value)(generator[f"params.{name}"]) == value
        if fault in ("fine", "alone"):
            assert (trial.state, run["status"]) == (TrialState.COMPLETE, "FINISHED")
            assert run["metrics.objective/fid"] == trial.value
            continue
        pruned = fault == "prune"
        assert trial.state == (TrialState.PRUNED if pruned else TrialState.FAIL)
        assert {run["status"], generator["status"]} == {"KILLED" if pruned else "FAILED"}
        for reason in (run["tags.reason"], *([] if pruned else [trial.user_attrs["reason"]])):
            assert REASONS[fault] in reason


def main() -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join((str(processes.ROOT), str(processes.ROOT / "tests")))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cases: dict[str, Callable[[Path], None]] = {
        "40 trials, 4 workers, 2 processes and the driver killed": lambda folder: study_case(folder, 40, 2, seed=0),
        "24 cells of a comparison, the same": lambda folder: comparison_case(folder, 6, 2, seed=0),
        "4 trials of 2 processes: pruned, exception, nan, fine": lambda _: spanning_case([*REASONS, "fine"]),
    }
    failed = 0
    for title, case in cases.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="study-") as folder, contextlib.chdir(folder):
            try:
                case(Path(folder).resolve())
                wrong = ""
            except AssertionError as error:
                wrong = str(error) or "a check failed"
        failed += bool(wrong)
        seconds = time.monotonic() - start
        print(f"{title}: {wrong or 'as it should be'}, {seconds:.0f} s", flush=True)
        if not wrong:
            number, _, what = title.partition(" ")
            counted.record(f"study_soak.py: {what}", number, 0, seconds)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
