"""Studies that any number of workers share, none of them trusted to live: their queue, and how they are made and found.

A study has slots: the trials of a search, or the cells of a comparison. A worker takes a slot by setting its
waiting trial to RUNNING, which the storage grants to one worker alone, and beats while it works on it. Where the
beats stop, or the trial was stopped, the slot gets another trial, its next attempt. Two workers that enqueue the
same attempt at once do no harm: the one with the lower number counts.

With `harness.storages`, what is built on both (`harness.trials`, `harness.tuning`, `harness.comparison`,
`harness.confirmation`) and `analysis.studies` the only place that knows Optuna. No torch in here, so that a study can
be read without it.
"""

import contextlib
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from harness import signals
from harness.errors import InputError, Pruned
from harness.redaction import redacted
from harness.storages import AWAY_S, POLL_S, Away, default_storage, open_storage, stopping
from harness.tracking.addresses import shown

SLOT, ATTEMPT, REASON, RUN, WORKER = "slot", "attempt", "reason", "run_id", "worker"
"""A trial's own words in the study. A trial that failed without a reason died with its worker."""
DEFINITION, PARENT = "definition", "parent_run"
"""A study's."""
Direction = Literal["maximize", "minimize"]

optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is said in one line, by us
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Fixed parameter .* is out of", category=UserWarning)


# --- A study and its queue -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """A piece of a study's work: its name, the parameters that are not suggested, the slot that must be done first."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None


class Exhausted(Exception):
    """No slot is left."""


class TrialFailed(Exception):
    """A trial has ended without a value; its reason is in the study, which goes on."""


