"""A study's search: Optuna suggests and prunes, an engine carries the trials out, and this tells each of the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from harness import signals
from harness.engine.engines import Engine, with_progress_lines
from harness.engine.tasks import Ending, Task
from harness.errors import InputError
from harness.storages import DIED, REASON, RUN, SLOT, by_slot, is_over, patiently
from harness.studies.answering import Tenths
from harness.tracking.redaction import redacted

Slots = Mapping[str, Mapping[str, Any]]
"""A study's slots, with the parameters that are not suggested: {} where all are."""


class Search:
    """The trials of a study, one for each slot. One process at a time holds a study."""

    def __init__(
        self,
        study: optuna.Study,
        slots: Slots,
        make_task: Callable[[Trial, str], Task],
        max_failures: int = 0,
        answer: Callable[[], object] = lambda: None,
    ) -> None:
        self._study, self._slots, self._make_task, self._max_failures = study, slots, make_task, max_failures
        self._answer = answer
        self._under_way: dict[str, Trial] = {}

    def run(self, engine: Engine) -> None:
        """Do all that is not over, as many at once as the engine has slots; answer at its tenths.

        What raises ends the trials under way as stopped, and they are tried again by the next call. Raises InputError
        where the first `max_failures` trials have all failed.
        """
        patiently(self._bury)
        past = patiently(self._past)
        waiting = [slot for slot in self._slots if not is_over(past.get(slot, []))]
        reasons = [past[slot][-1].user_attrs.get(REASON, "") for slot in self._slots if slot not in waiting]
        self._check_failures(reasons)
        number, tenths = len(waiting), Tenths(len(waiting))
        try:
            for _ in range(min(engine.slots, number)):
                self._begin(engine, waiting)
            endings = with_progress_lines(engine.endings(self._hear), self._study.study_name, number, engine.slots)
            for done, (slot, ending) in enumerate(endings, 1):
                self._tell(self._under_way.pop(slot), ending)
                reasons.append(ending.reason if ending.state in ("failed", "died") else "")
                self._check_failures(reasons)
                if waiting:
                    self._begin(engine, waiting)
                if tenths.is_reached(done):
                    self._answer()
        except BaseException as error:
            for trial in self._under_way.values():
                self._tell(trial, Ending("stopped", reason=_stopped(error)))
            raise

    def _past(self) -> dict[str, list[optuna.trial.FrozenTrial]]:
        return by_slot(self._study.get_trials(deepcopy=False))

    def _bury(self) -> None:
        """Trials that a killed process of this study has left RUNNING: nobody carries them out any more."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def _begin(self, engine: Engine, waiting: list[str]) -> None:
        """Ask for the next trial and have it carried out."""
        slot, trial = patiently(lambda: self._ask(waiting))
        waiting.remove(slot)
        self._under_way[slot] = trial
        engine.submit(slot, patiently(lambda: self._make_task(trial, slot)))

    def _ask(self, waiting: Sequence[str]) -> tuple[str, Trial]:
        """A trial of the first slot that waits; its values are those of its attempts before, where it had any."""
        for slot in itertools.cycle(waiting):
            past = self._past().get(slot, [])
            if (not past or past[-1].state != TrialState.WAITING) and (given := self._given(slot, past)):
                self._study.enqueue_trial(given, {SLOT: slot})
            trial = self._study.ask()
            own = trial.user_attrs.get(SLOT)
            if own is None:
                trial.set_user_attr(SLOT, own := slot)
            if own in waiting:
                return own, trial
            self._study.tell(trial, state=TrialState.FAIL)  # a slot that is no longer asked for
        raise AssertionError("nothing waits")

    def _given(self, slot: str, past: Sequence[optuna.trial.FrozenTrial]) -> dict[str, Any]:
        known = {name: value for trial in past for name, value in trial.params.items()}
        return known | dict(self._slots[slot])

    def _hear(self, slot: str, words: tuple[Any, ...]) -> bool:
        """What a trial says of itself, and Optuna of it."""
        trial = self._under_way.get(slot)
        if trial is None:
            return False
        match words:
            case ("run", run):
                patiently(lambda: trial.set_user_attr(RUN, run))
            case ("report", step, value):
                patiently(lambda: trial.report(value, step))
            case ("ask",):
                return patiently(trial.should_prune)
        return False

    def _tell(self, trial: Trial, ending: Ending) -> None:
        def tell() -> None:
            if ending.run:
                trial.set_user_attr(RUN, ending.run)
            if ending.state == "done":
                self._study.tell(trial, ending.value, skip_if_finished=True)
            elif ending.state == "pruned":
                self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                reason = (DIED if ending.state == "died" else "") + redacted(ending.reason)[:1000]
                trial.set_user_attr(REASON, reason)
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

        patiently(tell)

    def _check_failures(self, reasons: Sequence[str]) -> None:
        """`reasons` of those that have ended, "" of one that has not failed."""
        if self._max_failures and all(reasons) and len(reasons) >= self._max_failures:
            raise InputError(
                f"all {len(reasons)} trials of {self._study.study_name} have failed, the last with: {reasons[-1]} "
                f"(--max-failures {self._max_failures})"
            )


def _stopped(error: BaseException) -> str:
    reason = signals.reason(error)
    return reason if signals.STOPPED in reason else f"{signals.STOPPED}the study's end: {reason}"
