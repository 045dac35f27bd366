"""The table of records: how long a generator trains until its samples are as good as asked for, recipe by recipe.

    for seed in 0 1 2 3 4; do
        python experiments/ddpm.py --dataset mnist --n-real 55000 --seed $seed --experiment-name records
    done
    python -m analysis.records

A recipe is a commit and a command, less its seed; of a seed that was run again the first run is taken, since the second
says nothing new. It counts where the mean of its validation CAS is past the mark with p below 0.01, and is a record
where none before it, of the same data and device, counted and was as quick. It prints, and writes to outputs/tables
(with CSV and LaTeX):

    | date | commit | recipe | device | n | training, s | validation CAS, % | p (past 98 %) | record |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis import pages, statistics
from analysis.lazily import np, pd, special
from analysis.pages import Section
from analysis.tables import Table, interval_in, p_value
from harness import cli, tracking
from harness.bounds import Share

COUNTS = 0.01
"""The p below which a recipe counts."""
HELD = ["dataset", "n_real", "device"]
"""What records are held in."""
COLUMNS = {
    "dataset": "tags.dataset",
    "n_real": "tags.n_real",
    "device": "params.device_name",
    "commit": "tags.mlflow.source.git.commit",
    "dirty": "tags.git_dirty",
    "seed": "tags.seed",
    "command": "tags.command",
    "cas": "metrics.validation/cas",
    "training_s": "metrics.cost/training_device_seconds",
}
NOT_OF_A_RECIPE = re.compile(r"--(seed|experiment-name|tracking-uri|data-root|resume)(=| )\S+ ?")
MISSING = "no finished generator with a validation CAS in experiment {}: the head of analysis/records.py makes some"


def main(
    experiment: str = "records",
    mark: Share = 0.98,
    tracking_uri: str | None = None,
    out: Path = Path("outputs/tables"),
    json: cli.AsJson = False,
) -> None:
    """Print the recipes of an experiment in the order of their dates, and write them as md, csv and tex.

    Args:
        experiment: the MLflow experiment whose generators are read
        mark: the validation CAS, 0 … 1, that the mean of a recipe's seeds must be past
        tracking_uri: the MLflow store or server; as everywhere in the harness if not given
        out: folder for the files
    """
    pages.show(sections(attempts(experiment, tracking_uri), mark), out, MISSING.format(experiment), json)


def attempts(experiment: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """The finished generators of an experiment, the newest first: run_id, start_time and COLUMNS, with the recipe as
    `command` and the commit as git describes it."""
    finished = "tags.kind = 'generator' and attributes.status = 'FINISHED'"
    found = tracking.read_runs(finished, experiments=[experiment], tracking_uri=tracking_uri)
    found = found.reindex(columns=["run_id", "start_time", *COLUMNS.values()])
    found = found.rename(columns={there: here for here, there in COLUMNS.items()}).dropna(subset=["cas", "training_s"])
    found = found.fillna(dict.fromkeys(["commit", "command", *HELD], ""))  # others' runs need not have them
    code = zip(found["commit"], found["dirty"], strict=True)
    commit = [commit[:7] + ("-dirty" if dirty == "True" else "") for commit, dirty in code]
    return found.assign(command=found["command"].map(recipe), commit=commit)


def recipe(command: str) -> str:
    """What a command asks for, less its seed and where it reads and writes: of `python …/ddpm.py --seed 1 --steps 9`
    `ddpm.py --steps 9`."""
    words = command.split() or [""]
    start = next((place for place, word in enumerate(words) if word.endswith(".py")), 0)
    text = " ".join([Path(words[start]).name, *words[start + 1 :]])
    return NOT_OF_A_RECIPE.sub("", f"{text} ").strip()


def sections(runs: pd.DataFrame, mark: float) -> Iterator[Section]:
    if len(runs):
        table = by_recipe(runs, mark)
        yield Section("Records", tables={"records": (shown(table, mark), table)})


def by_recipe(runs: pd.DataFrame, mark: float) -> pd.DataFrame:
    """One row per recipe, HELD and num_seeds with it, the oldest first: date, the means of training_s and cas_percent
    with their 95 % t intervals, `p` of a one-sided t-test of the mean CAS against the mark, is_record, run_ids."""
    rows: list[dict[str, Any]] = []
    runs = runs.drop_duplicates(["commit", "command", *HELD, "seed"], keep="last")
    for (commit, command, *held), own in runs.groupby(["commit", "command", *HELD], sort=False):
        cas = own["cas"].to_numpy(dtype=float)
        varies = len(cas) > 1 and np.ptp(cas) > 0
        t = (cas.mean() - mark) / (cas.std(ddof=1) / len(cas) ** 0.5) if varies else np.nan
        rows.append(
            {
                "date": own["start_time"].min(),
                "commit": commit,
                "recipe": command,
                **dict(zip(HELD, held, strict=True)),
                "num_seeds": len(own),
                **statistics.columns(statistics.mean_interval(own["training_s"]), "training", "s"),
                **statistics.columns(statistics.mean_interval(100 * cas), "cas", "percent"),
                "p": float(special.stdtr(len(cas) - 1, -t)),
                "run_ids": " ".join(own["run_id"]),
            }
        )
    table = pd.DataFrame(rows).sort_values("date", ignore_index=True)
    counted = table["training_s"].where(table["p"] < COUNTS)
    held_in = counted.groupby([table[name] for name in HELD])
    before = held_in.transform(lambda took: took.cummin().shift().ffill())
    return table.assign(is_record=counted.notna() & ~(before <= counted))


def shown(table: pd.DataFrame, mark: float) -> Table:
    past = f"p (past {100 * mark:g} %)"
    headings = ("date", "commit", "recipe", "device", "n", "training, s", "validation CAS, %", past, "record")
    texts = [
        [
            f"{row['date']:%Y-%m-%d}", row["commit"], row["recipe"], row["device"], str(row["num_seeds"]),
            interval_in(row, "training", "s", ".0f"), interval_in(row, "cas", "percent"), p_value(row["p"]),
            "yes" if row["is_record"] else "-",
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    note = (
        f"Means over n seeds with 95 % t intervals; training: device-seconds. p: one-sided t-test of the mean CAS past "
        f"{100 * mark:g} %. A record: p below {COUNTS:g}, and none before it on the same data and device was as quick."
    )
    return Table(headings, texts, left=("date", "commit", "recipe", "device", "record"), notes=[note])


if __name__ == "__main__":
    cli.main(main)
