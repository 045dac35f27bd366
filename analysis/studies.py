"""A hyperparameter study as a page to show: counts, the winner, pictures, and a table of every trial.

    python -m analysis.studies                                      # the only study of outputs/studies.db
    python -m analysis.studies gan-mnist --storage postgresql://USER@HOST/studies

A study that is still running is read as it is. It prints the table, and writes to
outputs/tables/studies/NAME, and to the artifacts of the study's run:

    study.html              all of it in one file that needs neither network nor script
    trials.md, trials.csv   a row per trial
    history.png, …          the pictures

A trial is a slot of the study, in the state of its last attempt. Attempts before that, which died or were
stopped, are counted apart.
"""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis import pages
from analysis.lazily import Figure, confirmation, optuna, pd, storages, study_plots, study_reading, tabulate
from analysis.tables import folder, seconds
from harness import cli, tracking
from harness.errors import InputError

if TYPE_CHECKING:
    from analysis.study_reading import Reading
    from harness.studies.confirmation import Confirmation

STEADY_TRIALS = 50
"""Complete trials from which on PED-ANOVA's best tenth has the five trials that its authors ask for."""
LONGEST_REASON = 160


def main(
    study: tyro.conf.Positional[str | None] = None,
    storage: str | None = None,
    out: Path | None = None,
    tracking_uri: str | None = None,
) -> None:
    """Print a study's trials; write them with pictures and a page that shows all; add these to the study's run.

    Args:
        study: name of the study; where the storage has only one, that one
        storage: file, database or server of the studies, as for experiments/tune.py; by default under outputs/
        out: folder for the files; by default outputs/tables/studies/STUDY
        tracking_uri: the MLflow store or server; as everywhere in the harness if not given
    """
    reading = study_reading.read(storages.read_study(study, storage))
    confirmed = confirmation.confirmation(reading.name, storages.open_storage(storage, create=False))
    out = folder(out or Path("outputs/tables/studies") / reading.name.replace("/", "_"))
    paths = write(reading, confirmed, out)
    print(markdown(reading, confirmed), end="")
    print(f"\npage: {out / 'study.html'}")
    keep(reading.run_id, paths, tracking_uri)


def keep(run_id: str | None, paths: Sequence[Path], tracking_uri: str | None) -> None:
    """Add the files to the study's run, or say why not."""
    try:
        if run_id is None:
            raise InputError("the study names no run of its own")
        tracking.get_run(run_id, tracking_uri)  # makes no store
        tracking.log_files(run_id, paths, "study", tracking_uri)
    except InputError as error:
        print(f"not added to the study's run: {error}", file=sys.stderr)


# --- The words ---------------------------------------------------------------------------------------------


def best_words(reading: Reading) -> str:
    values = ", ".join(f"{name} {reading.winner[f'objective/{name}']:.4g}" for name in reading.directions)
    words = f"Best trial {reading.best}: {values}"
    if len(reading.directions) > 1:
        words += f" (best by {next(iter(reading.directions))}); on the Pareto front: {_listed(reading.front)}"
    return words + "."


