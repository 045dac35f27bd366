"""Does the gain follow the samples' quality, and which figure predicts it? From logged runs alone.

    python -m analysis.quality_vs_gain                                          # of the newest comparison
    python -m analysis.quality_vs_gain --comparison mnist-600 mnist-6000        # of several, as one
    python -m analysis.quality_vs_gain --rows analysis/results/low-data/rows.csv

It prints, and writes to outputs/tables (with CSV, LaTeX and a
picture), the quality of each arm's samples beside that of real images, a row per (n_real, arm), and Spearman's
correlation of each figure with the gain, a row per figure, a column per n_real and one of all together. The tests'
golden/quality.md and golden/quality_vs_gain.md show both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from analysis import accuracy_table, marks, pages, runs, statistics
from analysis.lazily import Figure, np, pd, sns
from analysis.pages import Section
from analysis.runs import BASELINE
from analysis.tables import Table, with_interval
from harness import cli


class Quality(NamedTuple):
    """A figure of a sample set's quality."""

    title: str
    better: int
    """1 where more of it is better, -1 where less is"""
    scale: float = 1
    style: str = "z.3f"


FIGURES = {
    "conditional_accuracy": Quality("cond. acc., %", 1, 100, "z.2f"),
    "cas": Quality("CAS, %", 1, 100, "z.2f"),
    "quality_fid": Quality("FID", -1, style="z.4g"),
    "quality_kid": Quality("KID", -1, style="z.4g"),
    "quality_precision": Quality("precision", 1),
    "quality_recall": Quality("recall", 1),
    "quality_density": Quality("density", 1),
    "quality_coverage": Quality("coverage", 1),
    "quality_diversity": Quality("diversity", 1),
    "quality_sharpness": Quality("sharpness", 1),
    "quality_copy_share": Quality("copy share, %", -1, 100, "z.3g"),
}
"""By their column in the cells."""
REAL = "real"
MISSING = "no cell has a figure of its samples' quality; compare arms that add samples"


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its parts of the report, where any arm's samples were measured."""
    whole = runs.whole_arms(cells)
    if any_measured(whole):
        quality, correlations = quality_table(whole), correlation_table(whole)
        yield Section("Quality of the samples", tables={"quality": (shown_quality(quality, whole), quality)})
        yield Section(
            "Does the gain follow the quality?",
            tables={"quality_vs_gain": (shown_correlations(correlations, whole), correlations)},
            pictures={"quality_vs_gain": (plot(accuracy_table.pairs(whole)), "Gain over each figure, a dot per seed")},
        )


# The numbers


def any_measured(cells: pd.DataFrame) -> bool:
    """Whether any cell has any of FIGURES."""
    return bool(cells.reindex(columns=list(FIGURES)).notna().any(axis=None))


