"""From a run's files to the MLflow store: in order, in batches, as often as it takes.

An error belongs to the record that caused it: the record is set aside with the store's reason, tried again later, and
the others go on. Only a store that answers nothing at all stops the sending. What is sent twice is stored once: a run
is known by its tag, a metric row by its key, step, time and value, a param or a tag by its key, a file by its name.
"""

import contextlib
import functools
import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from harness.errors import InputError
from harness.tracking import journal, local, models, registry
from harness.tracking.addresses import without_password
from harness.tracking.experiments import Gone
from harness.tracking.journal import Record
from harness.tracking.local import AGENT_JOURNAL, FILES, JOURNAL, Sent
from harness.tracking.making import Away, delete_doubles, experiment_of, make, referred
from harness.tracking.redaction import redacted
from harness.tracking.stores import LATE

LATE_MS = 60_000  # from the end of a run to its sending
METRICS, OTHERS = 1000, 100  # in a request, MLflow's limits
LOGGED = ("metrics", "params", "tags")
BATCHED = (*LOGGED, "data")
"""What goes in few requests, before the rest."""


def ship(folder: Path, store: MlflowClient) -> None:
    """Send what the store does not have yet of a run; who calls it holds the lock of `sent`.

    Raises Away and Gone; what was sent until then is not sent again.
    """
    sent = Sent.read(folder)
    if not sent.run_id:
        make(folder, store, sent)
    way = _Way(folder, store, sent)
    for name in (AGENT_JOURNAL, JOURNAL):
        if (folder / name).exists():
            way.send(name)
    way.try_again()
    sent.trouble = next(iter(sent.aside.values()), "")
    sent.write(folder)