class Queue(optuna.Study):
    """A study whose trials are its slots, each taken once: a worker's view of it."""

    def __init__(
        self,
        name: str,
        storage: BaseStorage,
        sampler: BaseSampler | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
    ) -> None:
        super().__init__(name, storage, sampler, pruner)
        self.slots: dict[str, Slot] = {}
        self.retries, self.max_failures = 2, 0
        self._current: int | None = None

    def attempts(self) -> dict[str, list[FrozenTrial]]:
        """The trials of each slot, one per attempt, in their order."""
        return attempts(self.get_trials(deepcopy=False))

    def enqueue(self, slots: Sequence[Slot]) -> None:
        """Give each slot that has none its first trial: before there are workers who would do it at once."""
        known = self.attempts()
        self._top_up([slot for slot in slots if slot.name not in known], known)

    def work(self, slots: Sequence[Slot], objective: Callable[[Trial, Slot], Any]) -> None:
        """Take slots and do them until all are over, those of other workers too: one of these may die.

        What `objective` raises ends its trial, with the reason in the study, and not the others; Pruned is no failure.
        Raises InputError where the first `max_failures` trials all failed, and where the database stays away.
        """
        self.slots = {slot.name: slot for slot in slots}
        stopping.clear()
        until = None
        while True:
            try:
                with contextlib.suppress(Exhausted):
                    self.optimize(lambda trial: self._tried(trial, objective), catch=(TrialFailed,))
                return
            except KeyboardInterrupt as stop:
                raise stop.__cause__ or stop from None  # as it came
            except InputError:
                raise
            except (ValueError, AssertionError, UpdateFinishedTrialError):
                if not self._overtaken():
                    raise
                print("a trial was taken for dead while this worker was silent; it is done again", file=sys.stderr)
            except Away as error:
                if stopping.is_set():
                    raise KeyboardInterrupt from error
                until = until or time.monotonic() + AWAY_S
                if time.monotonic() > until:
                    raise InputError(
                        f"the study's storage is away ({redacted(str(error).splitlines()[0])[:200]}); "
                        "the same command goes on with it"
                    ) from error
            time.sleep(POLL_S)

    def _overtaken(self) -> bool:
        """Whether somebody else has ended this worker's trial: Optuna refuses to hear of it then."""
        return self._current is not None and self._storage.get_trial(self._current).state.is_finished()

    def _tried(self, trial: Trial, objective: Callable[[Trial, Slot], Any]) -> Any:
        self._current = trial._trial_id
        try:
            return objective(trial, self.slots[trial.user_attrs[SLOT]])
        except Pruned as error:
            print(f"trial {trial.number}: {error}", flush=True)
            raise optuna.TrialPruned(str(error)) from error
        except Away:
            raise  # no failure of the trial's: it is tried again
        except (KeyboardInterrupt, SystemExit) as error:
            stopping.set()
            with contextlib.suppress(*Away):
                trial.set_user_attr(REASON, signals.reason(error))
            raise KeyboardInterrupt from error
        except Exception as error:
            reason = redacted(signals.reason(error))[:1000]
            trial.set_user_attr(REASON, reason)
            print(f"trial {trial.number}: failed: {reason}", file=sys.stderr, flush=True)
            raise TrialFailed(reason) from error

    def _pop_waiting_trial_id(self) -> int:
        """The seam at which Optuna looks for trials that were enqueued: here there are no others."""
        while True:
            fail_stale_trials(self)
            trials = self.get_trials(deepcopy=False)
            known = attempts(trials)
            self._check_failures(known)
            open_slots = [slot for slot in self.slots.values() if not self._over(slot, known)]
            if not open_slots:
                raise Exhausted
            if self._top_up(open_slots, known):
                continue  # others may have done so too
            self._drop_twins(trials, known)
            for trial in self._ready(known):
                if self._take(trial):
                    return trial._trial_id
            time.sleep(POLL_S)

    def _over(self, slot: Slot, known: Mapping[str, list[FrozenTrial]]) -> bool:
        """Whether nothing more will come of a slot."""
        if slot.needs and self._over(self.slots[slot.needs], known) and not is_done(known.get(slot.needs, [])):
            return True  # what it needs has failed
        return is_over(known.get(slot.name, []), self.retries)

    def _top_up(self, open_slots: Sequence[Slot], known: Mapping[str, list[FrozenTrial]]) -> bool:
        """Enqueue a trial for each open slot that has none under way; whether there was one."""
        idle = [slot for slot in open_slots if not (past := known.get(slot.name)) or past[-1].state.is_finished()]
        for slot in idle:
            self._enqueue_next(slot, known.get(slot.name, []))
        return bool(idle)

    def _enqueue_next(self, slot: Slot, past: Sequence[FrozenTrial]) -> None:
        again = past[-1].params if past else {}
        self.enqueue_trial({**again, **slot.params}, {SLOT: slot.name, ATTEMPT: len(past) + 1})

    def _drop_twins(self, trials: Collection[FrozenTrial], known: Mapping[str, list[FrozenTrial]]) -> None:
        """Of several trials of one attempt only the first is ever done; the others end as failed."""
        first = {trial.number for past in known.values() for trial in past}
        for trial in trials:
            if trial.state == TrialState.WAITING and trial.number not in first:
                with contextlib.suppress(UpdateFinishedTrialError):
                    self._storage.set_trial_user_attr(trial._trial_id, REASON, "enqueued twice, never begun")
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def reopen(self, slots: Sequence[Slot]) -> None:
        """Enqueue once more what is over."""
        known = self.attempts()
        for slot in slots:
            past = known.get(slot.name, [])
            if past and past[-1].state.is_finished():
                self._enqueue_next(slot, past)

    def _ready(self, known: Mapping[str, list[FrozenTrial]]) -> Iterator[FrozenTrial]:
        for slot in self.slots.values():
            past = known.get(slot.name, [])
            if past and past[-1].state == TrialState.WAITING and (not slot.needs or is_done(known.get(slot.needs, []))):
                yield past[-1]

    def _take(self, trial: FrozenTrial) -> bool:
        # The beat comes first: a worker that dies just after it has taken a trial leaves one that can be seen as dead.
        self._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        try:
            return self._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _check_failures(self, known: Mapping[str, list[FrozenTrial]]) -> None:
        ends = [past[-1] for past in known.values() if past[-1].state.is_finished()]
        failed = [trial for trial in ends if trial.state == TrialState.FAIL and REASON in trial.user_attrs]
        failed = [trial for trial in failed if not was_stopped(trial)]
        if self.max_failures and len(failed) == len(ends) >= self.max_failures:
            raise InputError(
                f"all {len(failed)} trials of {self.study_name} have failed, the last with: "
                f"{failed[-1].user_attrs[REASON]} (--max-failures {self.max_failures})"
            )


