"""Logged runs as plain typed tables: the only reading of runs in the analyses."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.lazily import NDArray, np, pd
from harness import outputs, tracking
from harness.errors import InputError

BASELINE = "none"
WEIGHTED = "class-weights"
"""What a long tail's table calls `none` with class weights in its loss."""
CONTROLS = (
    WEIGHTED, "duplicate", "duplicate-levelled", "affine", "affine-filtered", "affine-targeted", "affine-levelled",
    "noise", "noise-levelled",
)  # fmt: skip
"""The arms, in the order of the tables, whose images no generator made, whichever of them were then chosen."""
FILTERED = "-filtered"
"""How the name of an arm ends that has only the samples that a classifier agrees with."""
SELECTED = (FILTERED, "-targeted", "-levelled")
"""How the names of the arms end of whose samples some were chosen."""
FIRST_NUMERICS = "1"
"""The version of the numerics of runs that name none."""
NO_ARM = "no cell of an arm beside none: run experiments/compare.py with --methods or --controls"

KEY = ["n_real", "method", "variant", "setting", "seed"]
"""What tells a cell from the others."""
TAGS = ("method", "dataset", "n_real", "seed", "judge")
METRICS = {
    "accuracy": "test/accuracy",
    "precision": "test/precision",
    "recall": "test/recall",
    "f1": "test/f1",
    "conditional_accuracy": "samples/conditional_accuracy",
    "cas": "test/cas",
    "validation_cas": "validation/cas",
    "generator_training_s": "cost/generator_training_device_seconds",
    "generator_sampling_s": "cost/generator_sampling_device_seconds",
    "classifier_training_s": "cost/training_device_seconds",
}
TEST, VALIDATION = "test", "validation"
"""The splits that scores may be of, in the column `split`."""
RIGHT = "right.npz"
"""Which test images a cell got right: an artifact of its run, and the file of all runs beside one of rows."""
PLACE = "right_in"
"""The column that says where that is: a file, or a store (by its URI, "" where none was given). No file has it."""
NUM_SYNTHETIC = "params.num_synthetic"
SCORES = ("accuracy", "precision", "recall", "f1", "cas")
"""Which of them are on validation images where a comparison has no test images, as one by cross-validation."""
OPTIONAL_COLUMNS = {
    "variant": "tags.variant",
    "setting": "tags.setting",
    "samples_run": "tags.samples_run",
    "data_digest": "tags.data_digest",
    "classes": "params.classes",
    "commit": "tags.mlflow.source.git.commit",
    "host": "tags.host",
    "device": "params.device_name",
    "mixed_precision": "params.precision",
    "numerics": "tags.numerics",
    "generator_commit": "tags.generator_commit",
    "initialisations": "params.initialisations",
    "recall_rare": "metrics.test/recall_rare",
    "kept": "metrics.samples/kept",
    "filter_s": "metrics.cost/filter_device_seconds",
}
"""What a cell may have besides, by column."""
GROUPS = {
    "metrics.test/quality/": "quality_",
    "metrics.test/floor/": "floor_",
    "metrics.test/recall_class_": "recall_class_",
    "metrics.test/accuracy_initialisation_": "accuracy_initialisation_",
    "metrics.samples/conditional_accuracy_class_": "conditional_accuracy_class_",
}
"""Metrics of which there are several, by the beginning of their columns."""
TEXTS = ["split", "run_id", "method", "dataset", "judge", "variant", "setting", "samples_run", "data_digest", "classes",
         "commit", "host", "device", "numerics", "generator_commit", "mixed_precision"]  # fmt: skip
NUMBERS = {"n_real": "int64", "seed": "int64", "num_synthetic": "Int64", "initialisations": "Int64"} | dict.fromkeys(
    [*METRICS, "recall_rare", "kept", "filter_s"], "float64"
)


@dataclass(frozen=True)
class Source:
    """Where an analysis reads its cells: as flags, the same for all of them."""

    comparison: tuple[str, ...] = ()
    """run ids or unique run names of comparisons, taken as one, such as one for each n_real; by default the newest"""
    rows: Path | None = None
    """a CSV file of cells that is read in place of a store"""
    tracking_uri: str | None = None
    """the MLflow store or server; as everywhere in the harness if not given"""

    def cells(self) -> pd.DataFrame:
        """The cells, as `finished_cells` gives them. Raises InputError where both a file and comparisons are given."""
        if self.rows and self.comparison:
            raise InputError("--rows and --comparison exclude each other: give one of them")
        return read_rows(self.rows) if self.rows else all_cells(self.comparison, self.tracking_uri)


