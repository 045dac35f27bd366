"""The pictures of a hyperparameter study.

Optuna's own leave out the trials that were pruned or failed, and crowd conditional and logarithmic parameters.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

from analysis.study_reading import Reading

DPI = 110
LABELS = {
    "accuracy": "validation accuracy (0 … 1)",
    "cas": "validation CAS (0 … 1)",
    "conditional_accuracy": "conditional accuracy (0 … 1)",
    "fid": "validation FID",
    "train_seconds": "training [device-seconds]",
    "sampling_seconds": "sampling [device-seconds]",
}
PALETTE = sns.color_palette("colorblind")
COLOURS = {
    "complete": PALETTE[0],
    "pruned": PALETTE[1],
    "failed": PALETTE[3],
    "stopped": PALETTE[7],
    "died": (0.15, 0.15, 0.15),
    "running": PALETTE[2],
}
BEST = PALETTE[4]
SEQUENCE = sns.color_palette("crest", as_cmap=True)
UNUSED = -0.15
"""Where a conditional parameter's line runs in trials that do not have it, on axes from 0 to 1."""


def label(objective: str) -> str:
    return LABELS.get(objective, objective)


def _figure(reading: Reading, width: float, height: float) -> Figure:
    """An empty one, width and height in inches, with the study's name above."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(f"study {reading.name}", fontsize=10, color="0.35")
    return figure


def save(figure: Figure, path: Path) -> None:
    """A PNG of 256 colours, a third of the size."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI)
    with Image.open(stream) as picture:
        picture.convert("RGB").quantize(256).save(path, optimize=True)


# --- Over the trials ---------------------------------------------------------------------------------------


def history(reading: Reading) -> Figure:
    """Values by trial number, a panel per objective, the best so far, and the trials that have none at the bottom."""
    number = len(reading.directions)
    figure = _figure(reading, 8, 1 + 2.9 * number)
    panels = figure.subplots(number, 1, sharex=True, squeeze=False)[:, 0]
    for panel, (objective, direction) in zip(panels, reading.directions.items(), strict=True):
        done = reading.complete[["number", f"objective/{objective}"]].set_axis(["number", "value"], axis=1)
        so_far = done["value"].cummin() if direction == "minimize" else done["value"].cummax()
        panel.plot(done["number"], so_far, color=PALETTE[0], linewidth=1, drawstyle="steps-post", zorder=1)
        panel.scatter(done["number"], done["value"], s=22, color=COLOURS["complete"], zorder=2)
        _ring(panel, done[done["number"] == reading.best])
        _valueless(panel, reading, reading.trials["number"])
        panel.set(ylabel=label(objective))
        sns.despine(ax=panel)
    panels[-1].set(xlabel="trial")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, reading, COLOURS["complete"])
    return figure


def _ring(panel: Axes, place: pd.DataFrame) -> None:
    """A ring around the best trial's x and y, the frame's two columns."""
    x, y = place.to_numpy(dtype=float).T
    panel.scatter(x, y, s=90, facecolors="none", edgecolors=[BEST], linewidths=1.6, zorder=3)


def _valueless(panel: Axes, reading: Reading, x: Any) -> None:
    """Ticks at the bottom where trials have no value, in the colours of their states; x: float [trials]."""
    panel.margins(y=0.12)
    for name, colour in COLOURS.items():
        at = np.asarray(x, dtype=float)[(reading.trials["state"] == name).to_numpy()]
        if name != "complete":
            panel.plot(at, np.full(len(at), 0.025), "|", color=colour, markersize=9, markeredgewidth=2,
                       transform=panel.get_xaxis_transform(), zorder=2)  # fmt: skip


def _legend(figure: Figure, reading: Reading, complete: Any) -> None:
    """Dots, in the colour `complete`, the ticks of the states that the study has, and the ring, under a figure."""
    ticks = {name: colour for name, colour in COLOURS.items() if (reading.trials["state"] == name).any()}
    del ticks["complete"]
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=complete, label="complete"),
        *(Line2D([], [], linestyle="none", marker="|", color=colour, markersize=9, markeredgewidth=2, label=name)
          for name, colour in ticks.items()),
        Line2D([], [], linestyle="none", marker="o", color=BEST, markersize=9, markerfacecolor="none",
               label=f"best, trial {reading.best}"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False)


