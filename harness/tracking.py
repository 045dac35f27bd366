"""Runs in MLflow: the write side (`Run`) and the read side (`read_runs`).

Metrics go to the run's journal, from which a background thread sends them in batches: training never waits for
the store, and a run that goes on after a kill sends what is missing and repeats nothing.
This module does not import torch, so that a table can be read without it.
"""

import contextlib
import logging
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness import journal, provenance, signals
from harness.errors import InputError
from harness.journal import Journal
from harness.signals import Killed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTPUTS = Path("outputs")
FLUSH_INTERVAL_S = 2.0
BATCH = 1000  # metrics per request, MLflow's limit
JOURNAL = "journal"
SETTINGS = Path(__file__).parent.parent / "mlflow.env"


def _read_settings() -> None:
    """`mlflow.env` into the environment, which it never overrides; MLflow reads its settings at import."""
    if SETTINGS.is_file():
        for line in SETTINGS.read_text().splitlines():
            name, separator, value = line.partition("=")
            if separator and not name.lstrip().startswith("#"):
                os.environ.setdefault(name.strip(), value.strip())


_read_settings()

import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID  # noqa: E402

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def default_uri() -> str:
    """The store that is used when no flag names one: MLFLOW_TRACKING_URI, else sqlite under `outputs/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{OUTPUTS}/mlflow.db"


def client(tracking_uri: str | None = None) -> MlflowClient:
    """A client of a store, which is made where it does not exist (sqlite)."""
    uri = tracking_uri or default_uri()
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)  # models and datasets are logged through the fluent interface
    return MlflowClient(uri)


# --- Writing ---------------------------------------------------------------------------------------------


class Run:
    """One run of the store. With `store` None every call does nothing: what other processes hold."""

    def __init__(self, store: MlflowClient | None, run_id: str = "") -> None:
        self.store, self.id = store, run_id
        self.folder = OUTPUTS / "runs" / run_id
        self._journal: Journal | None = None
        self._said: dict[str, int] = {}  # the last step of each metric before this process
        self._ended = threading.Event()
        self._sender = threading.Thread(target=self._send_regularly, daemon=True)
        if store and (self.folder / JOURNAL).exists():
            self._open()

    def metrics(self, values: Mapping[str, float], step: int = 0, timestamp_ms: int | None = None) -> None:
        """Numbers of one step; returns at once, they are sent later.

        What the run said of a step before it was killed stands: done again, the step gives the same.
        """
        if not self.store:
            return
        opened = self._journal or self._open()
        new = {key: float(value) for key, value in values.items() if step > self._said.get(key, -1)}
        if new:
            opened.append(metrics=new, step=step, time=timestamp_ms or time.time_ns() // 1_000_000)

    def _open(self) -> Journal:
        """Open the journal, go on where it ended, and start to send."""
        path = self.folder / JOURNAL
        self._journal = Journal(path)
        for record, _ in journal.read(path):
            self._said |= dict.fromkeys(record.get("metrics", [record.get("image")]), record["step"])
        self._sender.start()
        return self._journal

    def sync(self) -> int:
        """Return when the disk has all that was said: the journal's length in bytes."""
        if not self._journal:
            return 0
        self._journal.sync()
        return self._journal.position

    def params(self, values: Mapping[str, Any]) -> None:
        if self.store:
            params = [Param(key, str(value)) for key, value in values.items()]
            for start in range(0, len(params), 100):
                self.store.log_batch(self.id, params=params[start : start + 100])

    def tags(self, values: Mapping[str, Any]) -> None:
        if self.store:
            self.store.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    def image(self, key: str, picture: np.ndarray, step: int) -> None:
        """A stepped image (uint8 [H, W] or [H, W, 3]): the UI shows them with a slider."""
        if not self.store:
            return
        opened = self._journal or self._open()
        if step > self._said.get(key, -1):
            self.store.log_image(self.id, picture, key=key, step=step)
            opened.append(image=key, step=step)

    def picture(self, picture: "np.ndarray | Figure", path: str) -> None:
        """One image artifact: an array as for `image`, or a figure."""
        if self.store and isinstance(picture, np.ndarray):
            self.store.log_image(self.id, picture, artifact_file=path)
        elif self.store:
            self.store.log_figure(self.id, picture, path)

    def file(self, path: Path, folder: str | None = None) -> None:
        if self.store:
            self.store.log_artifact(self.id, str(path), folder)

    def text(self, text: str, path: str) -> None:
        if self.store:
            self.store.log_text(self.id, text, path)

    def data(self, name: str, digest: str, source: str, context: str) -> None:
        """An MLflow dataset input: what this run has read."""
        if self.store:
            dataset = Dataset(name, digest[:32], "local", f'{{"uri": "{source}"}}')
            self.store.log_inputs(self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def end(self, status: str) -> None:
        """Send what is pending and close the run as FINISHED, FAILED or KILLED."""
        if self.store:
            if self._journal:
                self._ended.set()
                self._sender.join()
                self._send()
                self._journal.close()
            self.store.set_terminated(self.id, status)

    def fail(self, error: BaseException, reason: str) -> None:
        """Close the run as KILLED where it was stopped, else as FAILED with the traceback, and say why."""
        stopped = isinstance(error, KeyboardInterrupt | Killed) and signals.STOPPED in reason
        self.tags({"reason": reason[:5000]})
        if not stopped:
            self.text("".join(traceback.format_exception(error)), "traceback.txt")
        self.end("KILLED" if stopped else "FAILED")

    def _send_regularly(self) -> None:
        while not self._ended.wait(FLUSH_INTERVAL_S):
            with contextlib.suppress(MlflowException):  # what could not be sent stays in the journal
                self._send()

    def _send(self) -> None:
        """Send the journal from where it was sent last; the store ignores a row that it has."""
        assert self.store
        sent = self.folder / "sent"
        position = int(sent.read_text() or 0) if sent.exists() else 0
        batch: list[Metric] = []
        for record, after in journal.read(self.folder / JOURNAL, position):
            metrics = record.get("metrics", {})
            if len(batch) + len(metrics) > BATCH:
                self._send_batch(batch, sent, position)
                batch = []
            batch += [Metric(key, value, record["time"], record["step"]) for key, value in metrics.items()]
            position = after
        if batch:
            self._send_batch(batch, sent, position)

    def _send_batch(self, batch: list[Metric], sent: Path, position: int) -> None:
        assert self.store
        self.store.log_batch(self.id, metrics=batch)
        aside = sent.with_suffix(".new")
        aside.write_text(str(position))
        aside.replace(sent)


@contextlib.contextmanager
def run(
    experiment: str,
    name: str,
    *,
    tags: Mapping[str, Any],
    params: Mapping[str, Any],
    parent: str | None = None,
    tracking_uri: str | None = None,
    active: bool = True,
    resume: str | None = None,
    why: Callable[[BaseException], str] = signals.reason,
) -> Iterator[Run]:
    """A run that carries where it comes from, and that is closed however the block ends.

    FINISHED, or FAILED with the traceback as an artifact and its last line as the tag `reason`, or KILLED on
    SIGTERM, SIGUSR1 and Ctrl-C. `active` is False on all processes but the main one; `resume` is the id of a run
    to go on with; `why` gives the reason for an exception, which may lie in another process.
    """
    if not active:
        yield Run(None)
        return
    store = client(tracking_uri)
    if resume:
        store.update_run(resume, status="RUNNING")
        current = Run(store, resume)
    else:
        known = store.get_experiment_by_name(experiment)
        experiment_id = known.experiment_id if known else _create_experiment(store, experiment)
        parent_tag = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        created = store.create_run(
            experiment_id, tags={**parent_tag, **{k: str(v) for k, v in tags.items()}}, run_name=name
        )
        current = Run(store, created.info.run_id)
        current.params(params)
        _log_provenance(current)
    with signals.raised():
        try:
            yield current
        except BaseException as error:
            with signals.ignored():
                current.fail(error, why(error))
            raise
    current.end("FINISHED")


def _create_experiment(store: MlflowClient, name: str) -> str:
    uri = store.tracking_uri
    # A server chooses the place of artifacts; for a bare database it stands beside the database.
    database = Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None
    place = (database.parent / "artifacts" / name).as_uri() if database else None
    try:
        return store.create_experiment(name, place)
    except MlflowException:  # another process was first
        known = store.get_experiment_by_name(name)
        if known is None:
            raise
        return known.experiment_id


def _log_provenance(run: Run) -> None:
    run.tags(provenance.tags())
    if provenance.diff():
        run.text(provenance.diff(), "provenance/uncommitted.diff")
    run.text(provenance.packages(), "provenance/packages.txt")


def log_files(run_id: str, paths: Sequence[Path], folder: str, tracking_uri: str | None = None) -> None:
    """Add files to a run, finished or not, under the artifact folder `folder`."""
    store = client(tracking_uri)
    for path in paths:
        store.log_artifact(run_id, str(path), folder)


# --- Reading ---------------------------------------------------------------------------------------------


def _exists(uri: str) -> bool:
    """False for a sqlite store that has not been made yet; a server is asked when it is used."""
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


def _reading_client(tracking_uri: str | None) -> MlflowClient:
    """A client that makes no store: a mistyped path is an InputError."""
    uri = tracking_uri or default_uri()
    if not _exists(uri):
        raise InputError(f"there is no MLflow store at {uri}; run an experiment first or give --tracking-uri")
    return client(uri)


def read_runs(
    filter_string: str = "", experiments: Sequence[str] | None = None, tracking_uri: str | None = None
) -> pd.DataFrame:
    """Runs as a tidy frame, a row each, all pages; newest first.

    Columns: run_id, experiment, status, name, start_time, end_time, parent_run_id, then `metrics.NAME`
    (last value), `params.NAME` and `tags.NAME`. `experiments` are names, all by default.
    """
    store = _reading_client(tracking_uri)
    known = {e.experiment_id: e.name for e in store.search_experiments()}
    ids = [key for key, name in known.items() if experiments is None or name in experiments]
    rows, token = [], None
    while ids:
        page = store.search_runs(ids, filter_string, max_results=1000, page_token=token)
        rows += [_row(run, known[run.info.experiment_id]) for run in page]
        token = page.token
        if not token:
            break
    return pd.DataFrame(rows)


def _row(run: Any, experiment: str) -> dict[str, Any]:
    return {
        "run_id": run.info.run_id,
        "experiment": experiment,
        "status": run.info.status,
        "name": run.info.run_name,
        "start_time": pd.Timestamp(run.info.start_time, unit="ms"),
        "end_time": pd.Timestamp(run.info.end_time, unit="ms") if run.info.end_time else pd.NaT,
        "parent_run_id": run.data.tags.get(MLFLOW_PARENT_RUN_ID),
        **{f"metrics.{key}": value for key, value in run.data.metrics.items()},
        **{f"params.{key}": value for key, value in run.data.params.items()},
        **{f"tags.{key}": value for key, value in run.data.tags.items()},
    }


def find_run(filter_string: str, tracking_uri: str | None = None) -> str | None:
    """The id of the newest run that a filter finds; None where there is none, or no store yet."""
    if not _exists(tracking_uri or default_uri()):
        return None
    found = read_runs(filter_string, tracking_uri=tracking_uri)
    return None if found.empty else str(found.run_id.iloc[0])


def find_finished(tag: str, value: str, tracking_uri: str | None = None, parent: str | None = None) -> str | None:
    """The id of a finished run with a tag, such as its `cell`, under one parent or anywhere."""
    condition = f"tags.{tag} = '{value}' and attributes.status = 'FINISHED'"
    if parent:
        condition += f" and tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
    return find_run(condition, tracking_uri)


def find_unfinished(cell: str, tracking_uri: str | None = None) -> str | None:
    """The id of the newest run of a cell that was cut off, has its journal here, and is alive in no process."""
    if not _exists(tracking_uri or default_uri()):
        return None
    found = read_runs(f"tags.cell = '{cell}' and attributes.status != 'FINISHED'", tracking_uri=tracking_uri)
    here = [] if found.empty else [str(run_id) for run_id in found.run_id if is_here(run_id)]
    return next((run_id for run_id in here if journal.is_free(OUTPUTS / "runs" / run_id / JOURNAL)), None)


def is_here(run_id: str) -> bool:
    """Whether a run was written from this folder: it has its journal and its checkpoints."""
    return (OUTPUTS / "runs" / run_id / JOURNAL).exists()


def get_run(run_id: str, tracking_uri: str | None = None) -> dict[str, Any]:
    """One run as a row of `read_runs`. Raises InputError for an id that the store does not have."""
    store = _reading_client(tracking_uri)
    try:
        run = store.get_run(run_id)
    except MlflowException as error:
        uri = tracking_uri or default_uri()
        raise InputError(f"no run {run_id!r} in {uri}; the UI's run page shows a run's id") from error
    experiment = store.get_experiment(run.info.experiment_id)
    return _row(run, experiment.name)


@contextlib.contextmanager
def fetched(run_id: str, path: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """A run's artifact, fetched for the length of the block. Raises InputError where the run has none."""
    store = _reading_client(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = store.download_artifacts(run_id, path, folder)
        except (MlflowException, OSError) as error:
            raise InputError(f"run {run_id} has no artifact {path}") from error
        yield Path(local)
