"""How many real images synthetic ones are worth, by the number of both, beside a published formula.

    python -m analysis.equivalence --rows analysis/results/mnist/rows.csv    # of a file of rows, without a store

It prints two tables, and writes them to outputs/tables (with CSV and LaTeX) beside a picture of both:

    |   n_real | method |   synthetic images |   n |     real images worth |   by the formula |
    |---------:|:-------|-------------------:|----:|----------------------:|-----------------:|
    |     1000 | ddpm   |              5,000 |   3 |   +323 [-133, +1,895] |             +126 |

    | method |   points |   c1 |   c2 |   left over |

A row per n_real, arm and number of synthetic images: those of a sweep of amounts (compare.py --amounts 1 5), and all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from analysis import accuracy_table, low_data, pages, runs, statistics, sweeps
from analysis.accuracy_table import BASELINE, CONTROLS
from analysis.lazily import Axes, Figure, NDArray, np, optimize, pd, sns
from analysis.pages import Section
from analysis.tables import Table, number
from harness import cli

HEADINGS = ("n_real", "method", "synthetic images", "n", "real images worth", "by the formula")
FIT_HEADINGS = ("method", "points", "c1", "c2", "left over")
CAPTION = "Real images that synthetic ones are worth, with 95 % intervals; dashed: by the formula"
MISSING = "no cell beside none at two n_real or more, whose learning curve a worth in real images needs"
SCALE = 1000.0
"""Real images by which c1 is counted; the paper's own is another, which changes c1 alone."""
STEEPEST = 20.0
"""|ln| of the first factor at the largest n_real, at most."""
LEAST = 1 / 700
"""Of 1 / ln c2, so that c2 is a number."""


class Formula(NamedTuple):
    """The empirical formula of Wang et al. 2025 (arXiv:2508.09550), of generators that saw the n_real images alone:

    synthetic / n_real = c1 ** (n_real / SCALE) * (c2 ** (worth / n_real) - 1)
    """

    log_c1: float
    log_c2: float

    def worth(self, n_real: NDArray[np.float64], synthetic: NDArray[np.float64]) -> NDArray[np.float64]:
        """Real images that `synthetic` ones are worth beside `n_real`; NaN where nothing was fitted."""
        return n_real * _logarithm(self.log_c1, n_real, synthetic) / self.log_c2


def fitted(n_real: NDArray[np.float64], synthetic: NDArray[np.float64], worth: NDArray[np.float64]) -> Formula:
    """The formula whose worths per real image are nearest, in least squares, to those of some points, float [points].

    NaN where there are no more points than constants (of one n_real, c1 is taken for 1), and where synthetic images are
    worth nothing or less on the whole, which no c2 says.
    """
    share, free = worth / n_real, 1 + (len(set(n_real)) > 1)
    if len(share) <= free:
        return Formula(np.nan, np.nan)

    def slope(log_c1: float) -> float:  # 1 / ln c2, in which worths are linear
        by_c1 = _logarithm(log_c1, n_real, synthetic)
        return float(share @ by_c1 / (by_c1 @ by_c1))

    def left_over(log_c1: float) -> float:
        return float(np.square(share - slope(log_c1) * _logarithm(log_c1, n_real, synthetic)).sum())

    log_c1 = 0.0
    if free > 1:
        end = STEEPEST * SCALE / n_real.max()
        tried = np.linspace(-end, end, 401)
        best = int(np.argmin([left_over(each) for each in tried]))
        around = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
        nearest: Any = optimize.minimize_scalar(left_over, bounds=around, method="bounded", options={"xatol": 1e-9})
        log_c1 = float(nearest.x)
    found = slope(log_c1)
    return Formula(log_c1, 1 / found) if found > LEAST else Formula(np.nan, np.nan)