def pareto(reading: Reading) -> Figure:
    """One objective over the other: the front as a line, its trials' numbers beside it."""
    (first, second) = reading.directions
    figure = _figure(reading, 7, 5.2)
    panel = figure.subplots()
    x, y = f"objective/{first}", f"objective/{second}"
    done = reading.complete.sort_values([x, y])
    front = done[done["number"].isin(reading.front)]
    panel.scatter(done[x], done[y], s=22, color="0.65", label="complete trial")
    panel.plot(front[x], front[y], "o-", color=PALETTE[0], markersize=6, linewidth=1, label="Pareto front")
    start = done[done["slot"] == "0"]
    panel.scatter(start[x], start[y], s=70, marker="D", facecolors="none", edgecolors=[PALETTE[3]], linewidths=1.6,
                  label="first trial")  # fmt: skip
    panel.margins(0.08)
    for row in _apart(front[["number", x, y]].to_numpy(), (panel.get_xlim(), panel.get_ylim())):
        panel.annotate(f"{row[0]:.0f}", (row[1], row[2]), (5, 5), textcoords="offset points", fontsize=9)
    better = {"maximize": "higher is better", "minimize": "lower is better"}
    panel.set(
        xlabel=f"{label(first)}, {better[reading.directions[first]]}",
        ylabel=f"{label(second)}, {better[reading.directions[second]]}",
    )
    sns.despine(ax=panel)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _apart(points: NDArray[Any], limits: tuple[tuple[float, float], tuple[float, float]]) -> list[NDArray[Any]]:
    """Of points (number, x, y), those whose texts do not cover each other's, from the left."""
    spans = np.array([high - low for low, high in limits])
    kept: list[NDArray[Any]] = []
    for point in points:
        if all((np.abs(point[1:] - other[1:]) / spans > (0.035, 0.045)).any() for other in kept):
            kept.append(point)
    return kept


def importances(reading: Reading) -> Figure:
    """A bar per parameter and objective, of 1 in all."""
    frame = reading.importances.assign(objective=reading.importances["objective"].map(label))
    order = frame.groupby("parameter")["importance"].max().sort_values(ascending=False).index
    many = len(reading.directions) > 1
    figure = _figure(reading, 8, 1.2 + 0.4 * len(order) * len(reading.directions))
    panel = figure.subplots()
    sns.barplot(frame, x="importance", y="parameter", hue="objective", order=list(order), ax=panel, legend=many,
                palette=PALETTE[: len(reading.directions)], saturation=1)  # fmt: skip
    for bars in panel.containers:
        panel.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=9)  # type: ignore[arg-type]
    what = "each objective" if many else next(iter(reading.directions))
    panel.set(xlabel=f"share of the importance for {what}", ylabel="", xlim=(0, 1.08 * frame["importance"].max()))
    if many:
        panel.legend(title=None, frameon=False, loc="lower right")
    sns.despine(ax=panel)
    return figure


# --- Over the parameters -----------------------------------------------------------------------------------


def places(among: BaseDistribution, values: pd.Series) -> NDArray[np.float64]:
    """Where values lie on a range as shown, float [n] from 0 to 1; NaN for what there is not."""
    if isinstance(among, CategoricalDistribution):
        number = len(among.choices)
        spots = np.linspace(0, 1, number) if number > 1 else [0.5]
        spot_of = dict(zip(among.choices, spots, strict=True))
        return np.array([spot_of.get(value, np.nan) for value in values], dtype=np.float64)
    assert isinstance(among, FloatDistribution | IntDistribution)
    ends = np.array([among.low, among.high], dtype=np.float64)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if among.low == among.high:
        return numbers - ends[0] + 0.5
    if among.log:
        numbers, ends = np.log(numbers), np.log(ends)
    return (numbers - ends[0]) / (ends[1] - ends[0])


def ticks(among: BaseDistribution) -> tuple[NDArray[np.float64], list[str]]:
    """The places that are marked on a range, and their texts."""
    if isinstance(among, CategoricalDistribution):
        marked: Sequence[Any] = among.choices
        return places(among, pd.Series(marked, dtype=object)), [str(choice) for choice in marked]
    assert isinstance(among, FloatDistribution | IntDistribution)
    low, high = among.low, among.high
    if low == high:
        marked = [low]
    elif among.log:
        decades = np.log10(high / low)
        steps = (1, 2, 5) if decades < 1.3 else (1, 3) if decades < 2.5 else (1,)
        marked = [step * 10.0**power for power in range(-12, 13) for step in steps]
    else:
        marked = list(MaxNLocator(4, integer=isinstance(among, IntDistribution)).tick_values(low, high))
    inside = [value for value in marked if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]
    inside = inside if len(inside) > 1 or low == high else [low, high]
    return places(among, pd.Series(inside)), [f"{value:g}" for value in inside]