class _Way:
    """From one run's files to its store."""

    def __init__(self, folder: Path, store: MlflowClient, sent: Sent) -> None:
        self.folder, self.store, self.sent, self.run_id = folder, store, sent, sent.run_id
        self.before, self.tried = set(sent.aside), sent.images

    def send(self, name: str) -> None:
        """What a journal holds behind the position that was sent: metrics, params and tags first, in few requests."""
        field = "journal" if name == JOURNAL else "agent_journal"
        position = start = _aligned(self.folder / name, getattr(self.sent, field))
        batch: list[tuple[Record, int]] = []
        others: list[tuple[Record, int, int]] = []
        counts: Counter[str] = Counter()

        def flush() -> None:
            self._send_batch(name, batch)
            for record, begin, end in others:
                self._attempt(name, record, begin)
                self._note(field, end)
            batch.clear()
            others.clear()
            counts.clear()

        for record, after in journal.read(self.folder / name, start):
            if not record.keys() & BATCHED:
                others.append((record, position, after))
            else:
                more = Counter({kind: len(record.get(kind, ())) for kind in LOGGED})
                if not _fit(counts + more):
                    flush()
                    self._note(field, position)
                counts += more
                batch.append((record, position))
            position = after
        flush()
        if position != start:
            self._note(field, position)
        elif start < getattr(self.sent, field):  # lines that were sent are lost here
            self._note(field, start)

    def try_again(self) -> None:
        """Send what was set aside before, record by record."""
        for key in sorted(self.before & set(self.sent.aside)):
            name, _, position = key.rpartition(":")
            record = next((found for found, _ in journal.read(self.folder / name, int(position))), None)
            if record is not None:
                self._attempt(name, record, int(position))
        self.sent.write_aside(self.folder)

    def _note(self, field: str, position: int) -> None:
        self.sent.write_aside(self.folder)  # first: what is not behind the position must be named
        setattr(self.sent, field, position)
        self.sent.write(self.folder)

    def _send_batch(self, name: str, batch: list[tuple[Record, int]]) -> None:
        try:
            _log([record for record, _ in batch], self.store, self.run_id)
        except Exception as error:
            self._is_there(error)
            for record, position in batch:  # a request is refused as a whole
                self._attempt(name, record, position)

    def _attempt(self, name: str, record: Record, position: int) -> None:
        """Send one record, or set it aside with the store's reason."""
        key = f"{name}:{position}"
        try:
            if record.keys() & BATCHED:
                _log([record], self.store, self.run_id)
            self._send_other(record, position)
        except Exception as error:
            self._is_there(error)
            if key not in self.sent.aside:
                self.sent.aside[key] = f"{_kind(record)}: {redacted(' '.join(str(error).split()))[:200]}"
                print(f"run {self.folder.name}: not sent, {self.sent.aside[key]}", flush=True)
        else:
            self.sent.aside.pop(key, None)

    def _is_there(self, error: Exception) -> None:
        """Raises Away or Gone where the store takes nothing of this run at all."""
        try:
            run = self.store.get_run(self.run_id)
        except Exception as second:
            if isinstance(second, MlflowException) and second.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise Gone(f"the store has run {self.run_id} no more: it was purged") from error
            raise Away(
                f"{without_password(str(self.store.tracking_uri))} takes nothing at present ({error})"
            ) from error
        if run.info.lifecycle_stage != "active":
            raise Gone(
                f"run {self.run_id} was deleted in the store; to have it back: "
                f"mlflow runs restore --run-id {self.run_id}"
            ) from error

    def _send_other(self, record: Record, position: int) -> None:
        store, run_id = self.store, self.run_id
        if "file" in record:
            with self._waiting(record["file"]) as path:
                store.log_artifact(run_id, str(path), str(Path(record["file"]).parent).removeprefix("."))
        elif "image" in record:
            self._send_image(record, position)
        elif "model" in record:
            model_id = models.log(
                run_id,
                experiment_of(self.sent, store),
                self.folder / FILES / record["model"],
                record,
                self._figures(record),
                store,
            )
            if record.get("register"):
                registry.register(run_id, model_id, store)
        elif record.get("status") == "RUNNING":
            store.update_run(run_id, status="RUNNING")
        elif "status" in record:
            if time.time_ns() // 1_000_000 - record["time"] > LATE_MS:
                say_late(store, run_id)
            store.set_terminated(run_id, record["status"], record["time"])
            delete_doubles(self.folder, store, self.sent)

    def _send_image(self, record: Record, position: int) -> None:
        """Send a stepped image once: the store would give it another name each time."""
        if position <= self.tried and self._has_image(record):
            return
        if position > self.sent.images:
            self.sent.images = position
            self.sent.write(self.folder)
        with self._waiting(record["picture"]) as path, Image.open(path) as picture:
            about = {"key": record["image"], "step": record["step"], "timestamp": record["time"]}
            self.store.log_image(self.run_id, np.asarray(picture), **about)

    @contextlib.contextmanager
    def _waiting(self, name: str) -> Iterator[Path]:
        """A file that waits to be sent; where it is here no more, the store must have it."""
        path = self.folder / FILES / name
        if path.exists():
            yield path
        elif name not in [found.path for found in self.store.list_artifacts(self.run_id, str(Path(name).parent))]:
            raise InputError(f"{name} is neither here nor in the store")
        else:
            with contextlib.suppress(FileNotFoundError):
                yield path

    def _figures(self, record: Record) -> list[Metric]:
        """The figures that a model's record names, as the run said them last: what is not finite has no rank."""
        found: dict[str, Metric] = {}
        for said, _ in journal.read(self.folder / JOURNAL):
            for key, value in said.get("metrics", {}).items():
                if key in record["figures"] and math.isfinite(value):
                    about = {"dataset_name": record["dataset"], "dataset_digest": record["digest"][:32]}
                    found[key] = Metric(key, value, said["time"], said["step"], **about)
        return list(found.values())

    def _has_image(self, record: Record) -> bool:
        """Whether the store has a stepped image."""
        start = f"images/{record['image'].replace('/', '~')}"
        stamp = re.compile(rf"\D{record['step']}\Dtimestamp\D{record['time']}\D")
        return any(path.startswith(start) and stamp.search(path) for path in self._images)

    @functools.cached_property
    def _images(self) -> list[str]:
        """The stepped images that the store had before."""
        return [found.path for found in self.store.list_artifacts(self.run_id, "images")]