def quality_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method) whose samples were measured, then one of real images.

    For each of FIGURES its mean over the num_seeds cells, and `…_low` and `…_high`, the ends of its 95 % interval, in
    the units of the cells. What some cell of a row does not have is NaN. The last row has no n_real; its
    method is `real`, its figures are what real images get in place of samples: the floors, and for CAS the accuracy of
    `none` at the largest n_real. Where those of the same real images were measured with several sample sets, one
    counts for each seed. `run_ids` are the cells that say so.
    """
    measured = cells[cells.reindex(columns=list(FIGURES)).notna().any(axis=1)]
    arms = measured[["n_real", "method"]].drop_duplicates().sort_values(["n_real", "method"], key=accuracy_table.rank)
    rows = []
    for n_real, method in arms.itertuples(index=False):
        own = measured[(measured["n_real"] == n_real) & (measured["method"] == method)]
        means = _means(own, {name: name for name in FIGURES})
        rows.append({"n_real": n_real, "method": method} | means | {"run_ids": " ".join(own["run_id"])})
    most = cells[(cells["method"] == BASELINE) & (cells["n_real"] == cells["n_real"].max())]
    floors = {name: f"floor_{name.removeprefix('quality_')}" for name in FIGURES if name != "cas"}
    floor = cells.reindex(columns=list(floors.values())).groupby(cells["seed"]).first()  # that is there
    once = floor.dropna(how="all").reset_index()
    means = _means(once, floors) | _mean(most["accuracy"], "cas")
    told = cells[cells.reindex(columns=list(floors.values())).notna().any(axis=1)]
    run_ids = " ".join(dict.fromkeys([*told["run_id"], *most["run_id"]]))
    rows.append({"n_real": pd.NA, "method": REAL} | means | {"run_ids": run_ids})
    return pd.DataFrame(rows).astype({"n_real": "Int64"})


def _means(cells: pd.DataFrame, columns: dict[str, str]) -> dict[str, object]:
    """num_seeds, and for each figure the mean of a column of the cells with its interval."""
    row: dict[str, object] = {"num_seeds": len(cells)}
    for name in FIGURES:
        row |= _mean(cells.reindex(columns=[columns.get(name, "")]).iloc[:, 0], name)
    chance = (
        cells.reindex(columns=["quality_copy_chance"]).iloc[:, 0] if "quality_copy_share" in columns.values() else []
    )
    return row | {"quality_copy_chance": float(np.mean(chance)) if len(chance) else math.nan}


def _mean(values: pd.Series, name: str) -> dict[str, float]:
    estimate = statistics.mean_interval(values.to_numpy(dtype=float))
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def correlation_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (figure, n_real), then one per figure of all n_real together, whose n_real is missing.

    `correlation` is Spearman's, -1 … 1, of the figure and the gain over the n pairs (method, seed) of generators, with
    the ends `low` and `high` of its 95 % interval; plus is "better samples, more gain". Over all n_real it is that of
    the ranks within each, so a difference between them counts for nothing. `run_ids` are the cells of the pairs,
    `baseline_run_ids` those of `none` beside them.
    """
    gains = generator_gains(cells)
    rows = []
    for name, figure in FIGURES.items():
        column = measured_as(name, gains)
        known = gains.reindex(columns=["n_real", "method", column, "gain_points", "run_id", "baseline_run_id"])
        known = known.dropna(subset=[column, "gain_points"])
        # Accuracies are shares of whole images in float32: gains that differ by their rounding alone are equal.
        known = known.assign(quality=figure.better * known[column], gain_points=known["gain_points"].round(4))
        ranked = known.groupby("n_real")[["quality", "gain_points"]].rank(pct=True)
        parts = [(n_real, known[known["n_real"] == n_real]) for n_real in sorted(gains["n_real"].unique())]
        for n_real, part in [*parts, (pd.NA, ranked)]:
            found = statistics.rank_correlation(part["quality"], part["gain_points"])
            row = {"figure": name, "n_real": n_real, "n": len(part)}
            row |= {"correlation": found.value, "low": found.low, "high": found.high}
            if n_real is pd.NA:
                for title, apart in apart_by_arm(known).items():
                    row |= {title: apart.value, f"{title}_low": apart.low, f"{title}_high": apart.high}
            rows.append(row | accuracy_table.run_ids(known.loc[part.index]))
    return pd.DataFrame(rows).astype({"n_real": "Int64"})


def measured_as(figure: str, cells: pd.DataFrame) -> str:
    """The column of a figure to set beside gains on the test images: of CAS that on validation images, where it is."""
    known = figure == "cas" and cells.reindex(columns=["validation_cas"])["validation_cas"].notna().any()
    return "validation_cas" if known else figure


def apart_by_arm(known: pd.DataFrame) -> dict[str, statistics.Estimate]:
    """The correlation of `quality` and `gain_points` `between` arms' means, ranked within each n_real, and `within` an
    arm, over its seeds ranked among themselves."""
    both, arms = ["quality", "gain_points"], ["n_real", "method"]
    means = known.groupby(arms)[both].mean().round(6).groupby("n_real").rank(pct=True)
    several = known[known.groupby(arms)["quality"].transform("size") > 1]
    seeds = several.groupby(arms)[both].rank(pct=True)
    return {
        "between": statistics.rank_correlation(means["quality"], means["gain_points"]),
        "within": statistics.rank_correlation(seeds["quality"], seeds["gain_points"]),
    }


def generator_gains(cells: pd.DataFrame) -> pd.DataFrame:
    """The generators' rows of `accuracy_table.pairs`."""
    return runs.of_generators(accuracy_table.pairs(cells))


# The words


