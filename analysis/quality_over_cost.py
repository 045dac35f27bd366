"""How good samples are after how much training: CAS over device-seconds, and what the same CAS costs each generator.

    python experiments/compare.py --methods ddpm gan vae --controls --look-samples 5000 --name looks
    python -m analysis.quality_over_cost --comparisons looks
    python -m analysis.quality_over_cost --looks outputs/tables/quality_over_cost.csv       # without a store

It prints, and writes to outputs/tables (with CSV, a row a look, and LaTeX, and a picture):

    |   n_real | generator   |   n |        best CAS, % |   training, s |   to equal CAS, s |   equal CAS, % |
    |---------:|:------------|----:|-------------------:|--------------:|------------------:|---------------:|
    |     1000 | ddpm        |   3 | 95.5 [95.1, 95.9]  |           160 |     120 [80, 160] |           95.1 |

Equal CAS is the best that the worst generator of a seed has at any look; from one look to the next it is taken to rise
in a straight line. CAS is on the validation split, of --look-samples images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis import curves, pages, runs, statistics
from analysis.lazily import Figure, np, pd, sns
from analysis.pages import Section
from analysis.tables import Table, interval_in, seconds
from harness import cli, tracking
from harness.errors import InputError

CAS, COST = "looks/cas", "cost/device_seconds"
COLUMNS = ["run_id", "n_real", "method", "seed", "device_seconds", "cas"]
HEADINGS = ("n_real", "generator", "n", "best CAS, %", "training, s", "to equal CAS, s", "equal CAS, %")
MISSING = "no look with a CAS: train with --look-samples 5000"


def main(
    comparisons: tuple[str, ...] = (),
    looks: Path | None = None,
    tracking_uri: str | None = None,
    out: Path = Path("outputs/tables"),
    json: cli.AsJson = False,
) -> None:
    """Print what equal quality costs each generator, and write it as md, csv and tex, with the curves as a picture.

    Args:
        comparisons: run ids or unique run names; the newest if none is given
        looks: read from this CSV file, which this analysis wrote, instead
        tracking_uri: the MLflow store or server; as everywhere in the harness if not given
        out: folder for the files
    """
    if looks and comparisons:
        raise InputError("--looks and --comparisons exclude each other: give one of them")
    found = read(looks) if looks else pd.concat([looks_of(name, tracking_uri) for name in comparisons or (None,)])
    pages.show(sections(found), out, MISSING, json)


def looks_of(comparison: str | None, tracking_uri: str | None = None) -> pd.DataFrame:
    """The looks at the generators of a comparison: COLUMNS."""
    parent = runs.comparison_id(comparison, tracking_uri)
    own = f"tags.mlflow.parentRunId = '{parent}' and tags.kind = 'generator' and attributes.status = 'FINISHED'"
    about = {"tags.n_real": "n_real", "params.arm": "method", "tags.seed": "seed"}
    found = tracking.read_runs(own, tracking_uri=tracking_uri, columns=list(about))
    histories = tracking.read_histories(list(found["run_id"]), [CAS, COST], tracking_uri)
    wide = histories.pivot_table(index=["run_id", "step"], columns="key", values="value").reindex(columns=[CAS, COST])
    wide = wide.dropna().reset_index().rename(columns={CAS: "cas", COST: "device_seconds"})
    looks = wide.merge(found.rename(columns=about), on="run_id")[COLUMNS]
    return looks.astype({"n_real": int, "seed": int})


def read(path: Path) -> pd.DataFrame:
    """The looks of a CSV file that this analysis wrote."""
    return curves.read(path, COLUMNS, "quality_over_cost")


def sections(looks: pd.DataFrame) -> Iterator[Section]:
    if len(looks):
        yield Section(
            "Quality over cost",
            tables={"quality_over_cost": (shown(times(looks)), looks)},
            pictures={"quality_over_cost": (plot(looks), "Validation CAS over a training's device-seconds, by seed")},
        )


def times(looks: pd.DataFrame) -> pd.DataFrame:
    """One row per n_real, seed and generator: run_id, best_cas, training_s, the seed's `equal_cas`, and the
    device-seconds at which it was reached, `equal_s`."""
    best = looks.groupby(["n_real", "seed", "method"], as_index=False).agg(
        run_id=("run_id", "first"), best_cas=("cas", "max"), training_s=("device_seconds", "max")
    )
    best["equal_cas"] = best.groupby(["n_real", "seed"])["best_cas"].transform("min")
    by_run = {run: own.sort_values("device_seconds") for run, own in looks.groupby("run_id")}
    reached = [_reached(by_run[run], level) for run, level in zip(best["run_id"], best["equal_cas"], strict=True)]
    return best.assign(equal_s=np.array(reached, float))


def _reached(curve: pd.DataFrame, level: float) -> float:
    """The device-seconds at which a curve first comes to a level; those of the first look where that is above it."""
    cas, at = curve["cas"].to_numpy(), curve["device_seconds"].to_numpy()
    first = int((cas >= level).argmax())
    if first == 0:
        return float(at[0])
    return float(np.interp(level, cas[first - 1 : first + 1], at[first - 1 : first + 1]))


def shown(table: pd.DataFrame) -> Table:
    """`times` as they are printed: means over the seeds."""
    rows = []
    for (n_real, method), own in table.groupby(["n_real", "method"]):
        means = statistics.columns(statistics.mean_interval(100 * own["best_cas"]), "best", "percent")
        means |= statistics.columns(statistics.mean_interval(own["equal_s"]), "equal", "s")
        rows.append(
            [
                str(n_real), method, str(len(own)), interval_in(means, "best", "percent", ".1f"),
                seconds(own["training_s"].mean()), interval_in(means, "equal", "s", ".0f"),
                f"{100 * own['equal_cas'].mean():.1f}",
            ]
        )  # fmt: skip
    note = (
        "Means over n seeds with 95 % t intervals. Equal CAS: the best that the worst generator of a seed has at any "
        "look, on validation images; to it: device-seconds of training, without the looks."
    )
    return Table(HEADINGS, rows, left=("generator",), notes=[note], group="n_real")


def plot(looks: pd.DataFrame) -> Figure:
    """CAS over device-seconds, on a log axis, a panel per n_real, a line per generator and seed."""
    sizes = sorted(looks["n_real"].unique())
    figure = Figure(figsize=(2 + 3.6 * len(sizes), 3.8), layout="constrained")
    for panel, n_real in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        own = looks[looks["n_real"] == n_real].assign(cas=lambda here: 100 * here["cas"])
        sns.lineplot(
            own, x="device_seconds", y="cas", hue="method", units="run_id", estimator=None, marker="o", ax=panel,
            palette="colorblind",
        )  # fmt: skip
        panel.set_xscale("log", subs=(2, 5))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("{x:g}")
        panel.set(title=f"{n_real:,} real images", xlabel="training [device-seconds]", ylabel="CAS [%]")
        panel.get_legend().set_title("")
        sns.despine(ax=panel)
    return figure


if __name__ == "__main__":
    cli.main(main)
