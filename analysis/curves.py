"""A metric over the course of training: the generators of some comparisons side by side, mean and spread over seeds.

    python -m analysis.curves train/generator_gradient_norm --comparisons wgan-40 vanilla-40

Writes a picture and its numbers to outputs/tables/curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro

from analysis import runs, tables
from analysis.lazily import Figure, pd, sns
from harness import cli, outputs, tracking
from harness.errors import InputError

POINTS = 50
"""Parts of a training over which values are averaged: single steps are noise."""


def main(
    metric: tyro.conf.Positional[str],
    comparisons: tuple[str, ...],
    tracking_uri: str | None = None,
    out: Path = Path("outputs/tables/curves"),
    json: cli.AsJson = False,
) -> None:
    """Draw how a metric went in the generators of comparisons, and write its numbers.

    Args:
        metric: a metric that the trainings log, such as train/ddpm_loss
        comparisons: run ids or unique run names, a line each
        tracking_uri: the MLflow store or server; as everywhere in the harness if not given
        out: folder for the picture and the numbers
    """
    with cli.answer(json) as answer:
        outputs.make_folder(out)
        parts = [history(name, metric, tracking_uri).assign(comparison=name) for name in comparisons]
        curves = pd.concat(parts, ignore_index=True)
        summed = summary(curves)
        stem = metric.replace("/", "_")
        paths = [out / f"{stem}.{suffix}" for suffix in ("csv", "png")]
        curves.to_csv(paths[0], index=False)
        plot(curves, metric).savefig(paths[1], dpi=150)
        shown = {"summary": tables.told(summed), stem: tables.told(curves)}
        answer.update(tables=shown, words=[], files=list(map(str, paths)))
    if not json:
        print(summed.drop(columns="run_ids").to_markdown(index=False, floatfmt=".4g"))
        print(paths[1])


def history(comparison: str, metric: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """A metric of a comparison's generators, columns run_id, share, value: see `averaged`."""
    parent = runs.comparison_id(comparison, tracking_uri)
    own = f"tags.mlflow.parentRunId = '{parent}' and tags.kind = 'generator' and attributes.status = 'FINISHED'"
    found = tracking.read_runs(own, tracking_uri=tracking_uri, columns=[])
    values = tracking.read_histories(list(found["run_id"]), [metric], tracking_uri)
    if values.empty:
        raise InputError(f"no generator of {comparison} has logged {metric}{_known(own, tracking_uri)}")
    return averaged(values)


def _known(condition: str, tracking_uri: str | None) -> str:
    """Which metrics of their trainings some runs have."""
    columns = map(str, tracking.read_runs(condition, tracking_uri=tracking_uri))
    names = [name.removeprefix("metrics.") for name in columns if name.startswith("metrics.train/")]
    return f"; they have {', '.join(names)}" if names else "; the UI's run page lists a run's metrics"


def read(
    path: Path, columns: Sequence[str] = ("run_id", "share", "value", "comparison"), of: str = "curves"
) -> pd.DataFrame:
    """Averaged histories, or what else has such columns, from a CSV file that this script, or another one, wrote."""
    try:
        curves = pd.read_csv(path, dtype={"run_id": str, "comparison": str})  # which may look like numbers
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as curves: {str(error).splitlines()[0]}") from error
    lacking = [name for name in columns if name not in curves]
    if lacking:
        raise InputError(f"{path} has no column {lacking[0]}: give a file that analysis.{of} wrote")
    return curves


def averaged(values: pd.DataFrame) -> pd.DataFrame:
    """Histories (run_id, step, value) averaged in POINTS equal parts of each run's own length.

    Columns: run_id, share (end of the part, 0 … 1 of the training), value (the part's mean).
    """
    length = values.groupby("run_id")["step"].transform("max") + 1
    part = values["step"] * POINTS // length
    means = values.assign(share=(part + 1) / POINTS).groupby(["run_id", "share"], as_index=False)["value"].mean()
    return pd.DataFrame(means, columns=["run_id", "share", "value"])


def summary(curves: pd.DataFrame) -> pd.DataFrame:
    """Per comparison the number of runs, the mean and standard deviation over them in the first and last tenth, and
    which they are."""
    rows = []
    for name, own in curves.groupby("comparison", sort=False):
        row: dict[str, object] = {"comparison": name, "n": own["run_id"].nunique()}
        for title, among in (("first tenth", own[own["share"] <= 0.1]), ("last tenth", own[own["share"] > 0.9])):
            means = among.groupby("run_id")["value"].mean()
            row |= {title: means.mean(), f"{title}, sd": means.std()}
        rows.append(row | {"run_ids": " ".join(own["run_id"].unique())})
    return pd.DataFrame(rows)


def plot(curves: pd.DataFrame, metric: str) -> Figure:
    """Mean over the runs with the band of their standard deviation, on a log scale where all values are above 0."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sns.lineplot(curves, x="share", y="value", hue="comparison", errorbar="sd", ax=axes)
    if (curves["value"] > 0).all():
        axes.set_yscale("log")
    axes.set(xlabel="share of the training", ylabel=metric)
    sns.despine(figure)
    return figure


if __name__ == "__main__":
    cli.main(main)
