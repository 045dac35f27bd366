"""From a run's journal to the MLflow store: in order, in batches, as often as it takes.

The position up to which the store has a journal stands beside it. What is sent twice is stored once: a metric
row is known by its key, step, time and value, a param or a tag by its key.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from harness import journal
from harness.redaction import redacted
from harness.tracking import registry
from harness.tracking.stores import LATE, Failure, shown

JOURNAL, SENT, FILES = "journal", "sent", "files"
INTERVAL_S = 2.0
HEARTBEAT_S = 30.0
LONGEST_PAUSE_S = 60.0
LATE_MS = 60_000  # from the end of a run to its sending
METRICS, OTHERS = 1000, 100  # in a request, MLflow's limits
REFUSED = "INVALID_PARAMETER_VALUE"  # which no repetition cures


class Batch:
    """Metrics, params and tags that go out in one request."""

    def __init__(self) -> None:
        self.metrics: list[Metric] = []
        self.params: list[Param] = []
        self.tags: list[RunTag] = []

    def add(self, record: journal.Record) -> None:
        for key, value in record.get("metrics", {}).items():
            self.metrics.append(Metric(key, value, record["time"], record["step"]))
        self.params += [Param(key, value) for key, value in record.get("params", {}).items()]
        self.tags += [RunTag(key, value) for key, value in record.get("tags", {}).items()]

    def has_room_for(self, record: journal.Record) -> bool:
        return (
            len(self.metrics) + len(record.get("metrics", ())) <= METRICS
            and len(self.params) + len(record.get("params", ())) <= OTHERS
            and len(self.tags) + len(record.get("tags", ())) <= OTHERS
            and len(self.metrics) + len(self.params) + len(self.tags) < METRICS
        )

    def send(self, store: MlflowClient, run_id: str) -> None:
        if not (self.metrics or self.params or self.tags):
            return
        try:
            store.log_batch(run_id, self.metrics, self.params, self.tags, synchronous=True)
        except MlflowException as error:
            if error.error_code != REFUSED:
                raise
            self._send_one_by_one(store, run_id)

    def _send_one_by_one(self, store: MlflowClient, run_id: str) -> None:
        """A request is refused as a whole: all but what it was refused for is sent."""
        refused = []
        for kind, items in {"metrics": self.metrics, "params": self.params, "tags": self.tags}.items():
            for item in items:
                try:
                    store.log_batch(run_id, **{kind: [item]}, synchronous=True)
                except MlflowException as error:
                    if error.error_code != REFUSED:
                        raise
                    refused.append(f"{kind[:-1]} {item.key!r}: {redacted(str(error))[:200]}")
        if refused:
            print(f"the store refused {len(refused)} of run {run_id}, first {refused[0]}", file=sys.stderr)


def ship(folder: Path, store: MlflowClient) -> None:
    """Send what the store does not have yet of the journal in `folder`, which begins with its run's id.

    Raises what the store or the way to it raises; what was sent until then is not sent again.
    """
    run_id, batch, start = run_of(folder), Batch(), sent(folder)
    position = start
    for record, after in journal.read(folder / JOURNAL, start):
        if record.keys() & {"metrics", "params", "tags"}:
            if not batch.has_room_for(record):
                batch.send(store, run_id)
                _note(folder, position)
                batch = Batch()
            batch.add(record)
        else:
            batch.send(store, run_id)
            batch = Batch()
            _send_other(folder, store, run_id, record)
            _note(folder, after)
        position = after
    batch.send(store, run_id)
    if position > start:
        _note(folder, position)


def _send_other(folder: Path, store: MlflowClient, run_id: str, record: journal.Record) -> None:
    if "file" in record:
        with _waiting(folder, record["file"]) as path:
            store.log_artifact(run_id, str(path), str(Path(record["file"]).parent).removeprefix("."))
    elif "image" in record:
        with _waiting(folder, record["picture"]) as path, Image.open(path) as picture:
            store.log_image(
                run_id, np.asarray(picture), key=record["image"], step=record["step"], timestamp=record["time"]
            )
    elif "model" in record:
        from harness import served_model  # which needs torch

        with contextlib.suppress(FileNotFoundError):
            model_id = served_model.log(run_id, folder / FILES / record["model"], record["labels"], store)
            if record.get("register"):
                registry.register(run_id, model_id, store)
    elif "data" in record:
        known = Dataset(record["data"], record["digest"][:32], "local", json.dumps({"uri": record["source"]}))
        store.log_inputs(run_id, [DatasetInput(known, [InputTag("mlflow.data.context", record["context"])])])
    elif record.get("status") == "RUNNING":
        store.update_run(run_id, status="RUNNING")
    elif "status" in record:
        if now_ms() - record["time"] > LATE_MS:
            say_late(store, run_id)
        store.set_terminated(run_id, record["status"], record["time"])


def say_late(store: MlflowClient, run_id: str) -> None:
    """Have those who read look at a run again that was over when this was sent."""
    store.log_metric(run_id, LATE, now_ms(), timestamp=now_ms(), step=0)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextlib.contextmanager
def _waiting(folder: Path, name: str) -> Iterator[Path]:
    """A file that waits to be sent; it is there no more where it was sent before."""
    with contextlib.suppress(FileNotFoundError):
        yield folder / FILES / name


def run_of(folder: Path) -> str:
    """The id of the run that a journal is of."""
    return next((str(record["run"]) for record, _ in journal.read(folder / JOURNAL) if "run" in record), folder.name)


def sent(folder: Path) -> int:
    """The position in the journal up to which the store has it."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int((folder / SENT).read_text())
    return 0


