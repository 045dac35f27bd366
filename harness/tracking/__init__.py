"""Runs in MLflow: how they are written, sent and read. Beside `harness.served_model` nothing else knows MLflow.

Importing this costs nothing: a name is looked up in its module when it is first used, since some of them import
MLflow for seconds and others are all that a training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.tracking import settings  # noqa: F401

if TYPE_CHECKING:
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

_WHERE = {
    "artifacts": ("fetched", "fetched_model"),
    "bits": ("packed", "unpacked"),
    "closing": ("close_left", "reap", "sync"),
    "reading": ("can_go_on", "find_finished", "find_run", "find_unfinished", "get_run", "is_here", "read_histories",
                "read_runs"),
    "stores": ("OUTPUTS", "client", "default_uri", "shown"),
    "writing": ("Run", "log_files", "run", "tag"),
}  # fmt: skip
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
