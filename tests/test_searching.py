"""A study's search: every slot is done once, whatever happens to its trials and to the process that asks for them."""

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

import optuna
import processes
import pytest
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from harness import storages
from harness.engine.engines import Hear, InOrder
from harness.engine.tasks import Ending, Talk, Task
from harness.engine.workers import WorkerSettings
from harness.errors import InputError, Pruned
from harness.signals import Killed
from harness.storages import REASON, RUN, SLOT
from harness.studies import answering
from harness.studies.searching import Search, Slots

SLOTS: Slots = {str(number): {} for number in range(6)}


@pytest.fixture(autouse=True, scope="module")
def _forked() -> None:
    """Tasks come from the server that has all imports already."""
    processes.server()


def made(name: str = "study", sampler: BaseSampler | None = None) -> optuna.Study:
    storage = storages.open_storage("studies.db")
    storages.make_study(name, storage, ["maximize"], {"of": "tests"}, lambda: "parent")
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler or RandomSampler(0))


def suggests(trial: Trial, slot: str) -> Task:
    return Task(value, (trial.suggest_float("x", 0, 1),))


def value(talk: Talk, x: float) -> list[float]:
    return [x]


def ends(talk: Talk, slot: str) -> list[float]:
    """As the slot's name says."""
    match slot:
        case "raises":
            raise ValueError("no such thing")
        case "is pruned":
            raise Pruned("pruned at step 3: fid is 7")
        case "has no memory":
            raise MemoryError
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
    return [1.0]


def slots(names: Iterable[str]) -> Slots:
    return {name: {} for name in names}


def search(asked_for: Slots = SLOTS, make: Callable[[Trial, str], Task] = suggests, **how: Any) -> optuna.Study:
    study = made()
    Search(study, asked_for, make, **how).run(InOrder(WorkerSettings(retries=1)))
    return study


def states(study: optuna.Study) -> dict[str, list[str]]:
    return {slot: [trial.state.name for trial in past] for slot, past in storages.by_slot(study.trials).items()}


# --- How trials end --------------------------------------------------------------------------------------


def test_every_slot_is_done_once_and_more_slots_add_to_it() -> None:
    search(dict(list(SLOTS.items())[:4]))
    assert states(search()) == {str(number): ["COMPLETE"] for number in range(6)}


def test_how_a_trial_ends_is_its_state_and_the_others_go_on() -> None:
    names = ("ends well", "raises", "is pruned", "has no memory", "is killed", "ends well too")
    study = search(slots(names), lambda trial, slot: Task(ends, (slot,)))
    found = {slot: (past[-1].state.name, past[-1].user_attrs.get(REASON)) for slot, past in
             storages.by_slot(study.trials).items()}  # fmt: skip
    assert found == {
        "ends well": ("COMPLETE", None),
        "raises": ("FAIL", "ValueError: no such thing"),
        "is pruned": ("PRUNED", None),
        "has no memory": ("FAIL", "MemoryError"),
        "is killed": ("FAIL", "died: its process ended with SIGKILL and gave no reason"),
        "ends well too": ("COMPLETE", None),
    }


def reports(talk: Talk, values: list[float]) -> list[float]:
    talk.begun("its run")
    for step, reported in enumerate(values):
        talk.report(step, reported)
        if talk.should_stop():
            raise Pruned(f"pruned at step {step}")
    return [values[-1]]


def test_optuna_hears_what_trials_report_and_says_which_end_early() -> None:
    study = made()
    study.pruner = optuna.pruners.PercentilePruner(50.0, n_startup_trials=1)
    curves = {"good": [0.5, 0.6, 0.7], "bad": [0.4, 0.1, 0.9]}
    Search(study, slots(curves), lambda trial, slot: Task(reports, (curves[slot],))).run(InOrder(WorkerSettings()))
    good, bad = study.trials
    assert (good.state, good.values, good.user_attrs[RUN]) == (TrialState.COMPLETE, [0.7], "its run")
    assert (bad.state, bad.intermediate_values) == (TrialState.PRUNED, {0: 0.4})


