"""What does an arm add to a classifier that is augmented as usual? Gains on top of it, beside those over bare images.

    python experiments/compare.py --n-real 100 1000 --more-classifiers augment=True    # makes the cells
    python -m analysis.on_top                                                          # of the newest comparison
    python -m analysis.on_top --rows analysis/results/mnist/rows.csv --confirmatory ddpm-moved 100:gan

It prints, and writes to outputs/tables (with CSV, LaTeX and a picture), a row per (n_real, arm) and what they say:

    |   n_real | method |   n |      bare, % | gain over bare, points |  augmented, % | gain on top, points | p | …

Arms named by --confirmatory are one family for Holm's correction at each n_real, the others are exploratory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis import accuracy_table, low_data, pages, runs, statistics
from analysis.accuracy_table import BASELINE, CONTROLS
from analysis.lazily import pd
from analysis.pages import Section
from analysis.runs import Source
from analysis.tables import Table, arm_columns, number, p_value
from harness import cli
from harness.errors import InputError

AUGMENTED = "augment=True"
"""What the setting of augmented classifiers says."""
SIGNIFICANT = 0.05
CONFIRMATORY, EXPLORATORY, ALL, NO_FAMILY = "confirmatory", "exploratory", "all arms", "-"
"""What an arm's test is part of."""
HEADINGS = (
    "n_real", "method", "n", "bare, %", "gain over bare, points", "augmented, %", "gain on top, points", "p",
    "p (Holm)", "family", "detectable, points",
)  # fmt: skip
MISSING = "no arm beside none has augmented classifiers: compare.py --more-classifiers augment=True makes them"
PICTURE = "Gain on top of augmentation by the number of real images, with 95 % intervals"


def main(
    source: Source = Source(),
    confirmatory: tuple[str, ...] = (),
    out: Path = Path("outputs/tables"),
    json: cli.AsJson = False,
) -> None:
    """Print what arms add on top of augmentation; write it as md, csv and tex, with its picture.

    Args:
        source: where the cells are read
        confirmatory: arms that were named beforehand, ARM or N_REAL:ARM; by default all are one family
        out: folder for the files
    """
    pages.show(sections(source.cells(), confirmatory), out, MISSING, json)


def sections(cells: pd.DataFrame, confirmatory: Sequence[str] = ()) -> Iterator[Section]:
    """Its part of the report, where there are augmented arms; of cells of all settings."""
    whole = runs.whole_arms(cells)
    check(confirmatory, whole)
    for rest, bare, augmented in halves(whole):
        if not augmented["method"].eq(BASELINE).all():
            table = on_top(bare, augmented, confirmatory)
            yield Section(
                "What an arm adds on top of augmentation",
                tables={"on_top": (shown(table, [*notes(augmented), *answers(table, alone(bare, augmented))]), table)},
                pictures={"on_top": (plot(table), PICTURE)},
            ).of(rest)


