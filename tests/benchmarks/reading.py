"""How fast runs are read, beside `mlflow.search_runs`: from a database itself and from a server of it.

    python tests/benchmarks/reading.py

Makes a store of 10,000 finished runs in a temporary folder, each with 10 metrics, 20 params and 10 tags, and reads
it in turns. About ten minutes on two CPU cores, which should have nothing else to do. Prints a table.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
import paths  # noqa: F401
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from servers import TrackingServer
from sqlalchemy import create_engine, insert
from turns import beside, spread, table, take_turns

from harness import cli, outputs, tracking
from harness.bounds import Count

EXPERIMENT = "many"
METRICS, PARAMS, TAGS = 10, 20, 10  # of a run
COLUMNS = ["metrics.split/metric_0", "params.param_0", "tags.tag_0"]
BLOCK = 500  # runs in an insertion
TABLES = (SqlRun, SqlMetric, SqlLatestMetric, SqlParam, SqlTag)
START_MS, LENGTH_MS = 1_700_000_000_000, 60_000


def main(runs: Count = 10_000, repeats: Count = 3) -> None:
    """Make a store of so many runs, read it in turns, print a table."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "600"  # mlflow.search_runs asks for 10,000 runs at once
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        database = f"sqlite:///{folder}/mlflow.db"
        fill(database, many(runs))
        server = TrackingServer(Path(folder), database)
        rows = compare("sqlite", database, runs, repeats)
        server.start()
        try:
            rows += compare("server", server.uri, runs, repeats)
        finally:
            server.kill()
    print(f"{table(rows)}\n\nSeconds, beside those of mlflow.search_runs: median [least, most] of the turns.")


def compare(store: str, uri: str, runs: int, repeats: int) -> list[dict[str, str]]:
    """Rows of the table, one for each of our ways to read."""
    mlflow.set_tracking_uri(uri)

    def seconds(reading: Callable[[], Sized]) -> float:
        began = time.perf_counter()
        found, took = len(reading()), time.perf_counter() - began
        assert found == runs, f"{found} of {runs} runs were found"
        return took

    def first() -> float:
        shutil.rmtree(outputs.OUTPUTS, ignore_errors=True)
        return seconds(read)

    read = partial(tracking.read_runs, experiments=[EXPERIMENT], tracking_uri=uri)
    ours = {
        "first": first,
        "later": partial(seconds, read),
        "later, 3 columns": partial(seconds, partial(read, columns=COLUMNS)),
    }
    other = partial(seconds, partial(mlflow.search_runs, experiment_names=[EXPERIMENT]))
    turns = take_turns({"other": other, **ours}, repeats)
    return [{"store": store, "reading": name, **beside(turns, name, "other").apply(spread)} for name in ours]


@dataclass(frozen=True)
class Logged:
    """What a finished run has said."""

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    artifacts: str = "file:///nowhere"


def fill(database: str, runs: Iterable[Logged]) -> None:
    """A new store with these runs in one experiment, put into its tables: through MLflow it takes hours."""
    experiment = int(tracking.client(database).create_experiment(EXPERIMENT, "file:///nowhere"))
    engine = create_engine(database)
    for block in batched(enumerate(runs), BLOCK):
        rows: dict[Any, list[dict[str, Any]]] = {each: [] for each in TABLES}
        for number, run in block:
            row = finished(number, experiment, run.artifacts)
            own, moment = {"run_uuid": row["run_uuid"]}, {"step": 0, "is_nan": False, "timestamp": row["start_time"]}
            rows[SqlRun].append(row)
            values = [{**own, **moment, "key": key, "value": value} for key, value in run.metrics.items()]
            rows[SqlMetric] += values
            rows[SqlLatestMetric] += values
            rows[SqlParam] += [{**own, "key": key, "value": value} for key, value in run.params.items()]
            rows[SqlTag] += [{**own, "key": key, "value": value} for key, value in run.tags.items()]
        with engine.begin() as connection:
            for each, values in rows.items():
                connection.execute(insert(each), values)
    engine.dispose()


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


def finished(number: int, experiment: int, artifacts: str) -> dict[str, Any]:
    start = START_MS + number * LENGTH_MS
    return {
        "run_uuid": run_id(number), "name": f"run {number}", "source_type": "LOCAL", "source_name": "",
        "entry_point_name": "", "user_id": "", "source_version": "", "status": "FINISHED", "start_time": start,
        "end_time": start + LENGTH_MS, "lifecycle_stage": "active", "artifact_uri": artifacts,
        "experiment_id": experiment,
    }  # fmt: skip


def run_id(number: int) -> str:
    return f"{number:032x}"


def many(runs: int) -> Iterator[Logged]:
    """Runs with METRICS, PARAMS and TAGS."""
    for number in range(runs):
        yield Logged(
            {f"split/metric_{i}": number / (i + 1) for i in range(METRICS)},
            {f"param_{i}": f"value {i} of {number}" for i in range(PARAMS)},
            {f"tag_{i}": f"value {i} of {number}" for i in range(TAGS)},
        )


if __name__ == "__main__":
    cli.main(main)