def slices(reading: Reading) -> Figure:
    """A panel per parameter and objective: values over the parameter, late trials darker."""
    columns = min(4, len(reading.parameters))
    rows = -(-len(reading.parameters) // columns)
    high = rows * len(reading.directions)
    figure = _figure(reading, 1.4 + 2.5 * columns, 1 + 2.4 * high)
    grid = figure.subplots(high, columns, squeeze=False, sharey=False)
    dots = None
    for block, objective in enumerate(reading.directions):
        panels = grid[block * rows : (block + 1) * rows].ravel()
        for place, (panel, name) in enumerate(zip(panels, reading.parameters, strict=False)):
            dots = _slice(panel, reading, name, objective)
            panel.set_ylabel(label(objective) if place % columns == 0 else "")
            if place % columns:
                panel.set_yticklabels([])
        for panel in panels[len(reading.parameters) :]:
            panel.set_axis_off()
    assert dots
    bar = figure.colorbar(dots, ax=grid.ravel().tolist(), label="trial", aspect=40, pad=0.01)
    bar.locator = MaxNLocator(integer=True)
    _legend(figure, reading, SEQUENCE(0.6))
    return figure


def _slice(panel: Axes, reading: Reading, name: str, objective: str) -> Any:
    among, done = reading.parameters[name], reading.complete
    x, values = places(among, done[f"params.{name}"]), done[f"objective/{objective}"]
    numbers = reading.trials["number"]
    dots = panel.scatter(x, values, s=22, c=done["number"], cmap=SEQUENCE,
                         norm=Normalize(numbers.min(), max(numbers.max(), numbers.min() + 1)), zorder=2)  # fmt: skip
    _ring(panel, pd.DataFrame({"x": x, "y": values})[done["number"] == reading.best])
    _valueless(panel, reading, places(among, reading.trials[f"params.{name}"]))
    used = reading.trials[f"params.{name}"].notna().sum()
    part = f"\n(in {used} of {len(reading.trials)} trials)" if used < len(reading.trials) else ""
    panel.set_xlabel(f"{name}{part}")
    panel.set_xticks(*ticks(among), fontsize=8)
    panel.tick_params(axis="y", labelsize=8)
    panel.set_xlim(-0.08, 1.08)
    margin = 0.12 * (values.max() - values.min()) or 0.05 * abs(values.max()) or 1
    panel.set_ylim(values.min() - 1.5 * margin, values.max() + margin)
    sns.despine(ax=panel)
    return dots


def parallel(reading: Reading) -> Figure:
    """A vertical axis per parameter and objective, a line per trial, coloured by the first objective."""
    first, number = next(iter(reading.directions)), len(reading.parameters)
    axes: dict[str, BaseDistribution] = {f"params.{name}": among for name, among in reading.parameters.items()}
    axes |= {f"objective/{name}": _span(reading.complete[f"objective/{name}"]) for name in reading.directions}
    lines = np.stack([places(among, reading.trials[name]) for name, among in axes.items()], axis=1)  # [trials, axes]
    missing = np.isnan(lines[:, :number])
    lines[:, :number][missing] = UNUSED
    values = reading.trials[f"objective/{first}"].to_numpy()
    shades = ScalarMappable(Normalize(np.nanmin(values), np.nanmax(values)), SEQUENCE)
    if reading.directions[first] == "minimize":
        shades.set_cmap(SEQUENCE.reversed())

    figure = _figure(reading, 1.6 + 1.35 * len(axes), 4.8)
    panel = figure.subplots()
    for line, value, trial in zip(lines, values, reading.trials["number"], strict=True):
        if trial == reading.best:
            panel.plot(line, color=BEST, linewidth=2.6, zorder=3, label=f"best, trial {trial}")
        elif np.isnan(value):
            panel.plot(line, color="0.8", linewidth=0.8, zorder=1)
        else:
            panel.plot(line, color=shades.to_rgba(value), linewidth=1.1, zorder=2)
    names = [*reading.parameters, *(re.sub(r" ([(\[])", r"\n\1", label(name)) for name in reading.directions)]
    for place, (among, name) in enumerate(zip(axes.values(), names, strict=True)):
        _axis(panel, place, among, name, conditional=place < number and bool(missing[:, place].any()))
    panel.set(xlim=(-0.35, len(axes) - 0.75), ylim=(UNUSED - 0.06 if missing.any() else -0.05, 1.05))
    panel.set_axis_off()
    figure.colorbar(shades, ax=panel, label=label(first), aspect=30, pad=0.01)
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def _span(values: pd.Series) -> FloatDistribution:
    return FloatDistribution(float(values.min()), float(values.max()))


def _axis(panel: Axes, place: int, among: BaseDistribution, name: str, conditional: bool) -> None:
    """A vertical axis with its marks to the left, where lines are faint behind the text."""
    panel.plot([place, place], [0, 1], color="0.2", linewidth=1, zorder=4)
    marks = list(zip(*ticks(among), strict=True)) + ([(UNUSED, "unused")] if conditional else [])
    for height, text in marks:
        panel.plot([place - 0.03, place], [height, height], color="0.2", linewidth=1, zorder=4)
        panel.text(place - 0.06, height, text, ha="right", va="center", fontsize=8, zorder=5,
                   bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1})  # fmt: skip
    panel.text(place, 1.07, name, ha="center", va="bottom", fontsize=9)