def halves(cells: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """For each setting with augmentation: what else it says, the cells without augmentation, and those with it."""
    settings = dict(runs.by_setting(cells))
    for setting, augmented in settings.items():
        parts = setting.split(",")
        if AUGMENTED in parts:
            rest = ",".join(part for part in parts if part != AUGMENTED)
            yield rest, settings.get(rest, cells[:0]), augmented


def check(confirmatory: Sequence[str], cells: pd.DataFrame) -> None:
    """Raise InputError for a name that is no arm of the cells."""
    arms = cells.loc[cells["method"] != BASELINE, ["n_real", "method"]].drop_duplicates()
    known = {*arms["method"], *(f"{n_real}:{method}" for n_real, method in arms.itertuples(index=False))}
    for name in confirmatory:
        if name not in known:
            raise InputError(f"--confirmatory {name} is no arm of these cells; they have "
                             f"{', '.join(sorted(set(arms['method'])))}, also as N_REAL:ARM")  # fmt: skip


# The numbers


def on_top(bare: pd.DataFrame, augmented: pd.DataFrame, confirmatory: Sequence[str] = ()) -> pd.DataFrame:
    """One row per (n_real, method) of the augmented cells, in the order of the tables.

    `bare_percent` and `augmented_percent` are the arm's accuracies without and with augmentation, `gain_points` its
    gain over bare real images, `on_top_points` that over augmented ones: means over num_bare_seeds and num_seeds pairs
    with 95 % t intervals (…_low_…, …_high_…). `p` is the paired t-test's of `on_top_points`, `p_holm` corrected over
    the arms of its n_real that are not exploratory by their `family`; `detectable_points` the gain on top that as
    many seeds with this spread show with 80 % power. What a row does not have is NaN.
    """
    with_it = accuracy_table.by_arm(augmented, lambda arm, _, method: half(arm, method, "augmented", "on_top"))
    table = with_it
    if len(bare):
        without = accuracy_table.by_arm(bare, lambda arm, _, method: half(arm, method, "bare", "gain"))
        without = without.drop(columns=["p", "detectable_points", "run_ids", "baseline_run_ids"])
        table = with_it.merge(
            without.rename(columns={"num_seeds": "num_bare_seeds"}), on=["n_real", "method"], how="left"
        )
    columns = [f"{name}{end}_{unit}" for name, unit in (("bare", "percent"), ("gain", "points"))
               for end in ("", "_low", "_high")]  # fmt: skip
    table = table.reindex(columns=list(dict.fromkeys([*table, "num_bare_seeds", *columns])))
    names = table["n_real"].astype(str) + ":" + table["method"]
    named = table["method"].isin(confirmatory) | names.isin(confirmatory)
    table["family"] = named.map({True: CONFIRMATORY, False: EXPLORATORY}) if confirmatory else ALL
    table.loc[table["method"] == BASELINE, "family"] = NO_FAMILY
    tested = table["p"].where(table["family"] != EXPLORATORY)
    table["p_holm"] = tested.groupby(table["n_real"]).transform(lambda p: statistics.holm(p.to_numpy()))
    return table


def half(arm: pd.DataFrame, method: str, accuracy: str, gain: str) -> dict[str, float]:
    """What is said of an arm with or without augmentation, from its rows of `accuracy_table.pairs`."""
    gained = accuracy_table.gain_of(arm[:0] if method == BASELINE else arm)
    return {
        **statistics.columns(statistics.mean_interval(arm["augmented_percent"]), accuracy, "percent"),
        **statistics.columns(gained, gain, "points"),
        "p": gained.p,
        "detectable_points": math.nan if method == BASELINE else statistics.detectable_effect(arm["gain_points"]),
    }


def alone(bare: pd.DataFrame, augmented: pd.DataFrame) -> dict[int, statistics.Difference]:
    """What augmentation itself gains: `none` with it less `none` without it, in points by n_real, paired by seed."""
    with_it, without = (cells[cells["method"] == BASELINE] for cells in (augmented, bare))
    both = with_it.merge(without, on=["n_real", "seed"], suffixes=("", "_bare"))
    return {
        int(str(n_real)): statistics.paired_difference(100 * own["accuracy"], 100 * own["accuracy_bare"])
        for n_real, own in both.groupby("n_real")
    }


# The words


def notes(augmented: pd.DataFrame) -> list[str]:
    """What stands under the table before its answers."""
    return [
        f"Data set {augmented['dataset'].iloc[0]}. Bare: the classifier sees its images as they are; augmented: the "
        "images of every arm, none's too, under fresh moves at every step. Gain on top: augmented arm less augmented "
        "none. Means over n seeds, paired, with 95 % t intervals; p: paired t-test of the gain on top, and "
        "Holm-corrected over the arms of one n_real: over the confirmatory ones where any were named beforehand, and "
        "the others are exploratory, with no such p and no claim. "
        "Detectable: the gain that n seeds with this spread show with 80 % power at p < 0.05, before correction.",
        *([pages.CROSS_VALIDATED] if augmented.get("split", pd.Series()).eq(runs.VALIDATION).any() else []),
        *accuracy_table.missing(augmented),
    ]


def answers(table: pd.DataFrame, alone: dict[int, statistics.Difference]) -> list[str]:
    """A sentence or two for each n_real: which generators add to augmentation, or what would have been seen."""
    lines = []
    for n_real, here in table.groupby("n_real"):
        family = here[here["family"].isin([CONFIRMATORY, ALL])]
        gained = alone.get(int(str(n_real)))
        first = f"Augmentation alone gains {points(*gained[:3])}." if gained else ""
        then = "" if here["method"].eq(BASELINE).all() else answer(family)  # of more of the learning curve alone
        lines.append(" ".join(filter(None, (f"{n_real:,} real images.", first, then))))
    return lines


def answer(family: pd.DataFrame) -> str:
    """Of the confirmatory arms of one n_real."""
    own = runs.of_generators(family)
    if own["p_holm"].isna().all():
        return "No generator of the family has a test."
    count = family["p"].notna().sum()
    over = f"after Holm's correction over {count} arm{'s' if count > 1 else ''}"
    clear = own[(own["p_holm"] < SIGNIFICANT) & (own["on_top_points"] > 0)]
    if len(clear):
        ordered = clear.sort_values("on_top_points", ascending=False).to_dict("records")
        which = "; ".join(f"{row['method']} {on_top_of(row)}, p {p_value(row['p_holm'])}" for row in ordered)
        return f"On top of it there is a gain {over}: {which}."
    best = own.sort_values("on_top_points").to_dict("records")[-1]
    shown = number(best["detectable_points"])
    return (
        f"On top of it no generator's gain is above zero {over}. The highest mean is {best['method']}'s, "
        f"{on_top_of(best)}; {best['num_seeds']} seeds would have shown {shown} points."
    )


def on_top_of(row: dict) -> str:
    return points(*(row[f"on_top{end}_points"] for end in ("", "_low", "_high")))


def points(value: float, low: float, high: float) -> str:
    """Such as +0.42 points [+0.10, +0.74]."""
    return f"{value:+z.2f} points" + ("" if math.isnan(low) else f" [{low:+z.2f}, {high:+z.2f}]")


def shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`on_top` as it is printed."""
    texts = [
        [
            *arm_columns(row, ("bare", "gain"), ("augmented", "on_top")),
            p_value(row["p"]),
            p_value(row["p_holm"]),
            row["family"] + (", a control" if row["method"] in CONTROLS else ""),
            number(row["detectable_points"]),
        ]
        for row in table.to_dict("records")
    ]
    return Table(HEADINGS, texts, left=("method", "family"), notes=under, group="n_real")


# The picture


def plot(table: pd.DataFrame) -> low_data.Figure:
    """The gain on top of augmentation by n_real, a panel for each generator, `affine` for scale. From `on_top`."""
    columns = {f"on_top{end}_points": f"gain{end}_points" for end in ("", "_low", "_high")}
    gained = table.drop(columns=list(columns.values())).rename(columns=columns)
    return low_data.plot(gained, "gain on top [points]")


if __name__ == "__main__":
    cli.main(main)
