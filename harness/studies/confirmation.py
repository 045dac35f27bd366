"""A study's winner, and how it is held against the default: on fresh seeds, paired.

No torch in here, so that a study can be read without it.
"""

import math
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from harness.studies.storages import SLOT, Direction

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Relative to the values, which are computed in float32: a spread below it is none."""


def best(study: optuna.Study) -> FrozenTrial | None:
    """The trial with the best first objective, the earliest of equal ones; None before any is complete."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return min(done, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def confirmation_name(study: str, winner: FrozenTrial) -> str:
    """The study in which the fresh seeds of a study's winner and of the default are."""
    return f"{study} confirmation {winner.number}"


def has_confirmed(study: str, storage: BaseStorage) -> bool:
    """Whether a winner of the study, this one or an earlier one, was given fresh seeds."""
    return any(name.startswith(f"{study} confirmation ") for name in optuna.get_all_study_names(storage))


@dataclass(frozen=True)
class Confirmation:
    """The winner against the default, paired by fresh seeds: differences best - default of the first objective.

    `low`, `high` (95 % t interval) and `p` (paired t-test) are NaN where the differences do not vary.
    """

    frame: pd.DataFrame  # seed, default, best
    difference: float
    low: float
    high: float
    p: float

    def verdict(self, direction: Direction) -> str:
        better = self.low > 0 if direction == "maximize" else self.high < 0
        worse = self.high < 0 if direction == "maximize" else self.low > 0
        return "better" if better else "worse" if worse else "not shown to differ"

    def words(self, objective: str, direction: Direction) -> str:
        said = f"on {len(self.frame)} fresh seeds {self.verdict(direction)}: {objective} best - default "
        if math.isnan(self.low):
            return f"{said}{self.difference:+.4g} on each, which gives no interval"
        return f"{said}{self.difference:+.4g} [{self.low:+.4g}, {self.high:+.4g}], p = {self.p:.2g}"


def confirmation(study: str, storage: BaseStorage) -> Confirmation | None:
    """What the fresh seeds say of a study's winner; None where there were fewer than two with both."""
    winner = best(optuna.load_study(study_name=study, storage=storage))
    name = confirmation_name(study, winner) if winner else None
    if name is None or name not in optuna.get_all_study_names(storage):
        return None
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    rows = [(*trial.user_attrs[SLOT].split()[::2], trial.values[0]) for trial in done]
    frame = pd.DataFrame(rows, columns=["which", "seed", "value"]).astype({"seed": int})
    frame = frame.pivot_table(index="seed", columns="which", values="value").reindex(columns=["default", "best"])
    frame = frame.dropna().rename_axis(columns=None)
    if len(frame) < 2:
        return None
    differences = frame["best"] - frame["default"]
    low = high = p = math.nan
    if differences.std() > ROUNDING * frame.abs().to_numpy().max():
        test = stats.ttest_rel(frame["best"], frame["default"])
        (low, high), p = test.confidence_interval(), test.pvalue
    return Confirmation(frame.reset_index(), float(differences.mean()), float(low), float(high), float(p))