# --- Over the time -----------------------------------------------------------------------------------------


def timeline(reading: Reading) -> Figure:
    """A bar per attempt, those side by side that were carried out at once; times without any are cut out."""
    begun = reading.attempts[reading.attempts["start"].notna()].sort_values("start")
    starts, ends, pauses = _busy(begun)
    lanes = _lanes(starts, ends)
    number = max(lanes) + 1
    total = max(ends.max(), 1e-3)
    unit, size = ("s", 1) if total < 180 else ("min", 60) if total < 10_800 else ("h", 3600)
    figure = _figure(reading, 9, min(1.9 + 0.38 * number, 14))
    panel = figure.subplots()
    for start, end, row, attempt in zip(starts, ends, lanes, begun.to_dict("records"), strict=True):
        width = max(end - start, 0.004 * total)  # that the shortest can be seen
        panel.barh(row, width / size, left=start / size, height=0.7, color=COLOURS[attempt["state"]],
                   edgecolor="white", linewidth=0.5)  # fmt: skip
        if (end - start) / total > 0.011 * len(str(attempt["number"])):
            panel.text((start + end) / 2 / size, row, str(attempt["number"]), ha="center", va="center", fontsize=7,
                       color="white")  # fmt: skip
    told_at = -total
    for at, length in pauses:
        panel.axvline(at / size, color="0.5", linewidth=1, linestyle=(0, (3, 3)))
        if at - told_at < 0.15 * total:
            continue  # its text would cover the one before
        told_at = at
        panel.annotate(f"pause of {_told(length)}", (at / size, 1), (0, 3), xycoords=("data", "axes fraction"),
                       textcoords="offset points", ha="center", fontsize=8, color="0.35")  # fmt: skip
    panel.set_yticks([])
    left_out = ", pauses left out" if pauses else ""
    panel.set(xlabel=f"time since the first trial began [{unit}]{left_out}", xlim=(0, 1.01 * total / size))
    panel.set_ylim(number - 0.4, -0.6)
    sns.despine(ax=panel, left=True)
    shown = [name for name in COLOURS if (begun["state"] == name).any()]
    handles = [Patch(color=COLOURS[name], label=name) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _lanes(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> list[int]:
    """A lane for each attempt, the first that is free when it starts."""
    free_at: list[float] = []
    lanes = []
    for start, end in zip(starts, ends, strict=True):
        lane = next((lane for lane, free in enumerate(free_at) if free <= start), len(free_at))
        free_at[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def _busy(begun: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[float, float]]]:
    """Starts and ends of attempts (by start) in seconds, float [n] each, without pauses; these: where, and how long.

    A pause is a time without any attempt that is longer than a fifth of the time with.
    """
    zero = begun["start"].iloc[0]
    starts, ends = ((begun[name] - zero).dt.total_seconds().to_numpy() for name in ("start", "end"))
    busy_until = np.maximum.accumulate(ends)
    idle = np.append(0, np.maximum(starts[1:] - busy_until[:-1], 0))  # before each attempt
    idle[idle < 0.2 * (busy_until[-1] - idle.sum())] = 0
    cut = np.cumsum(idle)
    where = [(float(starts[at] - cut[at]), float(idle[at])) for at in np.flatnonzero(idle)]
    return starts - cut, ends - cut, where


def _told(seconds: float) -> str:
    """A length of time such as 14 h, in a whole number of the largest unit that gives two or more."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
