"""Studies whose workers are killed at random moments and whose database is restarted, checked afterwards."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import processes
from optuna.trial import TrialState

from harness import postgres, studies, tracking

PATIENCE_S = 600.0
FLAGS = (
    "--n-real", "100", "--num-synthetic", "100", "--steps", "40", "--batch-size", "16", "--classifier.steps", "20",
    "--checkpoint-every", "10", "--pruner", "none", "--confirm-seeds", "0", "--beat", "1", "--name", "soak",
)  # fmt: skip


def workers_case(folder: Path, trials: int, kills: int, restarts: int, seed: int, workers: int = 4) -> None:
    """One study of a VAE on PostgreSQL in `folder`; asserts that each trial ended once, as its run says."""
    folder.chmod(0o755)  # as root PostgreSQL is another user
    draw = random.Random(seed)
    with postgres.running(folder / "postgres") as url:
        (study,) = processes.start(
            folder, "tune.py", "vae", *FLAGS, "--storage", url, "--trials", str(trials), "--workers", str(workers)
        )
        events: list[Callable[[str], object]] = [*[kill_a_worker] * kills, *[restart(folder)] * restarts]
        draw.shuffle(events)
        moments = sorted(draw.sample(range(1, trials - workers), len(events)))
        for done, event in zip(moments, events, strict=True):
            wait_for(lambda done=done: len(finished(url)) >= done)
            time.sleep(draw.random())
            event(url)
        (code,) = processes.wait([study], PATIENCE_S)
        assert code == 0, processes.said(folder)
        check(folder, url, trials, kills)


def kill_a_worker(url: str) -> None:
    running = [trial for trial in trials_of(url) if trial.state == TrialState.RUNNING]
    victim = next(trial.user_attrs["worker"] for trial in running if "worker" in trial.user_attrs)
    os.kill(int(victim.rpartition(":")[2]), signal.SIGKILL)


def restart(folder: Path) -> Callable[[str], object]:
    return lambda _: postgres.control(folder / "postgres", "restart", "--mode", "fast")


def trials_of(url: str) -> list[optuna.trial.FrozenTrial]:
    storage = studies.open_storage(url)
    if "soak" not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name="soak", storage=storage).trials


def finished(url: str) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in trials_of(url) if trial.state.is_finished()]


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.2)


def check(folder: Path, url: str, trials: int, kills: int) -> None:
    """Every trial has ended, none twice, and every run agrees with the study; none is left RUNNING."""
    slots = studies.attempts(trials_of(url))
    assert len(slots) == trials
    ends = Counter(tuple(trial.state.name for trial in past) for past in slots.values())
    assert all(states[-1] == "COMPLETE" and set(states[:-1]) <= {"FAIL"} for states in ends), ends
    lost = sum(studies.died(trial) for past in slots.values() for trial in past)
    assert kills <= lost
    runs = tracking.read_runs("tags.study = 'soak'", tracking_uri=f"sqlite:///{folder}/outputs/mlflow.db", refresh=True)
    assert set(runs["status"]) == {"FINISHED"}, runs[["name", "status", "tags.reason"]]
    own = runs[runs["tags.kind"] == "trial"].set_index("run_id")
    last = [past[-1] for past in slots.values()]
    assert set(own.index) == {trial.user_attrs["run_id"] for trial in last}
    for trial in last:
        run = own.loc[trial.user_attrs["run_id"]]
        assert run["metrics.objective/accuracy"] == trial.value
        assert (run["tags.trial"], run["tags.attempt"]) == (str(trial.number), str(trial.user_attrs["attempt"]))
        for name, value in trial.params.items():
            assert type(value)(run[f"params.{name}"]) == value
    for past in slots.values():  # an attempt that got as far as a run was gone on with there
        assert len({trial.user_attrs["run_id"] for trial in past if "run_id" in trial.user_attrs}) == 1