def note_worker(trial: Trial) -> None:
    trial.set_user_attr(WORKER, f"{platform.node()}:{os.getpid()}")


def attempts(trials: Collection[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """Trials by slot, one per attempt, in their order: of several of one attempt the first."""
    first: dict[tuple[str, int], FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        first.setdefault((trial.user_attrs.get(SLOT, ""), trial.user_attrs.get(ATTEMPT, 0)), trial)
    found: dict[str, list[FrozenTrial]] = {}
    for (slot, _), trial in sorted(first.items(), key=lambda item: item[0][1]):
        found.setdefault(slot, []).append(trial)
    return found


def is_done(past: Sequence[FrozenTrial]) -> bool:
    return bool(past) and past[-1].state == TrialState.COMPLETE


def is_over(past: Sequence[FrozenTrial], retries: int) -> bool:
    """Whether the last attempt of a slot decides: it has a value, was pruned, failed, or died once too often."""
    if not past or not past[-1].state.is_finished():
        return False
    if past[-1].state != TrialState.FAIL:
        return True
    if REASON in past[-1].user_attrs:
        return not was_stopped(past[-1])
    return sum(died(trial) for trial in past) > retries


def died(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def was_stopped(trial: FrozenTrial) -> bool:
    return signals.STOPPED in trial.user_attrs.get(REASON, "")


# --- Making and finding studies --------------------------------------------------------------------------


def make(
    name: str,
    storage: BaseStorage,
    directions: Sequence[Direction],
    definition: Mapping[str, Any],
    make_parent: Callable[[], str],
) -> str:
    """Make a study, or find it where it is: the id of its MLflow run, which whoever makes the study makes too.

    Raises InputError for a study of that name with another definition, with the differences.
    """
    try:
        made = optuna.create_study(storage=storage, study_name=name, directions=list(directions))
    except DuplicatedStudyError:
        made = optuna.load_study(study_name=name, storage=storage)
        _same_definition(made, definition)
        until = time.monotonic() + 60  # its maker may be about to say it
        while PARENT not in made.user_attrs and time.monotonic() < until:
            time.sleep(POLL_S)
    else:
        made.set_user_attr(DEFINITION, dict(definition))
    if PARENT not in made.user_attrs:
        made.set_user_attr(PARENT, make_parent())
    return made.user_attrs[PARENT]


def check_definition(name: str, storage: BaseStorage, definition: Mapping[str, Any]) -> None:
    """Raises InputError where a study of that name is of something else."""
    if name in optuna.get_all_study_names(storage):
        _same_definition(optuna.load_study(study_name=name, storage=storage), definition)


def _same_definition(study: optuna.Study, definition: Mapping[str, Any]) -> None:
    until = time.monotonic() + 10
    while (known := study.user_attrs.get(DEFINITION)) is None and time.monotonic() < until:
        time.sleep(POLL_S)
    known = known or {}
    different = [
        f"{key} is {known.get(key)}, not {definition.get(key)}"
        for key in {**known, **definition}
        if known.get(key) != definition.get(key)
    ]
    if different:
        raise InputError(
            f"the study {study.study_name!r} is another one: its {'; its '.join(different)}; give another --name"
        )


def read(name: str | None, place: str | None = None) -> optuna.Study:
    """A hyperparameter study to look at; without a name the only one of its storage.

    Comparisons, and the fresh seeds on which a study's winner was confirmed, are no such studies.
    Raises InputError for a storage or a study that is not there, with those that are.
    """
    place = place or default_storage()
    storage = open_storage(place, create=False)
    known = storage.get_all_studies()
    names = [found.study_name for found in known if "objectives" in found.user_attrs.get(DEFINITION, {})]
    if not names:
        raise InputError(f"there is no study in {shown(place)}: run experiments/tune.py, or give its --storage")
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        said = f"no study {name!r}" if name else "a study must be named"
        raise InputError(f"{said} in {shown(place)}; there are {', '.join(names)}")
    return optuna.load_study(study_name=name, storage=storage)
