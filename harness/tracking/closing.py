"""What processes that are gone have left unsent or open, where no agent saw to it."""

import getpass
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from harness import locks
from harness.errors import InputError
from harness.tracking import local
from harness.tracking.addresses import check, default_uri, same, without_password
from harness.tracking.experiments import Gone
from harness.tracking.local import SENT
from harness.tracking.making import FOLDER_TAG
from harness.tracking.reading import read_runs
from harness.tracking.redaction import redacted
from harness.tracking.shipping import close_dead, say_late, ship
from harness.tracking.stores import client

WAIT_S = 10.0  # for an agent that is in the middle of a request


def sync(tracking_uri: str | None = None, told: dict[str, Any] | None = None) -> None:
    """Send what this folder's runs have said and their stores do not have, each to its own; any number of times.

    With `tracking_uri` to that one, but for runs that another store has. `told` gets what was done, run by run, and how
    many records were `sent`, are `left`, and how many runs were `closed`.

    Raises InputError where something is left, and for an address that no store can have.
    """
    told, others = {} if told is None else told, set()
    told |= {"sent": 0, "left": 0, "closed": 0, "runs": [], "other_stores": []}
    for folder in local.folders():
        sent = local.Sent.read(folder)
        target = tracking_uri or sent.store or str(local.beginning(folder).get("store", "")) or default_uri()
        if sent.run_id and sent.store and not same(sent.store, target):
            others.add(without_password(sent.store))
        elif not local.is_sent(folder) or (_may_close(folder) and not local.is_settled(folder)):
            told["runs"].append(done := _send(folder, target))
            told |= {name: told[name] + done[name] for name in ("sent", "left", "closed")}
    if tracking_uri and not told["runs"]:  # else it was tried
        check(tracking_uri)
    if others:
        told["other_stores"] = sorted(others)
        print(f"runs of other stores were left out: {', '.join(sorted(others))}", file=sys.stderr)
    if told["left"]:
        raise InputError(f"{told['left']} records are still to be sent; the lines above say of which runs")
    if others and tracking_uri:
        raise InputError(
            f"{without_password(tracking_uri)} is not the store of all runs here: leave out --tracking-uri"
        )


def _may_close(folder: Path) -> bool:
    return local.is_dead(folder) and local.is_of_this_host(folder)


def _send(folder: Path, uri: str) -> dict[str, Any]:
    """Send what is left of one run; how many records were sent and are left, whether it was closed, the reasons.

    What another process sends, and a run that its store has no more, leave nothing to be sent from here.
    """
    is_dead, before, run = local.is_dead(folder), local.unsent(folder), local.id_of(folder)
    closed, reasons = local.Sent.read(folder).closed, []
    nothing = {"run_id": run, "sent": 0, "left": 0, "closed": False}
    try:
        store = client(uri)
        with locks.held(folder / SENT, WAIT_S) as mine:
            if mine is None:
                print(f"run {run} is being sent by another process")
                return nothing | {"reasons": ["being sent by another process"]}
            ship(folder, store)
            if local.unsent(folder) and not local.Sent.read(folder).aside:  # what the agent has seen meanwhile
                ship(folder, store)
            if _may_close(folder):
                close_dead(folder, store)
            if is_dead:
                say_late(store, local.Sent.read(folder).run_id)
    except Gone as error:
        print(f"run {run} is left out: {error}", file=sys.stderr)
        return nothing | {"reasons": [str(error)]}
    except Exception as error:
        reasons.append(redacted(" ".join(str(error).split()))[:300])
        print(f"run {run}: {reasons[0]}", file=sys.stderr)
    run, after, sent = local.id_of(folder), local.unsent(folder), local.Sent.read(folder)
    for reason in sent.aside.values():
        print(f"run {run}: not sent, {reason}", file=sys.stderr)
    print(f"run {run}: {max(0, before - after)} records sent, {after} left")
    if is_dead and not after:
        local.prune(folder)
    counts = {"sent": max(0, before - after), "left": after, "closed": sent.closed != closed}
    return {"run_id": run, **counts, "reasons": [*reasons, *sent.aside.values()]}


def reap(
    older_than: float = 300.0,
    all_users: bool = False,
    tracking_uri: str | None = None,
    told: dict[str, Any] | None = None,
) -> None:
    """Close as KILLED the harness's runs that say RUNNING and have shown no life for a while: of hosts that died.

    A living run may be silent for two heartbeats: `older_than` must be longer. `told` gets the runs that were `closed`.
    """
    store, now_ms = client(tracking_uri), time.time_ns() // 1_000_000
    told = {} if told is None else told
    told |= {"closed": 0, "runs": []}
    for row in read_runs("attributes.status = 'RUNNING'", tracking_uri=tracking_uri).to_dict("records"):
        folder = local.find(row["run_id"])
        own = isinstance(row.get(f"tags.{FOLDER_TAG}"), str)
        mine = all_users or row.get("tags.mlflow.user") == getpass.getuser()
        alive = folder is not None and not local.is_dead(folder)
        if own and mine and not alive and now_ms - _seen_ms(row) >= older_than * 1000:
            told["runs"].append(_close(store, row))
            told["closed"] += 1


def _seen_ms(row: Mapping[Any, Any]) -> int:
    """When a run last gave a sign of life, in ms since the epoch."""
    beat = row.get("tags.heartbeat")
    return int(beat) if isinstance(beat, str) else int(row["start_time"].timestamp() * 1000)


def _close(store: MlflowClient, row: Mapping[Any, Any]) -> dict[str, str]:
    seen_ms = _seen_ms(row)
    seen = pd.Timestamp(seen_ms, unit="ms").isoformat(timespec="seconds")
    store.set_tag(row["run_id"], "reason", f"no sign of life since {seen} UTC")
    store.set_terminated(row["run_id"], "KILLED", seen_ms)
    print(f"run {row['run_id']} ({row['name']}) closed: no sign of life since {seen} UTC")
    return {"run_id": row["run_id"], "name": row["name"], "last_seen_utc": seen}
