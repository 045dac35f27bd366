"""A hyperparameter study as plain typed frames: the only reading of studies in the analyses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from analysis.lazily import optuna, pd
from harness.errors import InputError
from harness.studies import storages
from harness.studies.confirmation import best
from harness.studies.storages import Direction

STATES = ("complete", "pruned", "failed", "stopped", "died", "running", "waiting")
KEY = (
    "schedule", "min_beta", "max_beta", "num_steps", "latent_size", "kl_weight", "clip_limit", "critic_steps",
    "epochs", "loss",
)  # fmt: skip
"""The hyperparameters that are looked at first, of all methods; a study has some of them."""


@dataclass(frozen=True)
class Reading:
    """A study at one moment.

    `attempts` has a row per attempt at a slot, by number. Columns: slot, number,
    attempt, state (one of STATES), last (whether it is its slot's last), `params.NAME`, `objective/NAME`, start, end
    (local time), duration_s, reason, run_id. What an attempt does not have is NaN or None.
    """

    name: str
    definition: Mapping[str, Any]
    run_id: str | None
    attempts: pd.DataFrame
    parameters: Mapping[str, BaseDistribution]  # those searched, the key ones first
    directions: Mapping[str, Direction]  # by objective
    best: int  # the number of the trial with the best first objective
    front: Sequence[int]  # the numbers of those that no other beats in both objectives; none with one objective
    importances: pd.DataFrame  # parameter, objective, importance (0 … 1); empty where they cannot be told

    @property
    def trials(self) -> pd.DataFrame:
        """The last attempt of each slot."""
        return self.attempts[self.attempts["last"]]

    @property
    def complete(self) -> pd.DataFrame:
        return self.trials[self.trials["state"] == "complete"]

    @property
    def winner(self) -> pd.Series:
        return self.attempts[self.attempts["number"] == self.best].iloc[0]


def read(study: optuna.Study) -> Reading:
    """What a study holds now. Raises InputError where no trial is complete."""
    definition = study.user_attrs[storages.DEFINITION]
    winner, front = best(study), study.best_trials  # before the trials: one that ends meanwhile is in neither
    trials = study.get_trials(deepcopy=False)
    parameters = searched(trials, definition.get("space", {}))
    directions: dict[str, Direction] = {
        name: "minimize" if way == StudyDirection.MINIMIZE else "maximize"
        for name, way in zip(definition["objectives"], study.directions, strict=True)
    }
    if not trials:
        raise InputError(f"the study {study.study_name} has no trial yet")
    attempts = frame_of(trials, parameters, list(directions))
    if winner is None:
        raise InputError(f"no trial of the study {study.study_name} is complete ({counted(attempts)})")
    return Reading(
        name=study.study_name,
        definition=definition,
        run_id=study.user_attrs.get(storages.PARENT),
        attempts=attempts,
        parameters=parameters,
        directions=directions,
        best=winner.number,
        front=sorted(trial.number for trial in front) if len(directions) > 1 else (),
        importances=importances(study, directions),
    )


def searched(trials: Sequence[FrozenTrial], space: Mapping[str, str]) -> dict[str, BaseDistribution]:
    """The searched hyperparameters with their ranges: those of KEY, then the others as the study names them."""
    found = {name: among for trial in trials for name, among in trial.distributions.items()}
    order = [*KEY, *space]
    return {name: found[name] for name in sorted(found, key=lambda n: order.index(n) if n in order else len(order))}


def frame_of(
    trials: Sequence[FrozenTrial], parameters: Mapping[str, BaseDistribution], objectives: Sequence[str]
) -> pd.DataFrame:
    """The attempts of all slots, as `Reading` says."""
    latest = max((at for trial in trials for at in (trial.datetime_start, trial.datetime_complete) if at), default=None)
    rows = []
    for slot, past in storages.by_slot(trials).items():
        for attempt, trial in enumerate(past, 1):
            done = trial.state == TrialState.COMPLETE  # Optuna gives a pruned one the last it has reported
            values = trial.values if done else [math.nan] * len(objectives)
            end = latest if trial.state == TrialState.RUNNING else trial.datetime_complete
            took = (end - trial.datetime_start).total_seconds() if trial.datetime_start and end else math.nan
            rows.append(
                {"slot": slot, "number": trial.number, "attempt": attempt}
                | {"state": state(trial), "last": trial is past[-1]}
                | {f"params.{name}": trial.params.get(name) for name in parameters}
                | {f"objective/{name}": value for name, value in zip(objectives, values, strict=True)}
                | {"start": trial.datetime_start, "end": end, "duration_s": round(took, 3)}
                | {"reason": trial.user_attrs.get(storages.REASON), "run_id": trial.user_attrs.get(storages.RUN)}
            )
    frame = pd.DataFrame(rows).sort_values("number", ignore_index=True)
    return frame.astype({f"params.{name}": "Int64" for name, among in parameters.items() if _is_whole(among)})


def _is_whole(among: BaseDistribution) -> bool:
    if isinstance(among, CategoricalDistribution):
        return all(type(choice) is int for choice in among.choices)
    return isinstance(among, IntDistribution)


def state(trial: FrozenTrial) -> str:
    """One of STATES: FAIL is told apart by what ended it, an error, a signal, or its process's death."""
    if trial.state != TrialState.FAIL:
        return trial.state.name.lower()
    return "died" if storages.died(trial) else "stopped" if storages.was_stopped(trial) else "failed"


def importances(study: optuna.Study, directions: Mapping[str, Direction]) -> pd.DataFrame:
    """Optuna's importances of the parameters by objective, as shares: PED-ANOVA's, before Optuna 5 fANOVA's."""
    rows = []
    for place, (objective, direction) in enumerate(directions.items()):
        sign = 1 if direction == "minimize" else -1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it minimizes, and that few trials give few answers
            try:
                found = get_param_importances(study, target=lambda t, i=place, s=sign: s * t.values[i], normalize=False)
            except (ValueError, RuntimeError):  # Optuna 4's, of one trial or of values that are all the same
                found = {}
        total = sum(found.values())
        rows += [(name, objective, value / total) for name, value in found.items() if total > 0]
    return pd.DataFrame(rows, columns=["parameter", "objective", "importance"])


def counted(attempts: pd.DataFrame) -> str:
    """How many trials ended how, and how many attempts were tried again, in words."""
    last = attempts["last"]
    words = f"{_number(int(last.sum()), 'trial')}: {_states(attempts[last], all_ends=True)}"
    again = int((~last).sum())
    if again:
        words += f"; {_number(again, 'earlier attempt')} ({_states(attempts[~last])})"
        words += " was tried again" if again == 1 else " were tried again"
    return words


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _states(attempts: pd.DataFrame, all_ends: bool = False) -> str:
    counts = attempts["state"].value_counts()
    shown = [name for name in STATES if name in counts or (all_ends and name not in ("running", "waiting"))]
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in shown)
