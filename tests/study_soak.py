"""Studies under fire: workers killed, the database restarted, trials whose processes fail. Checked afterwards.

    python tests/study_soak.py

Forty trials of four workers on PostgreSQL, two of them killed at random moments and the database restarted once; then
trials of two processes that are pruned, raise on rank 1, diverge, and end well. Exit code 1 where a check fails.
"""

import contextlib
import functools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import processes
import spanning
import tyro
from optuna.trial import Trial, TrialState

from harness import postgres, storages, studies, tracking, trials, workers
from harness.studies import Queue, Slot
from harness.tracking import local
from harness.trials import Plan, Task

PATIENCE_S = 600.0
FLAGS = (
    "--n-real", "100", "--num-synthetic", "100", "--steps", "40", "--batch-size", "16", "--classifier.steps", "20",
    "--checkpoint-every", "10", "--pruner", "none", "--confirm-seeds", "0", "--beat", "1", "--name", "soak",
)  # fmt: skip


def workers_case(folder: Path, trials: int, kills: int, restarts: int, seed: int, workers: int = 4) -> None:
    """One study of a VAE on PostgreSQL in `folder`; asserts that each trial ended once, as its run says."""
    folder.chmod(0o755)  # as root PostgreSQL is another user
    draw = random.Random(seed)
    with postgres.running(folder / "postgres") as url, processes.agent(folder):
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


@functools.cache
def storage_of(url: str) -> optuna.storages.BaseStorage:
    return storages.open_storage(url)  # whose connections stay open


def trials_of(url: str) -> list[optuna.trial.FrozenTrial]:
    storage = storage_of(url)
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
    own = runs[runs["tags.kind"] == "trial"].set_index("run_id")
    assert set(own["status"]) == {"FINISHED"}
    cut_off = runs[runs["status"] != "FINISHED"]  # a classifier is trained anew, its generator gone on with
    assert set(cut_off["status"]) <= {"KILLED"}
    assert len(cut_off) <= lost
    last = [past[-1] for past in slots.values()]
    assert set(own.index) == {trial.user_attrs["run_id"] for trial in last}
    for trial in last:
        run = own.loc[trial.user_attrs["run_id"]]
        assert run["metrics.objective/accuracy"] == trial.value
        assert (run["tags.trial"], run["tags.attempt"]) == (str(trial.number), str(trial.user_attrs["attempt"]))
        for name, value in trial.params.items():
            assert type(value)(run[f"params.{name}"]) == value
    with contextlib.chdir(folder):
        for past in slots.values():  # an attempt that got as far as a run was gone on with there
            attempts = [trial.user_attrs["run_id"] for trial in past if "run_id" in trial.user_attrs]
            assert len(set(map(local.in_the_store, attempts))) == 1


# --- Trials that span processes --------------------------------------------------------------------------

SPANNING = (
    "vae", "--n-real", "100", "--num-synthetic", "100", "--steps", "20", "--batch-size", "16", "--objectives", "fid",
    "--processes-per-trial", "2", "--process-timeout", "60",
)  # fmt: skip
REASONS = {
    "exception": "rank 1: MemoryError: no memory is left on rank 1",
    "nan": "Diverged: train/loss is nan at step 7",
    "prune": "pruned at step 8: fid of 500 samples",
}


def spanning_case(faults: list[str]) -> None:
    """One study, here, whose trials end as the faults say (see spanning.py), each in two processes but `alone`."""
    uri = f"sqlite:///{Path.cwd()}/outputs/mlflow.db"  # MLflow keeps a relative one where it first was
    plan = tyro.cli(Plan, args=[*SPANNING, "--tracking-uri", uri])
    storage = storages.open_storage(plan.place)
    parent = studies.make(plan.study, storage, ["minimize"], {}, lambda: "")
    queue = Queue(plan.study, storage)

    def objective(trial: Trial, slot: Slot) -> list[float]:
        values = trials.suggested(plan, trial)
        task = Task(plan, parent, values, trial.number, 1, slot.name, None, [0], plan.study, trial._trial_id, "trial")
        if slot.name == "alone":
            return trials.carry_out(task, trial)
        return workers.span(2, spanning.carry_out, task, slot.name)

    with processes.agent(Path.cwd()):
        queue.work([Slot(fault) for fault in faults], objective)
    runs = tracking.read_runs(tracking_uri=uri).set_index("run_id")
    assert set(runs["status"]) <= {"FINISHED", "FAILED", "KILLED"}
    for trial in queue.trials:
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
    cases: dict[str, Callable[[Path], None]] = {
        "40 trials, 4 workers, 2 killed, database restarted": lambda folder: workers_case(folder, 40, 2, 1, seed=0),
        "4 trials of 2 processes: pruned, exception, nan, fine": lambda _: spanning_case([*REASONS, "fine"]),
    }
    failed = 0
    for title, case in cases.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="study-") as folder, contextlib.chdir(folder):
            try:
                case(Path(folder))
                wrong = ""
            except AssertionError as error:
                wrong = str(error) or "a check failed"
        failed += bool(wrong)
        print(f"{title}: {wrong or 'as it should be'}, {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
