"""The way to MLflow and back: a run's journal, the agent that sends it, what reads the store, the team's server.

Beside `runs.served_model` nothing else knows MLflow. Knows no data set, no network and no training.

Importing this costs nothing: a name is looked up in its module when it is first used, since some of them import
MLflow for seconds and others are all that a training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.tracking import settings  # noqa: F401

if TYPE_CHECKING:
    from harness.tracking.addresses import default_uri, without_password
    from harness.tracking.artifacts import fetched, log_files
    from harness.tracking.closing import reap, sync
    from harness.tracking.local import in_the_store
    from harness.tracking.reading import get_run, read_arrays, read_histories, read_runs
    from harness.tracking.stores import client
    from harness.tracking.writing import Run, exit_code, note_left, run

_WHERE = {
    "addresses": ("default_uri", "without_password"),
    "artifacts": ("fetched", "log_files"),
    "closing": ("reap", "sync"),
    "local": ("in_the_store",),
    "reading": ("get_run", "read_arrays", "read_histories", "read_runs"),
    "stores": ("client",),
    "writing": ("Run", "exit_code", "note_left", "run"),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "Run",
    "client",
    "default_uri",
    "exit_code",
    "fetched",
    "get_run",
    "in_the_store",
    "log_files",
    "note_left",
    "read_arrays",
    "read_histories",
    "read_runs",
    "reap",
    "run",
    "sync",
    "without_password",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
