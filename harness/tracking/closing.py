"""What processes that are gone have left unsent or open."""

import contextlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from harness import journal
from harness.errors import InputError
from harness.redaction import redacted
from harness.tracking.reading import can_go_on, is_here, read_runs
from harness.tracking.shipping import FILES, HEARTBEAT_S, JOURNAL, now_ms, run_of, say_late, ship, unsent
from harness.tracking.stores import OUTPUTS, Failure, client, default_uri, shown


def sync(tracking_uri: str | None = None, runs: Path = OUTPUTS / "runs") -> None:
    """Send what journals hold and the store does not have; any number of times.

    Args:
        tracking_uri: MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/
        runs: folder with a folder per run
    """
    store, left = client(tracking_uri), 0
    for folder in sorted(path.parent for path in runs.rglob(JOURNAL)):
        before = unsent(folder)
        if not before:
            continue
        if not journal.is_free(folder / JOURNAL):
            print(f"run {run_of(folder)} is alive and sends for itself")
            continue
        try:
            ship(folder, store)
            say_late(store, run_of(folder))
        except Failure as error:
            print(f"run {run_of(folder)}: {redacted(str(error)).splitlines()[0]}", file=sys.stderr)
        after = unsent(folder)
        left += after
        if not after:
            shutil.rmtree(folder / FILES, ignore_errors=True)
        print(f"run {run_of(folder)}: {before - after} records sent, {after} left")
    if left:
        raise InputError(f"{left} records are still to be sent to {shown(tracking_uri or default_uri())}")


def reap(older_than: float = 300.0, tracking_uri: str | None = None) -> None:
    """Close as KILLED the runs that say RUNNING and have shown no life for a while; resume opens them again.

    Args:
        older_than: seconds without a sign of life; a living run gives one every half minute
        tracking_uri: MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/
    """
    if older_than < 2 * HEARTBEAT_S:
        raise InputError(
            f"--older-than {older_than:g} must be at least {2 * HEARTBEAT_S:g}: living runs would be closed"
        )
    store = client(tracking_uri)
    for row in read_runs("attributes.status = 'RUNNING'", tracking_uri=tracking_uri).to_dict("records"):
        alive = is_here(row["run_id"]) and not can_go_on(row["run_id"])
        if not alive and now_ms() - _seen_ms(row) >= older_than * 1000:
            _close(store, row)


def close_left(study: str, tracking_uri: str | None = None) -> None:
    """Close, as `reap` does, what workers of a study that are gone have left RUNNING; what lives is let be."""
    store = client(tracking_uri)
    left = f"tags.study = '{study}' and tags.kind != 'study' and attributes.status = 'RUNNING'"
    for row in read_runs(left, tracking_uri=tracking_uri).to_dict("records"):
        if can_go_on(row["run_id"]):
            with contextlib.suppress(*Failure):
                ship(OUTPUTS / "runs" / row["run_id"], store)
            _close(store, row)
        elif not is_here(row["run_id"]) and now_ms() - _seen_ms(row) > 2000 * HEARTBEAT_S:
            _close(store, row)


def _seen_ms(row: Mapping[Any, Any]) -> int:
    """When a run last gave a sign of life, in ms since the epoch."""
    beat = row.get("tags.heartbeat")
    return int(beat) if isinstance(beat, str) else int(row["start_time"].timestamp() * 1000)


def _close(store: MlflowClient, row: Mapping[Any, Any]) -> None:
    seen_ms = _seen_ms(row)
    seen = pd.Timestamp(seen_ms, unit="ms").isoformat(timespec="seconds")
    store.set_tag(row["run_id"], "reason", f"no sign of life since {seen} UTC")
    store.set_terminated(row["run_id"], "KILLED", seen_ms)
    print(f"run {row['run_id']} ({row['name']}) closed: no sign of life since {seen} UTC")