def test_a_study_that_is_broken_from_the_start_ends() -> None:
    message = r"all 3 trials of study have failed, the last with: ValueError: no such thing"
    with pytest.raises(InputError, match=message):
        search(make=lambda trial, slot: Task(ends, ("raises",)), max_failures=3)
    assert states(made()) == {"0": ["FAIL"], "1": ["FAIL"], "2": ["FAIL"]}


def test_a_study_that_has_one_good_trial_is_not_broken() -> None:
    names = ("ends well", "raises", "raises too")
    study = search(slots(names), lambda trial, slot: Task(ends, (slot[:6],)), max_failures=1)
    assert states(study) == {"ends well": ["COMPLETE"], "raises": ["FAIL"], "raises too": ["FAIL"]}


@pytest.mark.parametrize(("patience_s", "answers"), [(0, [2, 3, 5, 6, 8, 9, 11, 12, 14]), (3600, [])])
def test_a_search_answers_at_each_tenth_but_its_end_and_not_too_often(
    patience_s: float, answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", patience_s)
    study, answered = made(), []

    def answer() -> None:
        answered.append(sum(trial.state.is_finished() for trial in study.trials))

    Search(study, slots(map(str, range(15))), suggests, answer=answer).run(AtOnce())
    assert answered == answers


class AtOnce:
    """An engine whose tasks are done when they are submitted."""

    slots = 1

    def __init__(self) -> None:
        self._names: list[str] = []

    def submit(self, name: str, task: Task, needs: str | None = None) -> None:
        self._names.append(name)

    def endings(self, hear: Hear) -> Any:
        while self._names:
            yield self._names.pop(), Ending("done", [1.0])


# --- What is tried again ---------------------------------------------------------------------------------


class Interrupted:
    """An engine whose driver is stopped when the second task has ended."""

    slots = 2

    def __init__(self, error: BaseException) -> None:
        self._error, self._names = error, []

    def submit(self, name: str, task: Task, needs: str | None = None) -> None:
        self._names.append(name)

    def endings(self, hear: Hear) -> Any:
        yield self._names[0], Ending("done", [1.0])
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [(KeyboardInterrupt(), "stopped by Ctrl-C"), (Killed(signal.SIGTERM), "stopped by SIGTERM")],
)
def test_what_was_stopped_with_the_driver_is_tried_again_with_its_values(error: BaseException, reason: str) -> None:
    study = made()
    with pytest.raises(type(error)):
        Search(study, SLOTS, suggests).run(Interrupted(error))
    assert states(study) == {"0": ["COMPLETE"], "1": ["FAIL"], "2": ["FAIL"]}
    assert {trial.user_attrs.get(REASON) for trial in study.trials[1:]} == {reason}
    assert states(search()) == {"0": ["COMPLETE"], "1": ["FAIL", "COMPLETE"], "2": ["FAIL", "COMPLETE"],
                                "3": ["COMPLETE"], "4": ["COMPLETE"], "5": ["COMPLETE"]}  # fmt: skip
    for past in storages.by_slot(study.trials).values():
        assert past[-1].values == [past[0].params["x"]] or past[-1].values == [1.0]


def asked(study: optuna.Study, slot: str, x: float) -> Trial:
    """A trial that a driver has asked for, which was killed then: RUNNING for ever."""
    study.enqueue_trial({"x": x}, {SLOT: slot})
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    return trial


def test_what_a_killed_driver_left_running_is_failed_and_tried_again_with_its_values() -> None:
    asked(made(), "0", x=0.25)
    study = search()
    assert states(study) == {"0": ["FAIL", "COMPLETE"]} | {slot: ["COMPLETE"] for slot in "12345"}
    assert storages.by_slot(study.trials)["0"][-1].values == [0.25]


