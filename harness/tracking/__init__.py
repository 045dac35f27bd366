"""Runs in MLflow: how they are written, sent and read. Beside `harness.served_model` nothing else knows MLflow.

No part of it imports torch, so that a table can be read without.
"""

from harness.tracking import settings  # noqa: F401  # isort: split
from harness.tracking.artifacts import fetched, fetched_model
from harness.tracking.bits import packed, unpacked
from harness.tracking.closing import close_left, reap, sync
from harness.tracking.reading import (
    can_go_on,
    find_finished,
    find_run,
    find_unfinished,
    get_run,
    is_here,
    read_histories,
    read_runs,
)
from harness.tracking.stores import OUTPUTS, client, default_uri, shown
from harness.tracking.writing import Run, log_files, run, tag

__all__ = [
    "OUTPUTS",
    "Run",
    "can_go_on",
    "client",
    "close_left",
    "default_uri",
    "fetched",
    "fetched_model",
    "find_finished",
    "find_run",
    "find_unfinished",
    "get_run",
    "is_here",
    "log_files",
    "packed",
    "read_histories",
    "read_runs",
    "reap",
    "run",
    "shown",
    "sync",
    "tag",
    "unpacked",
]
