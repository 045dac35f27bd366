"""How a study's winner stands beside the default: on fresh seeds, paired."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis import statistics
from analysis.lazily import optuna, pd, storages

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


@dataclass(frozen=True)
class Confirmation:
    """The winner against the default, paired by fresh seeds: differences best - default of the first objective."""

    frame: pd.DataFrame  # seed, default, best
    difference: statistics.Difference

    def figures(self) -> dict[str, float]:
        """difference, low, high (95 % t interval) and p (paired t-test); NaN where the differences do not vary."""
        return dict(zip(("difference", "low", "high", "p"), self.difference, strict=True))

    def verdict(self, direction: storages.Direction) -> str:
        _, low, high, _ = self.difference
        better = low > 0 if direction == "maximize" else high < 0
        worse = high < 0 if direction == "maximize" else low > 0
        return "better" if better else "worse" if worse else "not shown to differ"

    def words(self, objective: str, direction: storages.Direction) -> str:
        value, low, high, p = self.difference
        said = f"on {len(self.frame)} fresh seeds {self.verdict(direction)}: {objective} best - default "
        if math.isnan(low):
            return f"{said}{value:+.4g} on each, which gives no interval"
        return f"{said}{value:+.4g} [{low:+.4g}, {high:+.4g}], p = {p:.2g}"


def confirmation(study: str, storage: BaseStorage) -> Confirmation | None:
    """What the fresh seeds say of a study's winner; None where there were fewer than two with both."""
    winner = storages.best(optuna.load_study(study_name=study, storage=storage))
    name = storages.confirmation_name(study, winner) if winner else None
    if name is None or name not in optuna.get_all_study_names(storage):
        return None
    done = optuna.load_study(study_name=name, storage=storage).get_trials(states=[optuna.trial.TrialState.COMPLETE])
    rows = [(*trial.user_attrs[storages.SLOT].split()[::2], trial.values[0]) for trial in done]
    frame = pd.DataFrame(rows, columns=["which", "seed", "value"]).astype({"seed": int})
    frame = frame.pivot_table(index="seed", columns="which", values="value").reindex(columns=["default", "best"])
    frame = frame.dropna().rename_axis(columns=None)
    if len(frame) < 2:
        return None
    return Confirmation(frame.reset_index(), statistics.paired_difference(frame["best"], frame["default"]))