def test_a_slot_keeps_its_values_though_its_last_attempt_was_cut_off_before_it_had_them_all() -> None:
    study = made()
    first = asked(study, "0", x=0.25)
    study.tell(first, state=TrialState.FAIL)
    study.enqueue_trial({"x": 0.25}, {SLOT: "0"})
    study.ask()
    assert storages.by_slot(search().trials)["0"][-1].values == [0.25]


def test_a_driver_that_is_killed_between_two_calls_leaves_nothing_that_hinders_the_next() -> None:
    study = made()
    study.ask()  # before its slot was said
    study.enqueue_trial({"x": 0.25}, {SLOT: "1"})  # before it was asked for
    study.enqueue_trial({"x": 0.75}, {SLOT: "no longer asked for"})
    study = search()
    assert [past for slot, past in states(study).items() if slot in SLOTS] == [["COMPLETE"]] * len(SLOTS)
    assert storages.by_slot(study.trials)["1"][-1].values == [0.25]
    assert not [trial for trial in study.trials if not trial.state.is_finished()]


def test_the_next_point_does_not_depend_on_what_killed_drivers_left() -> None:
    """TPE takes RUNNING trials for bad ones (constant liar), so that a zombie would keep it from its point."""

    def next_point(name: str, zombies: int) -> float:
        study = made(name, TPESampler(seed=3, n_startup_trials=5, constant_liar=True))
        for number in range(12):
            study.add_trial(
                optuna.create_trial(
                    params={"x": number / 12},
                    distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                    value=-((number / 12 - 0.5) ** 2),
                    user_attrs={SLOT: str(number)},
                )
            )
        for number in range(zombies):
            asked(study, f"zombie {number}", x=0.5)
        Search(study, {"new": {}}, suggests).run(InOrder(WorkerSettings()))
        return study.trials[-1].params["x"]

    assert next_point("with zombies", 4) == next_point("alone", 0)


# --- Storages and names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no/such/folder/studies.db", "must be a file in a folder that exists"),
        (".", "must be a file in a folder that exists"),
        ("sqlite:///no/such/studies.db", "must be a file in a folder that exists"),
        ("postgresql://anna:geheim-12345@127.0.0.1:1/studies", "postgresql://127.0.0.1:1/studies cannot be opened"),
        ("nosuch://host/db", "cannot be opened"),
    ],
)
def test_a_storage_that_is_not_there_is_one_line(place: str, message: str, tmp_path: Any) -> None:
    with pytest.raises(InputError, match=message) as refused:
        storages.open_storage(place)
    assert "\n" not in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not a database"])
def test_who_reads_studies_makes_nothing_of_a_file_that_has_none(content: bytes, tmp_path: Any) -> None:
    (tmp_path / "other.db").write_bytes(content)
    with pytest.raises(InputError, match=r"other\.db cannot be opened .*(no such table|not a database)"):
        storages.read_study(None, "other.db")
    assert (tmp_path / "other.db").read_bytes() == content


def test_another_study_of_the_same_name_is_refused_with_the_difference() -> None:
    made()
    storage = storages.open_storage("studies.db")
    with pytest.raises(InputError, match=r"the study 'study' is another one: its of is tests, not life; give another"):
        storages.make_study("study", storage, ["maximize"], {"of": "life"}, lambda: "other")


def test_a_study_whose_maker_was_killed_is_made_by_the_next() -> None:
    storage = storages.open_storage("studies.db")
    optuna.create_study(study_name="study", storage=storage, directions=["maximize"])  # and no more
    assert storages.make_study("study", storage, ["maximize"], {"of": "tests"}, lambda: "parent") == "parent"


def test_a_study_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"there are no studies in nowhere\.db"):
        storages.read_study("gan", "nowhere.db")
    storages.make_study(
        "vae", storages.open_storage("studies.db"), ["maximize"], {"objectives": ["accuracy"]}, lambda: "run"
    )
    with pytest.raises(InputError, match=r"no study 'gan' in studies\.db; there are vae"):
        storages.read_study("gan", "studies.db")