def comparison_id(comparison: str | None = None, tracking_uri: str | None = None) -> str:
    """The run id of a comparison given by that, its folder's here, or its unique run name; None is the newest one.

    Raises InputError where the store has no such comparison, or several of that name.
    """
    found = tracking.read_runs("tags.kind = 'comparison'", tracking_uri=tracking_uri, columns=[])
    if found.empty:
        store = tracking.without_password(tracking_uri or tracking.default_uri())
        raise InputError(f"no comparison in {store}: run experiments/compare.py, or give its --tracking-uri")
    found = found.sort_values("start_time", ascending=False)
    if comparison is None:
        return found["run_id"].iloc[0]
    known = tracking.in_the_store(comparison)
    if (found["run_id"] == known).any():
        return known
    named = found[found["name"] == comparison]
    if named.empty:
        newest = ", ".join(found["name"].head(5))
        raise InputError(f"no comparison has the id or the name {comparison!r}; the newest are {newest}")
    if len(named) > 1:
        raise InputError(f"{len(named)} comparisons have the name {comparison!r}; give one of their ids "
                         f"{', '.join(named['run_id'])}")  # fmt: skip
    return named["run_id"].iloc[0]


def comparison_cells(comparison: str | None = None, tracking_uri: str | None = None) -> pd.DataFrame:
    """The finished classifier cells of a comparison, as `finished_cells` gives them.

    comparison: the parent's run id or unique run name; None is the newest one.
    """
    parent = comparison_id(comparison, tracking_uri)
    cells = f"tags.mlflow.parentRunId = '{parent}' and tags.kind = 'classifier'"
    children = tracking.read_runs(cells, tracking_uri=tracking_uri)
    if children.empty:
        raise InputError(f"comparison {parent} has no classifier cell yet; let experiments/compare.py run on")
    return finished_cells(children).assign(**{PLACE: tracking_uri or ""})


def all_cells(comparisons: Sequence[str], tracking_uri: str | None = None) -> pd.DataFrame:
    """The cells of several comparisons (by default the newest) as those of one, such as one for each n_real."""
    parts = [comparison_cells(name, tracking_uri) for name in comparisons or [None]]
    return checked(pd.concat(parts, ignore_index=True).drop_duplicates("run_id", ignore_index=True))


def read_rows(path: Path) -> pd.DataFrame:
    """Cells from a CSV file that `add_rows` wrote. Raises InputError for a file that is none."""
    try:
        cells = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str) | NUMBERS)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path} cannot be read as rows of cells: {str(error).splitlines()[0]}") from error
    lacking = [name for name in ("run_id", *TAGS, "accuracy", "variant", "num_synthetic") if name not in cells]
    if lacking:
        raise InputError(f"{path} has no column {lacking[0]}: give a file that analysis.report --rows wrote")
    if cells.empty:
        raise InputError(f"{path} has no row: give a file that analysis.report --rows wrote")
    cells = cells.reindex(columns=list(dict.fromkeys([*cells, *METRICS, *OPTIONAL_COLUMNS])))
    texts = {name: cells[name].astype(object).fillna("") for name in ("variant", "setting")}
    right = path.with_name(RIGHT)
    known = {"initialisations": cells["initialisations"].fillna(1).astype("int64")}
    return checked(cells.assign(**texts, **known, **({PLACE: str(right)} if right.exists() else {})))


