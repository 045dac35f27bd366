"""The queue that workers of a study share: each slot done once, whatever happens to its workers."""

import multiprocessing
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from harness import storages, studies, workers
from harness.errors import InputError, Pruned
from harness.signals import Killed
from harness.studies import ATTEMPT, REASON, SLOT, Queue, Slot

SLOTS = [Slot(str(number)) for number in range(6)]


def queue(place: str = "studies.journal", beat_s: int = 10, name: str = "study", seed: int = 0) -> Queue:
    storage = storages.open_storage(place, beat_s)
    studies.make(name, storage, ["maximize"], {"of": "tests"}, lambda: "parent")
    return Queue(name, storage, RandomSampler(seed))


def value(trial: Trial, slot: Slot) -> float:
    return trial.suggest_float("x", 0, 1)


def states(shared: Queue) -> dict[str, list[str]]:
    return {slot: [trial.state.name for trial in past] for slot, past in shared.attempts().items()}


def dead(shared: Queue, slot: str, attempt: int = 1, **params: float) -> None:
    """A trial whose worker has died just now: RUNNING, its last beat long ago."""
    shared.enqueue_trial(params, {SLOT: slot, ATTEMPT: attempt})
    trial = shared.attempts()[slot][-1]
    shared._storage.set_trial_system_attr(trial._trial_id, "beat", time.time() - 1e4)
    shared._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    for name, number in params.items():
        Trial(shared, trial._trial_id).suggest_float(name, 0, 1)
        assert number is not None


# --- One worker ------------------------------------------------------------------------------------------


def test_every_slot_is_done_once_and_more_slots_add_to_it() -> None:
    shared = queue()
    shared.work(SLOTS[:4], value)
    shared.work(SLOTS, value)
    assert states(shared) == {str(number): ["COMPLETE"] for number in range(6)}
    assert len(shared.trials) == 6


def test_how_a_trial_ends_is_its_state_and_the_others_go_on() -> None:
    def ends(trial: Trial, slot: Slot) -> float:
        match slot.name:
            case "1":
                raise ValueError("no such thing")
            case "2":
                raise Pruned("pruned at step 3: fid is 7")
            case "3":
                raise MemoryError
        return 1.0

    shared = queue()
    shared.work(SLOTS, ends)
    assert [past for past in states(shared).values()] == [
        ["COMPLETE"], ["FAIL"], ["PRUNED"], ["FAIL"], ["COMPLETE"], ["COMPLETE"]]  # fmt: skip
    reasons = [trial.user_attrs.get(REASON) for trial in shared.trials]
    assert reasons == [None, "ValueError: no such thing", None, "MemoryError", None, None]


def test_a_study_that_is_broken_from_the_start_ends() -> None:
    def broken(trial: Trial, slot: Slot) -> float:
        raise ValueError(f"slot {slot.name} is wrong")

    shared = queue()
    shared.max_failures = 3
    with pytest.raises(
        InputError, match=r"all 3 trials of study have failed, the last with: ValueError: slot 2 is wrong"
    ):
        shared.work(SLOTS, broken)
    assert Counter(trial.state.name for trial in shared.trials) == {"FAIL": 3, "WAITING": 3}


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Killed(signal.SIGTERM)])
def test_a_stopped_trial_is_tried_again_by_the_same_command(stop: BaseException) -> None:
    def stopped(trial: Trial, slot: Slot) -> float:
        if slot.name == "2":
            raise stop
        return value(trial, slot)

    shared = queue()
    with pytest.raises(type(stop)):
        shared.work(SLOTS, stopped)
    assert states(shared)["2"] == ["FAIL"]
    shared.work(SLOTS, value)
    assert states(shared)["2"] == ["FAIL", "COMPLETE"]
    assert len(shared.trials) == 7


def test_a_slot_waits_for_what_it_needs_and_falls_with_it() -> None:
    done: list[str] = []

    def cell(trial: Trial, slot: Slot) -> float:
        if slot.name == "bad samples":
            raise ValueError("diverged")
        done.append(slot.name)
        return 1.0

    slots = [
        Slot("bad", needs="bad samples"),
        Slot("good", needs="good samples"),
        Slot("bad samples"),
        Slot("good samples"),
        Slot("none"),
    ]
    shared = queue()
    shared.work(slots, cell)
    assert done == ["good samples", "good", "none"]
    assert states(shared)["bad"] == ["WAITING"]
    shared.reopen([Slot("bad samples")])
    shared.work(slots, lambda trial, slot: 1.0)
    assert states(shared)["bad"] == ["COMPLETE"]


# --- Workers that die ------------------------------------------------------------------------------------


def test_a_dead_workers_trial_is_tried_again_with_its_values_a_set_number_of_times() -> None:
    shared = queue()
    shared.retries = 1
    dead(shared, "0", x=0.25)
    dead(shared, "1")
    dead(shared, "1", attempt=2)
    shared.work(SLOTS[:3], value)
    assert states(shared) == {"0": ["FAIL", "COMPLETE"], "1": ["FAIL", "FAIL"], "2": ["COMPLETE"]}
    assert shared.attempts()["0"][-1].params == {"x": 0.25}


def test_a_worker_that_was_taken_for_dead_goes_on_with_other_slots(capsys: pytest.CaptureFixture) -> None:
    shared, ended = queue(), []

    def silent(trial: Trial, slot: Slot) -> float:
        if slot.name == "1" and not ended:  # as another worker does after a minute without beats
            ended.append(shared._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL))
        return value(trial, slot) if slot.name == "0" else 1.0

    shared.work(SLOTS[:3], silent)
    assert states(shared) == {"0": ["COMPLETE"], "1": ["FAIL", "COMPLETE"], "2": ["COMPLETE"]}
    assert "was taken for dead" in capsys.readouterr().err