def _kind(record: Record) -> str:
    """What a record is of, in a word or two."""
    for kind in ("file", "image", "model", "data", "status"):
        if kind in record:
            return f"{kind} {record[kind]}"
    first = next(kind for kind in BATCHED if kind in record)
    return f"{first} {', '.join(sorted(record[first])[:3])}"


def _aligned(path: Path, position: int) -> int:
    """The position that was sent, or the beginning where the journal has lost lines since then: a power cut's work.

    What is sent again is stored once.
    """
    with path.open("rb") as file:
        if position <= 0:
            return 0
        file.seek(position - 1)
        return position if file.read(1) == b"\n" else 0


# --- Metrics, params, tags ------------------------------------------------------------------------------------


def _fit(counts: Counter[str]) -> bool:
    """Whether one request takes so many of each kind."""
    return (
        counts["metrics"] <= METRICS
        and counts["params"] <= OTHERS
        and counts["tags"] <= OTHERS
        and sum(counts.values()) <= METRICS
    )


def _log(records: list[Record], store: MlflowClient, run_id: str) -> None:
    metrics = [
        Metric(key, value, record["time"], record["step"])
        for record in records
        for key, value in record.get("metrics", {}).items()
    ]
    params = [Param(key, value) for record in records for key, value in record.get("params", {}).items()]
    tags = {key: referred(key, value) for record in records for key, value in record.get("tags", {}).items()}
    if metrics or params or tags:
        store.log_batch(run_id, metrics, params, [RunTag(*tag) for tag in tags.items()], synchronous=True)
    if inputs := [_input(record) for record in records if "data" in record]:
        store.log_inputs(run_id, inputs)


def _input(record: Record) -> DatasetInput:
    known = Dataset(record["data"], record["digest"][:32], "local", json.dumps({"uri": record["source"]}))
    return DatasetInput(known, [InputTag("mlflow.data.context", record["context"])])


# --- Signs of life --------------------------------------------------------------------------------------------


def show_life(folder: Path, store: MlflowClient) -> None:
    """Have the store know that a run's writer lives: `reap` lets it be."""
    with contextlib.suppress(Exception):  # the next one will do
        store.set_tag(Sent.read(folder).run_id, "heartbeat", str(time.time_ns() // 1_000_000))


def close_dead(folder: Path, store: MlflowClient) -> None:
    """Close a run whose writer is gone without a word in its journal, with what is known of its end: as KILLED."""
    sent, last = Sent.read(folder), journal.last(folder / JOURNAL) or {}
    length = (folder / JOURNAL).stat().st_size
    if last.get("status") in local.ENDS or sent.closed == length or sent.journal < _whole(folder):
        return
    end = local.end_of(folder)
    seen = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(last.get("time", 0) / 1000))
    reason = f"{local.writer(folder)} is gone without a word, killed or out of memory; its last was of {seen} UTC"
    store.set_tag(sent.run_id, "reason", end.get("reason", reason))
    store.set_terminated(sent.run_id, end.get("status", "KILLED"), last.get("time"))
    delete_doubles(folder, store, sent)
    sent.closed = length
    sent.write(folder)
    print(f"run {folder.name}: closed, {end.get('reason', reason)}", flush=True)


def _whole(folder: Path) -> int:
    """The position behind the last whole line of a journal."""
    start = Sent.read(folder).journal
    return max((after for _, after in journal.read(folder / JOURNAL, start)), default=start)


def say_late(store: MlflowClient, run_id: str) -> None:
    """Have those who read look at a run again that was over when this was sent."""
    now_ms = time.time_ns() // 1_000_000
    store.log_metric(run_id, LATE, now_ms, timestamp=now_ms, step=0)