def shown_quality(table: pd.DataFrame, cells: pd.DataFrame) -> Table:
    """The table of quality as it is printed."""
    signs = marks.signs(cells)
    texts = []
    for row in table.to_dict("records"):
        n_real, method = row["n_real"], row["method"]
        there = "-" if pd.isna(n_real) else str(n_real)
        figures = []
        for name, figure in FIGURES.items():
            mean, low, high = (figure.scale * row[name + end] for end in ("", "_low", "_high"))
            figures.append(with_interval(mean, low, high, figure.style))
        if not math.isnan(row["quality_copy_chance"]):
            figures[-1] += f" (chance {100 * row['quality_copy_chance']:.3g})"
        texts.append([there, method + signs.get((n_real, method), ""), str(row["num_seeds"]), *figures])
    note = (
        f"Data set {cells['dataset'].iloc[0]}, judge {cells['judge'].iloc[0][:12]}. Means over n seeds with 95 % t "
        "intervals, in the judge's features beside unseen real images. The last row is what other real images get "
        f"there, and for CAS the accuracy of none at the largest n_real, {cells['n_real'].max()}. Diversity is that of "
        "the least varied class, sharpness beside the reference's. FID and KID are better the lower. Copy share: "
        "samples whose nearest real image is one that the generator saw, beside what chance gives of new images."
    )
    headings = ("n_real", "method", "n", *(figure.title for figure in FIGURES.values()))
    return Table(headings, texts, notes=[note, *marks.notes(cells)], group="n_real")


def shown_correlations(table: pd.DataFrame, cells: pd.DataFrame) -> Table:
    """The table of correlations as it is printed: a row per figure."""
    sizes = table["n_real"].dropna().unique().tolist()
    texts = []
    for name, own in table.groupby("figure", sort=False):
        found = own[["correlation", "low", "high"]].itertuples(index=False)  # in the order of the columns
        texts.append(
            [FIGURES[str(name)].title.removesuffix(", %")]
            + [with_interval(value, low, high, "+z.2f") for value, low, high in found]
            + [
                with_interval(*(own.iloc[-1][f"{title}{end}"] for end in ("", "_low", "_high")), style="+z.2f")
                for title in ("between", "within")
            ]
            + [str(own["n"].iloc[-1])]
        )
    arms = sorted(generator_gains(cells)["method"].unique())
    negated = ", ".join(figure.title for figure in FIGURES.values() if figure.better < 0)
    note = (
        "Spearman's ρ of a figure and the gain over none, over the pairs (arm, seed) of "
        f"{', '.join(arms) or 'no generator'}; all: n pairs of ranks within each n_real. + is better samples, more "
        f"gain: {negated} are negated. 95 % intervals (Bonett and Wright 2000); pairs of one seed share their "
        "baseline, and those of one arm their method, so they are too short, and speak of these generators alone. "
        "Between arms: of the arms' means, ranked within each n_real; within an arm: over its seeds, ranked among "
        "themselves. CAS is "
        f"that on {'validation' if measured_as('cas', generator_gains(cells)) != 'cas' else 'test'} images here."
    )
    headings = ("figure", *(f"ρ, {size}" for size in sizes), "ρ, all", "ρ between arms", "ρ within an arm", "n")
    return Table(headings, texts, left=("figure",), notes=[note])


# The picture


def plot(paired: pd.DataFrame, columns: int = 6) -> Figure:
    """Gain in points over each figure, a panel per figure; a dot per seed, a colour per generator, a shape per n_real.

    From `accuracy_table.pairs`.
    """
    gains = runs.of_generators(paired)
    names = [name for name in FIGURES if name in gains and gains[name].notna().any()]
    lines = max(math.ceil(len(names) / columns), 1)
    figure = Figure(figsize=(2.8 * columns, 3 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    arms = sorted(gains["method"].unique())
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True))
    shapes = {"style": "n_real", "hue": "method", "hue_order": arms, "palette": colours}
    for place, (name, panel) in enumerate(zip(names, panels, strict=False)):
        values = gains.assign(value=gains[name] * FIGURES[name].scale)
        panel.axhline(0, color="0.6", linewidth=1, zorder=0)
        sns.scatterplot(values, x="value", y="gain_points", **shapes, legend=place == 0, ax=panel)
        less = ", less is better" if FIGURES[name].better < 0 else ""
        panel.set(xlabel=FIGURES[name].title + less, ylabel="gain [points]")
        sns.despine(ax=panel)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    if names:
        handles, labels = panels[0].get_legend_handles_labels()
        panels[0].get_legend().remove()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 9), frameon=False)
    return figure


main = pages.script(sections, MISSING, __doc__)

if __name__ == "__main__":
    cli.main(main)