def add_rows(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write cells to a CSV file beside those that are there already, one row per run; all of them, in order.

    What test images they got right is written to RIGHT in the same folder.
    """
    before = [read_rows(path)] if path.exists() else []
    every = pd.concat([*before, cells], ignore_index=True).drop_duplicates("run_id", keep="last")
    every = checked(every).sort_values(KEY, ignore_index=True)
    outputs.make_folder(path.parent, "--rows")
    if right := right_counts(every):
        beside = path.with_name(RIGHT)
        arrays: dict[str, Any] = (_in_file(beside) if beside.exists() else {}) | right  # those of other files of rows
        np.savez_compressed(beside, **arrays)
    every.drop(columns=PLACE, errors="ignore").to_csv(path, index=False, float_format="%.10g", lineterminator="\n")
    return read_rows(path)  # a report of them is the same later, from the file alone


def by_setting(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The settings of the classifiers, "" (as it is) first, each with its cells: a grid of its own, in which arms are
    paired with `none`."""
    return [(str(setting), own.reset_index(drop=True)) for setting, own in cells.groupby("setting")]


def right_counts(cells: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
    """How many of a cell's classifiers got each test image right, uint8 [test images], by run id.

    Of the cells that say; read when it is asked for. Raises InputError for counts that are none of the cell's.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    for place, own in cells.reindex(columns=["run_id", PLACE]).groupby(PLACE):
        place, run_ids = str(place), own["run_id"].tolist()
        if place.endswith(RIGHT):
            found |= _in_file(Path(place), run_ids)
        else:
            arrays = tracking.read_arrays(run_ids, RIGHT, place or None)
            found |= {run_id: own["right"] for run_id, own in arrays.items()}
    most = dict(zip(cells["run_id"], cells.get("initialisations", pd.Series(1, cells.index)), strict=True))
    for run_id, counts in found.items():
        if counts.dtype != np.uint8 or counts.ndim != 1 or counts.max(initial=0) > most[run_id]:
            raise InputError(f"cell {run_id}: {RIGHT} does not say how many of its {most[run_id]} classifiers got each "
                             "test image right; run it again, or delete it")  # fmt: skip
    return found


def _in_file(path: Path, run_ids: Sequence[str] | None = None) -> dict[str, NDArray[np.uint8]]:
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files if run_ids is None or name in set(run_ids)}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as the test images that each run got right: {error}") from error


def whole_arms(cells: pd.DataFrame) -> pd.DataFrame:
    """Without the cells of sweeps."""
    return cells[cells["variant"] == ""].reset_index(drop=True)


def class_names(cells: pd.DataFrame, labels: Sequence[int]) -> list[str]:
    """What the classes with these labels are called: by their names where the runs say them, else by their labels."""
    said = cells.get("classes", pd.Series(dtype=object)).dropna()
    names = str(said.iloc[0]).split(", ") if len(said) else []
    return [names[label] for label in labels] if len(names) > max(labels) else [str(label) for label in labels]


def generator_of(method: str) -> str:
    """The generator of an arm: of ddpm-moved-filtered ddpm."""
    return method.partition("-")[0]


def of_generators(cells: pd.DataFrame) -> pd.DataFrame:
    """Without the baseline and the controls."""
    return cells[~cells["method"].isin([BASELINE, *CONTROLS])]


def finished_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per finished cell, from the classifier runs of one comparison (`tracking.read_runs` with COLUMNS).

    Columns: run_id, method, dataset, judge (text); n_real, seed (int); accuracy, precision, recall, f1,
    conditional_accuracy, cas (0 … 1); generator_training_s, generator_sampling_s, classifier_training_s
    (device-seconds); num_synthetic (nullable int); variant (text, "" but for a sweep's cells), setting (text, "" for
    the classifier as it is) and the rest of OPTIONAL_COLUMNS; split (text), of which
    accuracy, precision, recall, f1 and cas are;
    quality_…, floor_…, recall_class_… and conditional_accuracy_class_… as they were logged. What an arm does not have
    is NaN.

    Raises InputError for no finished cell, for a cell that lacks what every cell has, for two cells of one
    KEY, and for cells of two data sets or two judges: their figures share no column.
    """
    finished = runs[runs["status"] == "FINISHED"].reset_index(drop=True)
    if finished.empty:
        states = ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts().items())
        raise InputError(f"no classifier cell of the comparison has finished ({states}); resume it first")
    absent = pd.Series(np.nan, finished.index)
    has_test = finished.get("metrics.test/accuracy", absent).notna().any()
    split = TEST if has_test or finished.get("metrics.validation/accuracy", absent).isna().all() else VALIDATION
    metrics = METRICS | {name: METRICS[name].replace(TEST, split) for name in SCORES}
    wanted = {tag: f"tags.{tag}" for tag in TAGS} | {name: f"metrics.{metric}" for name, metric in metrics.items()}
    grouped = {
        GROUPS[start] + column.removeprefix(start): column
        for start in GROUPS
        for column in map(str, finished)
        if column.startswith(start)
    }
    names = {"run_id": "run_id"} | wanted | OPTIONAL_COLUMNS | grouped
    cells = pd.DataFrame({name: finished.get(column, absent) for name, column in names.items()})
    for name in ("variant", "setting"):
        cells[name] = cells[name].astype(object).fillna("").astype(str)
    cells["split"] = split
    cells["num_synthetic"] = pd.to_numeric(finished[NUM_SYNTHETIC]).astype("Int64")
    cells["initialisations"] = pd.to_numeric(cells["initialisations"]).fillna(1).astype("int64")
    for name in (*TAGS, "accuracy"):
        require(cells[name].notna(), cells, f"has no {METRICS.get(name, name)}")
    for tag in ("n_real", "seed"):
        require(cells[tag].str.fullmatch(r"\d+"), cells, f"has a tag {tag} that is not a whole number")
        cells[tag] = cells[tag].astype("int64")
    return checked(cells)


def checked(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells themselves. Raises InputError where they cannot stand in one table."""
    kinds = {
        "dataset": ("data sets", ""), "judge": ("judges", ""), "numerics": ("versions of the numerics", FIRST_NUMERICS),
        "split": ("splits", TEST),
    }  # fmt: skip
    for tag, (kind, unsaid) in kinds.items():
        known = cells.get(tag, pd.Series(dtype=object)).astype(object)
        values = sorted(known.where(known.notna(), unsaid).astype(str).unique())
        if len(values) > 1:
            raise InputError(f"cells of {len(values)} {kind} in one comparison ({', '.join(values)}); "
                             "compare each on its own")  # fmt: skip
    twice = cells[cells.duplicated(KEY, keep=False)]
    if len(twice):
        first = twice.sort_values(KEY).iloc[0]
        arm = " ".join(filter(None, (first.method, first.variant, first.setting)))
        raise InputError(f"two finished cells for n_real {first.n_real}, {arm}, seed {first.seed}; "
                         f"delete the one that is not meant, such as run {first.run_id}")  # fmt: skip
    return cells


def require(holds: pd.Series, cells: pd.DataFrame, otherwise: str) -> None:
    """Raise InputError about the first cell for which something does not hold."""
    if not holds.all():
        run = cells.loc[~holds, "run_id"].iloc[0]
        raise InputError(f"finished cell {run} {otherwise}; run it again, or delete it")
