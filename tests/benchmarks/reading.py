"""How fast runs are read, beside `mlflow.search_runs`: from a database itself and from a server of it.

    python tests/benchmarks/reading.py

Makes a store of 10,000 finished runs in a temporary folder, each with 10 metrics, 20 params and 10 tags, and reads
it in turns. About ten minutes on two CPU cores, which should have nothing else to do. Prints a table.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import mlflow
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from sqlalchemy import create_engine, insert

from harness import cli, outputs, tracking
from harness.errors import InputError

EXPERIMENT = "many"
METRICS, PARAMS, TAGS = 10, 20, 10  # of a run
COLUMNS = ["metrics.split/metric_0", "params.param_0", "tags.tag_0"]
BLOCK = 500  # runs in an insertion
TABLES = (SqlRun, SqlMetric, SqlLatestMetric, SqlParam, SqlTag)
START_MS, LENGTH_MS = 1_700_000_000_000, 60_000
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often."""

    runs: int = 10_000
    """runs in the store"""
    repeats: int = 3
    """turns"""


def main(plan: Plan = Plan()) -> None:
    """Make the store, read it in turns, print a table."""
    if plan.runs < 1 or plan.repeats < 1:
        raise InputError("--runs and --repeats must be above 0")
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "600"  # mlflow.search_runs asks for 10,000 runs at once
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        database = f"sqlite:///{folder}/mlflow.db"
        fill(database, many(plan.runs))
        print("| store | reading | s | ratio to mlflow.search_runs |", "|---|---|---|---|", sep="\n", flush=True)
        compare("sqlite", database, plan)
        with served(database) as uri:
            compare("server", uri, plan)


def compare(store: str, uri: str, plan: Plan) -> None:
    """Rows of the table: medians [min, max] of the turns; the ratios are taken turn by turn."""
    read = partial(tracking.read_runs, experiments=[EXPERIMENT], tracking_uri=uri)
    readings: dict[str, Callable[[], Any]] = {
        "mlflow.search_runs": partial(mlflow.search_runs, experiment_names=[EXPERIMENT]),
        "first": read,
        "later": read,
        "later, 3 columns": partial(read, columns=COLUMNS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in readings}
    for _ in range(plan.repeats):
        mlflow.set_tracking_uri(uri)
        shutil.rmtree(outputs.OUTPUTS, ignore_errors=True)
        for name, reading in readings.items():
            began = time.perf_counter()
            found = len(reading())
            seconds[name].append(time.perf_counter() - began)
            assert found == plan.runs, f"{name} found {found} of {plan.runs} runs"
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds["mlflow.search_runs"], strict=True)]
        print(f"| {store} | {name} | {spread(values)} | {spread(ratios)} |", flush=True)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


@dataclass(frozen=True)
class Logged:
    """What a finished run has said."""

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


def fill(database: str, runs: Iterable[Logged]) -> None:
    """A new store with these runs in one experiment, put into its tables: through MLflow it takes hours."""
    experiment = int(tracking.client(database).create_experiment(EXPERIMENT, "file:///nowhere"))
    engine = create_engine(database)
    for block in batched(enumerate(runs), BLOCK):
        rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in TABLES}
        for number, run in block:
            row = finished(number, experiment)
            own, moment = {"run_uuid": row["run_uuid"]}, {"step": 0, "is_nan": False, "timestamp": row["start_time"]}
            rows[SqlRun].append(row)
            values = [{**own, **moment, "key": key, "value": value} for key, value in run.metrics.items()]
            rows[SqlMetric] += values
            rows[SqlLatestMetric] += values
            rows[SqlParam] += [{**own, "key": key, "value": value} for key, value in run.params.items()]
            rows[SqlTag] += [{**own, "key": key, "value": value} for key, value in run.tags.items()]
        with engine.begin() as connection:
            for table, values in rows.items():
                connection.execute(insert(table), values)
    engine.dispose()


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


def finished(number: int, experiment: int) -> dict[str, Any]:
    start = START_MS + number * LENGTH_MS
    return {
        "run_uuid": run_id(number), "name": f"run {number}", "source_type": "LOCAL", "source_name": "",
        "entry_point_name": "", "user_id": "", "source_version": "", "status": "FINISHED", "start_time": start,
        "end_time": start + LENGTH_MS, "lifecycle_stage": "active", "artifact_uri": "file:///nowhere",
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


@contextlib.contextmanager
def served(database: str) -> Iterator[str]:
    """The address of an MLflow server of a database, on loopback, ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open("server.log", "wb") as log:
        server = subprocess.Popen([*command, "--backend-store-uri", database], stdout=log, stderr=log)
    try:
        uri, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
        while not answers(uri):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start: {Path('server.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield uri
    finally:
        server.terminate()
        server.wait()


def answers(uri: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
        return answer.status == 200
    return False


if __name__ == "__main__":
    cli.main(main)