def test_a_retried_trial_has_nothing_of_the_dead_one_but_its_values() -> None:
    shared = queue()
    dead(shared, "0", x=0.25)
    Trial(shared, shared.attempts()["0"][0]._trial_id).set_user_attr("run_id", "the dead one's")
    shared.work(SLOTS[:1], value)
    assert shared.attempts()["0"][-1].user_attrs == {SLOT: "0", ATTEMPT: 2}


def test_the_next_point_does_not_depend_on_dead_trials() -> None:
    """TPE takes RUNNING trials for bad ones (constant liar), so that a zombie would keep it from its point."""

    def next_point(name: str, zombies: int) -> float:
        shared = queue(name=name)
        shared.sampler = TPESampler(seed=3, n_startup_trials=5)
        for number in range(12):
            found = optuna.create_trial(
                params={"x": number / 12},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                value=-((number / 12 - 0.5) ** 2),
                user_attrs={SLOT: str(number), ATTEMPT: 1},
            )
            shared.add_trial(found)
        for number in range(zombies):
            dead(shared, f"zombie {number}", x=0.5)
        points: list[float] = []
        shared.work([Slot("new")], lambda trial, slot: points.append(trial.suggest_float("x", 0, 1)) or 1.0)
        return points[0]

    alone = next_point("alone", 0)
    assert next_point("with zombies", 4) == alone


def test_of_two_workers_that_enqueue_the_same_attempt_one_counts() -> None:
    shared = queue()
    for _ in range(2):
        shared.enqueue_trial({}, {SLOT: "0", ATTEMPT: 1})
    shared.work(SLOTS[:2], value)
    assert states(shared) == {"0": ["COMPLETE"], "1": ["COMPLETE"]}
    assert [trial.state.name for trial in shared.trials] == ["COMPLETE", "FAIL", "COMPLETE"]


def _worker(place: str, folder: Path, dies_at: int | None) -> None:
    os.chdir(folder)
    shared = queue(place, beat_s=1, seed=os.getpid())
    count = 0

    def objective(trial: Trial, slot: Slot) -> float:
        nonlocal count
        count += 1
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)  # the work
        return value(trial, slot)

    shared.work([Slot(str(number)) for number in range(40)], objective)


@pytest.mark.parametrize("place", ["studies.journal", "sqlite:///studies.db"])
def test_forty_slots_and_four_workers_two_of_which_die(place: str, tmp_path: Path) -> None:
    queue(place, beat_s=1)
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_worker, args=(place, tmp_path, dies_at)) for dies_at in (3, 5, None, None)]
    for worker in started:
        worker.start()
    for worker in started:
        worker.join(60)
    assert [worker.exitcode for worker in started] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    ends = states(queue(place))
    assert len(ends) == 40
    assert Counter(map(tuple, ends.values())) == {("COMPLETE",): 38, ("FAIL", "COMPLETE"): 2}


def _serve(place: str, port: int) -> None:
    optuna.storages.run_grpc_proxy_server(storages.open_storage(place), host="127.0.0.1", port=port)


def test_a_proxy_has_beats_and_retries_too(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(str(tmp_path / "served.journal"), port))
    server.start()
    try:
        shared = queue(f"grpc://127.0.0.1:{port}")
        dead(shared, "0", x=0.25)
        shared.work(SLOTS[:2], value)
        assert states(shared) == {"0": ["FAIL", "COMPLETE"], "1": ["COMPLETE"]}
        assert "beat" in shared.attempts()["1"][0].system_attrs
    finally:
        server.kill()
        server.join()


# --- Storages and names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no/such/folder/studies.journal", "must be a file in a folder that exists"),
        (".", "must be a file in a folder that exists"),
        ("sqlite:///no/such/studies.db", "there is no such folder"),
        ("postgresql://anna:geheim-12345@127.0.0.1:1/studies", "postgresql://127.0.0.1:1/studies cannot be opened"),
        ("nosuch://host/db", "cannot be opened"),
        ("grpc://127.0.0.1:1", "cannot be opened"),
    ],
)
def test_a_storage_that_is_not_there_is_one_line(place: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as refused:
        storages.open_storage(place)
    assert "\n" not in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_another_study_of_the_same_name_is_refused_with_the_difference() -> None:
    queue()
    with pytest.raises(InputError, match=r"the study 'study' is another one: its of is tests, not life; give another"):
        studies.make("study", storages.open_storage("studies.journal"), ["maximize"], {"of": "life"}, lambda: "other")


def test_a_study_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"there are no studies in nowhere\.journal"):
        studies.read("gan", "nowhere.journal")
    storage = storages.open_storage("studies.journal")
    studies.make("vae", storage, ["maximize"], {"objectives": ["accuracy"]}, lambda: "parent")
    with pytest.raises(InputError, match=r"no study 'gan' in studies\.journal; there are vae"):
        studies.read("gan", "studies.journal")


# --- Devices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "number", "devices", "own"),
    [
        (0, 1, "0 1 2 3", "0"),
        (3, 1, "0 1 2 3", "3"),
        (5, 1, "4 6", "6"),
        (1, 2, "0 1 2 3", "2 3"),
        (2, 2, "0 1 2 3", "0 1"),
        (0, 4, "0 1", "0 1"),
    ],
)
def test_a_worker_has_devices_of_its_own(place: int, number: int, devices: str, own: str) -> None:
    assert workers.devices_of(place, number, devices.split()) == own.split()
