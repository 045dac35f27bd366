"""A study's answer in its own run, where MLflow's UI shows it: figures by the number of ended trials, the page.

`experiments/tune.py` calls it; `python -m analysis.studies` says the same of a study at any time.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import studies
from analysis.confirmation import Confirmation, confirmation
from analysis.lazily import optuna, pd, storages
from analysis.tables import Table
from harness import tracking

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

ENDED = ("complete", "pruned", "failed", "stopped", "died")
BEST = 5
"""Trials of the description, which has room for few."""


def log(run: tracking.Run, name: str, storage: BaseStorage, configuration: str, is_over: bool) -> list[str]:
    """Say in a study's run what its trials have come to; the page, its tables and pictures once it is over.

    `configuration` is the best trial's as TOML. The figures' step is the number of trials that have ended, so that
    those of a study that went on are the last ones. Returns what the study came to, in sentences.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    winner = storages.best(study)  # before the trials, among which it is then
    frame = studies.frame_of(study)
    ends = {f"trials/{state}": int((frame["state"] == state).sum()) for state in ENDED}
    step = sum(ends.values())
    run.metrics(ends, step)
    if winner is None:
        words = f"No trial is complete yet: {studies.counted(frame)}."
        run.describe(words)
        return [words]
    confirmed = confirmation(name, storage)
    run.metrics(figures(study, winner, confirmed, storages.has_confirmed(name, storage)), step)
    run.tags({"best_trial": winner.number, "best_run": winner.user_attrs[storages.RUN], **values(study, winner)})
    run.describe(description(study, winner, confirmed, frame, configuration))
    if is_over:
        with tempfile.TemporaryDirectory() as folder:
            for path in studies.write(study, confirmed, Path(folder))[2]:
                run.file(path, "study")
    return studies.conclusions(study, winner, confirmed)


def figures(
    study: optuna.Study, winner: FrozenTrial, confirmed: Confirmation | None, has_confirmed: bool
) -> dict[str, float]:
    """`best/OBJECTIVE`, `importance/NAME` (0 … 1; of two objectives `importance/OBJECTIVE/NAME`), `confirmation/…`.

    What cannot be told is NaN: the last where another winner was confirmed, not this one.
    """
    names = list(studies.objectives(study))
    found = {f"best/{name}": value for name, value in zip(names, winner.values, strict=True)}
    shares = studies.importances(study).set_index("importance of").to_dict()
    tried = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
    for objective in names:
        within = f"{objective}/" if len(names) > 1 else ""
        found |= {f"importance/{within}{name}": shares.get(objective, {}).get(name, math.nan) for name in tried}
    if has_confirmed:
        told = confirmed.figures() if confirmed else dict.fromkeys(("difference", "low", "high", "p"), math.nan)
        found |= {f"confirmation/{end}": value for end, value in told.items()}
    return found


def values(study: optuna.Study, winner: FrozenTrial) -> dict[str, Any]:
    """`best/NAME` of each searched hyperparameter; "-" of one that does not count in the best trial."""
    searched = study.user_attrs[storages.DEFINITION]["space"]
    return {f"best/{name}": winner.params.get(name, "-") for name in searched}


def description(
    study: optuna.Study, winner: FrozenTrial, confirmed: Confirmation | None, frame: pd.DataFrame, configuration: str
) -> str:
    """What the page says, the best trials, the importances and the best one's configuration, as Markdown."""
    words = [f"{studies.counted(frame).capitalize()}.", *studies.conclusions(study, winner, confirmed)]
    tables = [best_trials(study, frame), studies.table(studies.importances(study))]
    return "\n\n".join(
        [
            f"**{study.study_name}**: {' '.join(words)}",
            *(table.markdown() for table in tables if table.rows),
            f"```toml\n{configuration}```",
            "The page and its pictures: study/study.html among the artifacts.",
        ]
    )


def best_trials(study: optuna.Study, frame: pd.DataFrame) -> Table:
    """The best complete ones by the first objective, each a link to its run."""
    names = studies.objectives(study)
    first, way = next(iter(names.items()))
    done = frame[frame["state"] == "complete"].sort_values([first, "trial"], ascending=[way == "minimize", True])
    found = done.assign(
        trial=[f"[{trial}](#/runs/{run})" for trial, run in zip(done["trial"], done["run_id"], strict=True)]
    )
    searched = [name for name in frame if name in study.user_attrs[storages.DEFINITION]["space"]]
    return studies.table(found[["trial", *names, *searched]].head(BEST))