def _note(folder: Path, position: int) -> None:
    """In place, as long as ever: on a full disk too."""
    file = os.open(folder / SENT, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(file, b"%20d\n" % position, 0)
    finally:
        os.close(file)


def unsent(folder: Path) -> int:
    """Number of records that the store does not have."""
    return sum(1 for _ in journal.read(folder / JOURNAL, sent(folder)))


class Sender:
    """The thread that ships a run's journal while the run goes on, and shows the store that it lives.

    `over` is called when it has sent its last: who else may send the journal waits for that.
    """

    def __init__(self, folder: Path, store: MlflowClient, over: Callable[[], None]) -> None:
        self.folder, self.store, self._over = folder, store, over
        self._wake, self._ending, self._giving_up = threading.Event(), False, False
        self._pause, self._said = INTERVAL_S, False
        self._beat = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _note(self.folder, sent(self.folder))  # while the disk has room for it
        while True:
            ending = self._ending
            self._try()
            if self._giving_up or (ending and not unsent(self.folder)):
                break
            if ending:
                time.sleep(min(self._pause, 5.0))
            else:
                self._wake.wait(self._pause)
        self._over()

    def _try(self) -> None:
        try:
            ship(self.folder, self.store)
            if not self._ending and time.monotonic() - self._beat > HEARTBEAT_S:
                self.store.set_tag(run_of(self.folder), "heartbeat", str(now_ms()))
                self._beat = time.monotonic()
            self._pause = INTERVAL_S
        except Failure as error:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            if not self._said:
                reason = redacted(" ".join(str(error).split()))[:200]
                place = shown(str(self.store.tracking_uri))
                print(f"{place} takes nothing at present ({reason}); the run's journal keeps it", file=sys.stderr)
            self._said = True

    def finish(self, patience_s: float) -> bool:
        """Wait while the rest is sent; returns whether the store has all of it.

        Gives up after `patience_s` seconds in which the store took nothing.
        """
        self._ending = True
        self._wake.set()
        position, until = sent(self.folder), time.monotonic() + patience_s
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.1)
            if sent(self.folder) > position:
                position, until = sent(self.folder), time.monotonic() + patience_s
        self._giving_up = True
        return not unsent(self.folder)
