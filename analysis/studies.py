"""A hyperparameter study as a page to show: what it came to, Optuna's pictures of it, and a table of every trial.

    python -m analysis.studies                                      # the only study of outputs/studies.db
    python -m analysis.studies gan-mnist --storage postgresql://USER@HOST/studies

A study that is still running is read as it is. It prints the table, and writes to
outputs/tables/studies/NAME, and to the artifacts of the study's run:

    study.html                  all of it in one file that needs neither network nor script
    trials.md, .csv, .tex       a row per trial: an attempt at one of the slots that were asked for
    importances.md, …           the hyperparameters' shares in what makes good trials
    confirmation_3.md, …        trial 3, the best, and the default on fresh seeds
    history.png, …              the pictures; `make dashboard` has more, and live

experiments/tune.py adds them too (`analysis.study_answer`), at the study's end.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis import pages, tables
from analysis.confirmation import Confirmation, confirmation
from analysis.lazily import Figure, optuna, pd, plt, storages
from analysis.pages import Section
from analysis.tables import Table
from harness import cli, tracking
from harness.errors import InputError
from harness.outputs import OUTPUTS, as_part

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STEADY_TRIALS = 50
"""Complete trials from which on PED-ANOVA's best tenth has the five trials that its authors ask for."""
LONGEST_REASON = 160
ENDS = (
    "Complete: has its value. Pruned: ended early as not promising. Failed: by an error. Stopped: by a signal or "
    "Ctrl-C. Died: its process went without a word. The slot of one that was stopped or died gets another trial."
)