def _logarithm(log_c1: float, n_real: NDArray[np.float64], synthetic: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log1p(synthetic / n_real * np.exp(-log_c1 * n_real / SCALE))


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report, where there is a learning curve and an arm beside `none`."""
    found = worths(cells)
    if found.empty:
        return
    tables, pictures = {"worth": (worths_shown(found, notes(cells)), found)}, {}
    if found["fitted"].any():
        fit = constants(found)
        tables["worth_formula"] = (constants_shown(fit), fit)
        pictures["worth"] = (plot(found), CAPTION)
    yield Section("What synthetic images are worth", tables=tables, pictures=pictures)


# The numbers


def worths(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per n_real, method and number of synthetic images, ascending; none without a learning curve.

    `worth_images`, with its interval, as analysis.low_data has it; infinite where it is beyond the learning curve.
    `formula_images` by the constants that are fitted to the method's `fitted` rows: the finite ones, less those at the
    curve's last n_real, where a loss alone can be measured. NaN elsewhere, and where none are.
    """
    placed = sweeps.placed(cells)
    curve = low_data.learning_curve(placed)
    arms = accuracy_table.pairs(placed[placed["amount"].gt(0) | placed["method"].eq(BASELINE)])
    arms = arms[arms["method"] != BASELINE]
    if len(curve) < 2 or arms.empty:
        return pd.DataFrame()
    arms["synthetic"] = (arms["amount"] * arms["n_real"]).round().astype(int)
    rows = [
        {
            "n_real": n_real,
            "method": method,
            "synthetic": synthetic,
            "num_seeds": len(arm),
            **statistics.columns(low_data.worth_of(arm, curve, arm["n_real"].iloc[0]), "worth", "images"),
            **accuracy_table.run_ids(arm),
        }
        for (n_real, method, synthetic, _), arm in arms.groupby(["n_real", "method", "synthetic", "variant"])
    ]
    found = pd.DataFrame(rows).sort_values(["n_real", "method", "synthetic"], key=accuracy_table.rank, kind="stable")
    found["fitted"] = np.isfinite(found["worth_images"]) & (found["n_real"] < curve.index.max())
    found["formula_images"] = np.nan
    for method, formula in formulas(found).items():
        own = found["fitted"] & (found["method"] == method)
        found.loc[own, "formula_images"] = formula.worth(*_counts(found[own]))
    return found.reset_index(drop=True)


def formulas(found: pd.DataFrame) -> dict[str, Formula]:
    """Of each method."""
    taken = {method: found[found["fitted"] & found["method"].eq(method)] for method in found["method"].unique()}
    return {method: fitted(*_counts(own), own["worth_images"].to_numpy()) for method, own in taken.items()}


def _counts(rows: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows["n_real"].to_numpy(float), rows["synthetic"].to_numpy(float)


def constants(found: pd.DataFrame) -> pd.DataFrame:
    """A row per method that has any: `points`, to which c1 and c2 were fitted, and `left_over`, the root mean square of
    what the formula misses of a worth per real image. The runs are those of the points.
    """
    rows = []
    for method, formula in formulas(found).items():
        own = found[found["fitted"] & found["method"].eq(method)]
        if own.empty:
            continue
        missed = (own["worth_images"] - own["formula_images"]) / own["n_real"]
        rows.append(
            {"method": method, "points": len(own), "c1": np.exp(formula.log_c1), "c2": np.exp(formula.log_c2),
             "left_over": np.sqrt(np.square(missed).mean()),
             **{name: " ".join(dict.fromkeys(" ".join(own[name]).split())) for name in ("run_ids", "baseline_run_ids")}}
        )  # fmt: skip
    return pd.DataFrame(rows)


# The words


def notes(cells: pd.DataFrame) -> list[str]:
    """What stands under the table of worths."""
    return low_data.gain_notes(runs.whole_arms(cells))[1:2]


FIT_NOTES = (
    "Formula: synthetic / n_real = c1^(n_real / 1,000) (c2^(worth / n_real) - 1), which Wang et al. 2025 "
    "(arXiv:2508.09550) found for generators that see the classifier's images alone, as here; c2 was 2.5 on CIFAR-10, "
    "3.9 on BloodMNIST and 38 on ImageNet-100. Here it is fitted to each arm's points of all n_real, by least squares "
    "of the worth per real image; left over is the root mean square of what it misses of that. Points beyond the "
    "learning curve are left out, and those at its last n_real, where a loss alone can be measured. A batch is half "
    "synthetic at most.",
)


def worths_shown(found: pd.DataFrame, under: Sequence[str]) -> Table:
    """`worths` as they are printed."""
    least, most = found["n_real"].min(), found["n_real"].max()
    texts = [
        [
            str(row["n_real"]),
            row["method"],
            f"{row['synthetic']:,}",
            str(row["num_seeds"]),
            low_data.worth_words(row, least - row["n_real"], most - row["n_real"]),
            number(row["formula_images"], "+z,.0f"),
        ]
        for row in found.to_dict("records")
    ]
    return Table(HEADINGS, texts, notes=under, group="n_real")


def constants_shown(table: pd.DataFrame) -> Table:
    """`constants` as they are printed."""
    texts = [
        [row["method"], str(row["points"]), *(number(row[name], ".3g") for name in ("c1", "c2", "left_over"))]
        for row in table.to_dict("records")
    ]
    return Table(FIT_HEADINGS, texts, notes=FIT_NOTES)


# The picture


def plot(found: pd.DataFrame) -> Figure:
    """Worth per real image by synthetic images per real one: a panel per generator's arm, a colour per n_real; points
    with 95 % intervals, and the formula's lines. From `worths`."""
    known, found = formulas(found), found[found["fitted"]]
    names = [name for name in found["method"].unique() if name not in CONTROLS] or list(found["method"].unique())
    columns = min(len(names), 3)
    figure = Figure(figsize=(1 + 2.8 * columns, 0.6 + 2.6 * -(-len(names) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(names) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    sizes = sorted(found["n_real"].unique())
    colours = dict(zip(sizes, sns.color_palette("viridis", len(sizes)), strict=True))
    amounts = found["synthetic"] / found["n_real"]
    panels[0].set(xscale="log", xlim=(amounts.min() / 3, amounts.max() * 3))
    for panel, name in zip(panels, names, strict=False):
        for n_real, own in found[found["method"] == name].groupby("n_real"):
            _draw(panel, own, colours[n_real], known[name], f"{n_real:,} real images")
        panel.axhline(0, color="0.6", linewidth=1, zorder=0)
        panel.set(title=name)
        sns.despine(ax=panel)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize="small")
    figure.supxlabel("synthetic / real images", fontsize="medium")
    figure.supylabel("worth / real images", fontsize="medium")
    return figure


def _draw(panel: Axes, own: pd.DataFrame, colour: object, formula: Formula, label: str) -> None:
    n_real, synthetic = _counts(own)  # one n_real
    along = np.geomspace(synthetic.min() / 2, synthetic.max() * 2)
    panel.plot(along / n_real[0], formula.worth(n_real[:1], along) / n_real[0], "--", linewidth=1, color=colour)
    worth, low, high = (own[f"worth{end}_images"].to_numpy() / n_real for end in ("", "_low", "_high"))
    reach = np.nan_to_num([worth - low, high - worth], nan=0.0, posinf=0.0)
    panel.errorbar(synthetic / n_real, worth, reach, fmt="o", markersize=4, color=colour, label=label)


main = pages.script(sections, MISSING, __doc__)

if __name__ == "__main__":
    cli.main(main)