def confirmed_words(reading: Reading, confirmed: Confirmation | None) -> str:
    """Whether the winner is better than the default, which the search alone cannot tell."""
    if confirmed:
        objective, direction = next(iter(reading.directions.items()))
        return f"Against the default, {confirmed.words(objective, direction)}."
    if reading.winner["slot"] == "0":
        return "The best trial is the study's first one, which has the default configuration as far as it is searched."
    return "The best trial has not been held against the default on fresh seeds: its value is that of a selection."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def said(value: Any) -> str:
    """A value of the table as text; "-" for what there is not."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def headings(reading: Reading) -> list[str]:
    front = ["front"] if reading.front else []
    names = [*reading.parameters, *reading.directions]
    return ["trial", "slot", "attempt", "state", *names, *front, "duration, s", "reason"]


def table(reading: Reading) -> list[list[str]]:
    """The trials as text, a list per row, in the order of `headings`."""
    columns = [f"params.{name}" for name in reading.parameters] + [f"objective/{name}" for name in reading.directions]
    rows = []
    for row in reading.trials.to_dict("records"):
        front = [("yes" if row["number"] in reading.front else "-")] if reading.front else []
        reason = said(row["reason"])
        reason = reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 1] + "…"
        rows.append(
            [
                *(str(row[name]) for name in ("number", "slot", "attempt", "state")),
                *(said(row[name]) for name in columns),
                *(*front, seconds(row["duration_s"]), reason),
            ]
        )
    return rows


def aligned(reading: Reading) -> list[str]:
    """`left` or `right` for each heading: words and numbers."""
    choices = {
        name
        for name, among in reading.parameters.items()
        if isinstance(among, optuna.distributions.CategoricalDistribution)
    }
    words = choices | {"state", "front", "reason"}
    return ["left" if heading in words else "right" for heading in headings(reading)]


def markdown(reading: Reading, confirmed: Confirmation | None) -> str:
    """The trials as aligned Markdown, with what they came to."""
    rows = [[text.replace("|", "\\|") for text in row] for row in table(reading)]
    body = tabulate(rows, headings(reading), "pipe", disable_numparse=True, colalign=aligned(reading))
    under = [f"{study_reading.counted(reading.attempts)}.", best_words(reading), confirmed_words(reading, confirmed)]
    return "\n\n".join([body, *under]) + "\n"


def csv(reading: Reading) -> str:
    """The trials as CSV, values to the last bit, times in the local time of whoever reads."""
    table = reading.trials.drop(columns="last")
    if reading.front:
        table = table.assign(front=table["number"].isin(reading.front))
    return table.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S", lineterminator="\n")


# --- The pictures ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A figure, or nothing where the study has too little for it, with what must be said of it."""

    title: str
    figure: Figure | None
    words: str


def pictures(reading: Reading) -> dict[str, Picture]:
    """By the names of their files."""
    better = {"maximize": "higher", "minimize": "lower"}
    words = "; ".join(f"{better[direction]} {name} is better" for name, direction in reading.directions.items())
    words = f"{words}. The line is the best so far; ticks at the bottom are trials that have no value."
    found = {"history": Picture("Optimisation history", study_plots.history(reading), words[0].upper() + words[1:])}
    if len(reading.directions) == 2:
        words = "No other trial is better than one of the front in both objectives. Numbers are those of trials."
        found["pareto"] = Picture("Pareto front", study_plots.pareto(reading), words)
    found["importances"] = _importances(reading)
    sliced = "Later trials are darker; ticks at the bottom are trials that have no value."
    for name, title, plot, words in (
        ("slices", "Slices", study_plots.slices, sliced),
        ("parallel", "Parallel coordinates", study_plots.parallel, "A line is a trial; grey ones have no value."),
    ):
        if reading.parameters:
            found[name] = Picture(title, plot(reading), words)
        else:
            found[name] = Picture(title, None, "Left out: the study searched no hyperparameter.")
    words = "All attempts, with their numbers where they fit; a running one ends where the study was last heard of."
    found["timeline"] = Picture("Timeline", study_plots.timeline(reading), words)
    return found


def _importances(reading: Reading) -> Picture:
    number, title = len(reading.complete), "Parameter importances"
    if number < 2:
        return Picture(title, None, "Left out: importances need at least two complete trials, and there is one.")
    if reading.importances.empty:
        return Picture(title, None, f"Left out: the {number} complete trials do not tell the parameters apart.")
    words = f"As Optuna {optuna.__version__} has them, of {number} complete trials."
    if number < STEADY_TRIALS:
        words += f" Fewer than {STEADY_TRIALS} trials give a hint at most."
    return Picture(title, study_plots.importances(reading), words)


def write(reading: Reading, confirmed: Confirmation | None, out: Path) -> list[Path]:
    """Write the table, the pictures and the page into a folder; their paths."""
    texts = {"trials.md": markdown(reading, confirmed), "trials.csv": csv(reading)}
    shown = pictures(reading)
    paths = []
    for name, picture in shown.items():
        path = out / f"{name}.png"
        path.unlink(missing_ok=True)  # of an earlier look, which may have had it
        if picture.figure:
            study_plots.save(picture.figure, path)
            paths.append(path)
    texts["study.html"] = page(reading, confirmed, shown, out)
    for name, text in texts.items():
        out.joinpath(name).write_text(text, encoding="utf-8")
        paths.append(out / name)
    return paths