def main(
    study: tyro.conf.Positional[str | None] = None,
    storage: str | None = None,
    out: Path | None = None,
    tracking_uri: str | None = None,
    json: cli.AsJson = False,
) -> None:
    """Print a study's trials; write them with pictures and a page that shows all; add these to the study's run.

    Args:
        study: name of the study; where the storage has only one, that one
        storage: file, database or server of the studies, as for experiments/tune.py; by default under outputs/
        out: folder for the files; by default outputs/tables/studies/STUDY
        tracking_uri: the MLflow store or server; as everywhere in the harness if not given
    """
    with cli.answer(json) as answer:
        found = storages.read_study(study, storage)
        confirmed = confirmation(found.study_name, storages.open_storage(storage, create=False))
        out = out or OUTPUTS / "tables/studies" / as_part(found.study_name)
        words, shown, paths = write(found, confirmed, out)
        answer.update(pages.told(shown, paths))
        answer["tables"] |= against_default(confirmed)
    if not json:
        texts = (path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md")
        print(*texts, *words, f"page: {out / 'study.html'}", sep="\n")
    keep(found.user_attrs.get(storages.PARENT), paths, tracking_uri)


def keep(run_id: str | None, paths: Sequence[Path], tracking_uri: str | None) -> None:
    """Add the files to the study's run, or say why not."""
    try:
        if run_id is None:
            raise InputError("the study names no run of its own")
        tracking.get_run(run_id, tracking_uri)  # makes no store
        tracking.log_files(run_id, paths, "study", tracking_uri)
    except InputError as error:
        print(f"not added to the study's run: {error}", file=sys.stderr)


def against_default(confirmed: Confirmation | None) -> dict[str, Any]:
    """The winner against the default, and the fresh seeds that say so, as `cli.answer` takes tables."""
    if confirmed is None:
        return {}
    return {
        "confirmation": tables.told(pd.DataFrame([confirmed.figures()])),
        "fresh_seeds": tables.told(confirmed.frame),
    }


def write(
    study: optuna.Study, confirmed: Confirmation | None, out: Path
) -> tuple[list[str], list[Section], list[Path]]:
    """Write the page and what is on it into a folder; what the study came to, the page's parts, and the paths.

    Raises InputError where no trial is complete.
    """
    winner = storages.best(study)  # before the trials, among which it is then
    frame = frame_of(study)
    if winner is None:
        raise InputError(f"no trial of the study {study.study_name} is complete ({counted(frame)})")
    words = [f"{counted(frame).capitalize()}.", *conclusions(study, winner, confirmed)]
    numbers = {
        "importances": importances(study),
        f"confirmation_{winner.number}": confirmed.frame if confirmed else pd.DataFrame(),
    }
    found = {name: (table(each), each) for name, each in numbers.items() if len(each)}
    with plt.rc_context({"savefig.bbox": "tight"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its pictures are experimental, that few trials give few answers
        shown = [
            Section("What it came to", [*words, defined(study)], found, pictures(study)),
            Section("Trials", [ENDS], {"trials": (table(frame), frame)}),
        ]
        paths = pages.write(shown, out, "")
    paths.append(out / "study.html")
    paths[-1].write_text(pages.html(f"Study {study.study_name}", shown, out), encoding="utf-8")
    return words, shown, paths


# --- The table -----------------------------------------------------------------------------------------------


def frame_of(study: optuna.Study) -> pd.DataFrame:
    """A trial per row. A complete one alone has values: Optuna gives a pruned one the last that it reported."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if storages.SLOT in trial.user_attrs]
    names = list(objectives(study))
    rows = [
        {"trial": trial.number, "slot": trial.user_attrs[storages.SLOT], "state": state(trial)}
        | trial.params
        | (dict(zip(names, trial.values, strict=True)) if state(trial) == "complete" else {})
        | {"begun": trial.datetime_start, "seconds": trial.duration.total_seconds() if trial.duration else None}
        | {"reason": trial.user_attrs.get(storages.REASON), "run_id": trial.user_attrs.get(storages.RUN)}
        for trial in trials
    ]
    searched = sorted({name for trial in trials for name in trial.params})
    columns = ["trial", "slot", "state", *searched, *names, "begun", "seconds", "reason", "run_id"]
    return pd.DataFrame(rows, columns=columns)


def objectives(study: optuna.Study) -> dict[str, storages.Direction]:
    """Their directions by their names."""
    lowest = optuna.study.StudyDirection.MINIMIZE
    ways: list[storages.Direction] = ["minimize" if way == lowest else "maximize" for way in study.directions]
    return dict(zip(study.user_attrs[storages.DEFINITION]["objectives"], ways, strict=True))


def state(trial: FrozenTrial) -> str:
    """As Optuna has it, but that FAIL is told apart by what ended it: an error, a signal, or its process's death."""
    if trial.state != optuna.trial.TrialState.FAIL:
        return trial.state.name.lower()
    return "died" if storages.died(trial) else "stopped" if storages.was_stopped(trial) else "failed"


def counted(frame: pd.DataFrame) -> str:
    """How many trials ended how."""
    ends = ", ".join(f"{number} {name}" for name, number in frame["state"].value_counts().items())
    return f"slots: {frame['slot'].nunique()}, trials: {len(frame)} ({ends})" if ends else "none has begun"


def table(frame: pd.DataFrame) -> Table:
    shown = frame.drop(columns=["begun", "run_id"], errors="ignore")
    words = list(map(str, shown.select_dtypes(exclude="number")))
    return Table(list(map(str, shown)), [list(map(said, row)) for row in shown.to_numpy(dtype=object)], words)


def said(value: Any) -> str:
    """A value of the table as text; "-" for what there is not."""
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return textwrap.shorten(str(value), LONGEST_REASON, placeholder=" …")


# --- The words -----------------------------------------------------------------------------------------------


def conclusions(study: optuna.Study, winner: FrozenTrial, confirmed: Confirmation | None) -> list[str]:
    """The best trial, and whether it is better than the default, which the search alone cannot tell."""
    names = objectives(study)
    words = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, winner.values, strict=True))
    first, way = next(iter(names.items()))
    if len(names) > 1:
        front = ", ".join(str(trial.number) for trial in study.best_trials)
        words += f" (best by {first}; on the Pareto front: {front})"
    chosen = "".join(f", {name} {said(value)}" for name, value in winner.params.items())
    if confirmed:
        better = f"Against the default, {confirmed.words(first, way)}."
    elif winner.user_attrs[storages.SLOT] == "0":
        better = "No trial beat the study's first one, which has the default configuration as far as it is searched."
    else:
        better = "It has not been held against the default on fresh seeds: its value is that of a selection."
    return [f"Best trial {winner.number}: {words}{chosen}; run {winner.user_attrs.get(storages.RUN, '-')}.", better]


def defined(study: optuna.Study) -> str:
    """What was asked, in words."""
    known = study.user_attrs[storages.DEFINITION] | {"objectives": objectives(study)}
    texts = {
        key: ", ".join(f"{name} {text}" for name, text in value.items()) if isinstance(value, dict) else value
        for key, value in known.items()
    }
    return "; ".join(f"{key}: {text}" for key, text in texts.items() if text) + "."


# --- The pictures --------------------------------------------------------------------------------------------


def pictures(study: optuna.Study) -> dict[str, tuple[Figure, str]]:
    """Optuna's, as far as the study has enough for them: by the names of their files, with what they show."""
    draw, names, found = optuna.visualization.matplotlib, objectives(study), {}
    told = importances(study)
    done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    plt.switch_backend("agg")

    def add(name: str, words: str, plot: Callable[..., Any], **how: Any) -> None:
        with plt.rc_context():  # some of them set a style
            plot(study, **how)
        figure = plt.gcf()
        for axes in figure.axes:
            axes.tick_params("x", which="minor", labelrotation=90)  # those of a logarithmic slice stand close
        plt.close(figure)
        found[name] = figure, words

    for place, (objective, way) in enumerate(names.items()):
        end = f"_{objective}" if len(names) > 1 else ""
        of: dict[str, Any] = {"target_name": objective}
        if len(names) > 1:
            of["target"] = lambda trial, place=place: trial.values[place]
        words = f"{objective} ({way}) of the complete trials"
        add(f"history{end}", f"{words}.", draw.plot_optimization_history, **of)
        if any(trial.params for trial in done):
            add(f"slices{end}", f"{words}; later ones are darker.", draw.plot_slice, **of)
            if len(names) == 1:  # of two, the lines of low values are dark, whichever are good
                add("parallel", f"{words}, a line each.", draw.plot_parallel_coordinate, **of)
        if objective in told:
            of["target"] = badness(place, way)
            words = f"Importances for {objective}, by Optuna {optuna.__version__} of {len(done)} complete trials."
            words += f" Fewer than {STEADY_TRIALS} give a hint at most." if len(done) < STEADY_TRIALS else ""
            add(f"importances{end}", words, draw.plot_param_importances, **of)
    if len(names) > 1:
        words = "No trial is better than a best one in both objectives."
        add("pareto", words, draw.plot_pareto_front, target_names=list(names))
    add("timeline", "All trials; a running one has no end yet.", draw.plot_timeline)
    return found


def badness(place: int, way: storages.Direction) -> Callable[[FrozenTrial], float]:
    """An objective by its place, as PED-ANOVA takes it: low where it is good."""
    sign = 1 if way == "minimize" else -1
    return lambda trial: sign * trial.values[place]


def importances(study: optuna.Study) -> pd.DataFrame:
    """Each hyperparameter's share in what makes good trials (0 … 1), a column per objective, as Optuna draws it.

    The most important for the first comes first; an objective whose trials do not tell them apart has no column.
    """
    found = {}
    for place, (objective, way) in enumerate(objectives(study).items()):
        raw: dict[str, float] = {}
        # Optuna 4 raises for one trial, and for values that are all the same.
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(ValueError, RuntimeError):
            raw = optuna.importance.get_param_importances(study, target=badness(place, way), normalize=False)
        if any(raw.values()):
            found[objective] = {name: value / sum(raw.values()) for name, value in raw.items()}
    frame = pd.DataFrame(found).rename_axis("importance of").reset_index()
    return frame.sort_values(list(found), ascending=False, ignore_index=True) if found else frame


if __name__ == "__main__":
    cli.main(main)
