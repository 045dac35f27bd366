"""What processes that are gone have left unsent or open."""

import shutil
import sys
from pathlib import Path

import pandas as pd

from harness import journal
from harness.errors import InputError
from harness.redaction import redacted
from harness.tracking.reading import is_here, read_runs
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
        began_ms = int(row["start_time"].timestamp() * 1000)
        beat = row.get("tags.heartbeat")
        seen_ms = int(beat) if isinstance(beat, str) else began_ms
        alive = is_here(row["run_id"]) and not journal.is_free(OUTPUTS / "runs" / row["run_id"] / JOURNAL)
        if alive or now_ms() - seen_ms < older_than * 1000:
            continue
        seen = pd.Timestamp(seen_ms, unit="ms").isoformat(timespec="seconds")
        store.set_tag(row["run_id"], "reason", f"no sign of life since {seen} UTC")
        store.set_terminated(row["run_id"], "KILLED", seen_ms)
        print(f"run {row['run_id']} ({row['name']}) closed: no sign of life since {seen} UTC")