# --- The page ----------------------------------------------------------------------------------------------


def page(reading: Reading, confirmed: Confirmation | None, shown: Mapping[str, Picture], out: Path) -> str:
    """All of it as one HTML file; the pictures are read from `out`."""
    parts = [
        *map(pages.paragraph, _summary(reading, confirmed)),
        "<h2>What was searched</h2>",
        _html_table(["", ""], [[key, text] for key, text in defined(reading).items()], ["left", "left"]),
        "<h2>Best configuration</h2>",
        _html_table(["", "best", "first trial", "searched"], configuration(reading), ["left", *3 * ["right"]]),
    ]
    if confirmed:
        objective = next(iter(reading.directions))
        rows = [[said(value) for value in row] for row in _seeds(confirmed).to_numpy(dtype=object)]
        parts += [
            f"<h2>Best against default, {html.escape(objective)} on fresh seeds</h2>",
            _html_table(["seed", "default", "best", "difference"], rows, 4 * ["right"]),
        ]
    for name, picture in shown.items():
        parts.append(f"<h2>{picture.title}</h2>")
        if picture.figure:
            parts.append(pages.picture(out / f"{name}.png", picture.title, picture.words))
        else:
            parts.append(pages.paragraph(picture.words))
    parts += [
        "<h2>Trials</h2>",
        "<p>Complete: has its value. Pruned: ended early as not promising. Failed: by an error. Stopped: by a signal "
        "or Ctrl-C. Died: its process went without a word.</p>",
        _html_table(headings(reading), table(reading), aligned(reading), "trials", str(reading.best)),
    ]
    return pages.page(f"Study {reading.name}", parts)


def _summary(reading: Reading, confirmed: Confirmation | None) -> list[str]:
    run = reading.winner["run_id"]
    return [
        f"{study_reading.counted(reading.attempts)}.",
        best_words(reading) + (f" Its run is {run}." if run else ""),
        confirmed_words(reading, confirmed),
    ]


def _seeds(confirmed: Confirmation) -> pd.DataFrame:
    return confirmed.frame.assign(difference=confirmed.frame["best"] - confirmed.frame["default"])


def defined(reading: Reading) -> dict[str, str]:
    """The study's definition in words, by heading."""
    known = dict(reading.definition)
    objectives = [f"{name} ({direction})" for name, direction in reading.directions.items()]
    known["objectives"] = ", ".join(objectives)
    for name in ("space", "fixed", "classifier"):
        known[name] = ", ".join(f"{key} {value}" for key, value in known.get(name, {}).items()) or "-"
    known["run"] = reading.run_id
    return {key.replace("_", " "): said(value) for key, value in known.items()}


def configuration(reading: Reading) -> list[list[str]]:
    """Rows of a hyperparameter's name, its value in the best and in the first trial, and the range or `fixed`."""
    first = reading.trials[reading.trials["slot"] == "0"]
    ranges = reading.definition.get("space", {})
    rows = [
        [name, said(reading.winner[f"params.{name}"]), said(first[f"params.{name}"].iloc[0]) if len(first) else "-",
         ranges.get(name, "-")]
        for name in reading.parameters
    ]  # fmt: skip
    return rows + [[name, value, value, "fixed"] for name, value in reading.definition.get("fixed", {}).items()]


def _html_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str], kind: str = "", marked: str = ""
) -> str:
    """A table of texts, of a CSS class; the row that begins with `marked` stands out."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        kinds = ["" if side == "left" else ' class="right"' for side in align]
        return "".join(f"<{tag}{kind}>{html.escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))

    best = ' class="best"'
    head = f"<thead><tr>{cells('th', heads)}</tr></thead>" if any(heads) else ""
    body = "\n".join(f"<tr{best if row[0] == marked else ''}>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}">{head}<tbody>\n{body}\n</tbody></table></div>'


if __name__ == "__main__":
    cli.main(main)
