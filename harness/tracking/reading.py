"""The read side: runs and the histories of their metrics as tidy frames."""

import math
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from harness.errors import InputError
from harness.tracking import cache, local
from harness.tracking.addresses import default_uri, without_password
from harness.tracking.searching import Row, Search, experiments_of, number, row
from harness.tracking.stores import UNKNOWN, answering, reading_client

INFO = ["run_id", "experiment", "status", "name", "start_time", "end_time", "parent_run_id"]
KINDS = ("metrics.", "params.", "tags.")
HISTORY = ["run_id", "key", "step", "time", "value"]
REQUESTS = 4  # at a time


def read_runs(
    filter_string: str = "",
    experiments: Sequence[str] | None = None,
    tracking_uri: str | None = None,
    columns: Sequence[str] | None = None,
    refresh: bool = False,
) -> pd.DataFrame:
    """Runs as a tidy frame, a row each, all pages; newest first.

    Columns: run_id, experiment, status, name, start_time, end_time (UTC), parent_run_id, then `metrics.NAME` (last
    value), `params.NAME` and `tags.NAME` in the order of the alphabet; with `columns` only those of the latter, in
    that order, NaN where no run has one. `experiments` are names, all by default; the store evaluates the filter.

    An answer of 500 runs and more is kept under outputs/cache, and the next one reads only the runs that have
    changed: new, unfinished, ended, resumed, deleted or restored ones, and those whose records arrived late. What
    others than the harness change in a finished run afterwards (a tag set in the UI, a new name) is seen with
    `refresh`, which reads everything. Clocks of writers and readers may differ by ten minutes.

    Raises InputError for a store that is away or refuses the filter, and for a column that cannot be one.
    """
    for name in columns or ():
        if name not in INFO and not name.startswith(KINDS):
            raise InputError(f"no column {name!r}: they are {', '.join(INFO)}, metrics.NAME, params.NAME and tags.NAME")
    with answering(tracking_uri):
        search = _search(filter_string, experiments, tracking_uri)
        return _frame(cache.rows(search, refresh).values(), search.experiments, columns)


def read_histories(
    run_ids: Sequence[str], keys: Sequence[str] | None = None, tracking_uri: str | None = None
) -> pd.DataFrame:
    """All values that runs have logged of metrics, in long form, by run and key as given, then step and time.

    A run is named by its id, or that of its folder here.

    Columns: run_id, key, step, time (UTC), value. All keys by default; a run that has no such key has no rows.
    Raises InputError for an id that the store does not have, and for a store that is away.
    """
    with answering(tracking_uri):
        search = _search("", None, tracking_uri)
        ids = {run_id: local.in_the_store(run_id) for run_id in run_ids}
        known = search.rows_of(ids.values())
        unknown = [run_id for run_id in ids if ids[run_id] not in known]
        if unknown:
            raise InputError(_no_run(unknown[0], tracking_uri))
        pairs = [(run_id, key) for run_id in ids for key in _keys(known[ids[run_id]], keys)]
        with ThreadPoolExecutor(REQUESTS) as pool:
            asked = pool.map(lambda pair: search.store.get_metric_history(ids[pair[0]], pair[1]), pairs)
            histories = list(asked)
    values = [
        (run_id, key, metric.step, metric.timestamp, number(metric.value))
        for (run_id, key), history in zip(pairs, histories, strict=True)
        for metric in sorted(history, key=_moment)
    ]
    frame = pd.DataFrame(values, columns=HISTORY)
    return frame.assign(time=pd.to_datetime(frame["time"].astype("int64"), unit="ms"))


def _keys(run: Row, keys: Sequence[str] | None) -> list[str]:
    own = sorted(name.removeprefix("metrics.") for name in run if name.startswith("metrics."))
    return own if keys is None else [key for key in keys if key in own]


def _moment(metric: Metric) -> tuple[int, int]:
    return metric.step, metric.timestamp


def _frame(rows: Collection[Row], experiments: dict[str, str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    if columns is None:
        names = {name for run in rows for name in run}
        columns = sorted(name for name in names if name.startswith(KINDS))
    frame = pd.DataFrame({name: [run.get(name, math.nan) for run in rows] for name in dict.fromkeys([*INFO, *columns])})
    times = {name: _times(frame[name]) for name in ("start_time", "end_time")}
    return frame.assign(experiment=frame["experiment"].map(experiments), **times)


def _times(ms: pd.Series) -> pd.Series:
    return pd.to_datetime(ms.astype("Int64"), unit="ms")


def read_arrays(
    run_ids: Sequence[str], path: str, tracking_uri: str | None = None
) -> dict[str, dict[str, NDArray[Any]]]:
    """The arrays in an `.npz` artifact of runs, by run id and name; without the runs that have no such artifact.

    Raises InputError for a file that holds none, for an id that the store does not have, and for a store that is away.
    """
    with answering(tracking_uri):
        store = reading_client(tracking_uri)

    def read(run_id: str) -> dict[str, NDArray[Any]] | None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = store.download_artifacts(local.in_the_store(run_id), path, folder)
            except (MlflowException, OSError):
                get_run(run_id, tracking_uri)  # it may be the run that is missing, or the store
                return None
            try:
                with np.load(found) as arrays:
                    return dict(arrays)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise InputError(f"artifact {path} of run {run_id} holds no arrays: {error}") from error

    with ThreadPoolExecutor(REQUESTS) as pool:
        arrays = zip(run_ids, pool.map(read, run_ids), strict=True)
        return {run_id: own for run_id, own in arrays if own is not None}


def get_run(run_id: str, tracking_uri: str | None = None) -> dict[str, Any]:
    """One run as a row of `read_runs`, by its id or that of its folder here.

    Raises InputError for an id that the store does not have.
    """
    with answering(tracking_uri):
        store = reading_client(tracking_uri)
        try:
            run = store.get_run(local.in_the_store(run_id))
        except MlflowException as error:
            if error.get_http_status_code() not in UNKNOWN:
                raise
            raise InputError(_no_run(run_id, tracking_uri)) from error
        experiment = store.get_experiment(run.info.experiment_id)
    frame = _frame([row(run)], {experiment.experiment_id: experiment.name})
    return {name: frame[name].iloc[0] for name in map(str, frame)}


def _search(filter_string: str, experiments: Sequence[str] | None, tracking_uri: str | None) -> Search:
    store = reading_client(tracking_uri)
    known = experiments_of(store)
    return Search(store, {key: name for key, name in known.items() if _is_among(name, experiments)}, filter_string)


def _is_among(name: str, experiments: Sequence[str] | None) -> bool:
    """`generators` is everybody's, on a server with users each one's own."""
    return experiments is None or name in experiments or name.rpartition("/")[2] in experiments


def _no_run(run_id: str, tracking_uri: str | None) -> str:
    return f"no run {run_id!r} in {without_password(tracking_uri or default_uri())}; the UI's run page shows a run's id"
