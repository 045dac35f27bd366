"""Long answers of a store, kept on the disk, of which only what has changed is read again.

MLflow does not say when a run was last changed. What is read again are the runs that were or are not finished,
those that ended since the last reading or shortly before, those of which late records were sent since then (see
`LATE`), and those deleted or restored. That nothing else has come or gone is then asked of the store, and where
it has, the whole answer is read again.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import ViewType

from harness.outputs import OUTPUTS
from harness.tracking.searching import Row, Search, newest_first
from harness.tracking.stores import LATE

WORTH_KEEPING = 500  # runs; fewer are read whole, in about a second
OVERLAP_MS = 600_000  # by which the clocks of writers and readers may differ
ATTEMPTS = 2  # runs may come and go between the questions
FORMAT = 1  # of the files
FINAL = ("FINISHED", "FAILED", "KILLED")
UNFINISHED = " and ".join(f"attributes.status != '{status}'" for status in FINAL)


@dataclass(frozen=True)
class Answer:
    as_of_ms: int
    """when its reading began, since the epoch"""
    deleted: list[str]
    """the ids of deleted runs that would be in it"""
    rows: dict[str, Row]
    """by id, newest first"""


def rows(search: Search, refresh: bool = False) -> dict[str, Row]:
    """What `search` finds, by id, newest first; with `refresh` nothing is taken from the disk."""
    place = _place(search)
    kept = None if refresh else _load(place)
    answer = _brought_up_to_date(kept, search) if kept else None
    answer = answer or _whole(search)
    if len(answer.rows) >= WORTH_KEEPING and (kept is None or _differ(answer, kept)):
        _save(place, answer)
    return answer.rows


def _whole(search: Search) -> Answer:
    for _ in range(ATTEMPTS):
        began_ms, found = _now_ms(), search.rows()
        if len(found) < WORTH_KEEPING:
            return Answer(began_ms, [], found)
        deleted = search.rows(view=ViewType.DELETED_ONLY)
        answer = Answer(began_ms, sorted(deleted), {key: row for key, row in found.items() if key not in deleted})
        if search.ends_with(list(answer.rows)):
            break  # no run came or went between its pages
    return answer


def _brought_up_to_date(kept: Answer, search: Search) -> Answer | None:
    """None where the store's answer is another for a reason that is not seen here."""
    for _ in range(ATTEMPTS):
        kept = _next(kept, search)
        if search.ends_with(list(kept.rows)):
            return kept
    return None


def _next(kept: Answer, search: Search) -> Answer:
    began_ms, since_ms = _now_ms(), kept.as_of_ms - OVERLAP_MS
    deleted = search.rows(view=ViewType.DELETED_ONLY).keys()
    changed: dict[str, Row] = {}
    for condition in (UNFINISHED, f"attributes.end_time > {since_ms}", f"metrics.`{LATE}` > {since_ms}"):
        changed |= search.rows(condition)
    unsure = {key for key, row in kept.rows.items() if row["status"] not in FINAL} | (set(kept.deleted) - deleted)
    changed |= search.rows_of(sorted(unsure - changed.keys()))
    gone = unsure | deleted
    found = {key: row for key, row in kept.rows.items() if key not in gone} | changed
    ordered = sorted(found.values(), key=newest_first)
    return Answer(began_ms, sorted(deleted), {row["run_id"]: row for row in ordered})


def _differ(answer: Answer, kept: Answer) -> bool:
    return (answer.rows, answer.deleted) != (kept.rows, kept.deleted)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- Files: a line with the digest of the rest, then the answer ---------------------------------------------


def _place(search: Search) -> Path:
    question = [FORMAT, str(search.store.tracking_uri), sorted(search.experiments), search.filter_string]
    return OUTPUTS / "cache" / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]}.json"


def _load(place: Path) -> Answer | None:
    """None where there is no such file, or not the whole of it."""
    with contextlib.suppress(OSError):
        digest, _, content = place.read_bytes().partition(b"\n")
        if digest.decode("ascii", "replace") == hashlib.sha256(content).hexdigest():
            return Answer(**json.loads(content))
    return None


def _save(place: Path, answer: Answer) -> None:
    content = json.dumps(vars(answer)).encode()
    aside = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(OSError):  # a full disk makes the next reading slow, and this one not wrong
        place.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        aside.replace(place)
